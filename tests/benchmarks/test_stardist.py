"""The training of StarDist: what feeds the training and what records it, without StarDist."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from benchmarks import stardist as tool


def rle(*slices):
    mask = np.zeros((6, 8), np.uint8, order="F")
    mask[slices] = 1
    return coco_mask.encode(mask)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "0"], "'0' is not a positive whole number"),
        (["--steps", "150"], "--steps 150: give a multiple of 100"),
        (["--data", "none"], "none/annotations/dsb2018_train.json does not exist"),
        (["--model", "none"], "none/config.json does not exist"),
    ],
)
def test_unusable_options(converted_sample, tmp_path, capsys, options, message):
    needed = ["--data", str(converted_sample), "--output", str(tmp_path / "new")]
    with pytest.raises(SystemExit):
        tool.parse_args([*needed, *options])
    assert message in capsys.readouterr().err


def test_results_are_not_overwritten(converted_sample, tmp_path, capsys):
    (tmp_path / "cost.json").write_text("{}")
    with pytest.raises(SystemExit):
        tool.parse_args(["--data", str(converted_sample), "--output", str(tmp_path)])
    assert "is not empty: give a new folder" in capsys.readouterr().err


def test_label_map():
    labels = tool.label_map([rle(slice(0, 3), slice(0, 4)), rle(slice(2, 5), slice(3, 6))], (6, 8))
    expected = np.zeros((6, 8), np.uint16)
    expected[:3, :4] = 1
    expected[2:5, 3:6] = 2
    assert labels.dtype == np.uint16
    assert np.array_equal(labels, expected)
    assert not tool.label_map([], (6, 8)).any()


def test_split(converted_sample):
    pytest.importorskip("csbdeep")
    split = tool.read_split(converted_sample, "val")
    coco = json.loads((converted_sample / "annotations" / "dsb2018_val.json").read_text())
    for k, record in enumerate(coco["images"]):
        areas = [a["area"] for a in coco["annotations"] if a["image_id"] == record["id"]]
        assert record["file_name"] == f"images/{split.stems[k]}.png"
        assert np.bincount(split.labels[k].ravel())[1:].tolist() == areas
        assert split.images[k].shape == (*split.labels[k].shape, 3)
        low, high = np.percentile(split.images[k], [1, 99.8], axis=(0, 1))
        assert np.allclose(low, 0, atol=1e-3)
        assert np.allclose(high, 1, atol=1e-3)


@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 3), (20, 5), (16, 20)])
def test_small_images_are_reflected(shape):
    array = np.arange(np.prod(shape)).reshape(shape)
    padded = tool.pad_to(array, 16)
    assert padded.shape == (max(shape[0], 16), max(shape[1], 16), *shape[2:])
    assert np.array_equal(padded[: shape[0], : shape[1]], array)
    if shape[1] == 5:
        assert np.array_equal(padded[: shape[0], 5:10], array[:, ::-1])


def test_augmentation_moves_image_and_labels_alike():
    labels = np.arange(64, dtype=np.uint16).reshape(8, 8)
    image = np.repeat(labels[..., None] * 100.0, 3, axis=2)
    np.random.seed(0)
    seen = set()
    for _ in range(100):
        turned, numbers = tool.augment(image, labels)
        slope, offset = np.polyfit(numbers.ravel(), turned[..., 0].ravel(), 1)
        assert 60 <= slope <= 200
        assert np.allclose(turned[..., 1], slope * numbers + offset, atol=0.2)
        seen.add(numbers.tobytes())
    assert len(seen) == 8


def test_record_of_an_epoch(tmp_path, monkeypatch):
    seconds = iter([0.0, 40.0, 120.0, 160.0])
    monkeypatch.setattr(tool.time, "process_time", lambda: next(seconds))
    folder = tmp_path / "stardist"
    folder.mkdir()
    record = tool.epoch_recorder(folder, [100])
    for epoch in range(3):
        record(epoch, {"val_loss": np.float32(1.5)})
    cost = json.loads((folder / "training.json").read_text())
    assert (cost["steps"], cost["cpu_s"], cost["val_loss"]) == (300, 160, 1.5)
    snapshot = json.loads((tmp_path / "stardist_100s" / "training.json").read_text())
    assert (snapshot["steps"], snapshot["cpu_s"]) == (200, 120)
