"""``X_seg.npy``, what Cellpose's window saves: a pickled dict, of which the masks are read.

A pickle can run any code, so that NumPy's own reader is not used: see :mod:`.zoo_pickle`.
"""

from pathlib import Path

import numpy as np

from ...checkpoints.zoo_pickle import ZooArray, ZooUnpickler


class _Objects:
    """The dtype of an array of Python objects."""

    def __setstate__(self, state: tuple) -> None:
        pass


class _Array(ZooArray):
    """An array of numbers; or ``items``, of objects, the list of them."""

    def __setstate__(self, state: tuple) -> None:
        if isinstance(state[2], _Objects):
            self.items = state[4]
        else:
            super().__setstate__(state)


class _Unpickler(ZooUnpickler):
    def find_class(self, module: str, name: str):
        found = super().find_class(module, name)
        if name == "dtype":
            return lambda kind, *rest: _Objects() if kind == "O8" else found(kind, *rest)
        return (lambda *_: np.ndarray.__new__(_Array, 0)) if name == "_reconstruct" else found


def read_masks(path: Path) -> np.ndarray | None:
    """Return the label map (H, W) of a session of Cellpose; None: the file is none."""
    with path.open("rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            read_header = {(1, 0): np.lib.format.read_array_header_1_0}
            read_header.get(version, np.lib.format.read_array_header_2_0)(file)
            masks = np.array(_Unpickler(file).load().items[0]["masks"])
        except Exception:  # of any kind, from a damaged file
            return None
    return masks if masks.ndim == 2 and masks.dtype.kind in "iu" else None
