"""SemanticEvaluator: values by hand, ignored pixels, regions, softmax, files, ranks, mistakes."""

import csv
import json
import logging
import math
import uuid

import cv2
import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from evaluation_helpers import coco_dataset, instances

from unet_sharp_det import add_unet_sharp_config
from unet_sharp_det.data import register_coco_nuclei
from unet_sharp_det.errors import ConfigError, DatasetError, UserError
from unet_sharp_det.evaluation import SemanticEvaluator, build_nuclei_evaluators
from unet_sharp_det.evaluation.instances.measures import FOREGROUND_MEASURES
from unet_sharp_det.evaluation.record import COCO_RESULTS_FILE
from unet_sharp_det.evaluation.record import SEMANTIC_IMAGES_FILE as IMAGES_FILE
from unet_sharp_det.evaluation.record import SEMANTIC_METRICS_FILE as METRICS_FILE
from unet_sharp_det.evaluation.record import SEMANTIC_PREDICTIONS_FILE as PREDICTIONS_FILE
from unet_sharp_det.modeling.semantic_labels import SemanticLabels
from unet_sharp_det.report.collect import RunReport

DEFINITIONS = {measure.name: measure.definition for measure in FOREGROUND_MEASURES}
BRATS = SemanticLabels(3, regions=((1, 2, 4), (1, 4), (4,)))


@pytest.fixture
def register_maps(tmp_path):
    """Register label maps {image id: (H, W) labels} as PNG files; returns the data set's name."""

    def register(maps, **metadata):
        name = f"test_{uuid.uuid4().hex}"
        records = []
        for image_id, labels in maps.items():
            labels = np.asarray(labels, dtype=np.uint8)
            path = tmp_path / f"{name}_{image_id}.png"
            assert cv2.imwrite(str(path), labels)
            records.append(record_of(image_id, labels.shape, path))
        DatasetCatalog.register(name, lambda: records)
        MetadataCatalog.get(name).set(**metadata)
        return name

    return register


def record_of(image_id, shape, path):
    record = {"image_id": image_id, "file_name": f"{image_id}.jpg", "sem_seg_file_name": str(path)}
    return {**record, "height": shape[0], "width": shape[1]}


def process(evaluator, predictions):
    """Give an evaluator {image id: (C, H, W) probabilities}, and return its results."""
    evaluator.reset()
    for image_id, probabilities in predictions.items():
        record = {"image_id": image_id, "file_name": f"{image_id}.jpg"}
        output = {"sem_seg": torch.as_tensor(np.asarray(probabilities), dtype=torch.float32)}
        evaluator.process([record], [output])
    return evaluator.evaluate()


def test_regions_overlap_and_are_reported_by_name(register_maps):
    name = register_maps({1: [[0, 1, 2, 4]]}, stuff_classes=["rest", "core", "edema", "-", "e-t"])
    found = {1: [[[0, 1, 1, 0]], [[0, 1, 0, 1]], [[1, 0, 0, 0]]]}
    metrics = process(SemanticEvaluator(name, BRATS), found)["sem_seg"]
    assert metrics["IoU_pooled/core+edema+e_t"] == pytest.approx(100 * 2 / 3)
    assert metrics["IoU_pooled/core+e_t"] == 100
    assert metrics["IoU_pooled/e_t"] == 0
    assert metrics["IoU_pooled"] == pytest.approx(100 * (2 / 3 + 1 + 0) / 3)
    assert list(metrics)[: len(DEFINITIONS)] == list(DEFINITIONS)
    assert len(metrics) == 4 * (1 + 3)
    assert not any("-" in metric for metric in metrics)


def random_workload(labels, seed=0, images=5, size=(9, 11)):
    generator = np.random.default_rng(seed)
    known = [*sorted(labels.allowed), 255]
    maps = {i: generator.choice(known, size) for i in range(1, images + 1)}
    found = {i: generator.random((labels.num_classes, *size)) for i in maps}
    return maps, found


