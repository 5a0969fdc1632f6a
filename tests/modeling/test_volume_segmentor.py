import numpy as np
import pytest
import torch
from torch import nn

from unet_sharp_det.config import setup_cfg
from unet_sharp_det.errors import ConfigError
from unet_sharp_det.modeling import SkipUNet, VolumeSegmentor
from unet_sharp_det.modeling.pruning import cut_to_level
from unet_sharp_det.volumes import Geometry, Volume, resample, resample_to

TINY = {
    "MODEL.UNET.CHANNELS": "[4, 4, 8]",
    "MODEL.SEM_SEG_HEAD.IN_FEATURES": "['res0', 'res1', 'res2']",
}
GN = {"MODEL.UNET.NORM": "GN", "MODEL.SEM_SEG_HEAD.NORM": "GN"}
SLICES = {"MODEL.BACKBONE.NAME": "build_unet_encoder", "INPUT.VOLUME.PATCH_SIZE": "[1, 17, 24]"}
CUBES = {"INPUT.VOLUME.PATCH_SIZE": "[9, 17, 24]"}
ALL = {"MODEL.SEM_SEG_HEAD.DEEP_SUPERVISION": "all", "MODEL.SEM_SEG_HEAD.CGM.ENABLED": "True"}


def config(*options: dict):
    merged = {"MODEL.DEVICE": "cpu", **TINY, **{k: v for each in options for k, v in each.items()}}
    pairs = [part for pair in merged.items() for part in pair]
    return setup_cfg("Volumes/vnetsharp.yaml", pairs)


def build(*options: dict) -> VolumeSegmentor:
    torch.manual_seed(0)
    return VolumeSegmentor(config(*options))


@pytest.mark.parametrize("shape", [CUBES, SLICES])
class TestPatches:
    """Patches of one slice go through a 2D network, others through a 3D one."""

    def test_every_parameter_learns_from_sides_that_are_no_multiples(self, shape):
        net = build(shape, ALL)
        size = net.patch_size
        patches = [{"image": torch.randn(1, *size), "sem_seg": torch.ones(size).long()}] * 2
        losses = net(patches)
        assert set(losses) == {f"loss_sem_seg_{n}" for n in ("focal", "dice", "lovasz", "cgm")}
        sum(losses.values()).backward()
        assert all(p.grad.isfinite().all() for p in net.parameters())

    @pytest.mark.parametrize("size", [(20, 30, 37), (2, 5, 6)])
    def test_any_volume_gives_probabilities_of_its_size(self, shape, size):
        net = build(shape, GN).eval()
        with torch.no_grad():
            (found,) = net([{"image": torch.randn(1, *size)}])
        assert found["sem_seg"].shape == (1, *size)
        assert 0 <= found["sem_seg"].min() < found["sem_seg"].max() <= 1

    def test_pruned_as_the_semantic_networks_are(self, shape):
        cfg = config(shape, GN, ALL)
        net = build(shape, GN, ALL).eval()
        pruned, pruned_cfg = cut_to_level(net, cfg, 1)
        assert pruned_cfg.MODEL.UNET.CHANNELS == [4, 4]
        patch = torch.randn(1, *net.patch_size)
        images = patch[None] if len(net.patch_size) == 3 and net.patch_size[0] > 1 else patch
        with torch.no_grad():
            (found,) = pruned([{"image": patch}])
            maps = list(net.backbone(images).values())
            branch = net.sem_seg_head.decoder(maps)[0, 1]
        expected = net.sem_seg_head.vote(branch).reshape(found["sem_seg"].shape)
        assert torch.allclose(found["sem_seg"], expected, atol=1e-6)


