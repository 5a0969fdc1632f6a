"""Every config builds, is listed, and keeps the settings for nuclei."""

import fnmatch
import re
from pathlib import Path

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.modeling import build_model

from unet_sharp_det import SkipFPN, UNetSharpHead
from unet_sharp_det.config import setup_cfg
from unet_sharp_det.modeling import SegNetrHead, WatershedSegmentor

CONFIGS = Path(__file__).parents[1] / "configs"
FILES = sorted(str(p.relative_to(CONFIGS)) for p in CONFIGS.rglob("*.yaml"))
READY = [file for file in FILES if "Base" not in file and not file.startswith("experiments/")]
RIVALS = [file for file in READY if "/rivals/" in file]


SEMANTIC = [file for file in READY if "Semantic" in file or "unetsharp_cgm_instant" in file]
SEMANTIC = [file for file in SEMANTIC if file not in RIVALS]
VOLUMES = [file for file in READY if file.startswith("Volumes")]
WATERSHED = [file for file in READY if "/watershed_" in file]
WITH_NECK = [file for file in READY if file not in (*SEMANTIC, *RIVALS, *VOLUMES, *WATERSHED)]
RAW = ("MODEL.SEM_SEG_HEAD.EDGE", "raw")
# configs/README.md lists them: file, options, number of parameters.
NETWORKS = {
    "unet": ("unet", (), 7_852_545),
    "wunet": ("unet", ("MODEL.UNET.CHANNELS", "[35, 70, 140, 280, 560]"), 9_392_916),
    "unetpp": ("unetpp", (), 9_163_329),
    "unet3p": ("unet3p", (), 11_175_393),
    "unet3p_raw": ("unet3p", RAW, 9_787_905),
    "unetsharp": ("unetsharp", (), 9_716_865),
    "unetsharp_raw": ("unetsharp", RAW, 10_748_481),
    "segnetr": ("segnetr", (), 12_384_328),
    "segnetr_s": ("segnetr_s", (), 3_463_656),
}
SUPERVISION = {
    **{"unet": "de", "unetpp": "in", "unet3p": "de", "unetsharp": "all"},
    **{"segnetr": "de", "segnetr_s": "de"},
}
# Of UNet#'s Table 1 but for V-Net#, of which the paper prints 28.37 M.
V_NETS = {
    "vnet": 26_387_905,
    "wvnet": 33_395_833,
    "vnetpp": 27_370_465,
    "vnet3p": 27_839_425,
    "vnetsharp": 28_559_329,
}


def build(file: str, *opts: str):
    cfg = setup_cfg(str(CONFIGS / file), ["MODEL.DEVICE", "meta", *opts])
    with torch.device("meta"):
        return build_model(cfg)


@pytest.mark.parametrize("file", WITH_NECK)
def test_detectors_build(file):
    model = build(file)
    assert isinstance(model.backbone, SkipFPN)
    scheme = next(s for s in ("unetsharp", "unetpp", "unet3p", "fpn", "demo") if s in file)
    assert model.backbone.scheme == ("unetsharp" if scheme == "demo" else scheme)
    assert ("panoptic" in file) == isinstance(getattr(model, "sem_seg_head", None), UNetSharpHead)


@pytest.mark.parametrize("file", WATERSHED)
def test_watershed_segmentors_build(file):
    model = build(file)
    assert isinstance(model, WatershedSegmentor)
    scheme = next(s for s in ("unetsharp", "unetpp", "unet3p", "fpn") if s in file)
    assert model.sem_seg_head.decoder.scheme == scheme


@pytest.mark.parametrize("file", SEMANTIC)
def test_semantic_networks_build(file):
    model = build(file)
    assert isinstance(model.sem_seg_head, UNetSharpHead)
    decoder = model.sem_seg_head.decoder
    scheme = Path(file).stem.split("_")[0]
    assert isinstance(model.sem_seg_head, SegNetrHead) == (scheme == "segnetr")
    if scheme != "segnetr":
        assert decoder.scheme == ("fpn" if scheme == "unet" else scheme)
    assert ("_cgm" in file) == (len(decoder.cgm) > 0) == (len(decoder.branches) > 1)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_have_the_paper_s_size(name):
    file, opts, parameters = NETWORKS[name]
    model = build(f"DSB2018-SemanticSegmentation/{file}.yaml", *opts)
    assert sum(p.numel() for p in model.parameters()) == parameters
    branches = ("MODEL.SEM_SEG_HEAD.DEEP_SUPERVISION", SUPERVISION[file])
    cgm = ("MODEL.SEM_SEG_HEAD.CGM.ENABLED", "True")
    decoder = build(
        f"DSB2018-SemanticSegmentation/{file}.yaml", *opts, *branches, *cgm
    ).sem_seg_head.decoder
    assert len(decoder.branches) > 1
    assert len(decoder.cgm) > 0


@pytest.mark.parametrize("file", VOLUMES)
def test_networks_of_volumes_build(file):
    model = build(file)
    assert model.sem_seg_head.decoder.grid.options.dim == 3
    if Path(file).stem in V_NETS and "compact" not in file:
        parameters = sum(p.numel() for p in model.parameters())
        assert parameters == V_NETS[Path(file).stem]


@pytest.mark.parametrize("file", READY)
def test_is_listed(file):
    listed = re.findall(r"`([\w/*-]+\.yaml)`", (CONFIGS / "README.md").read_text())
    assert any(fnmatch.fnmatch(file, pattern) for pattern in listed)


def test_configs_that_the_documents_name_are_there(repository):
    files = [*repository.glob("*.md"), *repository.glob("docs/**/*.md"), repository / "Makefile"]
    text = "\n".join(file.read_text() for file in files)
    named = set(re.findall(r"configs/[\w/.-]+\.(?:yaml|py)\b", text))
    assert len(named) > 5
    assert not [name for name in named if not (repository / name).is_file()]


@pytest.mark.parametrize("bottom_up", ["R_50", "compact/mask_rcnn_lite0"])
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


@pytest.mark.parametrize(
    ("lazy", "file", "options"),
    [
        (
            "mask_rcnn_R_50_unetsharp",
            "DSB2018-InstanceSegmentation/mask_rcnn_R_50_unetsharp.yaml",
            (),
        ),
        (
            "unetsharp_semantic",
            "DSB2018-SemanticSegmentation/unetsharp.yaml",
            ("MODEL.SEM_SEG_HEAD.DEEP_SUPERVISION", "all"),
        ),
        ("vnetsharp_volumes", "Volumes/vnetsharp.yaml", ("MODEL.SEM_SEG_HEAD.NUM_CLASSES", "2")),
    ],
)
def test_lazy_configs_build_the_networks_of_yaml(lazy, file, options):
    cfg = LazyConfig.load(str(CONFIGS / f"LazyConfigs/{lazy}.py"))
    with torch.device("meta"):
        found = instantiate(cfg.model).state_dict()
    expected = build(file, *options).state_dict()
    assert {k: v.shape for k, v in found.items()} == {k: v.shape for k, v in expected.items()}
