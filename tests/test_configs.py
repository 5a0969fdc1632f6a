"""Every config builds, is listed, and keeps the settings for nuclei."""

from pathlib import Path

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.modeling import build_model

from unet_sharp_det import SkipFPN
from unet_sharp_det.engine import setup_cfg

CONFIGS = Path(__file__).parents[1] / "configs"
FILES = sorted(str(p.relative_to(CONFIGS)) for p in CONFIGS.rglob("*.yaml"))
READY = [file for file in FILES if "Base" not in file]


@pytest.mark.parametrize("file", READY)
def test_builds(file):
    cfg = setup_cfg(str(CONFIGS / file), ["MODEL.DEVICE", "meta"])
    with torch.device("meta"):
        model = build_model(cfg)
    assert isinstance(model.backbone, SkipFPN)
    scheme = next(s for s in ("unetsharp", "unetpp", "unet3p", "fpn", "demo") if s in file)
    assert model.backbone.scheme == ("unetsharp" if scheme == "demo" else scheme)


@pytest.mark.parametrize("file", READY)
def test_is_listed(file):
    listed = (CONFIGS / "README.md").read_text()
    scheme = next((s for s in ("unetsharp", "unetpp", "unet3p", "fpn") if f"_{s}." in file), None)
    patterns = [f"`{file}`", f"`{file.replace(f'{scheme}.yaml', '*.yaml')}`"]
    if "quick_schedules" in file:
        patterns.append("`quick_schedules/*_instant_test.yaml`")
    assert any(pattern in listed for pattern in patterns)


@pytest.mark.parametrize("bottom_up", ["vgg16", "R_101", "R_50", "compact/mask_rcnn_lite0"])
def test_the_four_schemes_differ_in_nothing_else(bottom_up):
    dumps = set()
    for scheme in ("fpn", "unetpp", "unet3p", "unetsharp"):
        stem = bottom_up if "/" in bottom_up else f"mask_rcnn_{bottom_up}"
        cfg = setup_cfg(str(CONFIGS / f"DSB2018-InstanceSegmentation/{stem}_{scheme}.yaml"))
        assert cfg.MODEL.FPN.SKIP_SCHEME == scheme
        cfg.MODEL.FPN.SKIP_SCHEME = ""
        dumps.add(cfg.dump())
    assert len(dumps) == 1


@pytest.mark.parametrize("file", [file for file in READY if "mask_rcnn" in file])
def test_settings_for_nuclei(file):
    cfg = setup_cfg(str(CONFIGS / file))
    assert cfg.INPUT.MASK_FORMAT == "bitmask"
    assert not cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 1
    assert cfg.MODEL.RPN.POST_NMS_TOPK_TEST == 1000
    if "quick" not in file:
        assert cfg.TEST.DETECTIONS_PER_IMAGE == 500


def test_lazy_config_builds():
    cfg = LazyConfig.load(str(CONFIGS / "LazyConfigs/mask_rcnn_R_50_unetsharp.py"))
    model = instantiate(cfg.model)
    assert isinstance(model.backbone, SkipFPN)
    assert model.backbone.scheme == "unetsharp"
    yaml = setup_cfg(str(CONFIGS / "DSB2018-InstanceSegmentation/mask_rcnn_R_50_unetsharp.yaml"))
    yaml.MODEL.DEVICE = "cpu"
    assert sum(p.numel() for p in model.parameters()) - sum(
        p.numel() for p in build_model(yaml).parameters()
    ) == pytest.approx(0)
