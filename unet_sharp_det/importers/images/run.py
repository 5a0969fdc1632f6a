"""An import of images, from a folder or file to a data set."""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ...errors import DatasetError, UserError
from .choice import OF_FILES, choose_format, reader_of, split_folders
from .samples import Sample
from .write import ImageSummary, write_images


def import_images(
    source,
    output,
    *,
    format: str | None = None,
    val=None,
    classes: Sequence[str] = (),
    **options,
) -> ImageSummary:
    """Import images with annotated objects, to train on them.

    Args:
        source: a folder, or of COCO and TissueNet a file. Its subfolders ``train``, ``val`` and
            ``test``, if there are, become the splits.
        output: folder to write to, ``$DETECTRON2_DATASETS/<name>``.
        format: of ``FORMATS``; None: what the files look like.
        val: a folder of the same format with the images of validation.
        classes: names of the classes, of formats that have numbers or none.
        options: of :func:`write_images`.

    Raises:
        DatasetError: see :func:`choose_format` and :func:`write_images`.
        UserError: the format names its classes itself.

    Example:
        >>> import_images("my_cells", "datasets/mine", classes=["cell"])  # doctest: +SKIP
    """
    source = Path(source)
    name, why = choose_format(source, format)
    reader = reader_of(name)
    has_numbers = "classes" in inspect.signature(reader.read).parameters
    if classes and not has_numbers:
        raise UserError(f"--classes is no option of {name}, which has names. Leave it out.")
    if len(set(classes)) < len(classes):
        raise UserError("--classes: two names are equal. Name each class differently.")
    folders = split_folders(source)
    if val is not None:
        if not Path(val).exists():
            raise DatasetError(f"--val: there is no {val}. Give the folder of the validation.")
        folders = {"train": source, "val": Path(val)}
    for each in folders.values():
        if each.is_file() and name not in OF_FILES:
            raise DatasetError(
                f"{each}: is a file, but {name} takes a folder. Give the one it is in."
            )
    named = {"classes": classes} if classes else {}
    samples = _samples(folders, reader, named)
    options |= {"why": f"{name} ({why})", "has_numbers": has_numbers and not classes}
    return write_images(samples, source, output, **options)


def _samples(folders: dict, reader, options: dict) -> Iterator[Sample]:
    for split, folder in folders.items():
        for sample in reader.read(folder, **options):
            told = tuple(options.get("classes", sample.categories))
            yield replace(sample, split=split or sample.split, categories=told)
