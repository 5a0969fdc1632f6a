"""The OME-XML of a TIFF, cut down to one image and to files that may be read.

tifffile reads all images that the XML describes, from any file that it names, of any size.
"""

import re
from math import prod
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from ..errors import DatasetError
from .directories import check_directories, open_checked
from .pixel_size import ome_pixel_size
from .planes import check_series

_MOST_XML = 2**26  # characters
_MOST_TAGS = 2**20
_MOST_PLANES = 2**20  # that all entries of an image name
_UUID = re.compile(r'<(?:\w+:)?OME\b[^>]*?\bUUID\s*=\s*["\']([^"\']*)')


class PartOfImageError(DatasetError):
    """A file holds planes of an image that begins in the file ``whole``, and none of its own."""

    def __init__(self, path: Path, whole: Path):
        super().__init__(
            f"{path}: is part of an image that begins in {whole.name}. Give that file."
        )
        self.whole = whole


class OmeImage(NamedTuple):
    """An image whose first plane lies in the file that was opened."""

    xml: str  # of this image alone, for tifffile
    layouts: dict[str, dict[int, tuple]]  # by file, what check_directories returns
    channels: tuple[str, ...]  # their names; empty where they have none
    pixel_size: tuple[float, float] | None  # (y, x) in micrometres
    count: int  # of such images in the file


class _Entry(NamedTuple):
    """A TiffData element: planes in a row that lie in pages in a row."""

    element: ElementTree.Element
    plane: int  # the first
    page: int  # the first
    count: int | None  # None: all pages of the file
    name: str | None  # of the file; with a UUID of None it is the one that has the XML
    uuid: str | None


class _Image(NamedTuple):
    element: ElementTree.Element
    pixels: ElementTree.Element
    planes: int
    entries: list[_Entry]

    @property
    def first(self) -> _Entry:
        return min(self.entries, key=lambda entry: entry.plane)


def select_image(text: str, path: Path, layouts: dict[int, tuple], number: int) -> OmeImage | None:
    """Select one of the images that begin in a file.

    Further planes may lie in other files of the set, which are read if they are plain files beside
    it. A file never gives an image that begins in another one.

    Args:
        text: the OME-XML of the file.
        layouts: of its pages.
        number: which of the images, from 0.

    Returns:
        None: the XML cannot be read, or says nothing of the file.

    Raises:
        PartOfImageError: all images begin in other files.
        DatasetError: files or planes of the image lack.
        UserError: there is no such image.
    """
    try:
        root = _parse(text)
        companion = root.find("{*}BinaryOnly")
        if companion is not None:
            name = _plain(companion.attrib["MetadataFile"], path)
            root = _parse(_metadata_of(path.with_name(name)))
        images = [_read_image(element) for element in root.iterfind("{*}Image[{*}Pixels]")]
    except (ElementTree.ParseError, LookupError, ValueError, OSError):
        return None
    images = [image for image in images if image.entries]
    file_set = _FileSet(path, layouts, images, _uuid(text))
    own = [image for image in images if file_set.is_own(image.first)]
    if not own:
        for image in images:
            if any(map(file_set.is_own, image.entries)):
                raise PartOfImageError(path, path.with_name(_plain(image.first.name, path)))
        return None
    check_series(path, number, len(own))
    image = own[number]
    file_set.restrict(image)
    alone = ElementTree.Element("OME", UUID=path.name)
    alone.append(image.element)
    names = tuple(each.get("Name", "") for each in image.pixels.iterfind("{*}Channel"))
    return OmeImage(
        xml=ElementTree.tostring(alone, "unicode"),
        layouts=file_set.layouts,
        channels=names if any(names) else (),
        pixel_size=ome_pixel_size(image.pixels.attrib),
        count=len(own),
    )


