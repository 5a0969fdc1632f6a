"""The scale of an image by the size of what is found in it."""

import cv2
import numpy as np
import pytest
from object_shares import share_of_same_objects
from prediction_models import BrightBlobs, predictor_of

from unet_sharp_det.errors import ConfigError
from unet_sharp_det.images.decoding import read_image
from unet_sharp_det.masks.instances import SparseInstances
from unet_sharp_det.prediction import PredictionOptions, Predictor
from unet_sharp_det.prediction.fitting_scale import find_at_fitting_scale, fitting_scale


def squares(*sides, score=0.9):
    """Objects of these sides in an image of 2,000 x 2,000 pixels."""
    corners = [(0, 0)] * len(sides)
    masks = [np.ones((side, side), bool) for side in sides]
    return SparseInstances.from_windows(
        (2000, 2000), corners, masks, [score] * len(sides), [0] * len(sides)
    )


class Looks:
    """What is found at each scale, in the order of the looks, beside many faint specks."""

    def __init__(self, found):
        self.found, self.seen, self.shares = found, [], []

    def __call__(self, scale, share):
        self.seen.append(scale)
        self.shares.append(share)
        parts = squares(*self.found.get(scale, ())), squares(*[3] * 9, score=0.4)
        return SparseInstances.concatenate(parts[0].shape, parts)


def test_it_looks_until_two_looks_agree():
    """Coarse looks see crowds of small nuclei as one large object."""
    looks = Looks({1 / 8: [300], 1 / 4: [80, 75], 1 / 2: [72, 70, 69], 3 / 8: [71, 71]})
    found, scale, median = find_at_fitting_scale(looks, diameter=20, score=0.5)
    assert looks.seen == [1 / 8, 1 / 4, 1 / 2]
    assert median == pytest.approx(70 * (4 / np.pi) ** 0.5)
    assert (scale, len(found)) == (0.5, 3 + 9)  # 40 pixels at the model, twice the training's


def test_a_scale_that_was_not_looked_at_is():
    looks = Looks({1 / 8: [200], 1 / 4: [180], 3 / 16: [185, 185]})
    found, scale, _ = find_at_fitting_scale(looks, diameter=20, score=0.5)
    assert (looks.seen, scale, len(found)) == ([1 / 8, 1 / 4, 3 / 16], 3 / 16, 2 + 9)
    assert sum(looks.shares) == 1


def test_a_known_diameter_takes_one_look():
    looks = Looks({0.375: [100]})
    _, scale, median = find_at_fitting_scale(looks, diameter=20, score=0.5, known=100)
    assert (looks.seen, looks.shares, scale, median) == ([0.375], [1], 0.375, 100)


def test_without_objects_it_is_one():
    looks = Looks({})
    found, scale, median = find_at_fitting_scale(looks, diameter=20, score=0.5)
    assert (looks.seen, scale, median, len(found)) == ([1 / 8, 1 / 4, 1 / 2, 1.0], 1.0, 0.0, 9)


@pytest.mark.parametrize(
    "median, scale",
    [(5, 2), (9, 1.5), (10, 1), (40, 1), (41, 0.75), (100, 0.375), (900, 0.125), (1, 4)],
)
def test_sizes_that_the_model_knows_stay(median, scale):
    assert fitting_scale(median, diameter=20) == scale
    assert fitting_scale(2 * median, diameter=40) == scale


def test_an_enlarged_image_has_the_same_nuclei(repository, caplog):
    """In tiles that grow with it."""
    (path,) = (repository / "datasets/sample/stage1_train").glob("04acab*/images/*.png")
    image = read_image(path, "RGB")[:128, :128]
    large = cv2.resize(image, None, fx=6, fy=6, interpolation=cv2.INTER_LINEAR)
    wanted = Predictor.from_checkpoint("nuclei-fast")(image)
    options = PredictionOptions(scale="auto", tile_size=256)
    with caplog.at_level("INFO"):
        found = Predictor.from_checkpoint("nuclei-fast", options=options)(large)
    assert "the scale is 0.375" in caplog.text
    small = SparseInstances.from_label_map(found.label_map()[3::6, 3::6])
    assert len(wanted) > 10
    assert share_of_same_objects(wanted, small, iou=0.7) > 0.8


@pytest.mark.parametrize("diameter, seen", [(None, (0.75, 45.1)), (80, (0.5, 80))])
@pytest.mark.parametrize("tile_size", [64, 512], ids=["tiles", "whole"])
def test_it_tells_the_scale_and_all_of_the_progress(diameter, seen, tile_size):
    image = np.zeros((320, 320), np.uint8)
    image[100:140, 100:140] = 200
    predictor = predictor_of(BrightBlobs(), scale="auto", tile_size=tile_size)
    done = []
    found, *told = predictor.find(image, done.append, diameter=diameter)
    assert (len(found), told) == (1, pytest.approx(seen, abs=0.1))
    assert sum(done) == image.size
    assert all(each >= 0 for each in done)


@pytest.mark.parametrize("scale", ["large", 0, 65, float("nan")])
def test_a_scale_that_is_none(scale):
    with pytest.raises(ConfigError, match="scale is .* 64 at most, or auto"):
        PredictionOptions(scale=scale)
