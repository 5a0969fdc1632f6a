"""Predictors of checkpoints: with a config beside them, and pruned."""

import numpy as np
import pytest
import torch
from detectron2.data import transforms as T
from detectron2.modeling import build_model
from prediction_models import blobs, semantic_cfg, watershed_cfg

from unet_sharp_det.checkpoints.loading import SkipCheckpointer
from unet_sharp_det.checkpoints.weight_files import write_safetensors
from unet_sharp_det.errors import ConfigError
from unet_sharp_det.files import write_text
from unet_sharp_det.prediction import Predictor


def test_with_the_config_beside_it(tmp_path):
    """As tools/train_net.py leaves a checkpoint."""
    cfg = semantic_cfg()
    torch.manual_seed(2)
    model = build_model(cfg)
    SkipCheckpointer(model, str(tmp_path)).save("model_best")
    write_text(tmp_path / "config.yaml", cfg.dump())
    image, _ = blobs((64, 64))
    resize = T.ResizeShortestEdge([64, 64], 64, "choice")
    wanted = Predictor(model, resize, stretch_contrast=True)(image)
    found = Predictor.from_checkpoint(
        tmp_path / "model_best.pth", config_opts=["INPUT.MIN_SIZE_TEST", "64"]
    )(image)
    np.testing.assert_array_equal(found.label_map(), wanted.label_map())


def test_pruned_to_a_level(tmp_path):
    cfg = watershed_cfg()
    torch.manual_seed(0)
    path = tmp_path / "watershed.safetensors"
    write_safetensors(path, build_model(cfg).state_dict(), cfg.dump())
    whole, pruned = (
        Predictor.from_checkpoint(path, config_opts=["TEST.PRUNE_TO_LEVEL", str(level)])
        for level in (0, 1)
    )
    assert whole.class_names == pruned.class_names == ("nucleus",)
    sizes = [sum(p.numel() for p in each._finder.model.parameters()) for each in (pruned, whole)]
    assert sizes[0] < sizes[1]
    with pytest.raises(ConfigError, match="level 7: the network has 3 levels"):
        Predictor.from_checkpoint(path, config_opts=["TEST.PRUNE_TO_LEVEL", "7"])


@pytest.mark.parametrize("level", ["1", "3"])
def test_a_detector_has_no_levels(level):
    with pytest.raises(ConfigError, match=f"level {level}: only a semantic network has"):
        Predictor.from_checkpoint("nuclei", config_opts=["TEST.PRUNE_TO_LEVEL", level])
