"""A trained Mask R-CNN finds in tiles what it finds in the whole image."""

import numpy as np
import pytest
from object_shares import share_of_same_objects

from unet_sharp_det.data.image_io import read_image
from unet_sharp_det.prediction import PredictionOptions, Predictor


@pytest.fixture(scope="module")
def mosaic(overfitted_run):
    """The two images that the network knows, twice: 512 high, 500 wide."""
    first, second = (read_image(path, "RGB") for path in overfitted_run.images)
    rows = np.hstack([first, second]), np.hstack([second, first])
    return np.ascontiguousarray(np.vstack(rows)[:, :500])


@pytest.mark.xfail(
    strict=False,
    reason="after this short training 92 to 100 % agree, by the training: of several boxes of "
    "nearly equal score for a nucleus, tiles and the whole image may keep different ones",
)
@pytest.mark.xdist_group("overfitted_run")
def test_tiled_equals_untiled(overfitted_run, mosaic):
    """99 % of the objects agree at an IoU of .9, both ways.

    Scores differ a little between tiles, so that what has .5 in one may have .3 in the other.
    """

    def predict(**options):
        options = PredictionOptions(score_threshold=0.3, batch_size=1, **options)
        path = overfitted_run.folder / "model_final.pth"
        return Predictor.from_checkpoint(path, device="cpu", options=options)(mosaic)

    whole = predict(tile_size=512)
    tiled = predict(tile_size=288, tile_overlap=128)
    assert len(whole.at_least(0.5)) > 30
    assert share_of_same_objects(whole.at_least(0.5), tiled) >= 0.99
    assert share_of_same_objects(tiled.at_least(0.5), whole) >= 0.99
