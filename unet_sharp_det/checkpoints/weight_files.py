"""Files of weights, read without running what is in them.

A pickle, and so a file of ``torch.save``, is a program: who reads it with :func:`pickle.load` runs
it. Here a file may only build tensors, arrays, numbers, strings and containers of them. Anything
else is refused by name before it runs, unless the caller says that the file is trusted.
"""

import contextlib
import pickle
import re
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import CheckpointError, first_line
from ..files import atomic_path
from .zoo_pickle import RefusedGlobal, read_zoo_pickle

#: The key of a ``.safetensors`` file's metadata under which the config stands, as YAML text.
CONFIG_KEY = "config"
#: An archive of torch.save is not compressed: what it unpacks to is hardly more than its size.
_MOST_UNPACKED = 4
#: Of 1,000 tensors it has 150 kB; reading takes a second for each MiB of it.
_LONGEST_PICKLE = 16 << 20
_SAFETENSORS = ".safetensors"
_MOST_TENSORS, _LONGEST_NAME = 20_000, 300


def read_weights(path, trust_pickle: bool = False) -> dict:
    """Read a file of weights onto the CPU.

    Args:
        path: ``.safetensors``; ``.pkl`` of detectron2's or Caffe2's model zoo; ``.pyth`` of pycls;
            any other name, usually ``.pth`` or ``.pt``: a file of ``torch.save``.
        trust_pickle: run whatever the file asks for, as ``pickle.load`` does: for files that one
            made oneself. It changes nothing for ``.safetensors``.

    Returns:
        dict: "model", the state dict: name -> tensor (of a ``.pkl``: array), in the file's own
        precision; and what else the file holds, e.g. "iteration" and "trainer". Weights of
        another library have "matching_heuristics" True, detectron2's sign to match their names.

    Raises:
        CheckpointError: the file is missing or damaged, holds no weights, or wants to run
            something and is not trusted.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"MODEL.WEIGHTS: there is no file '{path}'.")
    with _explained(path):
        if path.suffix == _SAFETENSORS:
            return _checked({"model": _read_safetensors(path)}, path)
        if path.suffix == ".pkl":
            return _checked(_from_zoo(_read_pickle(path, trust_pickle)), path)
        content = _read_torch(path, trust_pickle)
    if path.suffix == ".pyth":
        return _checked(_from_pycls(content), path)
    is_checkpoint = isinstance(content, dict) and "model" in content
    return _checked(content if is_checkpoint else {"model": content}, path)


def write_safetensors(
    path, state_dict: dict[str, Tensor], config_text: str | None = None, half: bool = False
) -> None:
    """Write weights that anybody can read without trust, atomically.

    Args:
        path: ends in ``.safetensors``.
        state_dict: name -> tensor. Tensors that share memory are written one by one.
        config_text: the config of the model as YAML, for :func:`read_safetensors_config`.
        half: write float32 and float64 tensors as float16, except those with values beyond its
            range (65504). Reading into a float32 model makes them float32 again.

    Raises:
        UserError: the file cannot be written.
    """
    tensors = {name: _half(value) if half else value for name, value in state_dict.items()}
    tensors = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in tensors.items()
    }
    metadata = {"format": "pt"} | ({CONFIG_KEY: config_text} if config_text else {})
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata)


def read_safetensors_config(path) -> str | None:
    """The YAML text of the config that a ``.safetensors`` file carries, None if it has none.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no file '{path}'.")
    with _explained(path), safe_open(path, framework="pt") as file:
        return (file.metadata() or {}).get(CONFIG_KEY)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what readers raise into a CheckpointError; a damaged pickle can raise anything."""
    try:
        yield
    except CheckpointError:
        raise
    except RefusedGlobal as error:
        raise CheckpointError(_refusal(path, str(error))) from error
    except SafetensorError as error:
        raise CheckpointError(
            f"MODEL.WEIGHTS: cannot read '{path}': it is damaged or no safetensors file ({error})."
        ) from error
    except Exception as error:
        name = _REFUSED_BY_TORCH.search(str(error))
        if name:
            raise CheckpointError(_refusal(path, name[1])) from error
        raise CheckpointError(
            f"MODEL.WEIGHTS: cannot read '{path}': it is damaged, cut short or no file of weights "
            f"({type(error).__name__}: {first_line(error)})."
        ) from error


#: What torch.load(weights_only=True) says of a name that it does not allow; 2.0 says "class".
_REFUSED_BY_TORCH = re.compile(r"[Uu]nsupported (?:global: GLOBAL|GLOBAL|class) ([\w.<>]+\w)")


def _refusal(path: Path, name: str) -> str:
    return (
        f"MODEL.WEIGHTS: '{path}' wants to run '{name}' when it is read. Such a file (a pickle) is "
        "a program that can do all that you can do, so nothing of it was run. Ask its author for "
        "a .safetensors file (tools/export_model.py writes one), which holds numbers only; or, if "
        "you made this file yourself, give --trust-pickle (in Python trust_pickle=True)."
    )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt", device="cpu") as file:
        return {name: file.get_tensor(name) for name in file.keys()}


def _read_torch(path: Path, trusted: bool):
    if not trusted:
        _check_container(path)
    return torch.load(path, map_location="cpu", weights_only=not trusted)


def _read_pickle(path: Path, trusted: bool):
    with path.open("rb") as file:
        return pickle.load(file, encoding="latin1") if trusted else read_zoo_pickle(file)


def _check_container(path: Path) -> None:
    """Refuse what torch.load's ``weights_only`` does not guard against, in any version from 2.0.

    A tar archive is read by an unguarded pickle before 2.6 (CVE-2025-32434); a TorchScript archive
    is compiled; compressed or overlapping members unpack to more than the memory.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
        if any(Path(member.filename).name == "constants.pkl" for member in members):
            raise CheckpointError(
                f"MODEL.WEIGHTS: '{path}' is a TorchScript program, not weights: save the model's "
                "state_dict() instead."
            )
        pickles = [member for member in members if Path(member.filename).suffix == ".pkl"]
        if any(member.file_size > _LONGEST_PICKLE for member in pickles):
            raise CheckpointError(
                f"MODEL.WEIGHTS: '{path}' describes its tensors in more than "
                f"{_LONGEST_PICKLE >> 20} MiB, which no network needs. Get the file again."
            )
        unpacked = sum(member.file_size for member in members)
        if unpacked > _MOST_UNPACKED * path.stat().st_size:
            raise CheckpointError(
                f"MODEL.WEIGHTS: '{path}' would unpack to {unpacked / 2**20:.0f} MiB from "
                f"{path.stat().st_size / 2**20:.1f} MiB, which torch.save never writes: it is "
                "damaged or made to fill the memory."
            )
    elif _is_tar(path):
        raise CheckpointError(
            f"MODEL.WEIGHTS: '{path}' is a tar archive, as torch.save wrote them before version "
            "0.2. It cannot be read safely: save it anew, or, if you made it yourself, give "
            "--trust-pickle."
        )


