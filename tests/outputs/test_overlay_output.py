from dataclasses import replace

import cv2
import numpy as np
import pytest

from unet_sharp_det.images.intensity import prepare
from unet_sharp_det.images.source import from_array
from unet_sharp_det.masks.drawing import distinct_colors, draw_label_contours
from unet_sharp_det.masks.instances import SparseInstances
from unet_sharp_det.outputs import OutputContext, overlay
from unet_sharp_det.outputs.overlay import draw_overlay

WHOLE = (slice(None), slice(None))


@pytest.fixture
def display(context):
    return prepare(context.source, "RGB", stretch_contrast=True)


@pytest.mark.parametrize("tile", [1024, 16, 3])
def test_contours_on_the_image_with_contrast(tile, instances, context, display, write, monkeypatch):
    monkeypatch.setattr(overlay, "_TILE", tile)
    colors = distinct_colors(2)  # Of the two classes; without them, each object has its own.
    for names, of_objects in (
        (("nucleus",), distinct_colors(len(instances))),
        (("nucleus", "mitosis"), [colors[k] for k in instances.classes]),
    ):
        expected = draw_label_contours(display.window(*WHOLE), instances.label_map(), of_objects)
        context = replace(context, class_names=names)
        single = instances if len(names) > 1 else replace(instances, classes=0 * instances.classes)
        found = cv2.imread(str(write("overlay", single, context)), cv2.IMREAD_COLOR)[:, :, ::-1]
        np.testing.assert_array_equal(found[:61], expected)
        assert len(found) == 61 + (48 if len(names) > 1 else 0)  # With a line per class below it.


@pytest.mark.parametrize("side, factor", [(83, 1), (82, 2), (28, 3), (27, 4), (1, 83)])
@pytest.mark.parametrize("tile", [1024, 12])
def test_reduced_pictures_do_not_depend_on_the_tiles(
    side, factor, tile, instances, display, monkeypatch
):
    monkeypatch.setattr(overlay, "_LONGEST_SIDE", side)
    colors = distinct_colors(len(instances))
    whole = draw_overlay(instances, display, colors)
    assert whole.shape == (-(-61 // factor), -(-83 // factor), 3)
    monkeypatch.setattr(overlay, "_TILE", tile)
    np.testing.assert_array_equal(draw_overlay(instances, display, colors), whole)


def test_reduced_pictures_show_means_and_small_objects(monkeypatch):
    monkeypatch.setattr(overlay, "_LONGEST_SIDE", 15)
    rng = np.random.default_rng(0)
    image = np.tile(rng.integers(0, 256, (40, 60, 1)).astype(np.uint8), 3)
    labels = np.zeros((40, 60), np.int32)
    labels[17, 33] = 1
    display = prepare(from_array(image), "RGB", stretch_contrast=False)
    found = draw_overlay(SparseInstances.from_label_map(labels), display, distinct_colors(1))
    means = image.reshape(10, 4, 15, 4, 3).mean(axis=(1, 3))
    means[4, 8] = distinct_colors(1)[0]
    np.testing.assert_allclose(found, means, atol=0.501)


@pytest.mark.parametrize("channels", [1, 3])
def test_dim_images_of_16_bits_are_seen(channels, write):
    image = np.random.default_rng(0).integers(100, 130, (50, 50, channels)).astype(np.uint16)
    context = OutputContext(from_array(image), ("nucleus",))
    found = cv2.imread(str(write("overlay", SparseInstances.empty((50, 50)), context)))
    assert found.min() == 0
    assert found.max() == 255
