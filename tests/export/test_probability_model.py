"""The plain module: the model's own values for any size, as a graph too."""

import pytest
import torch
import torch.nn.functional as F

from unet_sharp_det.export import ProbabilityModel
from unet_sharp_det.export.graphs import export_program, write_onnx
from unet_sharp_det.export.probability_model import pool_to_size
from unet_sharp_det.modeling.pruning import cut_to_level
from unet_sharp_det.skip_schemes import scheme_names

HEAD = "MODEL.SEM_SEG_HEAD"
SIZES = [(1, 5, 40), (2, 64, 48), (3, 33, 17)]
TIMM = (
    *("MODEL.BACKBONE.NAME", "build_timm_backbone", "MODEL.TIMM.NORM", "BN"),
    *("MODEL.TIMM.OUT_FEATURES", "['res1', 'res2']", f"{HEAD}.IN_FEATURES", "['res1', 'res2']"),
)


def images(number: int, height: int, width: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(height)
    return torch.randint(0, 256, (number, 3, height, width), generator=random).float()


@torch.no_grad()
def of_model(model, batch) -> torch.Tensor:
    return torch.stack([out["sem_seg"] for out in model([{"image": image} for image in batch])])


def assert_same(function, model, sizes=SIZES, tolerance=1e-5):
    for size in sizes:
        batch = images(*size)
        expected = of_model(model, batch)
        assert (
            expected.numel() < 9 or expected.std() > 1e-4
        )  # not a constant, which any function could give
        assert torch.allclose(function(batch), expected, atol=tolerance), size


@pytest.mark.parametrize("scheme", scheme_names())
class TestEveryScheme:
    """A new scheme is tested by being registered."""

    def test_module_and_graph_are_the_model(self, semantic_config, trained, scheme):
        model = trained(semantic_config(f"{HEAD}.SKIP_SCHEME", scheme))
        module = ProbabilityModel(model)
        assert_same(module, model)
        assert_same(export_program(module).module(), model)

    def test_five_levels(self, semantic_config, trained, scheme):
        model = trained(semantic_config(f"{HEAD}.SKIP_SCHEME", scheme, levels=5))
        assert_same(ProbabilityModel(model), model, [(1, 1, 3), (2, 50, 47)])


@pytest.mark.parametrize("scheme", ["unetsharp", "bifpn"])
def test_onnx(semantic_config, trained, scheme, tmp_path):
    """Whose edges are convolved, or weighted and downwards."""
    pytest.importorskip("onnxruntime")
    model = trained(semantic_config(f"{HEAD}.SKIP_SCHEME", scheme))
    assert_same(write_onnx(ProbabilityModel(model), tmp_path / "a.onnx", {}), model)


@pytest.mark.parametrize("mode", ["fast", "accurate"])
@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("scheme", ["unetpp", "unetsharp"])
def test_every_level(semantic_config, trained, scheme, level, mode):
    cfg = semantic_config(f"{HEAD}.SKIP_SCHEME", scheme)
    small, _ = cut_to_level(trained(cfg), cfg, level, mode)
    assert_same(ProbabilityModel(small), small)


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0"])
def test_padding_of_other_encoders_is_inside(semantic_config, trained, name, tmp_path):
    model = trained(semantic_config(*TIMM, "MODEL.TIMM.NAME", name, levels=2))
    module = ProbabilityModel(model)
    assert module.divisor == 4
    # Five rows, as of SIZES, leave the random Lite0's output constant.
    assert_same(module, model, [(1, 9, 40), *SIZES[1:]])
    sizes = [(1, 97, 98), (2, 104, 127)]
    assert_same(export_program(module).module(), model, sizes)
    pytest.importorskip("onnxruntime")
    assert_same(write_onnx(module, tmp_path / "a.onnx", {}), model, sizes)


SEGNETR = (
    *("MODEL.BACKBONE.NAME", "build_segnetr_backbone", "MODEL.SEGNETR.CHANNELS", "16"),
    *("MODEL.SEGNETR.OUT_FEATURES", "['skip0', 'res1']", f"{HEAD}.NAME", "SegNetrHead"),
    *(f"{HEAD}.IN_FEATURES", "['skip0', 'res1']", f"{HEAD}.SKIP_SCHEME", "fpn"),
    *(f"{HEAD}.CGM.ENABLED", "False", f"{HEAD}.DEEP_SUPERVISION", "none"),
)


def test_segnetr(semantic_config, trained, tmp_path):
    """Its first two levels, for the time that a graph for all sizes takes."""
    pytest.importorskip("onnxruntime")
    model = trained(semantic_config(*SEGNETR))
    module = ProbabilityModel(model)
    assert_same(module, model)
    sizes = [(1, 33, 34), (2, 50, 37), (3, 64, 96)]
    assert_same(write_onnx(module, tmp_path / "a.onnx", {}), model, sizes)


def test_irsc(semantic_config, trained):
    model = trained(semantic_config(f"{HEAD}.SKIP_CONNECTION", "irsc"))
    assert_same(export_program(ProbabilityModel(model)).module(), model)


def test_softmax_and_several_classes(semantic_config, trained):
    options = (f"{HEAD}.ACTIVATION", "softmax", f"{HEAD}.NUM_CLASSES", "3")
    model = trained(semantic_config(*options, f"{HEAD}.CGM.ENABLED", "False", levels=2))
    assert_same(ProbabilityModel(model), model)


def test_cgm_empties_an_image(semantic_config, trained):
    model = trained(semantic_config(levels=2))
    for module in model.sem_seg_head.decoder.cgm.values():
        with torch.no_grad():
            module.classifier[-1].bias.copy_(torch.tensor([9.0, -9.0]))
    assert not export_program(ProbabilityModel(model)).module()(images(2, 9, 12)).any()


def test_bf16_is_near_and_gives_float32(semantic_config, trained):
    model = trained(semantic_config(levels=2))
    found = ProbabilityModel(model, "bf16")(images(1, 32, 32))
    expected = of_model(model, images(1, 32, 32))
    assert found.dtype == torch.float32
    assert 0 < (found - expected).abs().max() < 0.1


def test_the_model_stays_as_it_is(semantic_config, trained):
    model = trained(semantic_config(levels=2))
    before = of_model(model, images(1, 9, 9))
    ProbabilityModel(model, "bf16")
    assert torch.equal(of_model(model, images(1, 9, 9)), before)
    assert all(p.requires_grad and p.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("ceil", [False, True])
def test_pooling_to_a_size(factor, ceil):
    x = torch.randn(1, 2, 13, 22)
    expected = F.max_pool2d(x, factor, ceil_mode=ceil)
    assert torch.equal(pool_to_size(x, factor, expected.shape[2:]), expected)
