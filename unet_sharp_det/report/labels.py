"""What a report calls runs: the parts of their folders' names that differ, without the seed."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

_SEED = re.compile(r"[-_. ]?seed[-_. ]?\d+", re.IGNORECASE)
_TOKEN = re.compile(r"[-_./]|[^-_./]+")


def label_folders(folders: Sequence[Path]) -> list[str]:
    """Return a short label for each folder; folders that differ in their seed alone share one.

    Example:
        >>> label_folders([Path("out/a_fpn/seed0"), Path("out/a_fpn/seed1"), Path("out/a_unetpp")])
        ['fpn', 'fpn', 'unetpp']
    """
    paths = []
    for folder in folders:
        parts = (_SEED.sub("", part) for part in folder.parts)
        paths.append(tuple(filter(None, parts)))
    parts = _differing(paths)
    if len({each[-1] for each in parts}) == len(set(parts)):
        parts = [each[-1:] for each in parts]
    names = ["/".join(each) for each in parts]
    short = ["".join(tokens) for tokens in _differing([tuple(_TOKEN.findall(n)) for n in names])]
    # "nuclei" and "nuclei-fast" stay whole, and so do "run_1" and "run_2".
    one_begins_all = os.path.commonprefix(names) in names
    is_clear = all(re.search(r"[^\W\d]", label) for label in short)
    return short if is_clear and not one_begins_all else names


def _differing(names: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Cut off the parts that all begin and end with, but leave one of each name."""
    for _ in range(2):  # From the front, then from the back.
        shared = len(os.path.commonprefix(names))
        shared -= shared == min(map(len, names))
        names = [name[shared:][::-1] for name in names]
    return names
