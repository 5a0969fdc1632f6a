"""Patches of generated scans, as the network takes them."""

import numpy as np
import pytest
import torch
from scans import write_scan

from unet_sharp_det.data import VolumeMapper
from unet_sharp_det.errors import ConfigError, DatasetError
from unet_sharp_det.masks import distance_bands
from unet_sharp_det.modeling.semantic_labels import SemanticLabels
from unet_sharp_det.volumes import read_labels


@pytest.fixture
def record(tmp_path):
    """A scan (D, H, W) of values that are those of its labels, 0 and 100, with a block of 1."""

    def make(shape=(12, 20, 24), label=1, **geometry):
        labels = np.zeros(shape, np.uint8)
        labels[2:5, 3:7, 4:9] = label
        image = write_scan(tmp_path / "scan.nii.gz", labels.astype(np.int16) * 100, **geometry)
        mask = write_scan(tmp_path / "mask.nii.gz", labels, **geometry)
        return {
            "image_id": "0",
            "file_name": str(image),
            "volume_files": [str(image)],
            "label_file": str(mask),
        }

    return make


def mapper(is_train=True, **options):
    options = {
        "labels": SemanticLabels(1),
        "patch_size": (8, 16, 16),
        "window": (0, 100),
        **options,
    }
    return VolumeMapper(is_train, **options)


@pytest.mark.parametrize("patch_size", [(1, 16, 16), (4, 16, 16), (16, 16, 16), (8, 32, 16)])
def test_image_and_labels_stay_together(record, patch_size):
    """Whatever is drawn, bright voxels are those of the label, and what is padded is ignored."""
    take = mapper(patch_size=patch_size, augment_prob=0.0)
    found = [take(record()) for _ in range(8)]
    for each in found:
        image, labels = each["image"], each["sem_seg"]
        assert image.shape == (1, *patch_size)
        assert (image.dtype, labels.dtype) == (torch.float32, torch.int64)
        inside = labels != 255
        assert torch.equal((image[0] == 1)[inside], (labels == 1)[inside])
    assert any((each["sem_seg"] == 1).any() for each in found)


def test_the_distances_of_numbered_objects_in_voxels_of_the_least_side(record):
    labels = SemanticLabels(3, target="distance")
    for spacing in ((1, 1, 1), (1, 1, 2.5)):
        take = mapper(labels=labels, patch_size=(12, 20, 24), augment_prob=0.0, flip_axes=())
        given = record(label=200, spacing=spacing)
        numbers = read_labels(given["label_file"]).array[0]
        bands = distance_bands(numbers, 3, spacing[::-1])
        assert np.array_equal(take(given)["sem_seg"].numpy(), bands)


def test_what_is_drawn_depends_on_numpy_s_state(record):
    take = mapper(augment_prob=0.9)

    def draw():
        np.random.seed(3)
        return [take(record()) for _ in range(4)]

    first, second = draw(), draw()
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0]["image"], first[1]["image"])


def test_patches_of_the_validation_are_always_the_same(record):
    take = mapper(is_train=False, with_targets=True)
    assert torch.equal(take(record())["image"], take(record())["image"])


def test_foreground_is_oversampled(record):
    for ratio, expected in ((1.0, 1), (0.0, 0)):
        take = mapper(patch_size=(1, 1, 1), foreground_ratio=ratio, augment_prob=0.0)
        assert {int(take(record())["sem_seg"]) for _ in range(20)} == {expected}


@pytest.mark.parametrize(("ratio", "only"), [(1.0, 0), (0.0, 1)])
def test_a_scan_without_the_wanted_labels_gives_patches_of_others(record, ratio, only):
    given = record()
    write_scan(given["label_file"], np.full((12, 20, 24), only, np.uint8))
    take = mapper(patch_size=(1, 1, 1), foreground_ratio=ratio, augment_prob=0.0)
    assert int(take(given)["sem_seg"]) == only


def test_a_whole_volume_is_resampled_and_says_its_size(record):
    found = mapper(is_train=False, spacing=(2, 2, 2))(record(spacing=(1, 1, 4)))
    assert found["image"].shape == (1, 24, 10, 12)
    assert found["size"] == (12, 20, 24)
    assert "sem_seg" not in found


def test_without_a_window_voxels_that_are_not_0_are_standardised(record):
    one = record()
    rng = np.random.default_rng(0)
    write_scan(one["file_name"], rng.integers(1, 100, (12, 20, 24)).astype(np.int16))
    image = mapper(is_train=False, window=())(one)["image"]
    assert float(image.mean()) == pytest.approx(0, abs=1e-4)
    assert float(image.std()) == pytest.approx(1, abs=1e-2)


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "geometry", "message"),
        [
            ({"channels": 4}, {}, "has 1 channels, but the model 4.*PIXEL_MEAN"),
            ({"patch_size": (8, 8, 8)}, {"spacing": (1, 1, 5)}, "5 mm high.*SPACING"),
            # Base-VNet, of 5 levels, takes no fewer than 16 slices.
            ({"patch_size": (64,) * 3}, {"spacing": (1, 1, 5)}, r"PATCH_SIZE to \[21, 64, 64\]"),
            ({}, {"label": 7}, r"holds the labels \[7\]"),
        ],
    )
    def test_volumes_that_do_not_fit(self, record, options, geometry, message):
        with pytest.raises(DatasetError, match=message):
            mapper(**options)(record(**geometry))

    def test_a_mask_of_another_shape(self, record):
        one = record()
        write_scan(one["label_file"], np.zeros((12, 20, 23), np.uint8))
        with pytest.raises(DatasetError, match="mask.nii.gz"):
            mapper()(one)

    def test_no_labels(self, record):
        one = record()
        del one["label_file"]
        with pytest.raises(DatasetError, match="has no labels"):
            mapper().check_records([one], "some")

    @pytest.mark.parametrize(
        "options",
        [{"patch_size": (8, 8)}, {"spacing": (1, 0, 1)}, {"window": (1,)}, {"flip_axes": (3,)}],
    )
    def test_values_out_of_range(self, options):
        with pytest.raises(ConfigError, match="INPUT.VOLUME"):
            mapper(**options)
