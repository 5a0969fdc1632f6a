"""SegNetr: its published sizes, its windows written out, and what a network here must do."""

import itertools

import pytest
import torch
from detectron2.modeling import build_model
from torch import nn
from torchvision.models.swin_transformer import PatchMerging

from benchmarks.measure import multiply_adds
from unet_sharp_det import SegNetr
from unet_sharp_det.config import setup_cfg
from unet_sharp_det.errors import ConfigError
from unet_sharp_det.modeling import SegNetrEncoder
from unet_sharp_det.modeling.irsc import patch_reverse, retain_half
from unet_sharp_det.modeling.pruning import prune_config
from unet_sharp_det.modeling.segnetr_block import (
    SegNetrBlock,
    WindowWeights,
    window_side,
)

SEGNETR = "configs/DSB2018-SemanticSegmentation/segnetr.yaml"
SEMANTIC = ("MODEL.DEVICE", "cpu", "MODEL.SEGNETR.CHANNELS", "16")


def tiny(**options) -> SegNetr:
    torch.manual_seed(0)
    return SegNetr(channels=16, **options)


@pytest.mark.parametrize("tap", ["merged", "folded"])
@pytest.mark.parametrize(
    ("channels", "parameters", "gmac"), [(64, 12.26e6, 10.18), (32, 3.60e6, 2.71)]
)
def test_the_published_size(channels, parameters, gmac, tap):
    with torch.device("meta"):
        net = SegNetr(channels=channels, tap=tap).eval()
        found = multiply_adds(lambda: net(torch.zeros(1, 3, 224, 224)))
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(parameters, rel=0.05)
    assert found / 1e9 == pytest.approx(gmac, rel=0.05)


def test_the_maps_of_each_step():
    with torch.device("meta"):
        net = SegNetr(deep_supervision="all").eval()
        images = torch.zeros(1, 3, 224, 224)
        grid = net.sem_seg_head.decoder.grid
        names = ["stem", *(f"res{level}" for level in range(1, 6))]
        maps = SegNetrEncoder(out_features=names)(images)
        skips = net.backbone(images)
        nodes = grid(list(skips.values()))
        bottleneck = grid.bottleneck(maps["res4"])

    def shape(x):
        return x.shape[1], x.shape[2]

    sides = (224, 112, 56, 28, 14, 7)
    assert [shape(x) for x in maps.values()] == [(32 << i, side) for i, side in enumerate(sides)]
    assert [shape(x) for x in skips.values()] == [(16, 224), (32, 112), (64, 56), (128, 28)] + [
        (512, 14)
    ]
    assert shape(bottleneck) == (1024, 14)
    assert [shape(x) for x in nodes] == [(32, 224), (64, 112), (128, 56), (256, 28), (512, 14)]
    assert [conv.out_channels for conv in grid.convs] == [16, 32, 64, 128]


def sides(parts) -> list[tuple[int, bool]]:
    return [(part.side, part.is_global) for part in parts]


def test_windows_of_each_level():
    assert [window_side(level) for level in range(6)] == [8, 8, 4, 2, 1, 1]
    net = tiny()
    blocks = [*net.backbone.blocks, *reversed(net.sem_seg_head.decoder.grid.blocks)]
    expected = [8, 4, 2, 1, 2, 4, 8, 8]
    for block, side in zip(blocks, expected, strict=True):
        local = [] if side == 1 else [(side, False)]
        assert sides(block.parts) == [*local, (2 * side, True)]


