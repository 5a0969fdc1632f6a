"""Packed data are the data: the sample, and images of every kind."""

import errno
import json
import zipfile

import cv2
import numpy as np
import pytest
from image_kinds import KINDS

from unet_sharp_det.errors import DatasetError
from unet_sharp_det.offline import packed_data
from unet_sharp_det.offline.packed_data import pack_dsb2018, unpack_dsb2018


def same_pixels(one, other):
    a, b = (cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in (one, other))
    return a.dtype == b.dtype and np.array_equal(a, b)


@pytest.fixture(scope="module")
def packed_sample(converted_sample, tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "dsb2018.zip"
    assert pack_dsb2018(converted_sample, path) == 32
    return path


def test_the_sample_comes_back(converted_sample, packed_sample, tmp_path):
    (tmp_path / "dsb2018").mkdir()
    (tmp_path / "dsb2018" / "leftover").touch()
    unpack_dsb2018(packed_sample, tmp_path / "dsb2018")
    files, unpacked = (
        {path.relative_to(root): path for path in root.rglob("*") if path.is_file()}
        for root in (converted_sample, tmp_path / "dsb2018")
    )
    assert files.keys() == unpacked.keys()
    for name, path in files.items():
        if name.parts[0] == "images":
            assert same_pixels(path, unpacked[name]), name
        else:
            assert path.read_bytes() == unpacked[name].read_bytes(), name
    images = [path for name, path in files.items() if name.parts[0] == "images"]
    assert packed_sample.stat().st_size < 0.8 * sum(path.stat().st_size for path in images)


def test_every_kind_of_image_comes_back(one_of_each_kind, tmp_path):
    packed = tmp_path / "packed.zip"
    pack_dsb2018(one_of_each_kind, packed)
    unpack_dsb2018(packed, tmp_path / "out")
    with zipfile.ZipFile(packed) as archive:
        kinds = [image["kind"] for image in json.loads(archive.read("index.json"))["images"]]
    assert kinds == ["gray", "colour", "opaque", "file", "file"]
    for kind, pixels in KINDS.items():
        path = tmp_path / "out" / "images" / f"{kind}.png"
        assert same_pixels(path, one_of_each_kind / "images" / f"{kind}.png"), kind
        assert np.array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), pixels)
        assert not cv2.imread(str(tmp_path / "out" / "semantic" / f"{kind}.png")).any()


def rewritten(source, target, change):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "index.json":
                index = json.loads(content)
                change(index)
                content = json.dumps(index)
            new.writestr(name, content)
    return target


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda index: index.update(format=2), "format 2"),
        (lambda index: index["images"][0].update(sha256="0"), "not the one that was packed"),
        (lambda index: index["images"][0].update(file_name="../x.png"), "could lead out"),
        (lambda index: index["images"][0].update(file_name="images/x.png"), "cannot be unpacked"),
    ],
    ids=["format", "pixels", "path", "member"],
)
def test_refuses_what_was_not_packed_so(packed_sample, tmp_path, change, message):
    changed = rewritten(packed_sample, tmp_path / "changed.zip", change)
    with pytest.raises(DatasetError, match=message):
        unpack_dsb2018(changed, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["changed.zip"]


def test_refuses_half_a_file_and_a_folder_that_is_no_data_set(packed_sample, tmp_path):
    half = tmp_path / "half.zip"
    half.write_bytes(packed_sample.read_bytes()[: packed_sample.stat().st_size // 2])
    with pytest.raises(DatasetError, match="Copy it again"):
        unpack_dsb2018(half, tmp_path / "out")
    with pytest.raises(DatasetError, match="prepare_dsb2018"):
        pack_dsb2018(tmp_path, tmp_path / "packed.zip")


def test_a_full_disk_is_not_taken_for_a_damaged_file(packed_sample, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(packed_data, "_write_bytes", fail)
    with pytest.raises(DatasetError, match="there is no room for the images"):
        unpack_dsb2018(packed_sample, tmp_path / "full")
    assert not (tmp_path / "full").exists()
