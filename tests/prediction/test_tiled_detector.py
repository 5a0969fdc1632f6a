"""A trained Mask R-CNN finds in tiles what it finds in the whole image."""

import numpy as np
import pytest
from object_shares import share_of_same_objects

from unet_sharp_det import model_zoo
from unet_sharp_det.images.decoding import read_image
from unet_sharp_det.prediction import PredictionOptions, Predictor


@pytest.fixture
def scene(converted_sample):
    """An image that the model never saw, and its reflections: 768 x 750, no nucleus cut."""
    (path,) = (converted_sample / "images").glob("1f9e429c12f4477221b5*.png")
    image = read_image(path, "RGB")
    missing = (0, 768 - image.shape[0]), (0, 750 - image.shape[1]), (0, 0)
    return np.pad(image, missing, mode="symmetric")


def test_tiled_equals_untiled(scene):
    """99 % of the objects agree at an IoU of .9, both ways.

    Scores differ a little between tiles, so that what has .5 in one may have .3 in the other.
    """

    def predict(tile_size):
        options = PredictionOptions(score_threshold=0.3, tile_size=tile_size)
        path = model_zoo.get_checkpoint_file("nuclei")
        return Predictor.from_checkpoint(path, device="cpu", options=options)(scene)

    whole, tiled = predict(1024), predict(512)
    assert len(whole.at_least(0.5)) > 400
    assert share_of_same_objects(whole.at_least(0.5), tiled) >= 0.99
    assert share_of_same_objects(tiled.at_least(0.5), whole) >= 0.99
