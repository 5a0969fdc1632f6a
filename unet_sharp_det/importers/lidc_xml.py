"""Reading what the radiologists of LIDC-IDRI drew: one XML file per series.

The format: S. G. Armato III et al., "The Lung Image Database Consortium (LIDC) and Image Database
Resource Initiative (IDRI)", Medical Physics 38(2), 2011, and the XML documentation of LIDC.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from ..errors import DatasetError, library_errors

_log = logging.getLogger(__name__)

_NAMESPACE = {"": "http://www.nih.gov"}


@dataclass(frozen=True)
class Contour:
    """An outline on one slice.

    Attributes:
        sop_uid: SOP Instance UID of the slice.
        z: position of the slice in mm, as in its DICOM file.
        inclusion: False for the outline of a hole.
        points: (N, 2) int32, x and y in pixels of the DICOM file.
    """

    sop_uid: str
    z: float
    inclusion: bool
    points: np.ndarray


#: What one reader drew of a nodule; of one under 3 mm a contour of one point, its centre.
Nodule = tuple[Contour, ...]


@dataclass(frozen=True)
class Readings:
    """The readings of a scan: of each reader the nodules, none where the reader saw none."""

    path: Path
    series_uid: str
    readers: tuple[tuple[Nodule, ...], ...]


def read_lidc_xml(path) -> Readings | None:
    """Read the XML file of a series; None if it is of an X-ray image.

    Raises:
        DatasetError: the file is not XML, or is not as LIDC writes its readings.
    """
    path = Path(path)
    remedy = "Download it again, or take it out of the folder."
    with library_errors(f"{path}: is no file of readings of LIDC", remedy):
        root = ElementTree.parse(path).getroot()
        if root.tag.endswith("}IdriReadMessage"):
            return None
        if root.tag != "{http://www.nih.gov}LidcReadMessage":
            raise ValueError(f"it begins with {root.tag}")
        return Readings(
            path,
            _text(root, "ResponseHeader/SeriesInstanceUid"),
            tuple(
                tuple(
                    tuple(map(_read_contour, nodule.findall("roi", _NAMESPACE)))
                    for nodule in session.findall("unblindedReadNodule", _NAMESPACE)
                )
                for session in root.findall("readingSession", _NAMESPACE)
            ),
        )


def readings_by_series(folder: Path) -> dict[str, Readings]:
    """Read all XML files in and below a folder; of a series that is repeated the first counts.

    Files that cannot be read are logged, so that their series have no readings.
    """
    readings = {}
    for path in sorted(folder.rglob("*.xml")):
        try:
            found = read_lidc_xml(path)
        except DatasetError as error:
            _log.warning("%s", error)
            continue
        if found and readings.setdefault(found.series_uid, found) is not found:
            first = readings[found.series_uid].path
            _log.warning("%s: is left out, %s is of the same series.", path, first)
    return readings


def _read_contour(element) -> Contour:
    points = [
        (int(_text(point, "xCoord")), int(_text(point, "yCoord")))
        for point in element.findall("edgeMap", _NAMESPACE)
    ]
    if not points:
        raise ValueError("an roi has no edgeMap")
    return Contour(
        sop_uid=_text(element, "imageSOP_UID"),
        z=float(_text(element, "imageZposition")),
        inclusion=_text(element, "inclusion").upper() != "FALSE",
        points=np.array(points, np.int32),
    )


def _text(element, tag: str) -> str:
    text = element.findtext(tag, namespaces=_NAMESPACE)
    if text is None:
        raise ValueError(f"{element.tag.rpartition('}')[2]} has no {tag}")
    return text.strip()
