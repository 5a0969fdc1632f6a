"""LiTS 2017 training data: ``volume-N.nii`` and ``segmentation-N.nii``, in any folders.

Labels: 1 liver, 2 tumour. Volumes 28 to 47 have an identity affine instead of their spacing.
"""

import re
from pathlib import Path

from ..errors import DatasetError
from .dataset import Case, Summary, write_dataset

LABELS = {0: "background", 1: "liver", 2: "tumour"}


def convert(source, output) -> Summary:
    """Import LiTS 2017; for ``source``, ``output`` and errors see :func:`write_dataset`.

    Args:
        source: the folder of both batches.
    """
    source = Path(source)
    volumes, segmentations = _numbered(source, "volume"), _numbered(source, "segmentation")
    if not volumes:
        raise DatasetError(f"{source}: has no volume-N.nii. Give the folder of LiTS' batches.")
    cases = []
    for number in sorted(volumes.keys() | segmentations.keys()):
        path = volumes.get(number, source / f"volume-{number}.nii")
        label = segmentations.get(number, path.with_name(f"segmentation-{number}.nii"))
        cases.append(Case(str(number), str(number), (path,), label))
    return write_dataset("lits17", source, output, cases, modality=["CT"], labels=LABELS)


def _numbered(source: Path, kind: str) -> dict[int, Path]:
    """The files ``<kind>-N.nii``, or ``.nii.gz``, by N."""
    found = {}
    for path in sorted(source.rglob(f"{kind}-*.nii*")):
        if match := re.fullmatch(rf"{kind}-(\d+)\.nii(\.gz)?", path.name):
            found[int(match[1])] = path
    return found
