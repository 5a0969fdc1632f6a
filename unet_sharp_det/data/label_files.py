"""Label maps as files: which there are, and of which image each is."""

from collections.abc import Iterable
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
    known, found = set(known), {}
    for path in paths:
        stem = image_stem(path, suffix, known)
        if stem is None or path.name.startswith(".") or path.is_dir():
            continue
        if stem in found:
            raise DatasetError(
                f"{folder}: {found[stem].name} and {path.name} are both of the image {stem}. Give "
                "what the names end in, e.g. _cp_masks.tif, by --suffix or --truth-suffix."
            )
        found[stem] = path
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
    if stem in known:
        return stem
    endings = [ending for ending in ENDINGS if stem.endswith(ending)]
    return stem.removesuffix(endings[0]) if endings else stem
