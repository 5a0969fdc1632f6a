"""Which images are for training and which for validation."""

import csv
import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from ...errors import DatasetError, library_errors
from .samples import Sample

#: Of images that no split is told of, the share of validation.
VAL_SHARE = 0.2


def assign_splits(
    samples: Sequence[Sample], group_of: Callable[[str], str]
) -> tuple[list[str], str]:
    """Return the split of each sample, and the rule in words."""
    told = [sample.split for sample in samples]
    if "val" not in told:
        told = ["val" if split == "test" else split for split in told]
    if all(told) and {"train", "val"} <= set(told):
        return told, "as the names of folders or files say"
    groups = [group_of(sample.name) for sample in samples]
    ranks = {group: rank(group) for group in groups}
    ordered = sorted(ranks, key=ranks.get)
    wanted = sum(rank < VAL_SHARE for rank in ranks.values())
    val = ordered[: min(max(wanted, 1), len(ordered) // 2)]
    rule = f"by a hash of names, about {VAL_SHARE:.0%} to val"
    if len(val) != wanted:
        rule += ", at least one of two or more, at most half"
    return ["val" if group in val else "train" for group in groups], rule


def grouping(group: str | None) -> Callable[[str], str]:
    """Return the function from an image's name to its group.

    Args:
        group: a regular expression, or a CSV file of names and groups. None: each image is a group.
    """
    if group is None:
        return lambda name: name
    if group.lower().endswith(".csv"):
        remedy = "Give names and groups as CSV in UTF-8."
        with (
            library_errors(f"--group {group}: cannot be read", remedy),
            open(group, newline="", encoding="utf-8-sig") as file,
        ):
            rows = [row for row in csv.reader(file) if len(row) > 1]
        table = {Path(row[0]).stem: row[1] for row in rows} | {row[0]: row[1] for row in rows}
        return lambda name: _found(table.get(Path(name).name), name, group)
    try:
        pattern = re.compile(group)
    except re.error as error:
        raise DatasetError(f"--group {group}: is no regular expression ({error}).") from error

    def find(name: str) -> str:
        match = pattern.search(name)
        return _found(match and match[min(1, pattern.groups)], name, group)

    return find


def _found(group: str | None, name: str, where: str) -> str:
    if group is None:
        raise DatasetError(f"--group {where}: says nothing of '{name}'. Cover all images.")
    return group


def rank(name: str) -> float:
    """Return a number from 0 to 1, the same for a name at any time."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 16**8
