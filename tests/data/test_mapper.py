"""The mapper on real images, and on those that detectron2's own mapper fails on."""

import cv2
import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.config import LazyCall, get_cfg, instantiate
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, BoxMode

from unet_sharp_det.config import add_unet_sharp_config
from unet_sharp_det.data import NucleiDatasetMapper, build_augmentations, load_coco_nuclei
from unet_sharp_det.errors import ConfigError, DatasetError


@pytest.fixture
def cfg():
    """A config that maps images at their own size, without augmentation."""
    cfg = get_cfg()
    add_unet_sharp_config(cfg)
    cfg.MODEL.MASK_ON = True
    cfg.INPUT.MASK_FORMAT = "bitmask"
    cfg.INPUT.MIN_SIZE_TRAIN = (0,)
    cfg.INPUT.MIN_SIZE_TEST = 0
    cfg.INPUT.RANDOM_FLIP = "none"
    return cfg


@pytest.fixture
def records(converted_sample):
    """The dataset dicts of the sample's val split."""
    json_file = converted_sample / "annotations" / "dsb2018_val.json"
    return load_coco_nuclei("mapper_test", json_file, converted_sample, ["nucleus"])


@pytest.fixture
def record(tmp_path, write_png, rgba):
    """A small image without nuclei."""
    path = write_png(tmp_path / "a.png", rgba(30, 40))
    return {"file_name": str(path), "height": 30, "width": 40, "image_id": 1, "annotations": []}


def test_without_augmentation_it_equals_detectron2s_mapper(cfg, records):
    theirs = DatasetMapper(cfg, is_train=True)(records[0])
    ours = NucleiDatasetMapper(cfg, is_train=True)(records[0])
    assert ours.keys() == theirs.keys()
    assert (ours["image"] == theirs["image"]).all()
    for name, value in theirs["instances"].get_fields().items():
        mine = ours["instances"].get(name)
        assert torch.equal(getattr(mine, "tensor", mine), getattr(value, "tensor", value))
    assert len(ours["instances"]) == len(records[0]["annotations"]) > 5


@pytest.mark.parametrize("turns", range(4))
def test_image_masks_and_boxes_turn_together(cfg, records, monkeypatch, turns):
    plain = NucleiDatasetMapper(cfg, is_train=True)(records[0])
    cfg.INPUT.RANDOM_ROTATE90 = True
    monkeypatch.setattr(np.random, "randint", lambda *_: turns)
    turned = NucleiDatasetMapper(cfg, is_train=True)(records[0])
    masks = turned["instances"].gt_masks
    assert torch.equal(turned["image"], torch.rot90(plain["image"], turns, (1, 2)))
    assert torch.equal(masks.tensor, torch.rot90(plain["instances"].gt_masks.tensor, turns, (1, 2)))
    assert torch.equal(turned["instances"].gt_boxes.tensor, masks.get_bounding_boxes().tensor)


@pytest.mark.parametrize("crop", [False, True])
def test_an_image_without_nuclei_survives(cfg, record, crop):
    cfg.INPUT.CROP.ENABLED = crop
    cfg.INPUT.RANDOM_ROTATE90 = True
    mapped = NucleiDatasetMapper(cfg, is_train=True)(record)
    check_empty(mapped)


def test_crowd_alone_counts_as_no_nuclei(cfg, record):
    crowd = {"bbox": [0, 0, 9, 9], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0, "iscrowd": 1}
    check_empty(NucleiDatasetMapper(cfg, is_train=True)({**record, "annotations": [crowd]}))


def test_a_crop_without_nuclei_survives(cfg, record):
    mask = np.zeros((30, 40), np.uint8, order="F")
    mask[0, 0] = 1
    nucleus = {"bbox": [0, 0, 1, 1], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0}
    record["annotations"] = [{**nucleus, "segmentation": mask_util.encode(mask)}]
    mapper = NucleiDatasetMapper(
        True, augmentations=[T.CropTransform(20, 10, 16, 16)], image_format="BGR"
    )
    check_empty(mapper(record))