class TestWindows:
    def test_one_window_is_the_network_itself(self):
        net = build(CUBES, GN).eval()
        plain = SkipUNet(dim=3, channels=(4, 4, 8), edge="raw", norm="GN").eval()
        plain.load_state_dict(net.state_dict())
        volume = torch.randn(1, *net.patch_size)
        with torch.no_grad():
            assert torch.allclose(
                net([{"image": volume}])[0]["sem_seg"], plain(volume[None])[0], atol=1e-6
            )

    def test_overlapping_windows_are_averaged(self):
        """Of a network that looks at single voxels, windows change nothing."""
        net = build(CUBES).eval()
        net.backbone.forward = lambda x: {"x": x}
        net.sem_seg_head.forward = lambda features: (features["x"].sigmoid(), {})
        volume = torch.randn(1, 23, 31, 40)
        found = net([{"image": volume}])[0]["sem_seg"]
        assert torch.allclose(found, volume.sigmoid(), atol=1e-5)

    @pytest.mark.parametrize("sides", [(70, 72, 73), (71, 69, 75)])
    def test_a_ball_seen_at_3_mm_comes_back_where_it_was(self, sides):
        """Within .1 mm, though no whole number of 3 mm fills the volume of .8 mm."""
        geometry = Geometry(sides[::-1], (0.8,) * 3, (5, -7, 9), tuple(np.eye(3).ravel()))
        at = np.stack(np.indices(sides)) * 0.8
        centre = np.array(sides) * 0.8 - 17
        ball = np.exp(-((at - centre.reshape(3, 1, 1, 1)) ** 2).sum(0) / 2 / 4**2)
        volume = resample(Volume(ball[None].astype(np.float32), geometry, geometry), (3, 3, 3))
        net = build(CUBES).eval()
        net.backbone.forward = lambda x: {"x": x}
        net.sem_seg_head.forward = lambda features: (features["x"], {})
        (found,) = net([{"image": torch.from_numpy(volume.array), "size": sides}])
        found = found["sem_seg"][0].numpy()
        seen = (at * found).sum((1, 2, 3)) / found.sum()
        assert seen == pytest.approx(centre, abs=0.1)
        assert found == pytest.approx(resample_to(volume, geometry).array[0], abs=1e-4)


def test_channels_are_normalised_by_mean_and_deviation():
    net = build(CUBES, GN, {"MODEL.PIXEL_MEAN": "[1.0, 2.0]", "MODEL.PIXEL_STD": "[2.0, 4.0]"})
    plain = build(CUBES, GN, {"MODEL.PIXEL_MEAN": "[0.0, 0.0]", "MODEL.PIXEL_STD": "[1.0, 1.0]"})
    volume = torch.randn(2, 9, 17, 24)
    shifted = volume * torch.tensor([2.0, 4.0]).view(2, 1, 1, 1) + torch.tensor([1.0, 2.0]).view(
        2, 1, 1, 1
    )
    with torch.no_grad():
        found = net.eval()([{"image": shifted}])[0]["sem_seg"]
        assert torch.allclose(found, plain.eval()([{"image": volume}])[0]["sem_seg"], atol=1e-5)


@pytest.mark.parametrize(("norm", "kind"), [("GN", nn.GroupNorm), ("BN", nn.BatchNorm3d)])
def test_the_norm_reaches_encoder_and_decoder(norm, kind):
    net = SkipUNet(dim=3, channels=(4, 4, 8), norm=norm)
    for part in (net.backbone, net.sem_seg_head):
        norms = [m for m in part.modules() if "Norm" in type(m).__name__]
        assert norms
        assert all(isinstance(each, kind) for each in norms)
    net = build(CUBES, {"MODEL.UNET.NORM": norm})
    assert any(isinstance(each, kind) for each in net.backbone.modules())


def test_checkpointing_and_bfloat16_train():
    net = build(CUBES, GN, ALL, {"MODEL.SEM_SEG_HEAD.ACTIVATION_CHECKPOINT": "True"})
    patches = [{"image": torch.randn(1, 9, 17, 24), "sem_seg": torch.ones(9, 17, 24).long()}] * 2
    with torch.autocast("cpu", torch.bfloat16):
        losses = net(patches)
    assert all(value.dtype == torch.float32 for value in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())


def test_objects_are_found_where_gradients_are_tracked():
    options = {"MODEL.SEM_SEG_HEAD.TARGET": "distance", "MODEL.SEM_SEG_HEAD.NUM_CLASSES": "2"}
    (found,) = build(options).eval()([{"image": torch.randn(1, 9, 17, 24)}])
    assert found["sem_seg"].requires_grad
    assert found["objects"].shape == (9, 17, 24)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"INPUT.VOLUME.PATCH_SIZE": "[1, 32, 32]"}, r"\[1, 32, 32\] needs a 2D network"),
        ({"MODEL.BACKBONE.NAME": "build_unet_encoder"}, "needs a 3D network.*build_vnet_encoder"),
        ({"TEST.VOLUME.OVERLAP": "1.0"}, "OVERLAP is 1.0, but must lie in 0 to below 1"),
        (
            {
                "MODEL.SEM_SEG_HEAD.TARGET": "distance",
                "MODEL.SEM_SEG_HEAD.NUM_CLASSES": "2",
                "MODEL.WATERSHED.NUM_CLASSES": "2",
            },
            "Objects of volumes have one class",
        ),
    ],
)
def test_contradictions_are_told(options, message):
    with pytest.raises(ConfigError, match=message):
        build(options)
