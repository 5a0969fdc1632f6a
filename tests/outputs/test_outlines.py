"""Outlines, and the files of ImageJ and QuPath that hold them."""

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from roifile import ROI_TYPE, ImagejRoi
from shapely.geometry import shape as to_shape

from unet_sharp_det.masks.instances import SparseInstances
from unet_sharp_det.outputs import OutputContext
from unet_sharp_det.outputs.outlines import iterate_outlines, rings_of, to_roi, trace_outline

RING = np.pad(np.zeros((1, 2), bool), 1, constant_values=True)
CROSSING = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]], bool)  # the hole touches the outer ring
MASKS = {
    "one pixel": (np.ones((1, 1), bool), 1, 0),
    "ring": (RING, 1, 1),
    "diagonal neighbours": (np.eye(3, dtype=bool), 3, 0),
    "hole at a corner": (CROSSING, 1, 1),
    "diagonal holes": (np.pad(~np.eye(2, dtype=bool), 1, constant_values=True), 1, 2),
    "island in a hole": (np.pad(np.pad([[True]], 1), 1, constant_values=True), 2, 1),
}


def rasterize(outline, mask):
    """The pixels whose centres lie inside, of which there is no doubt."""
    y, x = np.indices(mask.shape)
    return shapely.contains_xy(outline, x + 0.5, y + 0.5)


def check(mask):
    outline = trace_outline(mask)
    assert shapely.is_valid(outline)
    assert outline.area == mask.sum()
    np.testing.assert_array_equal(rasterize(outline, mask), mask)
    for ring in rings_of(outline):  # corners only: each side is along an axis, and they alternate
        sides = np.diff(ring, axis=0, append=ring[:1]) != 0
        assert (sides.sum(axis=1) == 1).all()
        assert (sides[1:] != sides[:-1]).all()
    return outline


@pytest.mark.parametrize("name", MASKS)
def test_parts_and_holes(name):
    mask, parts, holes = MASKS[name]
    outline = check(mask)
    assert shapely.get_num_geometries(outline) == parts
    assert len(rings_of(outline)) == parts + holes
    moved = trace_outline(mask, 70_000, 9)
    np.testing.assert_array_equal(rings_of(moved)[0], rings_of(outline)[0] + (70_000, 9))


@pytest.mark.parametrize("seed", range(8))
def test_random_masks(seed):
    rng = np.random.default_rng(seed)
    for density in (0.1, 0.5, 0.9):
        mask = rng.random(rng.integers(1, 16, 2)) < density
        mask[0, 0] = True
        check(mask)


def test_one_outline_per_object_in_the_image(instances):
    labels = instances.label_map()
    for number, outline in enumerate(iterate_outlines(instances), 1):
        np.testing.assert_array_equal(rasterize(outline, labels), labels == number)


def roi_area(roi):
    """The area of a ROI by the shoelace formula; holes run the other way and count negatively."""
    areas = []
    for ring in roi.coordinates(multi=True):
        x, y = np.asarray(ring, np.float64).T
        areas.append((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)
    return abs(sum(areas))


def test_rois_of_imagej(instances, write):
    path = write("rois", instances)
    rois = ImagejRoi.fromfile(path)
    assert [roi_area(roi) for roi in rois] == instances.areas.tolist()
    for roi, score, box, outline in zip(
        rois, instances.scores, instances.boxes, iterate_outlines(instances), strict=True
    ):
        assert (roi.left, roi.top, roi.right, roi.bottom) == tuple(box)
        kind = ROI_TYPE.TRACED if len(rings_of(outline)) == 1 else ROI_TYPE.RECT
        assert roi.roitype == kind
        assert roi.composite == (kind == ROI_TYPE.RECT)
        assert roi.name.endswith(f"_score_{score:.2f}")
    assert {roi.roitype for roi in rois} == {ROI_TYPE.TRACED, ROI_TYPE.RECT}
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    assert names == [f"{roi.name}.roi" for roi in rois] == sorted(set(names))
    assert [int(name[:4]) for name in names] == list(range(1, 15))


@pytest.mark.parametrize("mask", [np.ones((2, 3), bool), RING])
@pytest.mark.parametrize("corner", [(40_000, 50_000), (60_530, 2), (60_534, 70_000)])
def test_rois_far_from_the_origin(mask, corner):
    top, left = corner
    outline = trace_outline(mask, left, top)
    roi = ImagejRoi.frombytes(to_roi(outline, "far"))
    rings = [np.asarray(ring) for ring in roi.coordinates(multi=True)]
    points = np.unique(np.concatenate(rings), axis=0)
    np.testing.assert_array_equal(points, np.unique(shapely.get_coordinates(outline), axis=0))


def test_detections_of_qupath(instances, write):
    collection = json.loads(write("geojson", instances).read_text())
    assert collection["type"] == "FeatureCollection"
    labels = instances.label_map()
    assert len(collection["features"]) == 14
    for number, feature in enumerate(collection["features"], 1):
        outline = to_shape(feature["geometry"])
        assert outline.is_valid
        np.testing.assert_array_equal(rasterize(outline, labels), labels == number)
        properties = feature["properties"]
        assert feature["type"] == "Feature"
        assert feature["id"] == number
        assert properties["name"] == str(number)
        assert properties["objectType"] == "detection"
        name = "mitosis" if number == 4 else "nucleus"
        assert properties["classification"]["name"] == name
        assert all(0 <= value <= 255 for value in properties["classification"]["color"])
        assert properties["measurements"] == {
            "score": instances.scores[number - 1],
            "area px^2": outline.area,
            "area um^2": outline.area * 0.125,
        }


PLACES = {
    "a slice": ({"z": 3}, {"position": 4, "z_position": 4}, {"c": -1, "z": 3, "t": 0}),
    "a slice of a series": (
        *({"t": 1, "z": 3}, {"position": 0, "z_position": 4, "t_position": 2}),
        {"c": -1, "z": 3, "t": 1},
    ),
    "a page": ({"page": 2}, {"position": 3}, {"c": -1, "z": 0, "t": 2}),
    "a channel": ({"c": 1}, {"position": 2, "c_position": 2}, None),
    "a projection": (
        {"t": 1, "z": None},
        {"position": 0, "t_position": 2},
        {"c": -1, "z": 0, "t": 1},
    ),
    "the only plane": ({}, {"position": 0}, None),
}


@pytest.mark.parametrize("name", PLACES)
def test_outlines_are_on_the_plane_of_their_image(instances, write, context, name):
    place, positions, plane = PLACES[name]
    context = replace(context, source=replace(context.source, place=place))
    expected = dict.fromkeys(("position", "c_position", "z_position", "t_position"), 0) | positions
    for roi in ImagejRoi.fromfile(write("rois", instances, context)):
        assert {key: getattr(roi, key) for key in expected} == expected
    for feature in json.loads(write("geojson", instances, context).read_text())["features"]:
        assert feature["geometry"].get("plane") == plane
        assert to_shape(feature["geometry"]).is_valid


def test_no_area_in_micrometres_without_a_pixel_size(instances, write, context):
    unknown = OutputContext(context.source, context.class_names)
    [feature] = json.loads(
        Path(write("geojson", instances.select(np.arange(1)), unknown)).read_text()
    )["features"]
    assert set(feature["properties"]["measurements"]) == {"score", "area px^2"}
    empty = json.loads(write("geojson", SparseInstances.empty(instances.shape)).read_text())
    assert empty == {"type": "FeatureCollection", "features": []}
