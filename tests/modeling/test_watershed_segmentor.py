"""WatershedSegmentor: instances out of any skip scheme's decoder, whole and pruned."""

import numpy as np
import pytest
import torch
from prediction_models import watershed_cfg

from unet_sharp_det.errors import ConfigError
from unet_sharp_det.masks.watershed import distance_bands
from unet_sharp_det.modeling import WatershedSegmentor
from unet_sharp_det.modeling.pruning import cut_to_level
from unet_sharp_det.skip_schemes import scheme_names


def build(**options) -> WatershedSegmentor:
    torch.manual_seed(0)
    return WatershedSegmentor(watershed_cfg(**options))


@pytest.mark.parametrize("scheme", scheme_names())
def test_every_parameter_learns(scheme):
    model = build(**{"MODEL.SEM_SEG_HEAD.SKIP_SCHEME": scheme})
    images = [{"image": torch.rand(3, 40, 48) * 255, "sem_seg": torch.ones(40, 48).long()}] * 2
    losses = model(images)
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


def test_objects_are_those_of_the_distances_that_the_head_sees(monkeypatch):
    """Of the image's size, which is not the network's."""
    truth = np.zeros((31, 50), int)
    truth[4:20, 3:20], truth[4:20, 20:40] = 1, 2
    bands = torch.from_numpy(distance_bands(truth, 3))
    model = build().eval()
    sure = torch.stack([bands > band for band in range(3)])[None].float()
    monkeypatch.setattr(model.sem_seg_head, "forward", lambda features, targets: (sure, {}))
    image = {"image": torch.zeros(3, 31, 50), "height": 62, "width": 100}
    instances = model([image])[0]["instances"]
    assert instances.pred_masks.shape == (2, 62, 100)
    assert instances.pred_classes.tolist() == [0, 0]
    assert (instances.scores > 0.9).all()
    for mask, number in zip(instances.pred_masks.numpy(), (1, 2), strict=True):
        wanted = np.kron(truth == number, np.ones((2, 2), bool))
        assert (mask & wanted).sum() / (mask | wanted).sum() > 0.9


def test_the_class_of_an_object_is_the_likeliest_over_its_pixels():
    """Of objects that touch, painted as targets; of one a corner looks like the other class."""
    model = build(**{"MODEL.WATERSHED.NUM_CLASSES": "2"}).eval()
    labels = model.sem_seg_head.labels
    truth = np.zeros((31, 50), int)
    truth[4:20, 3:20], truth[4:20, 20:40], truth[22:29, 10:40] = 1, 2, 3
    painted = distance_bands(truth, 3)
    painted[truth == 2] += 3
    sure = labels.encode(torch.from_numpy(painted)[None])[0].float()[0]
    corner = (slice(None), slice(4, 10), slice(3, 12))
    sure[3:][corner] = sure[3:][corner].flip(0)
    found = model.find_objects(sure)
    assert found.classes.tolist() == [0, 1, 0]
    np.testing.assert_array_equal(found.label_map(), truth)
    blank = model.find_objects(torch.zeros_like(sure))
    assert len(blank) == 0


def test_level_k_computes_no_node_beyond_it_and_gives_its_branch():
    classes = {"MODEL.WATERSHED.NUM_CLASSES": "2"}
    cfg = watershed_cfg(**classes)
    model = build(**classes).eval()
    pruned, pruned_cfg = cut_to_level(model, cfg, 1)
    assert isinstance(pruned, WatershedSegmentor)
    assert {key for key, _ in pruned.sem_seg_head.decoder.grid.nodes.items()} == {"0_1"}
    image = torch.rand(3, 40, 48) * 255
    with torch.no_grad():
        (found,) = pruned.probabilities([{"image": image}])
        assert found.shape == (5, 40, 48)
        maps = model.backbone((image[None] - 127.5) / 127.5)
        head = model.sem_seg_head
        branch = head.decoder([maps[name] for name in head.in_features], [(0, 1)])[0, 1]
        assert torch.equal(found, head.vote(branch)[0])
    assert list(pruned_cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES) == ["res0", "res1"]


@pytest.mark.parametrize(
    "option, value",
    [("TARGET", "labels"), ("NUM_CLASSES", "1"), ("ACTIVATION", "softmax"), ("TARGET", "far")],
)
def test_a_head_that_cannot_learn_distances_is_an_error(option, value):
    with pytest.raises(ConfigError, match="TARGET"):
        build(**{f"MODEL.SEM_SEG_HEAD.{option}": value})