def brute_force(labels, maps, found):
    """The pixels one by one, in plain Python: IoU of each channel, mean over images and pooled."""
    per_image, pooled = [], []
    for channel in labels.foreground_channels:
        ious, sums = [], np.zeros(2)
        for image_id, label_map in maps.items():
            both = either = 0
            for (row, column), label in np.ndenumerate(label_map):
                if label == 255:
                    continue
                scores = found[image_id][:, row, column]
                if labels.activation == "softmax":
                    p = max(range(len(scores)), key=lambda c: scores[c]) == channel
                else:
                    p = scores[channel] >= 0.5
                g = label in labels.members[channel]
                both, either = both + (p and g), either + (p or g)
            ious.append(both / either)
            sums += [both, either]
        per_image.append(np.mean(ious))
        pooled.append(sums[0] / sums[1])
    return 100 * np.mean(per_image), 100 * np.mean(pooled)


@pytest.mark.parametrize(
    "labels", [SemanticLabels(), SemanticLabels(3), BRATS, SemanticLabels(4, "softmax")], ids=str
)
def test_brute_force(register_maps, labels):
    maps, found = random_workload(labels)
    metrics = process(SemanticEvaluator(register_maps(maps), labels), found)["sem_seg"]
    image_mean, pooled = brute_force(labels, maps, found)
    assert 0 < pooled < 100
    assert metrics["IoU_image_mean"] == pytest.approx(image_mean, rel=1e-12)
    assert metrics["IoU_pooled"] == pytest.approx(pooled, rel=1e-12)


def test_files_and_log(register_maps, tmp_path, caplog):
    name = register_maps(
        {2: [[1, 1, 255]], 10: [[0, 0, 1]], 7: [[0, 0, 0]]}, stuff_classes=["background", "cell"]
    )
    folder = tmp_path / "out"
    evaluator = SemanticEvaluator(name, SemanticLabels(), output_dir=str(folder))
    found = {10: [[[0, 0, 1]]], 2: [[[1, 0, 1]]]}
    with caplog.at_level(logging.INFO, logger="unet_sharp_det"):
        metrics = process(evaluator, found)["sem_seg"]
    assert {path.name for path in folder.iterdir()} == {IMAGES_FILE, METRICS_FILE, PREDICTIONS_FILE}
    with open(folder / IMAGES_FILE, newline="") as file:
        rows = list(csv.DictReader(file))
    names = ("image_id", "file_name", "channel", "IoU", "Dice")
    assert tuple(rows[0]) == (*names, "gt_pixels", "pred_pixels")
    ratios = ["50.0000", "66.6667"]  # Of the valid pixels of image 2, one of two is found.
    assert list(rows[0].values()) == ["2", "2.jpg", "cell", *ratios, "2", "1"]
    assert list(rows[1].values()) == ["10", "10.jpg", "cell", *["100.0000"] * 2, "1", "1"]
    content = json.loads((folder / METRICS_FILE).read_text())
    assert content["metrics"] == metrics
    assert content["definitions"] == DEFINITIONS
    assert content["images"] == 2
    assert content["channels"] == {"cell": 0}
    first, second = json.loads((folder / PREDICTIONS_FILE).read_text())
    assert (first["image_id"], first["file_name"], first["channel"]) == (2, "2.jpg", "cell")
    assert mask_util.decode(first["segmentation"]).tolist() == [[1, 0, 1]]
    assert mask_util.decode(second["segmentation"]).tolist() == [[0, 0, 1]]
    assert isinstance(first["segmentation"]["counts"], str)
    assert "2 of its 3 images" in caplog.text
    text = "over all images together: |P & G| / |P | G|"
    assert f"IoU_pooled {metrics['IoU_pooled']:.2f}: {text}" in caplog.text
    assert "100 where both sets are empty, 0 where only one is" in caplog.text


def test_no_image_is_nan_and_null(register_maps, tmp_path):
    name = register_maps({1: [[0]]})
    evaluator = SemanticEvaluator(name, SemanticLabels(), output_dir=str(tmp_path / "out"))
    metrics = evaluator.evaluate()["sem_seg"]
    assert all(math.isnan(value) for value in metrics.values())
    content = json.loads((tmp_path / "out" / METRICS_FILE).read_text())
    assert content["metrics"] == dict.fromkeys(DEFINITIONS)


