"""Pickles of detectron2's model zoo (``R-50.pkl``: a dict of arrays), read without trust.

The pickle's own names for numpy's functions are answered by the stand-ins below, so that neither
another function nor numpy's own unpickling, which believes what it is told of memory, is reached.
"""

import pickle
from collections import OrderedDict
from typing import BinaryIO

import numpy as np


class RefusedGlobal(pickle.UnpicklingError):
    """A pickle asks for a function or class that is not allowed; the message is its name."""


def read_zoo_pickle(file: BinaryIO):
    """Read a pickle of plain containers, numbers, strings and numeric arrays; Python 2's are read
    as latin-1.

    Returns:
        the content, with arrays that own their memory.

    Raises:
        RefusedGlobal: the pickle asks for something else, which was not run.
        Exception: of any kind, if the file is damaged.
    """
    return _finish(_ZooUnpickler(file, encoding="latin1").load())


class _ZooUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str):
        # numpy 1 says numpy.core where numpy 2 says numpy._core.
        key = f"{module.replace('numpy._core', 'numpy.core')}.{name}"
        if key not in _ALLOWED:
            raise RefusedGlobal(f"{module}.{name}")
        return _ALLOWED[key]

    def persistent_load(self, pid):
        raise RefusedGlobal("persistent_load")


class _Dtype:
    """A numeric dtype, whose state can tell nothing but the byte order."""

    def __init__(self, name: str, align: bool = False, copy: bool = False):
        dtype = np.dtype(str(name))
        if dtype.kind not in "biuf" or dtype.itemsize > 8:
            raise RefusedGlobal(f"numpy.dtype('{dtype}')")
        self.value = dtype

    def __setstate__(self, state: tuple) -> None:
        self.value = self.value.newbyteorder(state[1])


class _Array:
    """An array, empty until its state (version, shape, dtype, is_fortran, bytes) is set."""

    value = np.empty(0)

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, is_fortran, data = state[-5:]
        self.value = _from_bytes(data, dtype, shape, "F" if is_fortran else "C")


class _ArrayType:
    """What ``numpy.ndarray`` is to the pickle: an argument of ``_reconstruct``."""


def _reconstruct(array_type, shape, kind) -> _Array:
    return _Array()


def _frombuffer(data, dtype: _Dtype, shape: tuple, order: str) -> _Array:
    array = _Array()
    array.value = _from_bytes(data, dtype, shape, order)
    return array


def _scalar(dtype: _Dtype, data) -> np.generic:
    return _from_bytes(data, dtype, (), "C")[()]


def _from_bytes(data, dtype: _Dtype, shape: tuple, order: str) -> np.ndarray:
    if isinstance(data, str):
        data = data.encode("latin1")
    array = np.frombuffer(data, dtype.value).reshape(shape, order=order)
    return array.astype(dtype.value.newbyteorder("="))


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise RefusedGlobal(f"_codecs.encode('{encoding}')")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Protocols 0 to 2 write ``b""`` as a call of ``bytes``."""
    return b""


_ALLOWED = {
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy.core.numeric._frombuffer": _frombuffer,
    "numpy.ndarray": _ArrayType,
    "numpy.dtype": _Dtype,
    "collections.OrderedDict": OrderedDict,
    "_codecs.encode": _encode,
    "__builtin__.bytes": _no_bytes,
}


def _finish(value, done: dict[int, object] | None = None):
    """Put arrays in the place of their stand-ins, in dicts, lists and tuples; each one once."""
    done = {} if done is None else done
    if id(value) not in done:
        done[id(value)] = _finish_parts(value, done)
    return done[id(value)]


def _finish_parts(value, done: dict[int, object]):
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, dict):
        return type(value)((_finish(k, done), _finish(v, done)) for k, v in value.items())
    if isinstance(value, list | tuple):
        return type(value)(_finish(part, done) for part in value)
    return value
