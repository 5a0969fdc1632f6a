"""The losses on validation data: their values, and that they leave no trace in the training."""

import random

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model
from detectron2.structures import Instances
from detectron2.utils.events import EventStorage, get_event_storage
from torch import nn

from unet_sharp_det.config import setup_cfg
from unet_sharp_det.data import NucleiDatasetMapper
from unet_sharp_det.training import ValidationLoss

ARCHITECTURES = {
    "mask_rcnn_lite0_unetsharp": {"loss_cls", "loss_mask", "loss_rpn_cls"},
    "panoptic_fpn_lite0_unetsharp": {"loss_cls", "loss_mask", "loss_sem_seg_dice"},
    "unetsharp_cgm": {"loss_sem_seg_focal", "loss_sem_seg_cgm"},
    "retinanet_R_50_unetsharp": {"loss_cls", "loss_box_reg"},
}


class NormWithAct(nn.BatchNorm1d):
    """A norm with a child, as timm has them."""

    def __init__(self, channels):
        super().__init__(channels)
        self.act = nn.Identity()


class Detector(nn.Module):
    """As detectron2's: losses in training mode alone, samples, logs, and counts its calls."""

    def __init__(self):
        super().__init__()
        self.norm = NormWithAct(4)
        self.dropout = nn.Dropout(0.5)
        self.frozen = nn.Sequential(nn.Identity()).eval()
        self.register_buffer("batches", torch.zeros(()))
        self.calls = 0
        self.fails = False

    def forward(self, batch):
        assert self.training
        self.calls += 1
        self.batches = self.batches + 1
        self.last = "an attribute that was not there"
        get_event_storage().put_scalar("rpn/num_pos_anchors", 1)
        images = torch.stack([record["image"] for record in batch])
        values = self.dropout(self.norm(images))
        if self.fails:
            raise RuntimeError("out of memory")
        return {
            "loss_value": values.mean(),
            "loss_drawn": images.mean() * torch.rand(()),
            "loss_counted": images.mean() / self.calls / self.batches,
            "loss_none": 0 * values.sum(),
        }


def record(value, objects=1):
    return {
        "image": torch.full((4,), float(value)),
        "instances": Instances((1, 1), x=[0] * objects),
    }


@pytest.fixture
def model():
    model = Detector().train()
    model.frozen.eval()
    model.norm.running_mean.fill_(1.0)
    return model


def state(model):
    attributes = [
        {k: v for k, v in vars(module).items() if isinstance(v, (bool, int, str))}
        for module in model.modules()
    ]
    tensors = [value.clone() for value in model.state_dict().values()]
    draws = [torch.get_rng_state(), torch.as_tensor(np.random.get_state()[1].astype(np.int64))]
    return attributes, random.getstate(), [*tensors, *draws]


def assert_same(before, after):
    assert before[:2] == after[:2]
    assert all(map(torch.equal, before[2], after[2]))


def test_the_mean_counts_every_image_alike(model):
    loader = [[record(1), record(4)], [record(7)]]
    losses = ValidationLoss(model, {"val": loader})()["validation"]
    assert losses["loss_value"] == pytest.approx((1 + 4 + 7) / 3 - 1, abs=1e-3)
    assert losses["loss_none"] == 0
    total = losses.pop("total_loss")
    assert total == pytest.approx(sum(losses.values()))


def test_it_is_deterministic_in_any_order(model):
    loader = [[record(value)] for value in (1, 2, 5)]
    first = ValidationLoss(model, {"val": loader})()
    torch.rand(3)
    again = ValidationLoss(model, {"val": loader[::-1]})()
    assert again["validation"] == pytest.approx(first["validation"])


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_nothing_is_left_behind(model, training, fails):
    model.train(training)
    model.frozen.eval()
    model.fails = fails

    class Loader(list):
        def __iter__(self):
            np.random.rand(), random.random(), torch.rand(1)
            return super().__iter__()

    before = state(model)
    with EventStorage() as storage:
        loss = ValidationLoss(model, {"val": Loader([[record(1)], [record(2)]])})
        if fails:
            with pytest.raises(RuntimeError, match="out of memory"):
                loss()
        else:
            loss()
        assert not storage.latest()
    assert_same(before, state(model))
    assert not hasattr(model, "last")
    assert all(parameter.grad is None for parameter in model.parameters())


def test_images_without_objects_count_but_not_alone(model, caplog):
    empty = [[record(3, objects=0)]]
    both = ValidationLoss(model, {"val": [[record(1)], *empty]})()["validation"]
    assert both["loss_value"] == pytest.approx(1.0, abs=1e-3)
    loss = ValidationLoss(
        model, {"a": empty, "b": [[{"image": torch.zeros(4)}]], "c": [[record(2)]]}
    )
    results = loss()
    assert set(results["validation"]) == {"c"}
    assert "a: no image has an annotation" in caplog.text
    assert "b: no image has an annotation" in caplog.text
    caplog.clear()
    assert loss() == results
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_detectron2_s_models(repository, register_part, architecture):
    """On an image at a quarter of its size, and on one without objects."""
    file = f"configs/quick_schedules/{architecture}_instant_test.yaml"
    cfg = setup_cfg(str(repository / file), ["MODEL.DEVICE", "cpu", "INPUT.SCALE_TEST", "0.25"])
    model = build_model(cfg).train()
    mapper = NucleiDatasetMapper(cfg, is_train=False, with_targets=True)
    name = register_part("one_image", lambda counts: [max(counts, key=counts.get)])
    (one,) = DatasetCatalog.get(name)
    loader = [[mapper(one)], [mapper({**one, "annotations": []})]]
    before = state(model)
    losses = ValidationLoss(model, {"val": loader})()["validation"]
    assert_same(before, state(model))
    assert set(losses) >= {"total_loss", *ARCHITECTURES[architecture]}
    assert np.isfinite(losses["total_loss"])
    assert ValidationLoss(model, {"val": loader[::-1]})()["validation"] == pytest.approx(losses)
