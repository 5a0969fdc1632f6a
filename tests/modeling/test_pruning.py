"""Pruning to L_k: the same output bit for bit, nothing outside L_k, and what is refused."""

import pytest
import torch
import torch.nn.functional as F
from detectron2.modeling import build_model

from unet_sharp_det.checkpoints.loading import SkipCheckpointer
from unet_sharp_det.checkpoints.trained_model import open_trained_model
from unet_sharp_det.config import setup_cfg
from unet_sharp_det.errors import CheckpointError, ConfigError
from unet_sharp_det.export import ExportRequest, export_model
from unet_sharp_det.modeling.pruning import cut_to_level, prune_config
from unet_sharp_det.modeling.skip_grid import node_key

INSTANT = "configs/quick_schedules/unetsharp_cgm_instant_test.yaml"
SCHEME = "MODEL.SEM_SEG_HEAD.SKIP_SCHEME"
SUPERVISION = "MODEL.SEM_SEG_HEAD.DEEP_SUPERVISION"


@pytest.fixture
def config(repository):
    """A function (*options) that gives the config of the instant test."""

    def setup(*options):
        norms = ["MODEL.UNET.NORM", "BN", "MODEL.SEM_SEG_HEAD.NORM", "BN"]
        return setup_cfg(str(repository / INSTANT), ["MODEL.DEVICE", "cpu", *norms, *options])

    return setup


def trained(cfg) -> torch.nn.Module:
    """A network in eval mode whose statistics and biases are not those of a fresh one."""
    torch.manual_seed(0)
    model = build_model(cfg)
    for _ in range(3):
        model.backbone(torch.randn(4, 3, 32, 32))
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.add_(0.1 * torch.rand_like(value))
    return model.eval()


def pruned(whole, cfg, level, inference="fast"):
    return cut_to_level(whole, cfg, level, inference)[0]


def record(height=50, width=47) -> dict:
    pixels = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    return {"image": pixels, "height": height, "width": width}


@pytest.mark.parametrize("edge_order", ["up_conv", "conv_up"])
@pytest.mark.parametrize("cgm", ["True", "False"])
@pytest.mark.parametrize("level", [1, 2, 3, 4])
@pytest.mark.parametrize("scheme", ["unetpp", "unetsharp"])
@torch.no_grad()
def test_fast_is_bit_identical_to_the_branch_of_the_whole(config, scheme, level, cgm, edge_order):
    options = [SCHEME, scheme, "MODEL.SEM_SEG_HEAD.CGM.ENABLED", cgm]
    cfg = config(*options, "MODEL.SEM_SEG_HEAD.EDGE_ORDER", edge_order)
    whole = trained(cfg)
    small = pruned(whole, cfg, level)
    images = torch.randn(2, 3, 50, 47)
    branches = whole.sem_seg_head.decoder(list(whole.backbone(images).values()))
    (branch,) = small.sem_seg_head.decoder(list(small.backbone(images).values())).values()
    assert torch.equal(branch.logits, branches[0, level].logits)
    if cgm == "True":
        assert torch.equal(branch.presence, branches[0, level].presence)


@pytest.mark.parametrize("level", [1, 2, 3, 4])
@torch.no_grad()
def test_accurate_is_the_mean_of_the_branches_up_to_it(config, level):
    cfg = config("MODEL.SEM_SEG_HEAD.CGM.ENABLED", "False")
    whole = trained(cfg)
    small = pruned(whole, cfg, level, "accurate")
    images = torch.randn(1, 3, 32, 48)
    branches = whole.sem_seg_head.decoder(list(whole.backbone(images).values()))
    expected = [branches[0, j].logits.sigmoid() for j in range(1, level + 1)]
    found, _ = small.sem_seg_head(small.backbone(images))
    assert torch.equal(found, torch.stack(expected).mean(0))


@pytest.mark.parametrize(("level", "nodes"), [(1, 3), (2, 6), (3, 10), (4, 15)])
@torch.no_grad()
def test_no_node_outside_of_the_level_is_computed(config, level, nodes):
    cfg = config()
    small = pruned(trained(cfg), cfg, level)
    ran = []
    for i, stage in enumerate(small.backbone.stages):
        stage.register_forward_hook(lambda *_, i=i: ran.append((i, 0)))
    grid = small.sem_seg_head.decoder.grid
    for node in grid.table:
        # A node's last layer always runs as a module, whatever becomes of its first convolution.
        last = grid.nodes[node_key(node)][-1][-1]
        last.register_forward_hook(lambda *_, node=node: ran.append(node))
    small([record()])
    assert sorted(ran) == sorted((i, j) for i in range(5) for j in range(5) if i + j <= level)
    assert len(ran) == nodes


@pytest.mark.parametrize(
    ("options", "level", "message"),
    [
        ([], 5, "has 5 levels. Give one of 1 to 4"),
        ([], 0, "Give one of 1 to 4"),
        ([SUPERVISION, "none"], 2, r"no branch at X\[0,2\], but at X\[0,4\].*DEEP_SUPERVISION in"),
        ([SCHEME, "fpn"], 2, r"'fpn' has no node X\[0,2\]"),
        ([SCHEME, "unet3p"], 1, r"'unet3p' has no node X\[0,1\]"),
    ],
)
def test_levels_that_there_are_not(config, options, level, message):
    with pytest.raises(ConfigError, match=message):
        prune_config(config(*options), level)


