"""Each rule follows from a fact of the data or of the machine, and says so."""

import copy
import re

import pytest

from unet_sharp_det.checkpoints import config_of
from unet_sharp_det.config import setup_cfg
from unet_sharp_det.errors import DatasetError
from unet_sharp_det.fit.facts import Facts, Machine, format_settings
from unet_sharp_det.fit.rules import settings_for

LAPTOP, GPU = Machine(False, 16), Machine(True, 24)
DATA = {
    "images": 40,
    "objects": 1200,
    "diameter_px": {
        "cell": {"q01": 6.0, "q05": 10.0, "q25": 15.0, "q50": 20.0, "q75": 25.0, "q95": 40.0}
    },
    "objects_per_image": {"q50": 30.0, "largest": 90},
    "image_sides_px": {"smallest": 256, "median": 512.0, "largest": 1024},
    "looks": {"fluorescence": 40},
    "channels": [1, 3],
    "pixel_size_um": None,
}


@pytest.fixture(scope="module")
def base():
    return config_of("nuclei")


def values(data, base, machine=LAPTOP, classes=("cell",), tuned=True):
    settings = settings_for(Facts(data, classes, base, machine, tuned))
    return {each.key: each.value for each in settings}


def changed(**facts):
    data = copy.deepcopy(DATA)
    for key, value in facts.items():
        if isinstance(value, dict) and key != "looks":
            data[key] = {**data[key], **value}
        else:
            data[key] = value
    return data


def sized(median, largest):
    return changed(diameter_px={"cell": {"q01": 4.0, "q50": median, "q95": largest}})


@pytest.mark.parametrize(
    ("median", "largest", "scale"),
    [(20, 40, 2.0), (80, 120, 0.5), (5, 8, 8.0), (20, 400, 0.48), (13.3, 20, 3.0)],
)
def test_a_median_object_becomes_40_pixels_and_the_largest_fit_the_anchors(
    median, largest, scale, base
):
    found = values(sized(median, largest), base)
    assert found["INPUT.SCALE_TEST"] == scale
    assert found["INPUT.SCALE_TRAIN"][1] == scale


def test_the_pixel_size_is_that_of_the_images_and_never_the_base_s(base):
    known = base.clone()
    known.INPUT.PIXEL_SIZE = 0.5
    assert values(changed(pixel_size_um=0.325), known)["INPUT.PIXEL_SIZE"] == 0.325
    assert values(DATA, known)["INPUT.PIXEL_SIZE"] == 0.0


def test_crowds_get_as_many_detections(base):
    assert values(DATA, base)["TEST.DETECTIONS_PER_IMAGE"] == 200
    crowd = values(changed(objects_per_image={"largest": 2000}), base)
    assert crowd["TEST.DETECTIONS_PER_IMAGE"] == 3000
    assert crowd["MODEL.RPN.POST_NMS_TOPK_TEST"] == 6000
    assert values(DATA, base)["MODEL.RPN.POST_NMS_TOPK_TEST"] == 1000


def test_specks_are_no_objects(base):
    assert values(DATA, base)["TEST.INSTANCES.MIN_AREA"] == 28  # A disc of 6 pixels.


def test_classes(base):
    assert "MODEL.WEIGHTS_PARTIAL" not in values(DATA, base)
    found = values(DATA, base, classes=("a", "b"))
    assert found["MODEL.ROI_HEADS.NUM_CLASSES"] == 2
    assert found["MODEL.WEIGHTS_PARTIAL"] is True
    found = values(DATA, config_of("nuclei-fast"), classes=("a", "b"))
    assert found["MODEL.WATERSHED.NUM_CLASSES"] == 2
    assert found["SOLVER.BASE_LR"] == 0.003  # What is new learns nothing by that of fine-tuning.
    assert found["MODEL.WEIGHTS_PARTIAL"] is True


