"""Whether weights belong to a model: what lacks or differs is told, not skipped over."""

import re
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ..errors import CheckpointError
from ..modeling.sem_seg_head import UNetSharpHead
from ..modeling.skip_fpn import SkipFPN
from ..modeling.skip_grid import edge_key, node_key
from ..skip_schemes import build_table, scheme_names

#: What belongs to a neck in the names of its entries.
_NECK = r"(grid\.|fpn_)"
#: What checkpoints of other versions have or lack, which does not change what a model computes.
_IMMATERIAL = re.compile(r"num_batches_tracked$|^pixel_(mean|std)$|anchor_generator\.cell_anchors")
_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def check_trained(weights: dict[str, Tensor], model: nn.Module, where: str) -> None:
    """Check that ``weights`` are those of a training of ``model``, all of them and no others.

    Those of a larger semantic network pass, of which the model is a pruned one.

    Args:
        weights: by the names of the model.
        model: may be on the meta device.
        where: what the weights are called in errors.

    Raises:
        CheckpointError: entries lack, have another shape, belong elsewhere, or hold no numbers.
    """
    own, given = _shapes(model.state_dict()), _shapes(weights)
    kinds = {type(module) for module in model.modules()}
    may_be_pruned = UNetSharpHead in kinds and SkipFPN not in kinds
    faults = {
        f"of its {len(own)} tensors are missing": [repr(n) for n in own if n not in given],
        "have another shape": [
            f"{name!r} is {given[name]}, expected {shape}"
            for name, shape in own.items()
            if given.get(name, shape) != shape
        ],
        "are of another model": [repr(n) for n in given if n not in own and not may_be_pruned],
    }
    told = [f"{len(names)} {fault}: {_first(names)}" for fault, names in faults.items() if names]
    if told:
        advice = "Get the whole file, or name the config of its training by --config-file."
        raise CheckpointError(
            f"{where}: does not hold the weights of this model ({'; '.join(told)}). "
            f"{find_scheme_difference(weights, model) or advice}"
        )
    _check_numbers(weights, model, where)


def check_transferable(weights: dict[str, Tensor], model: nn.Module, where: str) -> None:
    """Raise a CheckpointError if nothing in ``weights`` fits ``model``, or it holds no numbers."""
    if not _shapes(model.state_dict()).items() & _shapes(weights).items():
        raise CheckpointError(
            f"{where}: nothing in the file fits the model; it begins with "
            f"{_first(map(repr, weights))}. Take weights of the model's backbone, or of its kind."
        )
    _check_numbers(weights, model, where)


def find_scheme_difference(weights: dict[str, Tensor], model: nn.Module) -> str | None:
    """How the necks and semantic heads in ``weights`` differ from those of ``model``, as sentences
    for an error; None if they do not, or if there are none, as in weights of a backbone."""
    differences = []
    for prefix, module in model.named_modules():
        if isinstance(module, SkipFPN):
            differences.append(_compare_necks(_shapes(weights, prefix, _NECK), module))
        elif isinstance(module, UNetSharpHead):
            differences.append(_compare_heads(_shapes(weights, prefix), module))
    return next(filter(None, differences), None)


def _check_numbers(weights: dict[str, Tensor], model: nn.Module, where: str) -> None:
    """Check what ``model`` takes from ``weights``, lest it be converted in silence."""
    for name, own in model.state_dict().items():
        value = weights.get(name)
        if value is None or value.shape != own.shape or not own.is_floating_point():
            continue
        if value.dtype not in _DTYPES or value.layout != torch.strided or value.is_meta:
            fault = f"is no tensor of numbers ({value.dtype}, {value.layout})"
        elif not torch.isfinite(value.to(own.dtype)).all():
            fault = "has NaN or infinity"
        else:
            continue
        raise CheckpointError(
            f"{where}: {name!r} {fault}. Take an earlier checkpoint, or get the file again."
        )


def _first(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _compare_heads(given: dict[str, tuple], head: UNetSharpHead) -> str | None:
    own = _shapes(head.state_dict())
    if not given or own.items() <= given.items():
        return None
    keys = "MODEL.SEM_SEG_HEAD.SKIP_SCHEME, SKIP_CONNECTION, EDGE, EDGE_CHANNELS, NODE_CHANNELS, "
    keys += "NUM_CLASSES, NORM, DEEP_SUPERVISION, CGM.ENABLED and MODEL.UNET.CHANNELS or "
    keys += "MODEL.SEGNETR.CHANNELS"
    return _tell("a semantic head of another scheme, other widths, branches", given, own, keys)


def _compare_necks(given: dict[str, tuple], neck: SkipFPN) -> str | None:
    own = _shapes(neck.state_dict(), "", _NECK)
    scheme = _scheme_of(given, depth=len(neck.in_features))
    fitting = [neck.scheme, *(["fpn"] if neck.grid.options.fuse == "residual" else [])]
    is_part = given.items() <= own.items() and scheme in [None, *fitting]
    if not given or given == own or is_part:
        return None
    if scheme not in fitting:
        return (
            f"It holds a neck of scheme '{scheme or 'unknown'}', the model has '{neck.scheme}': "
            f"set MODEL.FPN.SKIP_SCHEME {scheme or 'accordingly'}."
        )
    keys = "MODEL.FPN.SKIP_FUSE, NODE_CHANNELS, EDGE_CHANNELS, OUT_CHANNELS and NORM"
    return _tell(f"a neck of scheme '{scheme}' with other widths", given, own, keys)


def _tell(what: str, given: dict[str, tuple], own: dict[str, tuple], keys: str) -> str:
    name = next(key for key in {**given, **own} if own.get(key) != given.get(key))
    return (
        f"It holds {what} or norm: {name!r} has shape {given.get(name)}, the model "
        f"{own.get(name)}. Set {keys} as in its training."
    )


def _shapes(weights: dict[str, Tensor], prefix: str = "", part: str = "") -> dict[str, tuple]:
    """The shapes of the material entries of the module ``prefix`` whose names match ``part``."""
    start = prefix + "." if prefix else ""
    return {
        name[len(start) :]: tuple(tensor.shape)
        for name, tensor in weights.items()
        if re.match(re.escape(start) + part, name) and not _IMMATERIAL.search(name)
    }


def _scheme_of(names, depth: int) -> str | None:
    """The registered scheme whose nodes and convolved edges are exactly those in ``names``."""
    keys = {key for name in names if name.startswith("grid.") for key in name.split(".")[2:3]}
    for scheme in scheme_names():
        table = build_table(scheme, depth)
        nodes = {node_key(node) for node in table}
        edges = {edge_key(e, node) for node, inputs in table.items() for e in inputs if e.conv}
        if keys in (nodes | edges, edges):  # nodes that only add have no weights
            return scheme
    return None
