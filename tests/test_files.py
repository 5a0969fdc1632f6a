"""Atomic writing: the old file or the new one, and an error that names the path."""

import pytest

from unet_sharp_det.errors import UserError
from unet_sharp_det.files import atomic_path, write_text


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


@pytest.mark.parametrize("name", ["folder", "file/a.txt", "file/below/a.txt", "x" * 300])
def test_paths_that_cannot_be_written(name, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"{name}: cannot be written"):
        write_text(tmp_path / name, "a")
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "file"}
