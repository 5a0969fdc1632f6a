"""Volumes of your own: ``images/`` and ``labels/``, or ``imagesTr/`` and ``labelsTr/``.

A label file belongs to the image of the same stem: a NIfTI, NRRD, MetaImage or TIFF file, or a
folder of a DICOM series; or, as nnU-Net writes several channels, to ``<stem>_0000``,
``<stem>_0001`` and so on. Each case counts as a patient of its own.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from ..data.label_files import by_stem
from ..errors import DatasetError, library_errors
from ..files import read_json
from .dataset import Case, Summary, write_dataset

_SUFFIX = re.compile(r"\.(nii(\.gz)?|nrrd|mha|mhd|tiff?)$", re.IGNORECASE)


def convert(source, output, labels: Sequence[str] = ()) -> Summary:
    """Import pairs of files; for ``source``, ``output`` and errors see :func:`write_dataset`.

    Args:
        labels: names of the labels 1, 2, ...; 0 is background. Empty: those of the
            ``dataset.json`` of a Medical Segmentation Decathlon task, or of nnU-Net.
    """
    source = Path(source)
    ending = "Tr" if (source / "imagesTr").is_dir() else ""
    images, label_files = (_by_stem(source / f"{name}{ending}") for name in ("images", "labels"))
    names = dict(enumerate(["background", *labels])) if labels else _decathlon_labels(source)
    if len(set(names.values())) < len(names):
        raise DatasetError(f"Labels have equal names: {[*names.values()]}. Name each differently.")
    cases = [_case(stem, images, label) for stem, label in label_files.items()]
    paired = {path for case in cases for path in case.image}
    cases += [
        Case(stem, stem, (path,), Path("labels", path.name))  # Which is missing, as will be told.
        for stem, path in images.items()
        if path not in paired
    ]
    channels = max((len(case.image) for case in cases), default=1)
    modality = [f"{channel:04d}" for channel in range(channels)]
    return write_dataset("volumes", source, output, cases, modality=modality, labels=names)


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise DatasetError(f"There is no folder {folder}. Lay files into images/ and labels/.")
    scans = (
        path for path in sorted(folder.glob("[!.]*")) if path.is_dir() or _SUFFIX.search(path.name)
    )
    return by_stem(scans, lambda path: _SUFFIX.sub("", path.name))


def _case(stem: str, images: dict[str, Path], label: Path) -> Case:
    channels = [
        images[each] for each in images if re.fullmatch(rf"{re.escape(stem)}_\d{{4}}", each)
    ]
    return Case(stem, stem, tuple(channels) or (images.get(stem, Path("images", stem)),), label)


def _decathlon_labels(source: Path) -> dict[int, str]:
    remedy = "Name the labels 1, 2, ... by --labels."
    labels = read_json(source / "dataset.json", dict, remedy).get("labels")
    with library_errors(f"{source / 'dataset.json'}: has no names of labels", remedy):
        if all(isinstance(number, int) for number in labels.values()):  # As nnU-Net 2 has them.
            labels = {number: name for name, number in labels.items()}
        return {0: "background"} | {int(label): name for label, name in labels.items()}
