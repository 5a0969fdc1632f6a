"""A trained Mask R-CNN finds in tiles what it finds in the whole image."""

import numpy as np
import pytest
from object_shares import share_of_same_objects

from unet_sharp_det.data.image_io import read_image
from unet_sharp_det.prediction import PredictionOptions, Predictor


@pytest.fixture(scope="module", params=[0, 1])
def scene(request, overfitted_run):
    """An image that the network knows and its reflections: 768 high, 750 wide, no nucleus cut."""
    image = read_image(overfitted_run.images[request.param], "RGB")
    missing = (0, 768 - image.shape[0]), (0, 750 - image.shape[1]), (0, 0)
    return np.pad(image, missing, mode="symmetric")


@pytest.mark.xdist_group("overfitted_run")
def test_tiled_equals_untiled(overfitted_run, scene):
    """99 % of the objects agree at an IoU of .9, both ways.

    Scores differ a little between tiles, so that what has .5 in one may have .3 in the other.
    """

    def predict(tile_size):
        options = PredictionOptions(score_threshold=0.3, batch_size=1, tile_size=tile_size)
        path = overfitted_run.folder / "model_final.pth"
        return Predictor.from_checkpoint(path, device="cpu", options=options)(scene)

    whole, tiled = predict(1024), predict(512)
    assert len(whole.at_least(0.5)) > 60
    assert share_of_same_objects(whole.at_least(0.5), tiled) >= 0.99
    assert share_of_same_objects(tiled.at_least(0.5), whole) >= 0.99
