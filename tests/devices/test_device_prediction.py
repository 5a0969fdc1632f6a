"""The model of the package predicts the same on a device as on the CPU, with little memory too."""

import logging

import cv2
import numpy as np
import pytest
import torch

from unet_sharp_det import model_zoo
from unet_sharp_det.images.decoding import read_image
from unet_sharp_det.prediction import PredictionOptions, Predictor


@pytest.fixture(scope="module")
def images(sample_folder):
    """Two of 256 x 256 pixels."""
    paths = sorted(sample_folder.glob("stage1_train/*/images/*.png"))
    return [x for x in (read_image(str(p), "RGB") for p in paths) if x.shape[:2] == (256, 256)][:2]


def predictor(device, **options):
    weights = model_zoo.get_checkpoint_file("nuclei")
    return Predictor.from_checkpoint(weights, device=device, options=PredictionOptions(**options))


def matched_share(one: np.ndarray, other: np.ndarray) -> float:
    """The share of the objects of two label maps that have a partner of IoU >= .9."""
    pairs, shared = np.unique(np.stack([one.ravel(), other.ravel()]), axis=1, return_counts=True)
    areas = [np.bincount(labels.ravel()) for labels in (one, other)]
    unions = areas[0][pairs[0]] + areas[1][pairs[1]] - shared
    partners = ((shared >= 0.9 * unions) & (pairs > 0).all(axis=0)).sum()
    objects = sum(np.count_nonzero(area[1:]) for area in areas)
    return 2 * partners / objects


@pytest.mark.parametrize(("precision", "least"), [("fp32", 0.98), ("bf16", 0.9)])
def test_objects_are_those_of_the_cpu(device, images, precision, least):
    if precision == "bf16" and device == "cpu":
        pytest.skip("not every CPU has it")
    expected = [found.label_map() for found in predictor("cpu").predict_many(images)]
    tested = predictor(device, precision=precision, batch_size=2).predict_many(images)
    assert min(labels.max() for labels in expected) > 5
    for labels, found in zip(expected, tested, strict=True):
        assert matched_share(labels, found.label_map()) >= least


def test_too_little_memory_means_smaller_tiles(gpu, images, caplog):
    image = cv2.resize(images[0], (1024, 1024))
    predict = predictor(gpu)
    predict(image)
    torch.cuda.reset_peak_memory_stats()
    model = torch.cuda.memory_allocated()
    expected = predict(image).label_map()
    enough = torch.cuda.max_memory_allocated()
    torch.cuda.empty_cache()
    limit = model + 0.6 * (enough - model)
    torch.cuda.set_per_process_memory_fraction(limit / torch.cuda.mem_get_info()[1])
    try:
        with caplog.at_level(logging.WARNING):
            found = predict(image).label_map()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "Out of GPU memory: trying tiles of 512 pixels" in caplog.text
    assert matched_share(expected, found) > 0.9