def _is_tar(path: Path) -> bool:
    try:
        with tarfile.open(path, "r:"):
            return True
    except tarfile.TarError:
        return False


def _from_zoo(content) -> dict:
    """detectron2's zoo says so itself; Caffe2's detectors have "blobs", its backbones nothing."""
    if not isinstance(content, dict):
        return {"model": content}
    if "model" in content and "__author__" in content:
        return content
    blobs = content.get("blobs", content)
    if isinstance(blobs, dict):
        blobs = {k: v for k, v in blobs.items() if not str(k).endswith("_momentum")}
    return {"model": blobs, "__author__": "Caffe2", "matching_heuristics": True}


def _from_pycls(content) -> dict:
    weights = content.get("model_state") if isinstance(content, dict) else None
    if isinstance(weights, dict):
        weights = {k: v for k, v in weights.items() if not str(k).endswith("num_batches_tracked")}
    return {"model": weights, "__author__": "pycls", "matching_heuristics": True}


def _checked(checkpoint: dict, path: Path) -> dict:
    weights = checkpoint["model"]
    if not isinstance(weights, dict) or not weights:
        raise CheckpointError(
            f"MODEL.WEIGHTS: '{path}' holds no state dict (names and tensors), but a "
            f"{type(weights).__name__}{' without entries' if isinstance(weights, dict) else ''}. "
            "Save {'model': model.state_dict()}."
        )
    if len(weights) > _MOST_TENSORS or not all(map(_is_name, weights)):
        raise CheckpointError(
            f"MODEL.WEIGHTS: '{path}' has names that no network has. Get the file again."
        )
    for name, value in weights.items():
        if not isinstance(value, Tensor | np.ndarray | np.generic):
            raise CheckpointError(
                f"MODEL.WEIGHTS: the format of '{path}' is not known: its entry {name!r} is a "
                f"{type(value).__name__}, no tensor. Save {{'model': model.state_dict()}}."
            )
    return checkpoint


def _is_name(name) -> bool:
    return isinstance(name, str) and name.isprintable() and len(name) <= _LONGEST_NAME


def _half(tensor: Tensor) -> Tensor:
    if tensor.dtype not in (torch.float32, torch.float64) or not tensor.numel():
        return tensor
    fits = tensor.abs().max() <= torch.finfo(torch.float16).max
    return tensor.half() if fits else tensor
