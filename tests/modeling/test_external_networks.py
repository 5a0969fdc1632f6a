"""Networks of other libraries: built by their config, trained, saved and run as our U-Nets."""

import sys

import pytest
import torch
from detectron2.modeling import build_model
from torch import nn

from unet_sharp_det.checkpoints.loading import SkipCheckpointer
from unet_sharp_det.checkpoints.trained_model import build_on_meta
from unet_sharp_det.config import setup_cfg
from unet_sharp_det.errors import ConfigError
from unet_sharp_det.export.formats import check_combination
from unet_sharp_det.modeling import ENet, ExternalHead, build_external_network
from unet_sharp_det.modeling.external_networks import EXTERNAL_NETWORKS, ExternalDecoder
from unet_sharp_det.modeling.pruning import prune_config
from unet_sharp_det.prediction.segmenter import Segmenter
from unet_sharp_det.runtime import accelerate

FOLDER = "configs/DSB2018-SemanticSegmentation/rivals"
FILES = ["pspnet", "deeplabv3plus", "attention_unet", "nnunet", "enet"]
ARGUMENTS = {
    "PSPNet": {"encoder_name": "tu-resnet10t"},
    "DeepLabV3Plus": {"encoder_name": "tu-resnet10t", "encoder_depth": 3},
    "AttentionUnet": {"channels": [4, 8, 8], "strides": [2, 2]},
    "DynUNet": {
        **{"kernel_size": [3, 3, 3], "strides": [1, 2, 2]},
        **{"upsample_kernel_size": [2, 2], "filters": [4, 8, 8]},
    },
    "ENet": {},
}


@pytest.fixture(autouse=True)
def needs_the_libraries():
    pytest.importorskip("segmentation_models_pytorch")
    pytest.importorskip("monai")


def config(name: str):
    cfg = setup_cfg(f"{FOLDER}/enet.yaml", ["MODEL.DEVICE", "cpu", "MODEL.EXTERNAL.NAME", name])
    cfg.MODEL.EXTERNAL.ARGUMENTS.update(ARGUMENTS[name])
    return cfg


def batch(height=45, width=70):
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    truth = torch.zeros(height, width, dtype=torch.long)
    truth[10:20, 10:30] = 1
    return [{"image": image, "sem_seg": truth, "height": height, "width": width}] * 2


@pytest.mark.parametrize("file", FILES)
def test_configs_build(file):
    model = build_on_meta(setup_cfg(f"{FOLDER}/{file}.yaml"))
    assert isinstance(model.sem_seg_head, ExternalHead)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())  # NORM: GN


@pytest.mark.parametrize("name", EXTERNAL_NETWORKS)
def test_each_trains_and_predicts_images_of_any_size(name, tmp_path):
    torch.manual_seed(0)
    cfg = config(name)
    model = build_model(cfg).train()
    losses = model(batch())
    assert set(losses) == {f"loss_sem_seg_{term}" for term in ("focal", "dice", "lovasz")}
    sum(losses.values()).backward()
    gradients = [p.grad for p in model.parameters()]
    assert all(g is not None and g.isfinite().all() for g in gradients)

    SkipCheckpointer(model, str(tmp_path)).save("model")
    again = build_model(cfg)
    SkipCheckpointer(again, trained=True).load(str(tmp_path / "model.pth"))
    inputs = [{"image": batch()[0]["image"], "height": 45, "width": 70}]
    with torch.no_grad():
        first, second = (net.eval()(inputs)[0]["sem_seg"] for net in (model, again))
    assert first.shape == (1, 45, 70)
    assert 0 <= first.min() <= first.max() <= 1
    assert torch.equal(first, second)
    assert Segmenter(again, 0.5).labels.num_classes == 1


def test_enet_has_the_published_size():
    """0.37 M parameters (Paszke et al. 2016, Table 2), for the 20 classes of Cityscapes."""
    network = ENet(num_classes=20)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(0.37e6, rel=0.02)


def test_deeplab_and_pspnet_have_the_published_resnet():
    """The encoder is torchvision's ResNet-50: 23.5 M parameters without its classifier."""
    with torch.device("meta"):
        network = build_external_network("DeepLabV3Plus", 3, 21, {"encoder_name": "resnet50"})
    assert sum(p.numel() for p in network.encoder.parameters()) == 23_508_032


def test_volumes():
    arguments = {**ARGUMENTS["DynUNet"], "spatial_dims": 3}
    decoder = ExternalDecoder(build_external_network("DynUNet", 1, 3, arguments), 4).eval()
    [branch] = decoder([torch.zeros(1, 1, 9, 14, 12)]).values()
    assert branch.logits.shape == (1, 3, 9, 14, 12)


def test_volumes_on_a_cpu():
    """Where predictions, and trainings, of images are in the channels-last format."""
    options = {
        "MODEL.DEVICE": "cpu",
        "MODEL.BACKBONE.NAME": "build_image_backbone",
        "MODEL.SEM_SEG_HEAD.NAME": "ExternalHead",
        "MODEL.EXTERNAL.NAME": "DynUNet",
        "INPUT.VOLUME.PATCH_SIZE": "[8, 16, 16]",
    }
    cfg = setup_cfg("Volumes/vnetsharp.yaml", [part for pair in options.items() for part in pair])
    cfg.MODEL.EXTERNAL.ARGUMENTS.update({**ARGUMENTS["DynUNet"], "spatial_dims": 3})
    model = accelerate(build_model(cfg))
    with torch.no_grad():
        [found] = model([{"image": torch.zeros(1, 8, 20, 16)}])
    assert found["sem_seg"].shape == (cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES, 8, 20, 16)


def test_errors(monkeypatch):
    with pytest.raises(ConfigError, match="Did you mean 'PSPNet'"):
        build_external_network("PSPnet", 3, 1)
    with pytest.raises(ConfigError, match="ARGUMENTS: AttentionUnet cannot be built.*channels"):
        build_external_network("AttentionUnet", 3, 1)
    with pytest.raises(ConfigError, match="ARGUMENTS: PSPNet cannot be built.*resnet5"):
        build_external_network("PSPNet", 3, 1, {"encoder_name": "resnet5"})
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    with pytest.raises(ConfigError, match=r"not installed. Run: pip install .*\[rivals\]"):
        build_external_network("PSPNet", 3, 1)
    cfg = config("ENet")
    cfg.MODEL.BACKBONE.NAME = "build_unet_encoder"
    with pytest.raises(ConfigError, match="build_image_backbone"):
        build_model(cfg)


def test_only_the_weights_are_exported():
    cfg = config("ENet")
    check_combination(cfg, "safetensors", "fp32")
    with pytest.raises(ConfigError, match="ExternalHead cannot be written as onnx"):
        check_combination(cfg, "onnx", "fp32")
    with pytest.raises(ConfigError, match="its skip scheme, not SemanticSegmentor with ExternalHe"):
        prune_config(cfg, 2)
