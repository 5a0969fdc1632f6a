"""UNetSharpHead: branches, losses and inference, and its place in detectron2's models."""

import pytest
import torch
import torch.nn.functional as F
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from nuclei_records import nuclei_record as image
from torch.utils._python_dispatch import TorchDispatchMode

from unet_sharp_det.config import setup_cfg
from unet_sharp_det.errors import ConfigError, DatasetError
from unet_sharp_det.modeling import HybridLoss, SkipUNet, UNetSharpHead
from unet_sharp_det.modeling.semantic_labels import SemanticLabels

TINY = (4, 6, 8, 10, 12)
BRATS = ((1, 2, 4), (1, 4), (4,))
QUICK = "configs/quick_schedules"


def tiny(**options) -> SkipUNet:
    torch.manual_seed(0)
    options = {"channels": TINY, "edge_channels": 4, "deep_supervision": "all", **options}
    return SkipUNet("unetsharp", **options)


def branches_of(net: SkipUNet, images):
    return net.sem_seg_head.decoder(list(net.backbone(images).values()))


class TestBranches:
    def test_the_eight(self):
        decoder = tiny(cgm=True).sem_seg_head.decoder
        sizes = {key: head.kernel_size for key, head in decoder.heads.items()}
        full_size = dict.fromkeys(("0_1", "0_2", "0_3", "0_4"), (1, 1))
        assert sizes == {**full_size, **dict.fromkeys(("1_3", "2_2", "3_1", "4_0"), (3, 3))}

    def test_cgm_is_large_on_the_two_coarsest(self):
        cgm = SkipUNet(deep_supervision="all", cgm=True).sem_seg_head.decoder.cgm
        linears = {
            key: [m.weight.shape[::-1] for m in module.modules() if hasattr(m, "out_features")]
            for key, module in cgm.items()
        }
        small = {f"0_{j}": [(64, 2)] for j in (1, 2, 3, 4)} | {"1_3": [(128, 2)], "2_2": [(256, 2)]}
        large = {"3_1": [(512, 256), (256, 2)], "4_0": [(1024, 512), (512, 2)]}
        assert linears == {**small, **large}

    @pytest.mark.parametrize(
        ("supervision", "nodes"),
        [
            ("none", [(0, 2)]),
            ("in", [(0, 1), (0, 2)]),
            ("de", [(0, 2), (1, 1), (2, 0)]),
            ("all", [(0, 1), (0, 2), (1, 1), (2, 0)]),
        ],
    )
    def test_they_follow_the_level(self, supervision, nodes):
        net = tiny(channels=TINY[:3], deep_supervision=supervision)
        assert list(branches_of(net, torch.randn(1, 3, 16, 16))) == nodes


