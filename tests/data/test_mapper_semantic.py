"""The mapper's label maps: they move with the image, and hold what the model knows."""

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.data import transforms as T

from unet_sharp_det.config import setup_cfg
from unet_sharp_det.data import NucleiDatasetMapper, RandomRotate90, load_coco_nuclei
from unet_sharp_det.data.augmentation import RandomScaledCrop, ScaleBy
from unet_sharp_det.errors import ConfigError, DatasetError
from unet_sharp_det.modeling.semantic_labels import SemanticLabels

SHAPE = (30, 40)
THREE = SemanticLabels(num_classes=3)
BRIGHTNESS = 50  # of a label in an image that encodes its labels


@pytest.fixture
def blocks():
    """A label map of 2 x 2 blocks."""
    drawn = np.random.default_rng(0).integers(0, 4, (15, 20))
    return np.kron(drawn, np.ones((2, 2), int)).astype(np.uint8)


@pytest.fixture
def encoded(tmp_path, write_png):
    """A function (labels) that returns a record of them and of an image that shows them."""

    def make(labels):
        image = write_png(tmp_path / "image.png", (labels.astype(int) * BRIGHTNESS) % 256)
        path = write_png(tmp_path / "labels.png", labels)
        height, width = labels.shape
        size = {"height": height, "width": width, "image_id": 1}
        return {"file_name": str(image), "sem_seg_file_name": str(path), **size}

    return make


def mapper(*augmentations, semantic=THREE, is_train=True, **options):
    return NucleiDatasetMapper(
        is_train,
        augmentations=list(augmentations),
        image_format="BGR",
        semantic=semantic,
        **{"use_instances": False, **options},
    )


def labels_shown(mapped):
    return mapped["image"][0].long() // BRIGHTNESS


def test_without_augmentation_labels_are_the_file(encoded, blocks):
    mapped = mapper()(encoded(blocks))
    assert mapped["sem_seg"].dtype == torch.int64
    assert mapped["sem_seg"].tolist() == blocks.tolist()


@pytest.mark.parametrize(
    "augmentations",
    [
        [T.RandomCrop("absolute", (11, 17))],
        [T.RandomFlip(horizontal=True, vertical=False)],
        [T.RandomFlip(horizontal=False, vertical=True)],
        [RandomRotate90()],
        [RandomScaledCrop(ScaleBy([1.0], 1000), (8, 8)), RandomRotate90()],
        [T.CropTransform(3, 5, 20, 10), RandomRotate90(), T.RandomFlip()],
    ],
)
def test_image_and_labels_move_alike(encoded, blocks, augmentations):
    np.random.seed(0)
    record = encoded(blocks)
    drawn = [mapper(*augmentations)(record) for _ in range(8)]
    for mapped in drawn:
        assert mapped["sem_seg"].shape == mapped["image"].shape[1:]
        assert torch.equal(mapped["sem_seg"], labels_shown(mapped))
    assert len(drawn[0]["sem_seg"].unique()) == 4
    assert any(mapped["sem_seg"].tolist() != blocks.tolist() for mapped in drawn)


@pytest.mark.parametrize("factor", [2.0, 1.7, 0.7])
def test_labels_are_resized_without_a_shift_or_a_value_between(encoded, factor):
    labels = np.zeros((100, 120), np.uint8)
    labels[20:70, 30:90] = 3
    mapped = mapper(ScaleBy([factor], 1000))(encoded(labels))
    bright = mapped["image"][0] > 1.5 * BRIGHTNESS
    assert torch.equal(mapped["sem_seg"] == 3, bright)
    assert mapped["sem_seg"].unique().tolist() == [0, 3]


def test_16_bit_labels_are_mapped(encoded, blocks):
    deep = mapper(ScaleBy([2.0], 1000))(encoded(blocks.astype(np.uint16)))
    assert deep["sem_seg"].tolist() == np.kron(blocks, np.ones((2, 2), int)).tolist()


@pytest.mark.parametrize("dtype, label", [(np.uint8, 7), (np.uint16, 257)])
def test_unknown_labels_are_named_even_outside_the_crop(encoded, blocks, dtype, label):
    labels = blocks.astype(dtype)
    labels[0, 0] = label
    with pytest.raises(DatasetError, match=rf"labels\.png: holds the labels \[{label}\]"):
        mapper(T.CropTransform(10, 10, 8, 8))(encoded(labels))


def test_unknown_labels_that_were_painted_are_named_with_the_image(tmp_path, write_png, rgba):
    mask = np.ones(SHAPE, np.uint8, order="F")
    annotation = {"category_id": 3, "segmentation": mask_util.encode(mask)}
    path = write_png(tmp_path / "a.png", rgba(*SHAPE))
    record = {"file_name": str(path), "height": 30, "width": 40, "annotations": [annotation]}
    with pytest.raises(DatasetError, match=r"a\.png: holds the labels \[4\]"):
        mapper()(record)
    assert (mapper(semantic=SemanticLabels(4))(record)["sem_seg"] == 4).all()


def test_ignored_pixels_stay(encoded, blocks):
    blocks[4:8] = 255
    found = mapper(T.CropTransform(0, 2, 40, 10))(encoded(blocks))["sem_seg"]
    assert (found == 255).nonzero()[:, 0].unique().tolist() == [2, 3, 4, 5]


