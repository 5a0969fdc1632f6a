"""Label maps as files: which there are, and of which image each is."""

from collections.abc import Callable, Iterable
from pathlib import Path

from ..errors import DatasetError
from ..files import ending_of, split_name

VOLUMES = (".nii.gz", ".nii", ".mha", ".nrrd")
FORMATS = (".png", ".tif", ".tiff", ".npy", *VOLUMES)

# What tools append to the stem of an image's name; the first that fits is taken off.
ENDINGS = ("_cp_masks", "_masks", "_mask", "_labels", "_label", "_seg", "_pred", "_objects")


def find_label_maps(
    folder, suffix: str | None = None, known: Iterable[str] = ()
) -> dict[str, Path]:
    """Find the label maps (``FORMATS``) of a folder, by the stem of the image that each is of.

    Args:
        suffix: what follows the image's stem in a file's name, e.g. "_cp_masks", "_cp_masks.tif"
            or "" (nothing); files that do not end so are passed over. None: one of ``ENDINGS``
            is taken off where there is one.
        known: stems of images, of which no ending is taken off.

    Raises:
        DatasetError: there is no label map, or two of one image.
    """
    paths = [path for path in sorted(Path(folder).iterdir()) if ending_of(path) in FORMATS]
    files = [path for path in paths if not path.name.startswith(".") and path.is_file()]
    known = set(known)
    stems = {path: image_stem(path, suffix, known) for path in files}
    remedy = "Give what the names end in, e.g. _cp_masks.tif, by --suffix or --truth-suffix."
    found = by_stem((path for path in files if stems[path] is not None), stems.get, remedy)
    if not found:
        names = f", whose name ends in '{suffix}'" if suffix else ""
        there = f" It has e.g. {paths[0].name}." if paths else ""
        raise DatasetError(f"{folder}: has no label map ({', '.join(FORMATS)}){names}.{there}")
    return found


def image_stem(path: Path, suffix: str | None, known: set[str]) -> str | None:
    """Return the stem of the image that a label map is of; None if its name ends otherwise."""
    stem, _ = split_name(path)
    if suffix is not None:
        names = [name for name in (stem, path.name) if name.endswith(suffix)]
        return names[0].removesuffix(suffix) if names else None
    return stem if stem in known else without_ending(stem, ENDINGS)


def without_ending(stem: str, endings: Iterable[str]) -> str:
    """Return a stem without the first of the endings that it has."""
    return stem.removesuffix(next(filter(stem.endswith, endings), ""))


def by_stem(
    files: Iterable[Path],
    stem_of: Callable[[Path], str] = lambda path: path.stem,
    remedy: str = "Take one of them away.",
) -> dict[str, Path]:
    """Return files by their stems; DatasetError: two have the same."""
    found = {}
    for path in files:
        other = found.setdefault(stem_of(path), path)
        if other is not path:
            raise DatasetError(
                f"{path.parent}: {other.name} and {path.name} are both of the image "
                f"{stem_of(path)}. {remedy}"
            )
    return found


def check_size(path, found: tuple[int, int], shape: tuple[int, int]) -> None:
    """Raise a DatasetError if what a file holds is not of its image's (height, width)."""
    if tuple(found) != tuple(shape):
        raise DatasetError(
            f"{path}: has (height, width) {tuple(found)}, but its image has {tuple(shape)}. Give "
            "the one that it was made for."
        )