@torch.no_grad()
def test_a_pruned_network_pads_as_the_whole_one(config):
    features = "['res1', 'res2', 'res3', 'res4']"
    cfg = config(
        *("MODEL.BACKBONE.NAME", "build_timm_backbone", "MODEL.TIMM.NAME", "resnet18"),
        *("MODEL.TIMM.NORM", "BN", "MODEL.TIMM.OUT_FEATURES", features),
        *("MODEL.SEM_SEG_HEAD.IN_FEATURES", features),
        *("MODEL.SEM_SEG_HEAD.NODE_CHANNELS", "[4, 4, 8, 8]", "MODEL.SEM_SEG_HEAD.NORM", "GN"),
        *("MODEL.SEM_SEG_HEAD.CGM.ENABLED", "False"),
    )
    whole = build_model(cfg).eval()
    small = pruned(whole, cfg, 1)
    assert small.backbone.size_divisibility == whole.backbone.size_divisibility == 16
    sample = record(60, 52)
    images = (sample["image"][None] - whole.pixel_mean) / whole.pixel_std
    padded = F.pad(images, (0, 12, 0, 4))
    head = whole.sem_seg_head
    branches = head.decoder(list(whole.backbone(padded).values()), [(0, 1)])
    expected = head.vote(branches[0, 1])[0, :, :60, :52]
    assert torch.equal(small([sample])[0]["sem_seg"], expected)


@pytest.mark.parametrize("supervision", ["none", "de"])
def test_accurate_averages_what_was_trained(config, supervision):
    cfg = prune_config(config(SUPERVISION, supervision), 4, "accurate")
    assert cfg.MODEL.SEM_SEG_HEAD.DEEP_SUPERVISION == "none"


class TestExport:
    """The file of L_k, which needs no config beside it."""

    def save(self, model, cfg, folder):
        SkipCheckpointer(model, str(folder)).save("model_final")
        (folder / "config.yaml").write_text(cfg.dump())
        return folder / "model_final.pth"

    def test_a_pruned_file_is_the_pruned_network(self, config, tmp_path):
        """And its classes keep their names, which no registered data set tells."""
        cfg = config("MODEL.CLASS_NAMES", "['gland']", "DATASETS.TRAIN", "('elsewhere',)")
        whole = trained(cfg)
        export_model(ExportRequest(self.save(whole, cfg, tmp_path), "safetensors", level=2))
        opened = open_trained_model(tmp_path / "model_final_L2.safetensors", device="cpu")
        assert opened.cfg.MODEL.CLASS_NAMES == ["gland"]
        assert opened.cfg.SOLVER.AMP.ENABLED == cfg.SOLVER.AMP.ENABLED
        with torch.no_grad():
            expected = pruned(whole, cfg, 2)([sample := record()])[0]["sem_seg"]
            assert torch.equal(opened.model([sample])[0]["sem_seg"], expected)


class TestCheckpoints:
    """What SkipCheckpointer says of semantic heads."""

    def load(self, weights_of, into, tmp_path, **options):
        SkipCheckpointer(weights_of, str(tmp_path)).save("model")
        return SkipCheckpointer(into, **options).load(str(tmp_path / "model.pth"))

    def test_the_whole_loads_into_the_pruned(self, config, tmp_path):
        cfg = config()
        whole, small = trained(cfg), build_model(prune_config(cfg, 2))
        self.load(whole, small, tmp_path)
        for name, value in small.state_dict().items():
            assert torch.equal(value, whole.state_dict()[name])

    def test_the_pruned_does_not_load_into_the_whole(self, config, tmp_path):
        cfg = config()
        small = build_model(prune_config(cfg, 2))
        with pytest.raises(CheckpointError, match="another scheme, other widths"):
            self.load(small, build_model(cfg), tmp_path)

    @pytest.mark.parametrize(
        ("other", "message"),
        [
            ([SUPERVISION, "none"], "heads.0_1.weight' has shape None, .* DEEP_SUPERVISION"),
            (["MODEL.SEM_SEG_HEAD.CGM.ENABLED", "False"], "cgm.0_1.*shape None, .*CGM.ENABLED"),
            ([SCHEME, "unetpp", SUPERVISION, "all"], "SKIP_SCHEME"),
            (["MODEL.SEM_SEG_HEAD.NUM_CLASSES", "2"], "NUM_CLASSES"),
            (["MODEL.UNET.CHANNELS", "[4, 4, 8, 8, 32]"], "MODEL.UNET.CHANNELS"),
        ],
    )
    def test_another_head_is_told(self, config, tmp_path, other, message):
        with pytest.raises(CheckpointError, match=message):
            self.load(build_model(config(*other)), build_model(config()), tmp_path)
        options = {"partial": True}
        self.load(build_model(config(*other)), build_model(config()), tmp_path, **options)

    def test_a_plain_module_loads_what_was_trained(self, config, tmp_path):
        from unet_sharp_det import SkipUNet

        model = trained(config())
        SkipCheckpointer(model, str(tmp_path)).save("model")
        net = SkipUNet(
            channels=(4, 4, 8, 8, 16), edge_channels=4, deep_supervision="all", cgm=True
        ).eval()
        net.load_state_dict(torch.load(tmp_path / "model.pth")["model"])
        sample = record(32, 32)
        images = (sample["image"][None] - model.pixel_mean) / model.pixel_std
        with torch.no_grad():
            assert torch.equal(net(images), model([sample])[0]["sem_seg"][None])