def test_an_image_without_nuclei_is_background(tmp_path, write_png, rgba):
    path = write_png(tmp_path / "a.png", rgba(*SHAPE))
    record = {"file_name": str(path), "height": 30, "width": 40, "annotations": []}
    mapped = mapper(use_instances=True)(record)
    assert mapped["sem_seg"].shape == SHAPE
    assert not mapped["sem_seg"].any()
    assert len(mapped["instances"]) == 0


def test_without_instances_boxes_alone_are_no_error(encoded, blocks):
    boxes = [{"bbox": [0, 0, 9, 9], "bbox_mode": 1, "category_id": 0}]
    record = {**encoded(blocks), "annotations": boxes}
    mapped = mapper()(record)
    assert "instances" not in mapped
    assert "annotations" not in mapped
    assert record["annotations"] is boxes
    with pytest.raises(DatasetError, match="without 'segmentation'"):
        mapper(use_instances=True)(record)


def test_for_testing_no_labels_are_read(encoded, blocks):
    record = encoded(blocks)
    mapped = mapper(is_train=False)({**record, "sem_seg_file_name": "gone.png", "annotations": []})
    assert "sem_seg" not in mapped
    assert "annotations" not in mapped
    assert mapped["sem_seg_file_name"] == "gone.png"


def test_labels_of_test_images_if_asked_for(encoded, blocks):
    mapped = mapper(is_train=False, with_targets=True)(encoded(blocks))
    assert mapped["sem_seg"].tolist() == blocks.tolist()


@pytest.mark.parametrize("values", [{"regions": ((300,),)}, {"ignore_value": -1}])
def test_labels_beyond_8_bit_are_refused(values):
    with pytest.raises(ConfigError, match=r"MODEL\.SEM_SEG_HEAD.*0\.\.255"):
        mapper(semantic=SemanticLabels(1, **values))


class TestConfig:
    @pytest.fixture
    def cfg(self):
        cfg = setup_cfg()
        cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 1
        cfg.INPUT.MASK_FORMAT = "bitmask"
        cfg.INPUT.CROP.ENABLED = True
        cfg.INPUT.CROP.TYPE = "absolute"
        cfg.INPUT.CROP.SIZE = [100, 120]
        cfg.INPUT.RANDOM_FLIP = "both"
        cfg.INPUT.RANDOM_ROTATE90 = True
        cfg.INPUT.COLOR.PROB = 1.0
        return cfg

    @pytest.fixture
    def records(self, converted_sample):
        json_file = converted_sample / "annotations" / "dsb2018_val.json"
        return load_coco_nuclei("mapper_test", json_file, converted_sample, ["nucleus"])

    @pytest.mark.parametrize("scale", [[], [0.8, 1.5]])
    @pytest.mark.parametrize("mask_on", [True, False])
    def test_panoptic_labels_are_where_the_instances_are(self, cfg, records, scale, mask_on):
        cfg.MODEL.META_ARCHITECTURE = "PanopticFPN"
        cfg.MODEL.MASK_ON = mask_on
        cfg.INPUT.SCALE_TRAIN = scale
        for record in records:
            mapped = NucleiDatasetMapper(cfg, is_train=True)(record)
            assert mapped["sem_seg"].shape == mapped["image"].shape[1:]
            assert mapped["instances"].has("gt_masks") == mask_on
            if mask_on:
                union = mapped["instances"].gt_masks.tensor.any(dim=0)
                assert torch.equal(mapped["sem_seg"] == 1, union)

    def test_a_watershed_segmentor_gets_the_distances_in_instances(self, cfg, records):
        """Also where files of label maps lie, which hold no objects."""
        cfg.MODEL.META_ARCHITECTURE = "WatershedSegmentor"
        cfg.MODEL.SEM_SEG_HEAD.TARGET, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = "distance", 3
        record = {**max(records, key=lambda r: len(r["annotations"])), "sem_seg_file_name": "gone"}
        mapper = NucleiDatasetMapper(cfg, is_train=True)
        mapper.check_records([record], "mapper_test")
        mapped = mapper(record)
        assert mapped["sem_seg"].unique().tolist() == [0, 1, 2, 3]
        assert mapped["sem_seg"].shape == mapped["image"].shape[1:]
        assert not {"instances", "annotations"} & set(mapped)
        cfg.MODEL.WATERSHED.NUM_CLASSES = 2
        record["annotations"] = [{**each, "category_id": 1} for each in record["annotations"]]
        mapped = NucleiDatasetMapper(cfg, is_train=True)(record)
        assert mapped["sem_seg"].unique().tolist() == [0, 4, 5, 6]

    def test_a_semantic_segmentor_gets_labels_alone(self, cfg, records):
        cfg.MODEL.META_ARCHITECTURE = "SemanticSegmentor"
        cfg.MODEL.MASK_ON = True
        cfg.INPUT.MASK_FORMAT = "polygon"
        mapped = NucleiDatasetMapper(cfg, is_train=True)(records[0])
        assert set(mapped["sem_seg"].unique().tolist()) == {0, 1}
        assert "instances" not in mapped

    def test_softmax_knows_one_label_less_than_channels(self, cfg, records):
        cfg.MODEL.META_ARCHITECTURE = "SemanticSegmentor"
        cfg.MODEL.SEM_SEG_HEAD.ACTIVATION = "softmax"
        with pytest.raises(ConfigError, match="softmax"):
            NucleiDatasetMapper(cfg, is_train=True)
        cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 2
        assert NucleiDatasetMapper(cfg, is_train=True)(records[0])["sem_seg"].max() == 1