class TestLosses:
    def test_images_that_are_no_multiple_of_the_stride(self):
        """As of detectron2's ResNet, whose maps then reach beyond the image."""
        cfg = setup_cfg(opts=["MODEL.DEVICE", "cpu"])
        cfg.MODEL.BACKBONE.NAME = "build_resnet_backbone"
        cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
        cfg.MODEL.META_ARCHITECTURE = "SemanticSegmentor"
        cfg.MODEL.SEM_SEG_HEAD.NAME = "UNetSharpHead"
        cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES = ["res2", "res3", "res4", "res5"]
        cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 1
        batch = [image(0, 61, 70), image(1, 61, 70)]
        losses = build_model(cfg).train()(batch)
        assert all(loss.isfinite() for loss in losses.values())

    def test_they_are_means_over_branches_at_their_size(self):
        net = tiny().double()
        images = torch.randn(2, 3, 64, 48, dtype=torch.float64)
        truth = torch.randint(0, 2, (2, 64, 48))
        state = {k: v.clone() for k, v in net.state_dict().items()}
        found = net(images, truth)
        net.load_state_dict(state)
        terms = {"focal": [], "dice": [], "lovasz": []}
        for (level, _), branch in branches_of(net, images).items():
            pooled = F.max_pool2d(truth[:, None].double(), 2**level) > 0
            valid = torch.ones_like(pooled)
            for name, value in HybridLoss()(branch.logits, pooled, valid).items():
                terms[name].append(value)
        for name, values in terms.items():
            assert len(values) == 8
            assert torch.allclose(found[f"loss_sem_seg_{name}"], sum(values) / 8)

    def test_cgm_learns_whether_there_is_anything(self):
        net = tiny(cgm=True, cgm_dropout=0.0)
        images = torch.randn(2, 3, 32, 32)
        truth = torch.zeros(2, 32, 32, dtype=torch.long)
        truth[1, 3, 4] = 1
        loss = net(images, truth)["loss_sem_seg_cgm"]
        net = tiny(cgm=True, cgm_dropout=0.0)
        expected = [
            F.cross_entropy(branch.presence, torch.tensor([0, 1]))
            for branch in branches_of(net, images).values()
        ]
        assert torch.allclose(loss, torch.stack(expected).mean())

    def test_weights(self):
        images, truth = torch.randn(2, 3, 32, 32), torch.randint(0, 2, (2, 32, 32))
        plain, weighted = tiny(cgm=True, cgm_dropout=0.0), tiny(cgm=True, cgm_dropout=0.0)
        weighted.sem_seg_head.loss_weight = 2.0
        weighted.sem_seg_head.cgm_loss_weight = 0.25
        a, b = plain(images, truth), weighted(images, truth)
        assert torch.allclose(b["loss_sem_seg_dice"], 2 * a["loss_sem_seg_dice"])
        assert torch.allclose(b["loss_sem_seg_cgm"], 0.5 * a["loss_sem_seg_cgm"])

    def test_ignored_pixels_teach_nothing(self):
        images, truth = torch.randn(1, 3, 32, 32), torch.randint(0, 2, (1, 32, 32))
        truth[:, :, 16:] = 255
        logits = branches_of(tiny().eval(), images)[(0, 4)].logits.detach().requires_grad_()
        head = tiny().sem_seg_head
        branches = {(0, 4): branches_of(tiny().eval(), images)[(0, 4)]._replace(logits=logits)}
        sum(head.losses(branches, truth).values()).backward()
        assert (logits.grad[..., 16:] == 0).all()
        assert (logits.grad[..., :16] != 0).any()

    def test_regions(self):
        net = tiny(labels=SemanticLabels(3, regions=BRATS), in_channels=4)
        labels = torch.tensor([0, 1, 2, 4])[torch.randint(0, 4, (2, 32, 32))]
        assert all(v.isfinite() for v in net(torch.randn(2, 4, 32, 32), labels).values())
        with pytest.raises(DatasetError, match=r"holds the labels \[3\]"):
            net(torch.randn(2, 4, 32, 32), torch.full((2, 32, 32), 3))


class Waits(TorchDispatchMode):
    """The operations for whose result a GPU makes the program wait."""

    names = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "unique_dim"}

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ in self.names:
            self.seen.append(func)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "options", [{"cgm": True}, {"labels": SemanticLabels(3, "softmax")}, {"checkpoint": True}]
)
def test_a_training_step_waits_for_no_value(options):
    net = tiny(**options)
    images, truth = torch.randn(2, 3, 32, 32), torch.randint(0, 2, (2, 32, 32))
    with Waits() as waits:
        head = net.sem_seg_head
        _, losses = head.train()(net.backbone(images), truth)
        torch.stack(list(losses.values())).sum().backward()
    assert waits.seen == []
    with Waits() as waits:
        assert truth.any()
    assert waits.seen != []


class TestInference:
    def test_accurate_is_the_mean_of_the_full_size_branches(self):
        net, images = tiny().eval(), torch.randn(1, 3, 40, 36)
        with torch.no_grad():
            branches = branches_of(net, images)
            expected = torch.stack([branches[0, j].logits.sigmoid() for j in (1, 2, 3, 4)]).mean(0)
            assert torch.allclose(net(images), expected)

    def test_fast_is_the_last_branch(self):
        net, images = tiny(inference="fast").eval(), torch.randn(1, 3, 40, 36)
        with torch.no_grad():
            assert torch.equal(net(images), branches_of(net, images)[0, 4].logits.sigmoid())

    def test_branches_that_only_teach_are_not_run(self):
        net = tiny(cgm=True).eval()
        ran = []
        for name in ("heads", "cgm"):
            for key, module in getattr(net.sem_seg_head.decoder, name).items():
                module.register_forward_hook(lambda *_, key=key: ran.append(key))
        net(torch.randn(1, 3, 32, 32))
        assert set(ran) == {"0_1", "0_2", "0_3", "0_4"}

    def test_softmax_channels_sum_to_one(self):
        net = tiny(labels=SemanticLabels(3, "softmax")).eval()
        total = net(torch.randn(2, 3, 32, 32)).sum(dim=1)
        assert torch.allclose(total, torch.ones_like(total))

    def test_cgm_gates_probabilities_branch_by_branch(self):
        net, images = tiny(cgm=True).eval(), torch.randn(2, 3, 32, 32)
        for key, module in net.sem_seg_head.decoder.cgm.items():
            empty = key == "0_2"
            module.forward = lambda x, empty=empty: torch.tensor([[1.0, 0.0], [0.0, 1.0]]).flip(
                0 if empty else ()
            )
        with torch.no_grad():
            branches = branches_of(net, images)
            votes = [branches[0, j].logits.sigmoid() for j in (1, 2, 3, 4)]
            found = net(images)
        assert torch.allclose(found[0], votes[1][0] / 4)
        assert torch.allclose(found[1], (votes[0][1] + votes[2][1] + votes[3][1]) / 4)