def test_a_semantic_model_has_no_boxes_and_its_own_scale():
    base = setup_cfg("DSB2018-SemanticSegmentation/compact/unetsharp.yaml")
    found = values(changed(channels=[2]), base)
    written = {key.rpartition(".")[2] for key in found}
    boxes = {"SCALE_TEST", "SCALE_TRAIN", "DETECTIONS_PER_IMAGE", "POST_NMS_TOPK_TEST"}
    assert not written & {*boxes, "MIN_AREA", "NUM_CLASSES", "ACTIVATION"}
    assert found["TEST.BEST_METRIC"] == "sem_seg/Dice_image_mean"
    assert found["MODEL.PIXEL_STD"] == [127.5, 127.5]
    assert values(changed(image_sides_px={"median": 50.0}), base)["INPUT.CROP.SIZE"] == [64, 64]
    several = values(DATA, base, classes=("a", "b"))
    assert several["MODEL.SEM_SEG_HEAD.ACTIVATION"] == "softmax"
    assert several["MODEL.SEM_SEG_HEAD.NUM_CLASSES"] == 3  # With the background.
    assert several["MODEL.WEIGHTS_PARTIAL"] is True
    watershed = values(DATA, config_of("nuclei-fast"))
    assert not any("RPN" in key for key in watershed)


@pytest.mark.parametrize(
    ("images", "tuned", "machine", "iterations"),
    [
        (4, True, LAPTOP, 300),
        (40, True, LAPTOP, 1000),
        (40, True, GPU, 334),
        (1000, True, LAPTOP, 3000),
        (40, False, LAPTOP, 1500),
        (9000, False, LAPTOP, 12000),
    ],
)
def test_the_schedule_grows_with_the_images(images, tuned, machine, iterations, base):
    found = values(changed(images=images), base, machine, tuned=tuned)
    assert found["SOLVER.MAX_ITER"] == iterations
    assert ("SOLVER.BASE_LR" in found) == tuned
    is_long = iterations >= 2000
    assert (found["TEST.EARLY_STOPPING.PATIENCE"] > 0) == is_long
    assert found["TEST.EVAL_PERIOD"] == (iterations // 10 if is_long else 0)


def test_the_machine(base):
    assert values(DATA, base)["SOLVER.IMS_PER_BATCH"] == 4
    assert values(DATA, base, GPU)["SOLVER.IMS_PER_BATCH"] == 12
    assert values(DATA, base, Machine(True, 80))["SOLVER.IMS_PER_BATCH"] == 16
    assert values(DATA, base, GPU)["SOLVER.AMP.ENABLED"] is True
    assert values(DATA, base)["INPUT.CROP.SIZE"] == [224, 224]
    assert values(DATA, base, GPU)["INPUT.CROP.SIZE"] == [512, 512]
    small = changed(image_sides_px={"median": 50.0})
    assert values(small, base)["INPUT.CROP.SIZE"] == [128, 128]


def test_channels(base):
    assert "INPUT.FORMAT" not in values(DATA, base)
    found = values(changed(channels=[2]), base)
    assert found["INPUT.FORMAT"] == "CHANNELS"
    assert found["MODEL.PIXEL_MEAN"] == found["MODEL.PIXEL_STD"] == [127.5, 127.5]
    assert found["MODEL.WEIGHTS_PARTIAL"] is True
    same = base.clone()
    same.MODEL.PIXEL_MEAN = same.MODEL.PIXEL_STD = [127.5, 127.5]
    assert "MODEL.WEIGHTS_PARTIAL" not in values(changed(channels=[2]), same)
    with pytest.raises(DatasetError, match="have 2 or 3 channels"):
        values(changed(channels=[2, 3]), base)


def test_rare_looks(base):
    assert values(DATA, base)["DATALOADER.BALANCE_LOOKS"] == 0
    mixed = changed(looks={"fluorescence": 30, "histology": 10})
    assert values(mixed, base)["DATALOADER.BALANCE_LOOKS"] == 0.5


@pytest.mark.parametrize("start", ["nuclei", "nuclei-fast"])
def test_the_file_is_a_config_with_a_reason_beside_each_value(start, tmp_path):
    base = config_of(start)
    settings = settings_for(Facts(DATA, ["cell"], base, LAPTOP, tuned=True))
    (tmp_path / "base.yaml").write_text(base.dump())
    (tmp_path / "fit.yaml").write_text(format_settings(settings))
    cfg = setup_cfg(str(tmp_path / "fit.yaml"))
    for key, value, reason in settings:
        node = cfg
        for part in key.split("."):
            node = node[part]
        assert (list(node) if isinstance(node, tuple) else node) == value, key
        line = re.search(
            rf"^ *{key.rpartition('.')[2]}: .*  # {re.escape(reason)}$",
            format_settings(settings),
            re.M,
        )
        assert line, key
    assert cfg.MODEL.META_ARCHITECTURE == base.MODEL.META_ARCHITECTURE
