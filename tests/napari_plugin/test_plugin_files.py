"""The files that the plugin reads and writes, and what it leaves to others."""

import json

import numpy as np
import pytest
import shapely

pytest.importorskip("napari")
import tifffile
from napari.layers import Image, Labels, Shapes
from roifile import ImagejRoi
from stub_predictor import StubPredictor, spots

from unet_sharp_det.errors import UserError
from unet_sharp_det.images.source import from_array
from unet_sharp_det.masks.instances import SparseInstances
from unet_sharp_det.napari_plugin import files
from unet_sharp_det.napari_plugin.find import find_objects
from unet_sharp_det.napari_plugin.layers import LayerImage
from unet_sharp_det.outputs import OutputContext, write_outputs

STACK = np.array([[spots(3 * t + z) for z in range(3)] for t in range(2)])


@pytest.fixture
def predicted(tmp_path):
    """The files that predict writes of an image with a pixel size."""
    image = spots(0)
    (objects,) = StubPredictor().predict_many([from_array(image)])
    context = OutputContext(from_array(image), ("nucleus",), (0.5, 0.25))
    paths = write_outputs(objects, context, tmp_path / "a", ["labels", "geojson", "table", "rois"])
    return objects, list(map(str, paths))


def test_a_label_map_has_the_table_beside_it(predicted):
    objects, (path, _, _, _) = predicted
    [(labels, about, kind)] = files.label_map_reader(path)(path)
    assert kind == "labels"
    layer = Labels(labels, **about)
    np.testing.assert_array_equal(layer.data, objects.label_map())
    assert tuple(layer.scale) == pytest.approx((0.5, 0.25))
    assert [str(unit) for unit in layer.units] == ["micrometer"] * 2
    assert layer.features["index"].tolist() == [1, 2, 3, 4]
    assert layer.features["area_px"].tolist() == objects.areas.tolist()
    assert set(layer.features["class"]) == {"nucleus"}


def test_a_label_map_that_is_turned_has_the_pixel_size_of_what_is_seen(tmp_path):
    path = str(tmp_path / "a_labels.tif")
    turned_to_the_right = (274, 3, 1, 6, True)
    per_um = {"resolution": (4, 2), "imagej": True, "metadata": {"unit": "um"}}
    labels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    tifffile.imwrite(path, labels, extratags=[turned_to_the_right], **per_um)
    [(found, about, _)] = files.label_map_reader(path)(path)
    assert found.tolist() == [[3, 0], [4, 1], [5, 2]]
    assert about["scale"] == pytest.approx([0.25, 0.5])


def test_other_files_are_left_to_others(tmp_path, predicted):
    tifffile.imwrite(tmp_path / "float_labels.tif", np.zeros((9, 9), np.float32))
    tifffile.imwrite(tmp_path / "rgb_labels.tif", np.zeros((9, 9, 3), np.uint8))
    (tmp_path / "text_labels.tif").write_text("none")
    for name in ("float", "rgb", "text", "missing"):
        assert files.label_map_reader(str(tmp_path / f"{name}_labels.tif")) is None
    assert files.label_map_reader(predicted[1][:1]) is None
    place = {"type": "Feature", "geometry": None, "properties": {"city": "Bern"}}
    for number, content in enumerate(({"features": [place]}, {"type": "Point"}, [])):
        path = tmp_path / f"{number}.geojson"
        path.write_text(json.dumps(content))
        assert files.outlines_reader(str(path)) is None


def test_outlines_are_where_imagej_has_them(predicted):
    objects, (_, path, _, rois) = predicted
    [(shapes, about, kind)] = files.outlines_reader(path)(path)
    assert kind == "shapes"
    layer = Shapes(shapes, **about)
    assert layer.features["area px^2"].tolist() == objects.areas.tolist()
    assert layer.features["score"].tolist() == pytest.approx(objects.scores.tolist())
    for shape, roi in zip(layer.data, ImagejRoi.fromfile(rois), strict=True):
        corners = roi.coordinates()[:, ::-1] - 0.5  # pixel corners there, pixel centres here
        assert set(map(tuple, shape)) == set(map(tuple, corners))
    np.testing.assert_array_equal(layer.to_labels(labels_shape=objects.shape), objects.label_map())