class TestWindowWeights:
    """Against the cells collected one by one."""

    def collect(self, size: int, part: WindowWeights) -> list[int]:
        """Which row, or column, is at which place of the padded and displaced map."""
        tile = part.side // 2 if part.is_global else part.side
        tiles = -(-size // part.side) * part.side // tile
        order = list(range(tiles))
        if part.is_global:
            for number in range(1, tiles + 1):
                step = -1 if number % 2 else 1
                order[(number - 1 + step) % tiles] = number - 1
        return [tile * index + k for index in order for k in range(tile)]

    def literal(self, part: WindowWeights, means: torch.Tensor) -> torch.Tensor:
        height, width = means.shape
        rows, columns = self.collect(height, part), self.collect(width, part)
        found = torch.full_like(means, torch.nan)
        first, _, second = part.ffn
        for top, left in itertools.product(
            range(0, len(rows), part.side), range(0, len(columns), part.side)
        ):
            cells = list(
                itertools.product(rows[top : top + part.side], columns[left : left + part.side])
            )
            valid = [r < height and c < width for r, c in cells]
            values = torch.tensor(
                [means[cell] if ok else 0.0 for cell, ok in zip(cells, valid, strict=True)]
            )
            hidden = nn.functional.gelu(first.weight[..., 0, 0] @ values + first.bias)
            logits = (second.weight[..., 0, 0] @ hidden + second.bias)[valid]
            inside = [cell for cell, ok in zip(cells, valid, strict=True) if ok]
            for cell, weight in zip(inside, logits.softmax(0), strict=True):
                found[cell] = weight
        return found

    @pytest.mark.parametrize("size", [(16, 24), (9, 13), (1, 5), (8, 8)])
    @pytest.mark.parametrize("is_global", [False, True])
    @torch.no_grad()
    def test_equals_the_windows_one_by_one(self, is_global, size):
        torch.manual_seed(0)
        part = WindowWeights(4, is_global)
        for parameter in part.parameters():
            parameter.mul_(5)  # far from equal weights
        means = torch.randn(2, 1, *size)
        expected = torch.stack([self.literal(part, image[0]) for image in means])[:, None]
        assert torch.allclose(part(means), expected, atol=1e-6)

    def test_its_cost_is_linear_in_the_pixels(self):
        block = SegNetrBlock(16, level=1).to("meta")

        def cost(height, width):
            images = torch.zeros(1, 1, height, width, device="meta")
            return sum(multiply_adds(lambda part=part: part(images)) for part in block.parts)

        assert cost(64, 64) > 0
        assert [cost(128, 64), cost(128, 128)] == [2 * cost(64, 64), 4 * cost(64, 64)]


def test_the_means_are_not_of_the_normalised_map():
    x = torch.randn(1, 8, 6, 6)
    normalised = nn.LayerNorm(8)(x.permute(0, 2, 3, 1))
    assert normalised.mean(-1).abs().max() < 1e-6  # of any image
    block, seen = SegNetrBlock(8, level=2), []
    block.parts[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    block(x)
    assert seen[0].std() > 0.1


class TestIRSC:
    def fold(self, x: torch.Tensor) -> torch.Tensor:
        """As Swin's patch merging does, before its layers."""
        merging = PatchMerging(x.shape[1])
        merging.norm = merging.reduction = nn.Identity()
        return merging(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    @pytest.mark.parametrize("size", [(6, 8), (7, 9), (1, 1)])
    def test_folding_and_unfolding_lose_nothing(self, size):
        x = torch.randn(2, 5, *size)
        assert torch.equal(patch_reverse(self.fold(x), size), x)

    def test_half_is_every_other_channel_at_all_four_positions(self):
        x = torch.randn(2, 6, 4, 8)
        kept = self.fold(x).unflatten(1, (4, 6))[:, :, ::2].flatten(1, 2)
        assert kept.shape[1] == 4 * 6 // 2
        assert torch.equal(patch_reverse(kept, (4, 8)), retain_half(x))

    def test_taps(self):
        images = torch.randn(1, 3, 37, 50)
        folded = tiny(tap="folded").eval()
        stem = folded.backbone.stem(images)
        assert torch.equal(folded.backbone(images)["skip0"], stem[:, ::2])
        merged = tiny(tap="merged").eval()
        unfolded = patch_reverse(merged.backbone.merges[0](stem), (37, 50))
        assert torch.equal(merged.backbone(images)["skip0"], unfolded)


@pytest.mark.parametrize(
    ("size", "norm"), [((37, 50), "BN"), ((64, 32), ""), ((33, 1), "GN"), ((1, 1), "BN")]
)
def test_any_size_comes_back(size, norm):
    net = tiny(norm=norm).eval()
    with torch.no_grad():
        found = net(torch.randn(2, 3, *size))
    assert found.shape == (2, 1, *size)
    assert found.isfinite().all()


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_every_parameter_learns(precision):
    net = tiny(deep_supervision="all", cgm=True)
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        losses = net(torch.randn(2, 3, 37, 50), torch.randint(0, 2, (2, 37, 50)))
    assert all(value.dtype == torch.float32 for value in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert all(p.grad.any() for n, p in net.named_parameters() if n.endswith("factors"))


@torch.no_grad()
def test_channels_last():
    net, images = tiny().eval(), torch.randn(1, 3, 37, 50)
    expected = net(images)
    net.to(memory_format=torch.channels_last)
    images = images.to(memory_format=torch.channels_last)
    assert torch.allclose(net(images), expected, atol=1e-5)
    for name, x in net.backbone(images).items():
        assert x.stride(1) == 1, name


def test_checkpointing_changes_nothing():
    images, truth = torch.randn(2, 3, 32, 48), torch.randint(0, 2, (2, 32, 48))
    nets = [tiny(checkpoint=on) for on in (False, True)]
    for net in nets:
        sum(net(images, truth).values()).backward()
    for (name, a), b in zip(nets[0].named_parameters(), nets[1].parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=1e-3, atol=1e-5), name


@pytest.mark.parametrize("channels", [8, 40])
def test_a_width_that_cannot_be_built(channels):
    with pytest.raises(ConfigError, match=f"CHANNELS is {channels}. Give a multiple of 16"):
        SegNetr(channels=channels)


def test_a_skip_without_the_level_below():
    with pytest.raises(ConfigError, match="skip1 is what is carried .* res2. Add res2"):
        SegNetrEncoder(channels=16, out_features=["skip0", "skip1"])


@pytest.mark.parametrize(
    "file",
    [
        "DSB2018-InstanceSegmentation/mask_rcnn_R_50_unetsharp.yaml",
        "DSB2018-Detection/retinanet_R_50_unetsharp.yaml",
    ],
)
def test_detectors_build(repository, file):
    cfg = setup_cfg(str(repository / "configs" / file))
    cfg.MODEL.DEVICE = "meta"
    cfg.MODEL.FPN.BOTTOM_UP = "build_segnetr_backbone"
    cfg.MODEL.SEGNETR.OUT_FEATURES = list(cfg.MODEL.FPN.IN_FEATURES)
    with torch.device("meta"):
        neck = build_model(cfg).backbone
        pyramid = neck(torch.zeros(1, 3, 256, 192))
    assert isinstance(neck.bottom_up, SegNetrEncoder)
    for name, x in pyramid.items():
        stride = neck.output_shape()[name].stride
        assert x.shape[2:] == (-(-256 // stride), -(-192 // stride))


class TestInDetectron2:
    def config(self, repository, *options):
        return setup_cfg(str(repository / SEGNETR), [*SEMANTIC, *options])

    def test_semantic_segmentor(self, repository):
        model = build_model(self.config(repository))
        record = {
            "image": torch.randint(0, 256, (3, 37, 50)),
            "sem_seg": torch.randint(0, 2, (37, 50)),
        }
        assert set(model([record])) == {f"loss_sem_seg_{n}" for n in ("focal", "dice", "lovasz")}
        with torch.no_grad():
            assert model.eval()([record])[0]["sem_seg"].shape == (1, 37, 50)
        assert list(model.state_dict()) == list(tiny().state_dict())

    def test_it_has_no_levels(self, repository):
        with pytest.raises(ConfigError, match="scheme 'fpn' has no node"):
            prune_config(self.config(repository), 2)

    def test_another_scheme_is_refused(self, repository):
        with pytest.raises(ConfigError, match="SKIP_SCHEME is 'unetpp'.* Set fpn"):
            build_model(self.config(repository, "MODEL.SEM_SEG_HEAD.SKIP_SCHEME", "unetpp"))

    def test_a_unet_on_segnetr_s_skips(self, repository):
        head = ("MODEL.SEM_SEG_HEAD.NAME", "UNetSharpHead")
        model = build_model(self.config(repository, *head)).eval()
        with torch.no_grad():
            found = model([{"image": torch.zeros(3, 37, 50)}])[0]["sem_seg"]
        assert found.shape == (1, 37, 50)
