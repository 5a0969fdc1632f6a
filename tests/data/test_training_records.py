"""What is trained on: refused before the first iteration if there is nothing, or half of it."""

import json

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from unet_sharp_det.config import setup_cfg
from unet_sharp_det.data import NucleiDatasetMapper, register_coco_nuclei
from unet_sharp_det.errors import ConfigError, DatasetError
from unet_sharp_det.training import NucleiTrainer
from unet_sharp_det.training.trainer import load_training_records

NAME = "nuclei_to_train_on"
MASK = {"segmentation": [[2, 2, 8, 2, 8, 6, 2, 6]]}
CROWD = {"iscrowd": 1}
CLASSES = ["nucleus", "cell"]


@pytest.fixture
def register(tmp_path, write_png, rgba):
    """A function that registers three images with the given annotations, which are boxes."""

    def run(*annotations, **options):
        images = []
        for number in (1, 2, 3):
            write_png(tmp_path / "images" / f"{number}.png", rgba())
            images.append({"id": f"i{number}", "file_name": f"{number}.png"})
            images[-1].update(height=12, width=16)
        box = {"image_id": "i2", "category_id": 1, "bbox": [2, 2, 6, 4]}
        content = {
            "images": images,
            "categories": [{"id": k, "name": name} for k, name in enumerate(CLASSES, 1)],
            "annotations": [{"id": k, **box, **each} for k, each in enumerate(annotations)],
        }
        (tmp_path / "t.json").write_text(json.dumps(content))
        register_coco_nuclei(NAME, tmp_path / "t.json", tmp_path / "images", CLASSES, **options)

    yield run
    DatasetCatalog.pop(NAME)
    MetadataCatalog.pop(NAME)


def load(*opts):
    cfg = setup_cfg("", ["DATASETS.TRAIN", f"('{NAME}',)", "INPUT.MASK_FORMAT", "bitmask", *opts])
    return load_training_records(cfg, NucleiDatasetMapper(cfg, is_train=True))


def test_images_without_objects_may_be_left_out(register):
    register(MASK, {**MASK, **CROWD, "image_id": "i1"})
    keep = ["DATALOADER.FILTER_EMPTY_ANNOTATIONS", "False", "MODEL.MASK_ON", "True"]
    assert [record["image_id"] for record in load(*keep)] == ["i1", "i2", "i3"]
    assert [record["image_id"] for record in load()] == ["i2"]


def test_without_any_object(register):
    register()
    with pytest.raises(DatasetError, match=f"{NAME} has no object in its 3 images"):
        load()


def test_more_classes_than_the_model_has(register):
    """detectron2 would take objects of class 1 of a model of one class for background."""
    register(MASK, {**MASK, "category_id": 2})
    for architecture, head in (("GeneralizedRCNN", "ROI_HEADS"), ("RetinaNet", "RETINANET")):
        counted = ["MODEL.META_ARCHITECTURE", architecture, f"MODEL.{head}.NUM_CLASSES"]
        assert len(load(*counted, "2")) == 1
        with pytest.raises(DatasetError, match=f"has 1. Set MODEL.{head}.NUM_CLASSES 2"):
            load(*counted, "1")
        with pytest.raises(ConfigError, match=f"MODEL.{head}.NUM_CLASSES is 0. Give 1 or more"):
            load(*counted, "0")


def test_label_maps_are_enough_for_a_semantic_model(register, tmp_path, write_png, square):
    for number in (1, 2, 3):
        write_png(tmp_path / "labels" / f"{number}.png", square((2, 8), (3, 9)) // 255)
    register(sem_seg_root=tmp_path / "labels")
    semantic = ["MODEL.META_ARCHITECTURE", "SemanticSegmentor"]
    keep = ["DATALOADER.FILTER_EMPTY_ANNOTATIONS", "False"]
    assert len(load(*semantic, *keep)) == 3
    with pytest.raises(DatasetError, match="has no object"):
        load(*keep)


def test_boxes_are_enough_for_a_model_of_boxes(register):
    register(MASK, {})
    assert len(load("MODEL.MASK_ON", "False")) == 1
    with pytest.raises(DatasetError, match=r"2\.png: has an annotation \(id 1\) without 'segm"):
        load("MODEL.MASK_ON", "True")
    with pytest.raises(DatasetError, match="without 'segmentation'"):
        load("MODEL.META_ARCHITECTURE", "SemanticSegmentor")


def test_the_trainer_looks_at_the_test_set_too(register):
    register({})
    opts = ["DATASETS.TEST", f"('{NAME}',)", "DATASETS.TRAIN", f"('{NAME}',)"]
    cfg = setup_cfg("", [*opts, "INPUT.MASK_FORMAT", "bitmask", "MODEL.MASK_ON", "True"])
    with pytest.raises(DatasetError, match="without 'segmentation'"):
        NucleiTrainer(cfg)
