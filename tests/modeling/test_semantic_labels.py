"""Labels to channels and back: binary, regions, multi-class; what is refused."""

import pytest
import torch

from unet_sharp_det.errors import ConfigError, DatasetError
from unet_sharp_det.modeling.semantic_labels import SemanticLabels

BRATS = ((1, 2, 4), (1, 4), (4,))


def test_binary():
    targets, valid = SemanticLabels().encode(torch.tensor([[[0, 1, 255]]]))
    assert targets.tolist() == [[[[False, True, False]]]]
    assert valid.tolist() == [[[[True, True, False]]]]


def test_regions_overlap():
    labels = torch.tensor([[[0, 1, 2, 4, 255]]])
    targets, _ = SemanticLabels(3, regions=BRATS).encode(labels)
    assert targets[0, :, 0].int().tolist() == [[0, 1, 1, 1, 0], [0, 1, 0, 1, 0], [0, 0, 0, 1, 0]]


def test_softmax_has_a_background_channel():
    spec = SemanticLabels(3, "softmax")
    targets, valid = spec.encode(torch.tensor([[[0, 1, 2, 255]]]))
    assert targets[0, :, 0].int().tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]
    assert torch.equal(targets.sum(1, keepdim=True).bool(), valid)
    assert spec.foreground_channels == [1, 2]


def test_distances_of_several_classes():
    """Labels 1 and 2 are the bands of the first class, 3 and 4 of the second, 5 and 6 of the
    third."""
    spec = SemanticLabels(5, target="distance", class_channels=3)
    targets, _ = spec.encode(torch.tensor([[[0, 1, 2, 3, 4, 5, 6, 255]]]))
    assert targets[0, :, 0].int().tolist() == [
        [0, 1, 1, 1, 1, 1, 1, 0],
        [0, 0, 1, 0, 1, 0, 1, 0],
        [0, 1, 1, 0, 0, 0, 0, 0],
        [0, 0, 0, 1, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 1, 1, 0],
    ]
    assert spec.bands == 2
    assert spec.foreground_channels == [2, 3, 4]
    assert spec.names(["background", "a", "b", "c"]) == ["object", "object", "a", "b", "c"]


def test_three_dimensions():
    targets, valid = SemanticLabels(2).encode(torch.randint(0, 3, (2, 4, 5, 6)))
    assert tuple(targets.shape) == (2, 2, 4, 5, 6)
    assert tuple(valid.shape) == (2, 1, 4, 5, 6)


@pytest.mark.parametrize("spec", [SemanticLabels(), SemanticLabels(4, "softmax")])
def test_decide_undoes_encode(spec):
    labels = torch.randint(0, len(spec.allowed), (2, 5, 7))
    targets, _ = spec.encode(labels)
    assert torch.equal(spec.decide(targets.float()), targets)


def test_names_of_the_channels():
    names = ["background", "nucleus"]
    assert SemanticLabels().names(names) == ["nucleus"]
    assert SemanticLabels(2, "softmax").names(names) == names
    assert SemanticLabels(3, regions=BRATS).names(["0", "core"]) == ["core+2+4", "core+4", "4"]


@pytest.mark.parametrize(
    ("spec", "labels", "unknown"),
    [
        (SemanticLabels(), [0, 1, 2], "2"),
        (SemanticLabels(3, "softmax"), [0, 3, 2], "3"),
        (SemanticLabels(3, regions=BRATS), [0, 1, 3], "3"),
        (SemanticLabels(), [-1, 0], "-1"),
    ],
)
def test_unknown_labels_are_named(spec, labels, unknown):
    message = rf"mine\.png: holds the labels \[{unknown}\]"
    with pytest.raises(DatasetError, match=message):
        spec.check(torch.tensor(labels), "mine.png")
    spec.check(torch.tensor([*spec.allowed, 255]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, "softmax"), "needs 2 or more"),
        ((0,), "needs 1 or more"),
        ((2, "softmax", ((1,), (2,))), "REGIONS may overlap"),
        ((2, "sigmoid", ((1,),)), "has 1 regions, NUM_CLASSES is 2"),
        ((2, "sigmoid", (1, 2)), r"REGIONS is \[1, 2\]. Give each channel a list"),
        ((2, "sigmoid", ((1,), ())), r"REGIONS is \[\(1,\), \(\)\]. Give each channel a list"),
        ((3, "sigmoid", (), 2), "IGNORE_VALUE 2 is a label in use"),
        ((1, "sigmiod"), "Did you mean 'sigmoid'"),
        ((88, "sigmoid", (), 255, "distance", 85), "at most 254 bands of all classes"),
    ],
)
def test_contradictions(arguments, message):
    with pytest.raises(ConfigError, match=message):
        SemanticLabels(*arguments)
