"""Files of weights, read without running what is in them.

A pickle, and so a file of ``torch.save``, is a program. Here a file may only build tensors, arrays,
numbers, strings and containers of them. Anything else is refused by name before it runs, unless the
caller says that the file is trusted.
"""

import contextlib
import pickle
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import CheckpointError, first_line
from ..files import atomic_path
from .sources import find_weights
from .zoo_pickle import RefusedGlobal, ZooUnpickler

#: In a ``.safetensors`` file's metadata: the config as YAML text, the schemes' modules.
_CONFIG, _MODULES = "config", "scheme_modules"
#: An archive of torch.save is not compressed: what it unpacks to is hardly more than its size.
_MOST_UNPACKED = 4
#: Of 1,000 tensors it has 150 kB; reading takes a second for each MiB of it.
_LONGEST_PICKLE = 16 << 20
_MOST_TENSORS, _LONGEST_NAME = 20_000, 300
#: What torch.load(weights_only=True) says of a name that it does not allow; 2.0 says "class".
_REFUSED_BY_TORCH = re.compile(r"[Uu]nsupported (?:global: GLOBAL|GLOBAL|class) ([\w.<>]+\w)")


def read_weights(weights, trust_pickle: bool = False) -> dict:
    """Read a file of weights onto the CPU.

    Args:
        weights: ``.safetensors``; ``.pkl`` of detectron2's or Caffe2's model zoo; ``.pyth`` of
            pycls; any other path, usually ``.pth`` or ``.pt``: a file of ``torch.save``; or a name
            that :func:`.sources.find_weights` knows.
        trust_pickle: run whatever the file asks for: for files that one made oneself.

    Returns:
        dict: "model", the state dict: name -> tensor (of a ``.pkl``: array), in the file's own
        precision; and what else the file holds, e.g. "iteration" and "trainer". Weights of
        another library have "matching_heuristics" True, detectron2's sign to match their names.

    Raises:
        CheckpointError: the file is missing or damaged, holds no weights, or wants to run
            something and is not trusted.
    """
    path = find_weights(weights)
    with _explained(path):
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt", device="cpu") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}
                modules = (file.metadata() or {}).get(_MODULES, "")
            return _checked({"model": tensors, _MODULES: modules.split()}, path)
        if path.suffix == ".pkl":
            with path.open("rb") as file:
                unpickler = pickle.Unpickler if trust_pickle else ZooUnpickler
                return _checked(_from_zoo(unpickler(file, encoding="latin1").load()), path)
        if not trust_pickle:
            _check_container(path)
        content = torch.load(path, map_location="cpu", weights_only=not trust_pickle)
    if path.suffix == ".pyth":
        weights = content.get("model_state") if isinstance(content, dict) else None
        return _checked(_of_other_library(weights, "pycls"), path)
    is_checkpoint = isinstance(content, dict) and "model" in content
    return _checked(content if is_checkpoint else {"model": content}, path)


def write_safetensors(
    path, state_dict: dict[str, Tensor], config_text=None, half=False, scheme_modules=()
) -> None:
    """Write weights that anybody can read without trust, atomically.

    Args:
        state_dict: name -> tensor. Tensors that share memory are written one by one.
        config_text: the config of the model as YAML, for :func:`read_safetensors_config`.
        half: write float32 and float64 tensors as float16, except those with values beyond its
            range (65504). Reading into a float32 model makes them float32 again.
        scheme_modules: see :func:`.loading.scheme_modules`.

    Raises:
        UserError: the file cannot be written.
    """
    tensors = {}
    for name, value in state_dict.items():
        value = _half(value) if half else value
        tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
    texts = {_CONFIG: config_text, _MODULES: " ".join(scheme_modules)}
    metadata = {"format": "pt"} | {key: text for key, text in texts.items() if text}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata)


def read_safetensors_config(path) -> str | None:
    """The YAML text of the config that a ``.safetensors`` file carries, None if it has none."""
    path = find_weights(path)
    with _explained(path), safe_open(path, framework="pt") as file:
        return (file.metadata() or {}).get(_CONFIG)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what readers raise into a CheckpointError; a damaged pickle can raise anything."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        refused = _REFUSED_BY_TORCH.search(str(error))
        if refused or isinstance(error, RefusedGlobal):
            name = refused[1] if refused else error
            raise CheckpointError(
                f"'{path}' wants to run '{name}' when it is read. Ask its author for a "
                ".safetensors file; if you made it yourself, give --trust-pickle."
            ) from error
        raise CheckpointError(
            f"cannot read '{path}': it is damaged, cut short or no file of weights "
            f"({type(error).__name__}: {first_line(error)}). Get it again."
        ) from error


def _check_container(path: Path) -> None:
    """Refuse what torch.load's ``weights_only`` does not guard against: compressed or overlapping
    members unpack to more than the memory."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        sizes = [(Path(member.filename), member.file_size) for member in archive.infolist()]
    unpacked = sum(size for _, size in sizes)
    if any(size > _LONGEST_PICKLE for name, size in sizes if name.suffix == ".pkl"):
        fault = f"describes its tensors in more than {_LONGEST_PICKLE >> 20} MiB"
    elif unpacked > _MOST_UNPACKED * path.stat().st_size:
        fault = f"would unpack to {unpacked / 2**20:.0f} MiB"
    else:
        return
    raise CheckpointError(
        f"'{path}' {fault}. Save the model's state_dict() anew; if you made the file yourself, "
        "give --trust-pickle."
    )


def _from_zoo(content) -> dict:
    """detectron2's zoo says so itself; Caffe2's detectors have "blobs", its backbones nothing."""
    if not isinstance(content, dict):
        return {"model": content}
    if "model" in content and "__author__" in content:
        return content
    return _of_other_library(content.get("blobs", content), "Caffe2")


def _of_other_library(weights, author: str) -> dict:
    if isinstance(weights, dict):
        others = ("_momentum", "num_batches_tracked")
        weights = {k: v for k, v in weights.items() if not str(k).endswith(others)}
    return {"model": weights, "__author__": author, "matching_heuristics": True}


def _checked(checkpoint: dict, path: Path) -> dict:
    """Check that "model" is a state dict of a network's size."""
    weights, advice = checkpoint["model"], "Save {'model': model.state_dict()}."
    if not isinstance(weights, dict) or not weights:
        kind = type(weights).__name__ + (" without entries" if isinstance(weights, dict) else "")
        raise CheckpointError(f"'{path}' holds no state dict, but a {kind}. {advice}")
    are_names = all(
        isinstance(name, str) and name.isprintable() and len(name) <= _LONGEST_NAME
        for name in weights
    )
    if len(weights) > _MOST_TENSORS or not are_names:
        raise CheckpointError(f"'{path}' has names that no network has. Get the file again.")
    for name, value in weights.items():
        if not isinstance(value, Tensor | np.ndarray | np.generic):
            kind = type(value).__name__
            raise CheckpointError(f"'{path}': its {name!r} is a {kind}, no tensor. {advice}")
    return checkpoint


def _half(tensor: Tensor) -> Tensor:
    if tensor.dtype not in (torch.float32, torch.float64) or not tensor.numel():
        return tensor
    fits = tensor.abs().max() <= torch.finfo(torch.float16).max
    return tensor.half() if fits else tensor
