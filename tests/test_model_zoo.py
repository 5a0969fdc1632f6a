"""The models in the package: found by name, small, described, and good on an unseen image."""

import json

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from unet_sharp_det import model_zoo
from unet_sharp_det.checkpoints.config import config_of
from unet_sharp_det.errors import CheckpointError, ConfigError
from unet_sharp_det.images.decoding import read_image
from unet_sharp_det.prediction import Predictor


@pytest.mark.parametrize("name", model_zoo.names())
def test_a_model_is_small_and_has_a_card(name):
    path = model_zoo.get_checkpoint_file(name)
    assert path.stat().st_size <= 16e6
    card = path.with_suffix(".md").read_text(encoding="utf-8")
    for heading in ("Data", "Results", "Limits", "Licence"):
        assert f"## {heading}" in card


def test_nuclei_of_an_unseen_image_are_found(converted_sample):
    truth = json.loads((converted_sample / "annotations/dsb2018_val.json").read_text())
    image = truth["images"][0]
    path = converted_sample / image["file_name"]
    masks = [
        coco_mask.decode(each["segmentation"]).astype(bool)
        for each in truth["annotations"]
        if each["image_id"] == image["id"]
    ]
    found = Predictor.from_checkpoint(model_zoo.get_checkpoint_file("nuclei"), device="cpu")(path)
    overlaps = [[(a & b).sum() / (a | b).sum() for b in found.full_masks()] for a in masks]
    matched = np.count_nonzero(np.max(overlaps, axis=1) > 0.5)
    assert 2 * matched / (len(masks) + len(found)) > 0.8, "F1 at an IoU of .5"


def test_a_gpu_is_asked_for_wherever_the_model_was_trained():
    assert model_zoo.get_config("nuclei").MODEL.DEVICE == "cuda"
    path = model_zoo.get_checkpoint_file("nuclei")
    assert config_of(path, opts=["MODEL.DEVICE", "cpu"]).MODEL.DEVICE == "cpu"


def test_get_gives_a_model_in_eval_mode(converted_sample):
    model = model_zoo.get("nuclei", device="cpu")
    assert not model.training
    path = next((converted_sample / "images").glob("*.png"))
    image = torch.from_numpy(read_image(path, "RGB").transpose(2, 0, 1).copy())
    with torch.inference_mode():
        (found,) = model([{"image": image}])
    assert found["instances"].image_size == image.shape[1:]


def test_unknown_name():
    with pytest.raises(ConfigError, match="Did you mean 'nuclei'"):
        model_zoo.get("nucleus")


def test_a_file_comes_before_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert model_zoo.find_checkpoint("nuclei") == model_zoo.get_checkpoint_file("nuclei")
    (tmp_path / "nuclei").touch()
    assert model_zoo.find_checkpoint("nuclei").resolve() == tmp_path / "nuclei"
    with pytest.raises(CheckpointError, match=r"nor a model of that name .*nuclei"):
        model_zoo.find_checkpoint("missing.pth")
