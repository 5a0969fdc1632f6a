"""Atomic writing: the old file or the new one, and an error that names the path."""

import os
from pathlib import Path

import pytest

from unet_sharp_det.errors import DatasetError, UserError
from unet_sharp_det.files import atomic_folder, atomic_path, safe_join, write_text

#: Names that a stranger's file may hold, and that lead out of the folder on some system.
LEADING_OUT = [
    "../evil.png",
    "a/../../evil.png",
    "a/..",
    "..",
    "/evil.png",
    "//server/evil.png",
    "..\\evil.png",
    "\\evil.png",
    "C:\\evil.png",
    "C:evil.png",
    "evil.png\0.jpg",
    "",
    None,
    3,
    ["a.png"],
]


def test_a_block_that_fails_leaves_the_old_file(tmp_path):
    write_text(tmp_path / "new" / "a.txt", "old")

    def fail():
        with atomic_path(tmp_path / "new" / "a.txt") as path:
            path.write_text("half")
            raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        fail()
    assert (tmp_path / "new" / "a.txt").read_text() == "old"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.txt"]


def test_a_folder_that_cannot_be_replaced_stays(tmp_path, monkeypatch):
    (tmp_path / "results").mkdir()
    write_text(tmp_path / "results" / "a.txt", "old")
    rename = os.rename

    def fail_for_the_new_one(source, target):
        if Path(source).name == "new":
            raise OSError(39, "Directory not empty")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail_for_the_new_one)
    with pytest.raises(UserError, match="results: cannot be written"):
        with atomic_folder(tmp_path / "results") as folder:
            write_text(folder / "a.txt", "new")
    assert (tmp_path / "results" / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


@pytest.mark.parametrize("name", ["folder", "file/a.txt", "file/below/a.txt", "x" * 300])
def test_paths_that_cannot_be_written(name, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"{name}: cannot be written"):
        write_text(tmp_path / name, "a")
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "file"}


@pytest.mark.parametrize("name", LEADING_OUT, ids=repr)
def test_names_that_lead_out_of_their_folder(name, tmp_path):
    with pytest.raises(DatasetError, match=r"list\.json: the file name .* could lead out of"):
        safe_join(tmp_path, name, "list.json")


@pytest.mark.parametrize(
    "name", ["a.png", "sub/a.png", "./a.png", "a..b.png", "..a/b.png", "ä :.png"]
)
@pytest.mark.parametrize("root", ["images", "../images", "/images"])
def test_names_that_stay_in_their_folder(name, root):
    assert safe_join(root, name, "list.json") == Path(root) / name
