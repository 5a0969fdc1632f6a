"""Label maps of a data set that cannot be meant, or may not be."""

import logging

import numpy as np
import pytest

from unet_sharp_det.data.label_maps import check_label_maps
from unet_sharp_det.errors import DatasetError
from unet_sharp_det.modeling.semantic_labels import SemanticLabels

BINARY, TWO, SOFTMAX = SemanticLabels(), SemanticLabels(2), SemanticLabels(2, "softmax")
#: Values of four corners, an object each where they are not 0.
NOTHING, IGNORED, NUCLEI, MIXED = [0] * 4, [255, 0, 0, 255], [1, 0, 0, 1], [1, 255, 0, 0]


@pytest.fixture
def check(tmp_path, write_png, caplog):
    """A function (semantic, *corners of each map) that checks them; returns what is warned."""

    def run(semantic, *maps):
        records = []
        for number, corners in enumerate(maps):
            labels = np.zeros((20, 30), np.uint8)
            labels[2:18:10, 2:28:18] = np.reshape(corners, (2, 2))
            path = write_png(tmp_path / f"{number}.png", labels)
            records.append({"sem_seg_file_name": str(path), "height": 20, "width": 30})
        with caplog.at_level(logging.WARNING):
            check_label_maps(records, semantic, "mine")
        return caplog.text

    return run


@pytest.mark.parametrize("semantic", [BINARY, TWO, SOFTMAX])
@pytest.mark.parametrize("maps", [[IGNORED], [NOTHING, IGNORED], [NOTHING] * 150 + [IGNORED]])
def test_masks_of_0_and_255_are_refused(check, semantic, maps):
    with pytest.raises(DatasetError, match=r"^mine: its label maps hold only 0 and 255, which is"):
        check(semantic, *maps)


def test_another_ignored_label_frees_255(check):
    assert check(SemanticLabels(1, regions=[[255]], ignore_value=9), IGNORED) == ""


@pytest.mark.parametrize(
    "maps",
    [[NUCLEI], [NOTHING, NUCLEI], [NUCLEI, MIXED], [NOTHING] * 150 + [NUCLEI], []],
)
def test_maps_with_a_class_pass(check, maps):
    assert check(BINARY, *maps) == ""


def test_maps_of_ignored_pixels_among_others_are_warned_about(check):
    assert "2 of 3 label maps hold 255 but no class" in check(BINARY, IGNORED, NUCLEI, IGNORED)


def test_maps_without_any_class_are_warned_about(check):
    assert "no label map holds one of the classes [1, 2]" in check(TWO, NOTHING, NOTHING)


def test_unknown_labels_are_refused_at_once(check):
    with pytest.raises(DatasetError, match=r"0\.png: holds the labels \[2, 3\].* object numbers"):
        check(BINARY, [1, 2, 3, 0], NUCLEI)


def test_painted_maps_are_not_read():
    check_label_maps([{"annotations": []}], BINARY, "mine")
