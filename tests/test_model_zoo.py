"""The models in the package: found by name, small, described, and good on an unseen image."""

import json

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from pycocotools import mask as coco_mask

from unet_sharp_det import model_zoo
from unet_sharp_det.checkpoints.config import config_of
from unet_sharp_det.checkpoints.loading import SkipCheckpointer
from unet_sharp_det.checkpoints.sources import find_weights
from unet_sharp_det.checkpoints.trained_model import load_trained_model
from unet_sharp_det.checkpoints.weight_files import read_weights
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


def test_a_picture_has_the_same_nuclei_in_8_and_in_16_bits(converted_sample):
    predict = Predictor.from_checkpoint("nuclei", device="cpu")
    image = read_image(min((converted_sample / "images").glob("*.png")), "RGB")
    shallow, deep = predict(image), predict(image.astype(np.uint16) * 16)
    np.testing.assert_array_equal(shallow.label_map(), deep.label_map())
    assert len(shallow) > 5


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


def test_a_name_and_its_file_mean_the_same_everywhere():
    path = model_zoo.get_checkpoint_file("nuclei")
    cfg = config_of("nuclei", opts=["MODEL.DEVICE", "cpu"])
    assert cfg.MODEL.WEIGHTS == str(path)
    cfg.MODEL.WEIGHTS = "nuclei"
    by_config, by_name, by_file = (
        load_trained_model(cfg),
        Predictor.from_checkpoint("nuclei", device="cpu"),
        Predictor.from_checkpoint(path, device="cpu"),
    )
    started = build_model(cfg)
    SkipCheckpointer(started).resume_or_load("nuclei", resume=False)
    weights = read_weights(path)["model"]
    assert tuple(by_config.cfg.MODEL.CLASS_NAMES) == ("nucleus",)
    assert by_name.class_names == by_file.class_names == ("nucleus",)
    for name, value in started.state_dict().items():
        assert torch.equal(value, weights[name].to(value.dtype))


def test_a_file_comes_before_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nuclei").touch()
    assert find_weights("nuclei").resolve() == tmp_path / "nuclei"
    assert model_zoo.get_checkpoint_file("nuclei").suffix == ".safetensors"


@pytest.mark.parametrize("name", ["nucleii", "nuclei.pth"])
def test_a_name_that_is_neither(name):
    with pytest.raises(CheckpointError, match="nor a model of the package.*Did you mean 'nuclei'"):
        find_weights(name)
