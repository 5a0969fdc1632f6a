"""Layers as planes, what is found in them, and where the labels lie."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("napari")
import dask.array
from napari.layers import Image, Labels
from prediction_models import BrightBlobs, predictor_of
from stub_predictor import StubPredictor, spots

from unet_sharp_det.errors import DatasetError, UserError
from unet_sharp_det.napari_plugin.find import find_objects
from unet_sharp_det.napari_plugin.layers import LayerImage

STACK = np.array([[spots(3 * t + z, count=1 + z) for z in range(3)] for t in range(2)])


def test_each_plane_of_a_stack_is_on_its_own():
    found = find_objects(StubPredictor(), LayerImage(Image(STACK)))
    assert found.labels.shape == STACK.shape
    np.testing.assert_array_equal(found.labels > 0, STACK > 100)
    numbers = [np.unique(plane)[1:].tolist() for row in found.labels for plane in row]
    assert numbers == [[1], [2, 3], [4, 5, 6], [7], [8, 9], [10, 11, 12]]
    assert found.features["index"].tolist() == list(range(1, 13))
    assert found.features["t"].tolist() == [0] * 6 + [1] * 6
    assert found.features["z"].tolist() == [0, 1, 1, 2, 2, 2] * 2
    areas = np.bincount(found.labels.ravel())[1:]
    assert found.features["area_px"].tolist() == areas.tolist()


def test_labels_lie_on_their_image():
    place = {
        "scale": (1, 2, 0.5, 0.25),
        "translate": (0, 1, 3, 4),
        "units": ("s", "um", "um", "um"),
    }
    layer = Image(STACK, **place)
    image = LayerImage(layer)
    found = find_objects(StubPredictor(), image)
    labels = Labels(found.labels, features=found.features, **image.position())
    for name in ("scale", "translate", "units", "axis_labels"):
        assert tuple(getattr(labels, name)) == tuple(getattr(layer, name))
    np.testing.assert_allclose(found.features["area_um2"], found.features["area_px"] / 8)


@pytest.mark.parametrize("units, size", [("nm", 0.0005), ("um", 0.5), ("pixel", None)])
def test_the_pixel_size_is_that_of_the_units(units, size):
    pixel_size = LayerImage(Image(spots(0), scale=(0.5, 0.5), units=units)).pixel_size
    assert pixel_size == (None if size is None else pytest.approx((size, size)))


def test_a_channel_is_seen_and_all_are_measured():
    layer = Image(STACK, scale=(1, 2, 1, 1))
    image = LayerImage(layer, channel_axis=1)
    found = find_objects(StubPredictor(), image, channel=2)
    np.testing.assert_array_equal(found.labels[:, 0] > 0, STACK[:, 2] > 100)
    assert {f"intensity_mean_c{n}" for n in range(3)} <= set(found.features)
    assert "z" in found.features
    labels = Labels(found.labels, **image.position())
    for channel in range(3):  # whose labels are seen at each channel
        assert round(labels.world_to_data((0, 2 * channel, 5, 5))[1]) == 0


def test_colours():
    gray = spots(0)
    layer = Image(np.stack([gray // 9, gray, gray // 9, np.full_like(gray, 255)], axis=2), rgb=True)
    image = LayerImage(layer)
    assert image.channels == 3
    found = find_objects(StubPredictor(), image)
    np.testing.assert_array_equal(found.labels > 0, gray > 100)
    [green] = image.planes(channel=1)
    np.testing.assert_array_equal(green.window(slice(None), slice(None))[:, :, 0], gray)


def test_two_channels_must_be_chosen_of():
    with pytest.raises(UserError, match="has 2 channels"):
        LayerImage(Image(STACK[:, :2]), channel_axis=1).planes()


def test_complex_numbers_are_refused():
    layer = SimpleNamespace(
        data=np.zeros((9, 9), complex), multiscale=False, ndim=2, rgb=False, name="a"
    )
    with pytest.raises(DatasetError, match="real ones"):
        LayerImage(layer).planes()


@pytest.mark.parametrize("kind", ["dask", "zarr", "pyramid"])
def test_a_large_image_is_read_by_tiles(kind):
    pixels = np.tile(spots(0, 64, 64), (6, 6))
    largest = []

    def remember(block):
        largest.append(block.size)
        return block

    if kind == "zarr":
        data = pytest.importorskip("zarr").array(pixels, chunks=(64, 64))
    else:
        data = dask.array.from_array(pixels, chunks=64).map_blocks(remember, dtype=np.uint8)
    data = [data, data[::2, ::2]] if kind == "pyramid" else data
    image = LayerImage(Image(data, multiscale=kind == "pyramid", contrast_limits=(0, 255)))
    predictor = predictor_of(BrightBlobs(), tile_size=128, tile_overlap=32)
    shares = []
    found = find_objects(predictor, image, progress=shares.append)
    np.testing.assert_array_equal(found.labels > 0, pixels > 100)
    assert predictor._finder.largest
    assert max(predictor._finder.largest) <= 128
    assert len(shares) > 4
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert all(size <= 64 * 64 for size in largest)


def test_an_image_without_objects_has_an_empty_table():
    found = find_objects(StubPredictor(), LayerImage(Image(np.zeros((9, 9), bool))))
    assert found.labels.max() == 0
    assert len(found.features["area_px"]) == 0
    assert len(Labels(found.labels, features=found.features).features) == 0