def check_empty(mapped):
    instances = mapped["instances"]
    size = tuple(mapped["image"].shape[1:])
    assert len(instances) == 0
    assert instances.image_size == size
    assert instances.gt_boxes.tensor.shape == (0, 4)
    assert instances.gt_classes.shape == (0,)
    assert instances.gt_classes.dtype == torch.int64
    assert isinstance(instances.gt_masks, BitMasks)
    assert tuple(instances.gt_masks.tensor.shape) == (0, *size)


def test_without_masks_no_masks_are_made(cfg, record):
    cfg.MODEL.MASK_ON = False
    cfg.INPUT.CROP.ENABLED = True
    instances = NucleiDatasetMapper(cfg, is_train=True)(record)["instances"]
    assert not instances.has("gt_masks")
    assert len(instances) == 0


@pytest.mark.parametrize("size, expected", [((64, 64), (30, 40)), ((16, 64), (16, 40))])
def test_a_crop_larger_than_the_image_keeps_the_side(cfg, record, size, expected):
    cfg.INPUT.CROP.ENABLED = True
    cfg.INPUT.CROP.TYPE = "absolute"
    cfg.INPUT.CROP.SIZE = list(size)
    assert tuple(NucleiDatasetMapper(cfg, is_train=True)(record)["image"].shape[1:]) == expected


def test_boxes_are_fitted_to_the_masks_after_a_crop(cfg, record):
    diagonal = np.asfortranarray(np.eye(30, 40, dtype=np.uint8))
    nucleus = {"bbox": [0, 0, 30, 30], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0}
    record["annotations"] = [{**nucleus, "segmentation": mask_util.encode(diagonal)}]
    cfg.INPUT.CROP.ENABLED = True
    cfg.INPUT.CROP.TYPE = "absolute"
    cfg.INPUT.CROP.SIZE = [15, 40]
    instances = NucleiDatasetMapper(cfg, is_train=True)(record)["instances"]
    assert instances.gt_masks.tensor.sum() == 15
    (x0, y0, x1, y1) = instances.gt_boxes.tensor[0].tolist()
    assert (x1 - x0, y0, y1) == (15, 0, 15)


def test_16_bit_is_rescaled_over_the_whole_image_before_the_crop(cfg, tmp_path):
    path = tmp_path / "deep.tif"
    ramp = np.tile(np.arange(0, 40_000, 1000, dtype=np.uint16), (30, 1))
    cv2.imwrite(str(path), ramp)
    record = {"file_name": str(path), "height": 30, "width": 40, "annotations": []}
    whole = NucleiDatasetMapper(cfg, is_train=True)(record)["image"]
    crop = T.CropTransform(10, 5, 8, 8)
    mapper = NucleiDatasetMapper(True, augmentations=[crop], image_format="BGR")
    assert torch.equal(mapper(record)["image"], whole[:, 5:13, 10:18])
    assert whole.dtype == torch.uint8
    assert len(whole.unique()) == 40


def test_for_testing_it_drops_annotations_and_keeps_the_rest(cfg, records):
    cfg.INPUT.RANDOM_ROTATE90 = True
    cfg.INPUT.MIN_SIZE_TEST = 128
    mapped = NucleiDatasetMapper(cfg, is_train=False)(records[0])
    assert "annotations" not in mapped
    assert "instances" not in mapped
    assert min(mapped["image"].shape[1:]) == 128
    assert (mapped["height"], mapped["width"]) == (records[0]["height"], records[0]["width"])
    assert "annotations" in records[0]


def test_targets_of_test_images_have_the_test_size(cfg, records):
    cfg.INPUT.MIN_SIZE_TEST = 128
    cfg.INPUT.CROP.ENABLED = True
    plain = NucleiDatasetMapper(cfg, is_train=False)(records[0])
    mapped = NucleiDatasetMapper(cfg, is_train=False, with_targets=True)(records[0])
    assert torch.equal(mapped["image"], plain["image"])
    assert mapped["instances"].image_size == tuple(plain["image"].shape[1:])
    assert len(mapped["instances"]) == len(records[0]["annotations"])
    empty = NucleiDatasetMapper(cfg, is_train=False, with_targets=True)(
        {**records[0], "annotations": []}
    )
    assert len(empty["instances"]) == 0