def test_a_stack_of_labels_comes_back(tmp_path):
    image = LayerImage(Image(STACK, scale=(1, 1, 0.5, 0.5), units="um"))
    found = find_objects(StubPredictor(), image)
    found.labels[found.labels == 5] = 0  # as if it had been erased: the others keep their numbers
    found.labels[0, 0, 0, 0] = 99  # and another drawn by hand
    data, state, _ = Labels(
        found.labels, features=found.features, **image.position()
    ).as_layer_data_tuple()
    path, outlines = str(tmp_path / "b_labels.tif"), str(tmp_path / "b.geojson")
    assert files.write_label_map(path, data, state) == [path]
    [(labels, about, _)] = files.label_map_reader(path)(path)
    np.testing.assert_array_equal(labels, found.labels)
    assert about["scale"][-2:] == pytest.approx([0.5, 0.5])
    assert files.write_outlines(outlines, data, state) == [outlines]
    [(shapes, about, _)] = files.outlines_reader(outlines)(outlines)
    table = about["features"]
    assert sorted(table["index"]) == np.unique(found.labels)[1:].tolist()
    for corners, number, score in zip(shapes, table["index"], table["score"], strict=True):
        (t,), (z,) = map(np.unique, corners[:, :2].T.astype(int))
        y, x = np.ceil(corners[:, 2:].min(axis=0)).astype(int)
        assert found.labels[t, z, y, x] == number
        known = dict(zip(found.features["index"], found.features["score"], strict=True))
        assert score == pytest.approx(known.get(number, 1))


def test_a_shape_that_is_drawn_has_a_number_of_its_own(predicted, tmp_path):
    objects, (_, path, _, _) = predicted
    [(shapes, about, _)] = files.outlines_reader(path)(path)
    layer = Shapes(shapes[1:], **{**about, "features": about["features"][1:]})
    layer.add([[1, 1], [1, 3], [3, 3]], shape_type="polygon")
    data, state, _ = layer.as_layer_data_tuple()
    saved = str(tmp_path / "drawn.geojson")
    files.write_shapes(saved, data, state)
    [(_, about, _)] = files.outlines_reader(saved)(saved)
    table = about["features"]
    assert table["index"].tolist() == list(range(2, len(objects) + 2))
    assert table["class"].tolist() == ["nucleus"] * (len(objects) - 1) + ["object"]
    assert table["score"].iloc[-1] == 1


def test_holes_stay_holes(tmp_path):
    ring = np.pad(np.zeros((2, 2), np.uint8), 2, constant_values=1)
    objects = SparseInstances.from_label_map(ring)
    context = OutputContext(from_array(ring), ("cell",))
    [path] = write_outputs(objects, context, tmp_path / "c", ["geojson"])
    [([corners], _, _)] = files.read_outlines(str(path))
    assert shapely.Polygon(corners).area == ring.sum()  # of holes, which run the other way, less
    middles = shapely.contains_xy(shapely.Polygon(corners).buffer(0), *np.indices(ring.shape))
    np.testing.assert_array_equal(middles, ring)


def test_the_sample_is_an_image_of_nuclei():
    [(pixels, about, kind)] = files.sample()
    assert (pixels.shape, pixels.dtype, kind) == ((256, 256), np.uint8, "image")
    assert about == {"name": "nuclei"}


def test_shapes_are_written_as_outlines(tmp_path):
    square = np.array([[1, 2, 2], [1, 2, 6], [1, 6, 6], [1, 6, 2]])
    kinds = ["polygon", "rectangle", "ellipse"]
    layer = Shapes([square] * 3, shape_type=kinds, features={"class": ["a", "b", ""]})
    data, about, _ = layer.as_layer_data_tuple()
    path = str(tmp_path / "a.geojson")
    files.write_shapes(path, data, about)
    features = json.loads((tmp_path / "a.geojson").read_text())["features"]
    classes = [each["properties"]["classification"]["name"] for each in features]
    assert classes == ["a", "b", "object"]
    assert [each["geometry"]["plane"]["z"] for each in features] == [1, 1, 1]
    outlines = [shapely.geometry.shape(each["geometry"]) for each in features]
    assert outlines[0].equals(outlines[1])
    assert outlines[0].bounds == (2.5, 2.5, 6.5, 6.5)
    assert outlines[2].area == pytest.approx(4 * np.pi, rel=0.01)
    with pytest.raises(UserError, match="a path of 3 coordinates"):
        files.write_shapes(path, data, {**about, "shape_type": ["path"] * 3})
    assert len(json.loads((tmp_path / "a.geojson").read_text())["features"]) == 3