class TestInDetectron2:
    def build(self, repository, file, *options):
        options = ["MODEL.DEVICE", "cpu", *options]
        return build_model(setup_cfg(str(repository / QUICK / file), options))

    def test_semantic_segmentor(self, repository):
        model = self.build(repository, "unetsharp_cgm_instant_test.yaml")
        images = [image(0, 50, 47), image(1, 61, 33)]
        losses = model(images)
        assert set(losses) == {f"loss_sem_seg_{n}" for n in ("focal", "dice", "lovasz", "cgm")}
        with torch.no_grad():
            outputs = model.eval()([image(0, 50, 47), image(1, 61, 1)])
        assert [tuple(o["sem_seg"].shape) for o in outputs] == [(1, 50, 47), (1, 61, 1)]

    @pytest.mark.parametrize(("activation", "classes"), [("sigmoid", "1"), ("softmax", "3")])
    def test_panoptic_fpn(self, repository, activation, classes):
        options = ["MODEL.SEM_SEG_HEAD.ACTIVATION", activation]
        options += ["MODEL.SEM_SEG_HEAD.NUM_CLASSES", classes]
        model = self.build(repository, "panoptic_fpn_lite0_unetsharp_instant_test.yaml", *options)
        assert isinstance(model.sem_seg_head, UNetSharpHead)
        with EventStorage():
            losses = model([image(0, 96, 64), image(1, 64, 96)])
        assert {"loss_mask", "loss_sem_seg_dice"} <= set(losses)
        sum(losses.values()).backward()
        assert all(p.grad is not None for p in model.sem_seg_head.parameters())
        with torch.no_grad():
            (output,) = model.eval()([image(0, 70, 90)])
        assert output["sem_seg"].shape == (int(classes), 70, 90)
        assert {"instances", "panoptic_seg"} <= set(output)

    def test_an_encoder_without_stride_1_is_enlarged(self, repository):
        model = self.build(
            repository,
            "unetsharp_cgm_instant_test.yaml",
            *("MODEL.BACKBONE.NAME", "build_timm_backbone", "MODEL.TIMM.NAME", "resnet18"),
            *("MODEL.TIMM.OUT_FEATURES", "['res1', 'res2', 'res3']", "MODEL.TIMM.NORM", "BN"),
            *("MODEL.SEM_SEG_HEAD.IN_FEATURES", "['res1', 'res2', 'res3']"),
            *("MODEL.SEM_SEG_HEAD.NODE_CHANNELS", "[4, 8, 8]"),
        )
        assert model.sem_seg_head.stride == 2
        assert all(value.isfinite() for value in model([image(0, 50, 47)]).values())
        with torch.no_grad():
            assert model.eval()([image(0, 50, 47)])[0]["sem_seg"].shape == (1, 50, 47)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["MODEL.SEM_SEG_HEAD.IN_FEATURES", "['res0', 'res2']"], "have strides"),
            (["MODEL.SEM_SEG_HEAD.IN_FEATURES", "['res0', 'res9']"], "'res9' is not known"),
            (["MODEL.SEM_SEG_HEAD.REGIONS", "[[1], [2]]"], "has 2 regions, NUM_CLASSES is 1"),
        ],
    )
    def test_bad_configs(self, repository, options, message):
        with pytest.raises(ConfigError, match=message):
            self.build(repository, "unetsharp_cgm_instant_test.yaml", *options)
