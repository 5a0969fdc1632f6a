"""The images that the OME-XML of a TIFF describes, and which pages of which files hold them."""

import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from xml.etree import ElementTree

from ..errors import DatasetError, UserError
from .directories import open_checked
from .pixel_size import ome_pixel_size

_MOST_XML = 2**26  # characters
_MOST_ELEMENTS = 2**20
_MOST_PLANES = 2**20  # that all entries of an image name
_UUID = re.compile(r'<(?:\w+:)?OME\b[^>]*?\bUUID\s*=\s*["\']([^"\']*)')


class PartOfImageError(DatasetError):
    """A file holds planes of an image that begins in the file ``whole``, and none of its own."""

    def __init__(self, path: Path, whole: Path):
        super().__init__(
            f"{path}: holds a part of an image that begins in {whole.name}. Give that file, which "
            "reads this one too."
        )
        self.whole = whole


@dataclass(frozen=True)
class _Entry:
    """Planes in a row that lie in pages in a row: an OME TiffData element.

    Attributes:
        plane, page: the first of each.
        count: None: all pages of the file.
        name, uuid: of the file; None: the one that has the XML.
    """

    plane: int
    page: int
    count: int | None
    name: str | None
    uuid: str | None


@dataclass(frozen=True)
class OmeImage:
    """An Image element.

    Attributes:
        letters, shape: of the axes, the slowest first, those of length 1 included; the samples of
            a pixel are none of the channels.
        samples: of a pixel.
        entries: which pages hold its planes.
        channels: their names; empty where they have none.
        pixel_size: (y, x) in micrometres, or None.
    """

    letters: str
    shape: tuple[int, ...]
    samples: int
    entries: tuple[_Entry, ...]
    channels: tuple[str, ...]
    pixel_size: tuple[float, float] | None


@dataclass(frozen=True)
class OmeSeries:
    """An image whose first plane lies in the file that was opened.

    Attributes:
        image: what the XML says of it.
        series: tifffile's, of pages that are loaded.
        layouts: by file, what :func:`open_checked` returns.
        count: how many such images the file has.
    """

    image: OmeImage
    series: object
    layouts: dict[str, dict[int, tuple]]
    count: int


def open_ome(tiff, path: Path, layouts: dict[int, tuple], number: int) -> OmeSeries | None:
    """Open one of the images that begin in a file.

    Further planes may lie in other files of the set, which are read if they are plain files beside
    it. A file never gives an image that begins in another one.

    Args:
        tiff: an open tifffile.TiffFile with OME-XML.
        path: its path.
        layouts: of its pages.
        number: which of the images, from 0.

    Returns:
        None: the XML does not fit the pages, and says nothing of them.

    Raises:
        PartOfImageError: all images begin in other files.
        DatasetError: files or planes of the image lack.
        UserError: there is no such image.
    """
    text = tiff.ome_metadata or ""
    try:
        images, companion = _parse(text)
        if companion is not None:
            images, _ = _parse(_metadata_beside(path.with_name(companion)))
    except (ElementTree.ParseError, LookupError, ValueError, OSError, UserError):
        return None
    file_set = _FileSet(tiff, path, layouts, images, _uuid(text))
    own = [image for image in images if file_set.is_own(_first(image))]
    if not own:
        strays = [entry for image in images for entry in image.entries if file_set.is_own(entry)]
        if strays:
            owner = next(_first(image) for image in images if strays[0] in image.entries)
            raise PartOfImageError(path, path.with_name(_plain(owner.name, path)))
        return None
    if not 0 <= number < len(own):
        raise no_series_error(path, number, len(own))
    series = file_set.series(own[number])
    return series and OmeSeries(own[number], series, file_set.layouts, len(own))


def no_series_error(path: Path, number: int, count: int) -> UserError:
    """Return the error of a series that a file does not have."""
    return UserError(
        f"{path}: there is no --series {number}; the file has the series 0 to {count - 1}."
    )


def pages_differ_error(path: Path) -> DatasetError:
    """Return the error of pages that cannot be decoded alike."""
    return DatasetError(
        f"{path}: pages of one image differ in size, type or compression. Save it anew."
    )


