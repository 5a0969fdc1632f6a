"""Whether weights belong to a model: a difference of scheme is told, not skipped over."""

import re

from torch import Tensor, nn

from .errors import CheckpointError
from .modeling.sem_seg_head import UNetSharpHead
from .modeling.skip_fpn import SkipFPN
from .modeling.skip_grid import edge_key, node_key
from .skip_schemes import build_table, scheme_names

#: What belongs to a neck and to a semantic head in the names of their entries.
NECK = r"(grid\.|fpn_)"
HEAD = r""
PARTIAL = "or set MODEL.WEIGHTS_PARTIAL True to load only what fits"


def check_skip_schemes(weights: dict[str, Tensor], model: nn.Module) -> None:
    """Check that the necks in ``weights`` are those of ``model``.

    Weights without any neck, as of an ImageNet backbone, pass.

    Raises:
        CheckpointError: a neck is of another scheme or of other widths.
    """
    for prefix, neck in model.named_modules():
        if isinstance(neck, SkipFPN):
            _check_neck(_shapes(weights, prefix, NECK), neck)


def check_sem_seg_heads(weights: dict[str, Tensor], model: nn.Module) -> None:
    """Check that the semantic heads in ``weights`` hold those of ``model``.

    Weights without any semantic head pass, and so do those of a larger network, of which the model
    is a pruned one.

    Raises:
        CheckpointError: a head is of another scheme or other widths, or lacks a branch.
    """
    for prefix, head in model.named_modules():
        if isinstance(head, UNetSharpHead):
            _check_sem_seg_head(_shapes(weights, prefix, HEAD), head)


def _check_sem_seg_head(given: dict[str, tuple], head: UNetSharpHead) -> None:
    own = _shapes(head.state_dict(), "", HEAD)
    differing = [name for name in own if own[name] != given.get(name)]
    if not given or not differing:
        return
    key = "MODEL.SEM_SEG_HEAD"
    branches = re.compile(r"decoder\.(?:heads|cgm)\.(\d+)_(\d+)\.")
    if all(branches.match(name) and name not in given for name in differing):
        lacking = sorted({"X[{},{}]".format(*branches.match(name).groups()) for name in differing})
        trained = sorted({"X[{},{}]".format(*m.groups()) for m in map(branches.match, given) if m})
        raise CheckpointError(
            f"MODEL.WEIGHTS was not trained for {', '.join(lacking)}: it has branches, or their "
            f"CGM, at {', '.join(trained)} only. Set {key}.DEEP_SUPERVISION, {key}.CGM.ENABLED and "
            f"the level as in its training, {PARTIAL}."
        )
    name = differing[0]
    raise CheckpointError(
        f"MODEL.WEIGHTS holds a semantic head of another scheme, other widths or another norm: "
        f"'{name}' has shape {given.get(name)}, the model {own[name]}. Set {key}.SKIP_SCHEME, "
        f"EDGE, EDGE_CHANNELS, NODE_CHANNELS, NUM_CLASSES, NORM and MODEL.UNET.CHANNELS as in its "
        f"training, {PARTIAL}."
    )


def _check_neck(given: dict[str, tuple], neck: SkipFPN) -> None:
    own = _shapes(neck.state_dict(), "", NECK)
    if not given or given == own:
        return
    scheme = _scheme_of(given, depth=len(neck.in_features))
    if scheme != neck.scheme:
        raise CheckpointError(
            f"MODEL.WEIGHTS holds a neck of scheme '{scheme or 'unknown'}', the model has "
            f"'{neck.scheme}': set MODEL.FPN.SKIP_SCHEME {scheme or 'accordingly'}, {PARTIAL}."
        )
    name = next(key for key in {**own, **given} if own.get(key) != given.get(key))
    raise CheckpointError(
        f"MODEL.WEIGHTS holds a neck of scheme '{scheme}' with other widths or norm: '{name}' has "
        f"shape {given.get(name)}, the model {own.get(name)}. Set MODEL.FPN.NODE_CHANNELS, "
        f"EDGE_CHANNELS, OUT_CHANNELS and NORM as in its training, {PARTIAL}."
    )


def _shapes(weights: dict[str, Tensor], prefix: str, part: str) -> dict[str, tuple]:
    """The shapes of the entries of the module ``prefix`` whose names match ``part``."""
    start = prefix + "." if prefix else ""
    return {
        name[len(start) :]: tuple(tensor.shape)
        for name, tensor in weights.items()
        if re.match(re.escape(start) + part, name)
    }


def _scheme_of(names, depth: int) -> str | None:
    """The registered scheme whose nodes and convolved edges are exactly those in ``names``."""
    keys = {name.split(".")[2] for name in names if name.startswith("grid.")}
    for scheme in scheme_names():
        table = build_table(scheme, depth)
        nodes = {node_key(node) for node in table}
        edges = {edge_key(e, node) for node, inputs in table.items() for e in inputs if e.conv}
        if keys == nodes | edges or (not keys and scheme == "fpn"):
            return scheme
    return None