def test_lazy_config_swaps_the_target_of_the_stock_mapper(records):
    stock = LazyCall(DatasetMapper)(
        is_train=True,
        augmentations=[LazyCall(T.ResizeShortestEdge)(short_edge_length=64)],
        image_format="RGB",
        use_instance_mask=True,
        instance_mask_format="bitmask",
        recompute_boxes=True,
    )
    stock["_target_"] = NucleiDatasetMapper
    mapped = instantiate(stock)(records[0])
    assert isinstance(mapped["instances"].gt_masks, BitMasks)
    assert min(mapped["image"].shape[1:]) == 64


def test_both_flips_are_two_augmentations(cfg):
    cfg.INPUT.RANDOM_FLIP = "both"
    flips = [aug for aug in build_augmentations(cfg, True) if isinstance(aug, T.RandomFlip)]
    assert [(flip.horizontal, flip.vertical) for flip in flips] == [(True, False), (False, True)]


def test_the_augmentations_follow_the_config(cfg):
    names = [type(aug).__name__ for aug in build_augmentations(cfg, True)]
    assert names == ["ResizeShortestEdge"]
    cfg.INPUT.CROP.ENABLED = True
    cfg.INPUT.RANDOM_FLIP = "vertical"
    cfg.INPUT.RANDOM_ROTATE90 = True
    cfg.INPUT.COLOR.PROB = 0.5
    names = [type(aug).__name__ for aug in build_augmentations(cfg, True)]
    assert names == [
        "RandomCrop",
        "ResizeShortestEdge",
        "RandomFlip",
        "RandomRotate90",
        "RandomColor",
    ]
    assert [type(aug).__name__ for aug in build_augmentations(cfg, False)] == ["ResizeShortestEdge"]


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("INPUT.MASK_FORMAT", "polygon", "INPUT.MASK_FORMAT: bitmask"),
        ("INPUT.FORMAT", "RGBA", "Did you mean 'RGB'"),
        ("INPUT.RANDOM_FLIP", "horizontl", "Did you mean 'horizontal'"),
        ("INPUT.MIN_SIZE_TRAIN_SAMPLING", "rang", "Did you mean 'range'"),
        ("INPUT.CROP.TYPE", "absolut", "Did you mean 'absolute'"),
        ("INPUT.CROP.SIZE", [256.0, 256.0], "relative_range"),
    ],
)
def test_unusable_values_are_named(cfg, key, value, message):
    cfg.INPUT.CROP.ENABLED = True
    cfg.merge_from_list([key, value])
    with pytest.raises(ConfigError) as error:
        NucleiDatasetMapper(cfg, is_train=True)
    assert message in str(error.value)


@pytest.mark.parametrize("size", [[0.9, 0.9], [256.5, 256.0], [256.0]])
def test_an_absolute_crop_wants_two_whole_sizes(cfg, size):
    cfg.INPUT.CROP.ENABLED = True
    cfg.INPUT.CROP.TYPE = "absolute"
    cfg.INPUT.CROP.SIZE = size
    with pytest.raises(ConfigError, match="whole pixels"):
        NucleiDatasetMapper(cfg, is_train=True)


def test_an_image_of_another_size_than_declared_is_named(cfg, record):
    with pytest.raises(DatasetError, match=r"a\.png.*\(40, 30\)"):
        NucleiDatasetMapper(cfg, is_train=True)({**record, "width": 41})


def test_annotations_without_masks_are_named(cfg, record):
    nucleus = {"bbox": [0, 0, 9, 9], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0}
    with pytest.raises(DatasetError, match=r"a\.png.*MODEL\.MASK_ON"):
        NucleiDatasetMapper(cfg, is_train=True)({**record, "annotations": [nucleus]})