def _first(image: OmeImage) -> _Entry:
    return min(image.entries, key=lambda entry: entry.plane)


class _FileSet:
    """The files that the XML of one of them names."""

    def __init__(self, tiff, path: Path, layouts, images: list[OmeImage], uuid: str | None):
        self.tiff, self.path, self.uuid = tiff, path, uuid
        self.layouts = {str(path): layouts}
        self._entries = [entry for image in images for entry in image.entries]
        self._goes_by_uuid = self._trusts_uuid()
        self._has_name = any(entry.name == path.name for entry in self._entries)
        self._is_alone = len({(entry.name, entry.uuid) for entry in self._entries}) == 1

    def _trusts_uuid(self) -> bool:
        """Return whether the file's UUID tells which one of the set it is, whatever its name."""
        names = {entry.name for entry in self._entries if entry.uuid == self.uuid}
        if self.uuid is None or len(names) != 1:
            return False
        (name,) = names
        if name in (None, self.path.name):
            return True
        try:  # Some programs write the UUID of the first file into all of them.
            return _uuid(_metadata_beside(self.path.with_name(name))) != self.uuid
        except (OSError, ValueError, UserError):
            return True

    def is_own(self, entry: _Entry) -> bool:
        """Return whether an entry's pages lie in the file that was opened."""
        if entry.name is None and entry.uuid is None:
            return True
        if self._goes_by_uuid and entry.uuid is not None:
            return entry.uuid == self.uuid
        if self._has_name or self._goes_by_uuid:
            return entry.name == self.path.name
        return self._is_alone  # and was renamed

    def series(self, image: OmeImage):
        """Return tifffile's series of an image, or None if its pages are of another shape."""
        from tifffile import TiffPageSeries

        pages = self._pages(image)
        keyframe = next(iter(pages.values())).keyframe
        letters, shape = image.letters, image.shape
        if image.samples > 1:
            at = len(shape) if keyframe.planarconfig == 1 else len(shape) - 2
            letters = letters[:at] + "S" + letters[at:]
            shape = (*shape[:at], image.samples, *shape[at:])
        sizes = [size for size in keyframe.shape if size > 1]
        if sizes != [size for size in shape if size > 1][-len(sizes) or len(shape) :]:
            return None
        count = max(1, prod(shape) // keyframe.size)
        lacking = count - sum(index < count for index in pages)
        if lacking:
            raise DatasetError(f"{self.path}: {lacking:,} planes of the image lack in its pages.")
        ordered = [pages[index] for index in range(count)]
        return TiffPageSeries(ordered, shape, keyframe.dtype, letters, parent=self.tiff, kind="ome")

    def _pages(self, image: OmeImage) -> dict[int, object]:
        """Return the page of each plane, those of other files too."""
        entries: dict[str | None, list[_Entry]] = {}
        for entry in image.entries:
            entries.setdefault(None if self.is_own(entry) else entry.name, []).append(entry)
        total, pages = prod(image.shape[:-2]), {}
        for name, there in entries.items():
            if name is None:
                pages |= self._pages_of(self.tiff, there, total)
                continue
            with self._open_beside(there[0]) as other:
                pages |= self._pages_of(other, there, total)
        if 0 not in pages:
            raise DatasetError(f"{self.path}: the first plane of the image lacks in its pages.")
        return dict(sorted(pages.items()))

    def _pages_of(self, tiff, entries: list[_Entry], total: int) -> dict[int, object]:
        """Return the pages of entries in one file by plane, of which there are so many."""
        pages, found, steps = tiff.pages, {}, 0
        pages.cache = pages.useframes = True
        for entry in entries:
            count = len(pages) if entry.count is None else entry.count
            count = max(0, min(count, len(pages) - entry.page, total - entry.plane))
            steps += count + 1
            if steps > _MOST_PLANES:
                raise DatasetError(f"{self.path}: its OME-XML names pages too often.")
            if count and not found:
                pages.set_keyframe(entry.page)
            try:
                found |= {entry.plane + i: pages[entry.page + i] for i in range(count)}
            except RuntimeError as error:
                raise pages_differ_error(self.path) from error
        return found

    def _open_beside(self, entry: _Entry):
        """Return tifffile's TiffFile of another file of the set."""
        path = self.path.with_name(_plain(entry.name, self.path))
        if path == self.path:
            raise DatasetError(
                f"{self.path}: its UUID and its name are those of two files of its set. Give the "
                "files the names that they were written with."
            )
        if not _is_plain_file(path):
            raise DatasetError(
                f"{self.path}: planes of the image lack, which are in {entry.name}. Put that file "
                "beside it."
            )
        other, self.layouts[str(path)] = open_checked(path)
        uuid = _uuid(other.ome_metadata or "")
        known = {each.uuid for each in self._entries} - {None, entry.uuid, self.uuid}
        if uuid in known or other.byteorder != self.tiff.byteorder:
            other.close()
            raise DatasetError(
                f"{path}: is not the file of that name which the OME-XML of {self.path.name} means."
            )
        return other


def _plain(name: str | None, path: Path) -> str:
    if not name or name in (".", "..") or set(name) & set("/\\\0"):
        raise DatasetError(f"{path}: its OME-XML names a file that is not beside it: {name!r}.")
    return name


def _is_plain_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def _metadata_beside(path: Path) -> str:
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


def _parse(text: str) -> tuple[list[OmeImage], str | None]:
    """Return the images, and the name of the file that describes them instead of this text."""
    if len(text) > _MOST_XML or "<!DOCTYPE" in text:
        raise ValueError("too long, or with entities")
    parser = ElementTree.XMLPullParser(("end",))
    images: list[OmeImage] = []
    companion, elements = None, 0
    for start in range(0, len(text), 2**20):
        parser.feed(text[start : start + 2**20])
        for _, element in parser.read_events():
            kind, elements = _kind(element), elements + 1
            if elements > _MOST_ELEMENTS:
                raise ValueError("too many elements")
            if kind == "BinaryOnly":
                companion = element.attrib["MetadataFile"]
            elif kind == "Image":
                images += _images(element)
            if kind in ("Image", "Plane", "StructuredAnnotations"):
                element.clear()
    parser.close()
    if companion is not None:
        _plain(companion, Path(companion))
    return images, companion


def _images(element: ElementTree.Element) -> Iterator[OmeImage]:
    for pixels in element:
        if _kind(pixels) != "Pixels":
            continue
        letters = "".join(reversed(pixels.attrib["DimensionOrder"]))
        if sorted(letters) != sorted("TCZYX") or letters[-2:] != "YX":
            raise ValueError("not an order of dimensions")
        sizes = {letter: int(pixels.attrib[f"Size{letter}"]) for letter in letters}
        channels = [each.attrib for each in pixels if _kind(each) == "Channel"]
        (samples,) = {int(each.get("SamplesPerPixel", 1)) for each in channels} or {1}
        sizes["C"] //= max(1, samples)
        shape = tuple(sizes[letter] for letter in letters)
        if min(*shape, samples) < 1:
            raise ValueError("not a size")
        names = tuple(each.get("Name", "") for each in channels)
        entries = [_entry(each, letters, shape) for each in pixels if _kind(each) == "TiffData"]
        entries = tuple(entry for entry in entries if entry is not None)
        if entries:
            size = ome_pixel_size(pixels.attrib)
            yield OmeImage(letters, shape, samples, entries, names if any(names) else (), size)


def _entry(element: ElementTree.Element, letters: str, shape: tuple[int, ...]) -> _Entry | None:
    """Return None of planes that the image does not have, as ImageJ leaves them on cropping."""
    attributes, plane = element.attrib, 0
    for letter, size in zip(letters[:-2], shape[:-2], strict=True):
        index = int(attributes.get(f"First{letter}", 0))
        if not 0 <= index < size:
            return None
        plane = plane * size + index
    count = attributes.get("PlaneCount", attributes.get("NumPlanes"))
    if count is None and "IFD" in attributes:
        count = 1
    uuid = next((each for each in element if _kind(each) == "UUID"), None)
    return _Entry(
        plane=plane,
        page=max(0, int(attributes.get("IFD", 0))),
        count=None if count is None else int(count),
        name=None if uuid is None else uuid.get("FileName"),
        uuid=None if uuid is None or not uuid.text else uuid.text.strip(),
    )


def _kind(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]
