"""Pictures of the validation: a prediction that is the truth looks like it."""

import json

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.structures import Instances
from detectron2.utils.events import EventStorage
from scans import write_scan

from unet_sharp_det.data.label_maps import read_label_map
from unet_sharp_det.data.volume_catalog import register_volumes
from unet_sharp_det.masks import union_mask
from unet_sharp_det.modeling.semantic_labels import SemanticLabels
from unet_sharp_det.training.validation_images import COUNT, ValidationImages


def detector(record):
    shape = record["height"], record["width"]
    segmentations = [each["segmentation"] for each in record["annotations"]]
    masks = [torch.from_numpy(union_mask([each], shape, "truth")) for each in segmentations]
    fields = {"scores": torch.ones(len(masks)), "pred_classes": torch.zeros(len(masks))}
    return {"instances": Instances(shape, pred_masks=torch.stack(masks), **fields)}


@pytest.fixture
def volume_part(tmp_path):
    """The name of a registered volume."""
    labels = np.zeros((6, 20, 24), np.uint8)
    labels[4, 5:12, 6:14] = 1
    write_scan(tmp_path / "a.nii.gz", labels * 100)
    write_scan(tmp_path / "a_label.nii.gz", labels)
    case = {"id": "a", "image": ["a.nii.gz"], "label": "a_label.nii.gz"}
    content = {"modality": ["CT"], "labels": {"0": "no", "1": "block"}, "train": [], "val": []}
    (tmp_path / "dataset.json").write_text(json.dumps({**content, "test": [case]}))
    register_volumes("drawn", tmp_path / "dataset.json")
    return "drawn_test"


def semantic(record):
    return {"sem_seg": torch.from_numpy(read_label_map(record)[None] == 1).float()}


@pytest.mark.parametrize("predict", [detector, semantic])
def test_the_same_pixels_have_contours(register_part, predict):
    name = register_part("some", lambda counts: sorted(counts, key=counts.get)[: COUNT + 1])
    evaluator = ValidationImages(name, SemanticLabels(1), {})
    with EventStorage() as storage:
        for record in DatasetCatalog.get(name):
            evaluator.process([record], [predict(record)])
    assert len(storage._vis_data) == COUNT
    for _, picture, _ in storage._vis_data:
        assert picture.dtype == np.uint8
        truth, prediction = (half.max(0) != half.min(0) for half in np.split(picture, 2, axis=2))
        assert truth.any()
        assert (truth == prediction).all()


def test_of_a_volume_the_slice_with_labels_is_drawn(volume_part):
    evaluator = ValidationImages(volume_part, SemanticLabels(1), {})
    (record,) = DatasetCatalog.get(volume_part)
    predicted = torch.zeros(1, 6, 20, 24)
    predicted[0, 4, 5:12, 6:10] = 1
    with EventStorage() as storage:
        evaluator.process([record], [{"sem_seg": predicted}])
    ((name, picture, _),) = storage._vis_data
    assert name == "drawn_test/a.nii"
    contours = [half.max(0) != half.min(0) for half in np.split(picture, 2, axis=2)]
    truth, prediction = (np.argwhere(each).max(axis=0) // (260 // 20) for each in contours)
    assert truth.tolist() == [11, 13]
    assert prediction.tolist() == [11, 9]
