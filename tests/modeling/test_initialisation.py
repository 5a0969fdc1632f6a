"""At the start the maps of every scheme have the scale of FPN's, those of U-Nets of UNet's."""

import functools

import cv2
import pytest
import torch
from detectron2.modeling import build_model
from torch import nn

from unet_sharp_det.checkpoints.loading import SkipCheckpointer
from unet_sharp_det.config import setup_cfg
from unet_sharp_det.modeling import SkipUNet
from unet_sharp_det.modeling.layers import conv_block, init_he
from unet_sharp_det.skip_schemes import scheme_names

LITE0 = "configs/DSB2018-InstanceSegmentation/compact/mask_rcnn_lite0_fpn.yaml"
R_50 = "configs/DSB2018-InstanceSegmentation/mask_rcnn_R_50_fpn.yaml"
RANDOM = ("MODEL.WEIGHTS", "", "MODEL.BACKBONE.FREEZE_AT", "0", "MODEL.RESNETS.NORM", "BN")
SIZES = {2: (2, 3, 64, 64), 3: (1, 1, 24, 24, 24)}


def rms(x):
    return x.square().mean().sqrt()


@functools.cache
def neck_spread(repository, config, scheme, *options):
    """Root mean squares of p2, p3, p4, p5 on an image of nuclei."""
    path = min(repository.glob("datasets/sample/stage1_train/*/images/*.png"))
    image = torch.as_tensor(cv2.imread(str(path))[:128, :128]).permute(2, 0, 1).float()
    torch.manual_seed(0)
    options = ["MODEL.DEVICE", "cpu", "MODEL.FPN.SKIP_SCHEME", scheme, *options]
    cfg = setup_cfg(str(repository / config), options)
    model = build_model(cfg)
    SkipCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    maps = model.backbone(model.preprocess_image([{"image": image}]).tensor)
    return torch.stack([rms(maps[name]) for name in ("p2", "p3", "p4", "p5")])


@functools.cache
def unet_spread(scheme, dim, norm):
    """Root mean squares of the last node of each level."""
    torch.manual_seed(0)
    channels = {2: (32, 64, 128, 256), 3: (16, 32, 64)}[dim]
    net = SkipUNet(scheme, dim=dim, norm=norm, channels=channels, deep_supervision="de")
    features = list(net.backbone(torch.randn(SIZES[dim])).values())
    return torch.stack([rms(x) for x in net.sem_seg_head.decoder.grid(features)])


def assert_of_one_scale(found, reference, factor=3, scheme=None):
    """Like the reference, and the levels within 4 of each other, or as near as its own.

    PANet's coarsest map is a sum of as many as FPN's finest, and BiFPN's are all means instead of
    sums: they are compared with the range of the reference.
    """
    if scheme in ("pafpn", "bifpn"):
        assert found.min() > reference.min() / factor
        assert found.max() < factor * reference.max()
        assert found.max() / found.min() <= 4
        return
    ratio = found / reference
    assert torch.all((ratio > 1 / factor) & (ratio < factor)), (found, reference)
    assert found.max() / found.min() <= max(4, reference.max() / reference.min()), found


@torch.no_grad()
@pytest.mark.parametrize("norm", ["", "BN"])
@pytest.mark.parametrize("scheme", scheme_names())
def test_necks_on_pretrained_weights(repository, scheme, norm):
    spread = functools.partial(neck_spread, repository, LITE0)
    options = "MODEL.FPN.NORM", norm
    assert_of_one_scale(spread(scheme, *options), spread("fpn", *options), scheme=scheme)


@torch.no_grad()
@pytest.mark.parametrize(("norm", "factor"), [("", 3.5), ("GN", 3)])
@pytest.mark.parametrize("scheme", scheme_names())
def test_necks_on_a_random_resnet(repository, scheme, norm, factor):
    """Without norm FPN's p2 is the sum of four maps of one scale, and more than twice as large."""
    options = *RANDOM, "MODEL.FPN.NORM", norm
    spread = functools.partial(neck_spread, repository, R_50)
    assert_of_one_scale(spread(scheme, *options), spread("fpn", *options), factor, scheme)


@torch.no_grad()
@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("norm", ["", "BN"])
@pytest.mark.parametrize("scheme", scheme_names())
def test_unets(scheme, norm, dim):
    assert_of_one_scale(unet_spread(scheme, dim, norm), unet_spread("fpn", dim, norm))


@pytest.mark.parametrize("dim", [2, 3])
def test_f_keeps_the_second_moment_whatever_its_widths(dim):
    torch.manual_seed(0)
    x = torch.randn(1, 192, *[60 // dim] * dim)
    y = conv_block(192, 24, norm="", dim=dim)(x).detach()
    assert rms(y) == pytest.approx(1, rel=0.15)


def test_he_initialisation_knows_the_slope_of_prelu():
    torch.manual_seed(0)
    conv = nn.Conv3d(16, 64, 5)
    init_he(conv, slope=0.25)
    assert conv.weight.std().item() ** -2 == pytest.approx(16 * 5**3 * (1 + 0.25**2) / 2, rel=0.05)
    assert not conv.bias.any()
