"""Atomic writing: the old file or the new one, and an error that names the path."""

import errno
import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from unet_sharp_det.errors import DatasetError, UserError
from unet_sharp_det.files import (
    atomic_path,
    check_name,
    only_writer,
    remove_leftovers,
    safe_join,
    write_text,
)

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


def test_threads_leave_the_umask_and_files_have_its_permissions(tmp_path):
    before = os.umask(0o027)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda number: write_text(tmp_path / f"{number}.txt", "a"), range(200)))
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o640}


def test_a_file_is_on_disk_before_it_has_its_name_and_its_name_is_when_the_block_ends(
    tmp_path, monkeypatch
):
    calls = []
    fsync, replace = os.fsync, os.replace

    def note_sync(handle):
        calls.append(f"sync {Path(os.readlink(f'/proc/self/fd/{handle}')).suffix or 'folder'}")
        fsync(handle)

    def note_replace(source, target):
        calls.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_replace)
    write_text(tmp_path / "a.txt", "a")
    assert calls == ["sync .txt", "replace", "sync folder"]


def test_a_full_disk_is_an_error_of_the_file(tmp_path):
    with pytest.raises(UserError, match=r"a\.txt: cannot be written \(No space"):
        with atomic_path(tmp_path / "a.txt"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert not list(tmp_path.iterdir())


def test_only_what_nobody_writes_any_more_is_left_over(tmp_path):
    def be_killed():
        with atomic_path(tmp_path / "sub" / "a.txt"):
            os.kill(os.getpid(), signal.SIGKILL)

    process = multiprocessing.get_context("fork").Process(target=be_killed)
    process.start()
    process.join()
    assert [path.name[:7] for path in (tmp_path / "sub").iterdir()] == [".a.txt."]
    others = tmp_path / ".b.txt.12345678.txt"
    others.touch()
    with atomic_path(tmp_path / "sub" / "a.txt") as path:
        remove_leftovers(tmp_path, {"sub/a.txt"}.__contains__)
        assert list((tmp_path / "sub").iterdir()) == [path]
        path.write_text("whole")
    assert {path.name for path in tmp_path.rglob("*.txt")} == {"a.txt", others.name}


def test_a_folder_is_left_over_as_a_file_is(tmp_path):
    path, killed = tmp_path / "a.zarr", tmp_path / ".a.zarr.12345678.zarr"
    (killed / "below").mkdir(parents=True)
    (killed / "below" / "chunk").touch()
    with atomic_path(path, is_folder=True) as temporary:
        (temporary / "chunk").touch()
        remove_leftovers(tmp_path, {"a.zarr"}.__contains__)
        assert list(tmp_path.iterdir()) == [temporary]
    assert [each.relative_to(tmp_path).as_posix() for each in tmp_path.rglob("*")] == [
        *("a.zarr", "a.zarr/chunk")
    ]


@pytest.mark.parametrize("folder", [".", "not/there"])
def test_names_that_are_too_long_for_the_temporary_file(folder, tmp_path):
    check_name(tmp_path / folder / ("x" * 237 + ".txt"))
    with pytest.raises(UserError, match="cannot be the name of a file .*a shorter name"):
        check_name(tmp_path / folder / ("x" * 238 + ".txt"))
    write_text(tmp_path / folder / ("x" * 237 + ".txt"), "a")


def test_an_address_is_no_folder_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="^s3://bucket/a: only folders can be written to"):
        write_text(Path("s3://bucket/a"), "a")
    with pytest.raises(UserError, match="^s3://bucket/out: only"), only_writer("s3://bucket/out"):
        pass
    assert not list(tmp_path.iterdir())


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


class TestOnlyWriter:
    @pytest.fixture
    def other(self, tmp_path):
        """Another writer of the folder, with a child that outlives it as a loader of data would."""
        context = multiprocessing.get_context("fork")
        ready, child = context.Event(), context.Value("i")

        def write():
            with only_writer(tmp_path / "out"):
                loader = context.Process(target=time.sleep, args=(60,))
                loader.start()
                child.value = loader.pid
                ready.set()
                time.sleep(60)

        writer = context.Process(target=write)
        writer.start()
        assert ready.wait(20)
        yield writer
        writer.kill()
        os.kill(child.value, signal.SIGKILL)

    def test_a_second_one_is_told(self, other, tmp_path):
        with pytest.raises(UserError, match="out: another process writes there"):
            with only_writer(tmp_path / "out"):
                pytest.fail("both write")

    def test_it_waits_for_a_dying_one(self, other, tmp_path):
        threading.Timer(0.2, other.kill).start()
        with only_writer(tmp_path / "out", wait_s=10):
            other.join(0)
            assert not other.is_alive()

    def test_it_ends_with_the_block(self, tmp_path):
        for _ in range(2):
            with only_writer(tmp_path / "out"):
                pass
