"""LiTS 2017: two batches, orientations that differ, identity affines."""

import numpy as np
import pytest
from scans import CT, blocks, cases_of, noise, write_scan

from unet_sharp_det.errors import DatasetError
from unet_sharp_det.volumes import read_volume

IDENTITY = {"spacing": (1, 1, 1), "origin": (0, 0, 0), "direction": (-1, 0, 0, 0, -1, 0, 0, 0, 1)}


def add(folder, number, geometry=CT, labels=(1, 2), suffix=".nii", flip=1):
    scan = noise(CT)[:, ::flip, ::flip]
    write_scan(folder / f"volume-{number}{suffix}", scan, **geometry)
    masks = blocks(CT, *labels)[:, ::flip, ::flip]
    write_scan(folder / f"segmentation-{number}{suffix}", masks, **geometry)


def test_both_batches(tmp_path, run_import):
    first, second = tmp_path / "Training Batch 1", tmp_path / "Training Batch 2"
    add(first, 0)
    add(first, 2, suffix=".nii.gz")
    # The same body, stored from right to left and from front to back.
    size, spacing = np.array(CT["size"]), np.array(CT["spacing"])
    origin = np.array(CT["origin"]) - (size - 1) * spacing * (1, 1, 0)
    turned = {"spacing": CT["spacing"], "origin": origin.tolist(), "direction": np.eye(3).ravel()}
    add(second, 29, turned, flip=-1)
    add(second, 28, IDENTITY)
    write_scan(second / "test-volume-3.nii", noise(CT), **CT)

    status, content, text = run_import("lits17", tmp_path)
    assert status == 0
    cases = cases_of(content)
    assert sorted(cases) == ["0", "2", "28", "29"]
    assert "kept of 1: 28." in text
    folder = tmp_path / "datasets" / "lits17"
    scans = {name: read_volume(folder / case["image"][0]) for name, case in cases.items()}
    np.testing.assert_array_equal(scans["0"].array, scans["29"].array)
    assert scans["0"].geometry.matches(scans["29"].geometry)
    assert scans["28"].geometry.spacing == (1, 1, 1)
    stored = (folder / cases["2"]["label"]).read_bytes()
    assert stored == (first / "segmentation-2.nii.gz").read_bytes()


def test_cases_that_cannot_be_used_are_named(tmp_path, run_import):
    add(tmp_path, 0)
    add(tmp_path, 1, labels=(1, 3))
    add(tmp_path, 5)
    (tmp_path / "segmentation-5.nii").unlink()
    add(tmp_path, 6)
    (tmp_path / "volume-6.nii").unlink()
    status, content, text = run_import("lits17", tmp_path)
    assert status == 1
    assert list(cases_of(content)) == ["0"]
    assert "6: There is no volume-6.nii" in text
    assert "1: Its labels [3] are none of [0, 1, 2]." in text
    assert "5: There is no segmentation-5.nii" in text


def test_nothing_to_import(tmp_path, run_import):
    with pytest.raises(DatasetError, match="has no volume-N.nii"):
        run_import("lits17", tmp_path)
    add(tmp_path, 1, labels=(7,))
    with pytest.raises(DatasetError, match=r"no case can be used. 1: Its labels \[7\]"):
        run_import("lits17", tmp_path)
