"""Pictures of the validation: a prediction that is the truth looks like it."""

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.structures import Instances
from detectron2.utils.events import EventStorage

from unet_sharp_det.data.label_maps import read_label_map
from unet_sharp_det.masks import union_mask
from unet_sharp_det.modeling.semantic_labels import SemanticLabels
from unet_sharp_det.training.validation_images import COUNT, ValidationImages


def detector(record):
    shape = record["height"], record["width"]
    segmentations = [each["segmentation"] for each in record["annotations"]]
    masks = [torch.from_numpy(union_mask([each], shape, "truth")) for each in segmentations]
    scores = torch.ones(len(masks))
    return {"instances": Instances(shape, pred_masks=torch.stack(masks), scores=scores)}


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
