"""Runs over files of odd names: links, no text, equal stems, too long, controls of the terminal."""

import io
import json
import logging
import os
import sys

import pytest
import tifffile
from run_files import files, rows, run, write_images, write_stack
from stub_predictor import StubPredictor, spots

from unet_sharp_det.batch import run as run_module
from unet_sharp_det.outputs import OUTPUTS


@pytest.fixture
def images(tmp_path):
    return write_images(tmp_path / "images")


def test_links(tmp_path, images):
    """Everything has the links' names, though both are of one file."""
    (tmp_path / "in").mkdir()
    os.symlink(images / "i0.png", tmp_path / "in" / "first.png")
    os.symlink(images / "i0.png", tmp_path / "in" / "second.png")
    run(tmp_path / "in", tmp_path / "out", outputs=("coco",))
    assert list(rows(tmp_path / "out")) == ["first.png", "second.png"]
    coco = json.loads((tmp_path / "out" / "coco.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == ["first.png", "second.png"]


def test_links_that_lead_nowhere_stand_in_the_summary(tmp_path, images):
    (images / "dangling.png").symlink_to("nowhere.png")
    (images / "loop.png").symlink_to("loop.png")
    run(images, tmp_path / "out")
    status = {name: row["status"] for name, row in rows(tmp_path / "out").items()}
    assert status["dangling.png"] == status["loop.png"] == "failed"


@pytest.fixture
def quiet():
    """Nothing is logged: pytest-xdist cannot pass on what is no text."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.skipif(sys.platform != "linux", reason="names must be text")
@pytest.mark.usefixtures("quiet")
def test_a_name_that_is_no_text(tmp_path, images):
    name = os.fsdecode(b"caf\xe9.png")
    (images / "i0.png").rename(images / name)
    (images / "i1.png").write_text("broken")
    (images / "i1.png").rename(images / os.fsdecode(b"bad\xe9.png"))
    result = run(images, tmp_path / "out", outputs=tuple(OUTPUTS))
    assert (result.predicted, len(result.failed)) == (5, 1)
    assert rows(tmp_path / "out")["caf\\udce9.png"]["status"] == "done"
    assert run(images, tmp_path / "out", outputs=tuple(OUTPUTS)).skipped == 5


def test_equal_names(tmp_path, images):
    """Outputs of a.tif's plane 1, of a_z001.tif, and of images with other suffixes."""
    stack = [spots(1), spots(2, count=3)]
    tifffile.imwrite(images / "i0_z001.tif", spots(3, count=2))
    write_stack(images / "i0.tif", stack)
    write_stack(images / "b.tif", stack)
    tifffile.imwrite(images / "b_z001.tif", spots(3, count=2))
    result = run(images, tmp_path / "out")
    maps = [path for path in files(tmp_path / "out") if path.endswith("_labels.tif")]
    assert result.predicted == len(maps) == 12
    counts = {name: tifffile.imread(tmp_path / "out" / name).max() for name in maps}
    assert counts["b_z001_labels.tif"] == 2
    (other,) = (name for name in maps if name.startswith("b-") and "z001" in name)
    assert counts[other] == 3
    assert run(images, tmp_path / "out").skipped == 10


def test_names_that_are_too_long_fail_before_the_prediction(tmp_path, images):
    (images / "i3.png").rename(images / ("x" * 236 + ".png"))
    (images / "i4.png").rename(images / ("y" * 230 + ".png"))
    for name in ("once", "again"):
        predictor = StubPredictor()
        result = run(images, tmp_path / "out" / name, predictor, overwrite=name == "again")
        assert (result.predicted, len(predictor.seen)) == (5, 5)
        (failed,) = result.failed
        assert "_labels.tif: cannot be the name of a file" in failed.error
        assert (tmp_path / "out" / name / ("y" * 230 + "_labels.tif")).is_file()


def test_names_do_not_steer_the_terminal(tmp_path, images, monkeypatch):
    (images / "i3.png").rename(images / "\x1b[2Ji3\n.png")
    monkeypatch.setattr(run_module, "_SECONDS_BETWEEN_LINES", 0.0)
    stream = io.StringIO()
    run(images / "\x1b[2Ji3\n.png", tmp_path / "out", progress=stream)
    assert "\x1b[2J" not in stream.getvalue()
    assert r"\x1b[2Ji3 .png" in stream.getvalue()