@pytest.mark.parametrize(
    ("found", "error", "message"),
    [
        ({9: [[[0, 0]]]}, DatasetError, "has no image 9"),
        ({1: [[[0], [0]]]}, DatasetError, r"\(2, 1\), the label map \(1, 2\)"),
        ({1: [[[-3.0, 5.0]]]}, UserError, "from -3 to 5: the model returns logits"),
        ({2: [[[0, 0]]]}, DatasetError, r"_2\.png: holds the labels \[3\]"),
    ],
    ids=["unknown image", "size", "logits", "labels"],
)
def test_mistakes_in_predictions(register_maps, found, error, message):
    name = register_maps({1: [[0, 1]], 2: [[0, 3 if 2 in found else 1]]})
    with pytest.raises(error, match=message):
        process(SemanticEvaluator(name, SemanticLabels()), found)


def test_mistakes_in_the_data_set(register_maps):
    name = register_maps({1: [[0]]}, stuff_classes=["background", "a-b", "a_b"])
    with pytest.raises(ConfigError, match="same name.*stuff_classes"):
        SemanticEvaluator(name, SemanticLabels(2))
    records = DatasetCatalog.get(name)
    records.append(dict(records[0]))
    with pytest.raises(DatasetError, match="several images have the image_id 1"):
        SemanticEvaluator(name, SemanticLabels())
    del records[1]["image_id"]
    with pytest.raises(DatasetError, match="1 of 2 images lack 'image_id'"):
        SemanticEvaluator(name, SemanticLabels())


@pytest.fixture
def nuclei(tmp_path):
    """A data set of one image whose label map is painted from its annotations."""
    name = "test_semantic_nuclei"
    (tmp_path / "gt.json").write_text(json.dumps(coco_dataset({1: [(0, 0, 8, 8)]})))
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((64, 64, 3), np.uint8))
    register_coco_nuclei(name, tmp_path / "gt.json", tmp_path, ["nucleus"])
    DatasetCatalog.get(name)  # As the loader does, which numbers the classes.
    return name


@pytest.mark.parametrize(
    ("architecture", "tasks"),
    [
        ("SemanticSegmentor", ["sem_seg"]),
        ("PanopticFPN", ["bbox", "segm", "instances", "foreground", "sem_seg"]),
        ("GeneralizedRCNN", ["bbox", "segm", "instances", "foreground"]),
    ],
)
def test_builder_follows_the_architecture(nuclei, tmp_path, architecture, tasks):
    cfg = get_cfg()
    add_unet_sharp_config(cfg)
    cfg.MODEL.META_ARCHITECTURE = architecture
    cfg.MODEL.MASK_ON = True
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 2
    cfg.MODEL.SEM_SEG_HEAD.ACTIVATION = "softmax"
    cfg.DATASETS.TEST = (nuclei,)
    cfg.OUTPUT_DIR = str(tmp_path / "run")
    evaluators = build_nuclei_evaluators(cfg, nuclei)
    evaluators.reset()
    foreground = torch.zeros(64, 64)
    foreground[:8, :8] = 1
    output = {"sem_seg": torch.stack([1 - foreground, foreground])}
    output["instances"] = instances([(0, 0, 8, 8)])
    evaluators.process([{"image_id": 1, "file_name": "1.png"}], [output])
    results = evaluators.evaluate()
    assert list(results) == tasks
    for task in {"foreground", "sem_seg"} & set(results):
        assert set(results[task].values()) == {100}
    folder = tmp_path / "run" / "inference"
    assert (folder / IMAGES_FILE).exists() == ("sem_seg" in tasks)
    run = RunReport.read(tmp_path / "run", "x")
    predictions = COCO_RESULTS_FILE if "instances" in tasks else PREDICTIONS_FILE
    assert run.record.predictions == str(folder / predictions)
    assert run.results.metrics["instances"]["DSB_score"] == 100