class _FileSet:
    """The files that the XML of one of them names."""

    def __init__(self, path: Path, layouts: dict[int, tuple], images, uuid: str | None):
        self.path, self.uuid = path, uuid
        self.layouts = {str(path): layouts}
        self._entries = [entry for image in images for entry in image.entries]
        self._goes_by_uuid = self._trusts_uuid()
        self._is_alone = len({(entry.name, entry.uuid) for entry in self._entries}) == 1

    def _trusts_uuid(self) -> bool:
        """Return whether the file's UUID tells which one of the set it is, whatever its name."""
        names = {entry.name for entry in self._entries if entry.uuid == self.uuid}
        if self.uuid is None or len(names) != 1:
            return False
        (name,) = names
        # Some programs write the UUID of the first file into all of them.
        return name in (None, self.path.name) or self._uuid_beside(name) != self.uuid

    def _uuid_beside(self, name: str) -> str | None:
        try:
            return _uuid(_metadata_of(self.path.with_name(name)))
        except (OSError, ValueError):
            return None

    def is_own(self, entry: _Entry) -> bool:
        """Return whether an entry's pages lie in the file that was opened."""
        if entry.name is None and entry.uuid is None:
            return True
        if self._goes_by_uuid and entry.uuid is not None:
            return entry.uuid == self.uuid
        return entry.name == self.path.name or self._is_alone  # and was renamed

    def restrict(self, image: _Image) -> None:
        """Let the entries of an image name pages that exist, and files by their name."""
        steps = 0
        for entry in image.entries:
            path = self.path if self.is_own(entry) else self._check_beside(entry)
            for child in list(entry.element):
                entry.element.remove(child)
            if path != self.path:
                uuid = ElementTree.SubElement(entry.element, "UUID", FileName=path.name)
                uuid.text = path.name
            pages = len(self.layouts[str(path)])
            count = min(pages if entry.count is None else entry.count, pages, image.planes)
            if count < 1 or entry.page >= pages:
                image.pixels.remove(entry.element)
                continue
            entry.element.set("PlaneCount", str(count))
            steps += count
        is_there = image.first.plane == 0 and image.first.element in list(image.pixels)
        if not is_there or max(image.planes, steps) > _MOST_PLANES:
            raise DatasetError(f"{self.path}: planes of the image lack in its pages.")

    def _check_beside(self, entry: _Entry) -> Path:
        """Return the path of another file of the set, which may be read."""
        path = self.path.with_name(_plain(entry.name, self.path))
        if str(path) in self.layouts and path != self.path:
            return path
        if not _is_plain_file(path):
            raise DatasetError(
                f"{self.path}: lacks planes that are in {entry.name}. Put that file beside it."
            )
        known = {each.uuid for each in self._entries} - {None, entry.uuid, self.uuid}
        if path == self.path or self._uuid_beside(path.name) in known:
            raise DatasetError(
                f"{path}: is not the file that the OME-XML of {self.path.name} means. Give the "
                "files the names that they were written with."
            )
        self.layouts[str(path)] = check_directories(path)
        return path


def _plain(name: str | None, path: Path) -> str:
    if not name or name in (".", "..") or set(name) & set("/\\\0"):
        raise DatasetError(f"{path}: its OME-XML names a file that is not beside it: {name!r}.")
    return name


def _is_plain_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _metadata_of(path: Path) -> str:
    """Return the OME-XML in a plain file: a TIFF's, or the file itself."""
    if not _is_plain_file(path):
        raise ValueError("not a plain file")
    with path.open("rb") as file:
        head = file.read(2)
        if head not in (b"II", b"MM"):
            return (head + file.read(_MOST_XML)).decode("utf-8", "replace")
    with open_checked(path)[0] as tiff:
        return tiff.ome_metadata or ""


def _uuid(text: str) -> str | None:
    found = _UUID.search(text[:10_000])
    return found.group(1) if found else None


def _parse(text: str) -> ElementTree.Element:
    if len(text) > _MOST_XML or text.count("<") > _MOST_TAGS or "<!DOCTYPE" in text:
        raise ValueError("too long, or with entities")
    return ElementTree.fromstring(text)


def _read_image(element: ElementTree.Element) -> _Image:
    pixels = element.find("{*}Pixels")
    letters = pixels.attrib["DimensionOrder"][::-1]
    if sorted(letters) != sorted("TCZYX") or letters[-2:] != "YX":
        raise ValueError("not an order of dimensions")
    sizes = {letter: int(pixels.attrib[f"Size{letter}"]) for letter in letters}
    samples = {int(each.get("SamplesPerPixel", 1)) for each in pixels.iterfind("{*}Channel")}
    sizes["C"] //= max(1, *samples, 1)
    if min(sizes.values()) < 1:
        raise ValueError("not a size")
    shape = [sizes[letter] for letter in letters[:-2]]
    entries = []
    for each in pixels.findall("{*}TiffData"):
        entry = _read_entry(each, letters, shape)
        if entry is None:
            pixels.remove(each)
        else:
            entries.append(entry)
    return _Image(element, pixels, prod(shape), entries)


def _read_entry(element: ElementTree.Element, letters: str, shape: list[int]) -> _Entry | None:
    """Return None of planes that the image does not have, as ImageJ leaves them on cropping."""
    attributes, plane = element.attrib, 0
    for letter, size in zip(letters, shape, strict=False):
        index = int(attributes.get(f"First{letter}", 0))
        if not 0 <= index < size:
            return None
        plane = plane * size + index
    page = int(attributes.get("IFD", 0))
    if page < 0:
        raise ValueError("not a page")
    count = attributes.get("PlaneCount", attributes.get("NumPlanes"))
    count = 1 if count is None and "IFD" in attributes else count
    uuid = element.find("{*}UUID")
    return _Entry(
        element=element,
        plane=plane,
        page=page,
        count=None if count is None else int(count),
        name=None if uuid is None else uuid.get("FileName"),
        uuid=None if uuid is None else (uuid.text or "").strip() or None,
    )
