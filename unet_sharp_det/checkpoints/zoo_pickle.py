"""Pickles of detectron2's model zoo (``R-50.pkl``: a dict of arrays), read without trust.

Stand-ins answer the pickle's names for numpy's functions, so that no other function is reached,
nor numpy's own dtypes, which believe what a pickle tells them of memory.
"""

import pickle
from collections import OrderedDict

import numpy as np


class RefusedGlobal(pickle.UnpicklingError):
    """A pickle asks for a function or class that is not allowed; the message is its name."""


class ZooUnpickler(pickle.Unpickler):
    """Builds plain containers, numbers, strings and numeric arrays.

    :meth:`load` raises :class:`RefusedGlobal` where the pickle asks for something else, which is
    not run, and any exception if the file is damaged.
    """

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
        self.value = np.dtype(str(name))
        if self.value.kind not in "biuf" or self.value.itemsize > 8:
            raise RefusedGlobal(f"numpy.dtype('{self.value}')")

    def __setstate__(self, state: tuple) -> None:
        self.value = self.value.newbyteorder(state[1])


class ZooArray(np.ndarray):
    """An array, empty until its state is set; it swaps bytes to the machine's order."""

    def __setstate__(self, state: tuple) -> None:
        version, shape, dtype, is_fortran, data = state
        super().__setstate__((version, shape, dtype.value, is_fortran, data))


def _reconstruct(array_type, shape, kind) -> ZooArray:
    return np.ndarray.__new__(ZooArray, 0)


def _frombuffer(data, dtype: _Dtype, shape: tuple, order: str) -> np.ndarray:
    array = np.frombuffer(data, dtype.value).reshape(shape, order=order)
    return array.astype(dtype.value.newbyteorder("="))


def _scalar(dtype: _Dtype, data) -> np.generic:
    data = data.encode("latin1") if isinstance(data, str) else data
    return _frombuffer(data, dtype, (), "C")[()]


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise RefusedGlobal(f"_codecs.encode('{encoding}')")
    return text.encode("latin1")


_ALLOWED = {
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy.core.numeric._frombuffer": _frombuffer,
    "numpy.ndarray": None,  # An argument of _reconstruct only: calling it would take memory.
    "numpy.dtype": _Dtype,
    "collections.OrderedDict": OrderedDict,
    "_codecs.encode": _encode,
    "__builtin__.bytes": lambda: b"",  # So protocols 0 to 2 write b"".
}
