"""Runs that were stopped and go on, with the same settings or others."""

import contextlib
import errno
import json
import logging
import multiprocessing
import os
import resource
import signal
import sys
import time

import cv2
import pytest
from run_files import OF_ALL, contents, files, rows, run, write_images, write_stack
from stub_predictor import StubPredictor, spots

from unet_sharp_det.batch import records
from unet_sharp_det.batch.inputs import RECORDS
from unet_sharp_det.errors import ConfigError, UserError
from unet_sharp_det.images.source import ReadOptions
from unet_sharp_det.outputs import OUTPUTS, overlay


@pytest.fixture
def images(tmp_path):
    return write_images(tmp_path / "images")


def test_a_second_run_has_nothing_to_do(tmp_path, images):
    run(images, tmp_path / "out")
    before = contents(tmp_path / "out")
    predictor = StubPredictor(batch_size=3)
    result = run(images, tmp_path / "out", predictor)
    assert (result.predicted, result.skipped, predictor.seen) == (0, 6, [])
    assert contents(tmp_path / "out") == before
    assert len(rows(tmp_path / "out")) == 6


def test_what_is_not_as_it_was_is_predicted_anew(tmp_path, images):
    output = tmp_path / "out"
    run(images, output, outputs=("labels", "overlay"))
    cv2.imwrite(str(images / "i1.png"), spots(1, count=2))
    (output / "i3_overlay.png").unlink()
    (images / "i5.png").write_text("broken")
    predictor = StubPredictor()
    result = run(images, output, predictor)
    assert predictor.seen == ["i1.png", "i3.png"]
    assert [os.path.basename(each.source) for each in result.failed] == ["i5.png"]
    # Of a changed file nothing old stays, of others all outputs are of one prediction.
    present = files(output)
    assert "i3_overlay.png" in present
    assert not present & {"i1_overlay.png", "i5_overlay.png", "i5_labels.tif"}
    assert rows(output)["i1.png"]["objects"] == "2"
    predictor = StubPredictor()
    cv2.imwrite(str(images / "i5.png"), spots(5))
    run(images, output, predictor)
    assert predictor.seen == ["i5.png"]
    assert rows(output)["i5.png"]["status"] == "done"


def test_another_output_later(tmp_path, images):
    output = tmp_path / "out"
    run(images, output, outputs=("labels",))
    os.utime(output / "i0_labels.tif", (0, 0))
    result = run(images, output, outputs=("geojson",))
    assert result.predicted == 6
    assert {"i0_labels.tif", "i0_outlines.geojson"} <= files(output)
    assert (output / "i0_labels.tif").stat().st_mtime > 0  # of the same prediction
    assert run(images, output, outputs=("labels", "geojson")).predicted == 0


def test_other_settings(tmp_path, images):
    output = tmp_path / "out"
    run(images, output, outputs=("labels", "overlay"), weights={"weights": "ab"})
    before = contents(output)
    with pytest.raises(ConfigError, match=r"score_threshold was 0.5, is 0.3; weights was ab, is c"):
        run(images, output, StubPredictor(score_threshold=0.3), weights={"weights": "cd"})
    with pytest.raises(ConfigError, match=r"pixel_size was None, is \[1.0, 2.0\].*--overwrite"):
        run(images, output, pixel_size=(1.0, 2.0), weights={"weights": "ab"})
    with pytest.raises(ConfigError, match="planes was all, is max"):
        run(images, output, read_options=ReadOptions(planes="max"), weights={"weights": "ab"})
    assert contents(output) == before
    result = run(images / "i1.png", output, weights={"weights": "cd"}, overwrite=True)
    assert result.predicted == 1
    assert files(output) == OF_ALL | {"i1_labels.tif"}
    assert list(rows(output)) == ["i1.png"]


def test_other_settings_after_a_run_in_which_all_failed(tmp_path, images):
    result = run(images / "i1.png", tmp_path, read_options=ReadOptions(channels=(5,)))
    assert len(result.failed) == 1
    assert run(images / "i2.png", tmp_path).predicted == 1
    assert list(rows(tmp_path)) == ["i2.png"]


def test_overwrite_predicts_anew_and_keeps_the_others(tmp_path, images):
    run(images, tmp_path / "out")
    predictor = StubPredictor()
    run(images / "i2.png", tmp_path / "out", predictor, overwrite=True)
    assert predictor.seen == ["i2.png"]
    assert len(rows(tmp_path / "out")) == 6


def kill_in_predictor(child, output):
    def before(source):
        if source.name == "i5.png":
            while len((output / RECORDS).read_text().splitlines()) < 8:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)

    return StubPredictor(before, batch_size=1)


def kill_in_writer(child, output):
    real = overlay.write_overlay

    def write(instances, context, path):
        if context.source.name == "i3.png":
            path.write_bytes(b"half of it")
            os.kill(os.getpid(), signal.SIGKILL)
        real(instances, context, path)

    child.setattr(overlay, "write_overlay", write)
    return StubPredictor()


def kill_before_record(child, output):
    real = records.Records.add

    def add(self, *added):
        if added[0].stem == "i3" and added[0].is_done:
            self._file.write('{"source": "cut sho')
            self._file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        real(self, *added)

    child.setattr(records.Records, "add", add)
    return StubPredictor()


@pytest.mark.skipif(sys.platform == "win32", reason="has no fork")
@pytest.mark.parametrize("kill", [kill_in_predictor, kill_in_writer, kill_before_record])
def test_goes_on_after_sigkill(kill, tmp_path, images):
    outputs, output = ("labels", "overlay"), tmp_path / "out"
    run(images, tmp_path / "whole", outputs=outputs)

    def child():
        with pytest.MonkeyPatch.context() as patch:
            run(images, output, kill(patch, output), outputs)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    whole = contents(tmp_path / "whole")
    visible = {name: data for name, data in contents(output).items() if name[0] != "."}
    assert visible.items() < whole.items()
    if kill is kill_in_writer:
        assert len(contents(output)) == len(visible) + 1  # the temporary file

    (output / ".DS_Store").write_text("of another program")
    predictor = StubPredictor()
    result = run(images, output, predictor, outputs)
    (output / ".DS_Store").unlink()
    assert contents(output) == whole
    assert result.skipped + result.predicted == 6
    assert "i5.png" in predictor.seen
    assert "i0.png" not in predictor.seen
    assert rows(output) == rows(tmp_path / "whole")


@contextlib.contextmanager
def files_of_at_most(size):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("size, outputs", [(0, ("labels",)), (600, OUTPUTS), (5000, OUTPUTS)])
def test_goes_on_after_a_full_disk(tmp_path, images, size, outputs):
    """When the records are begun, when they grow, at an output."""
    run(images, tmp_path / "whole", outputs=outputs)
    with files_of_at_most(size), pytest.raises(UserError, match="cannot be written .File too"):
        run(images, tmp_path / "out", outputs=outputs)
    visible = {k: v for k, v in contents(tmp_path / "out").items() if k[0] != "."}
    whole = contents(tmp_path / "whole")
    assert visible.items() < whole.items()
    result = run(images, tmp_path / "out", outputs=outputs)
    assert result.skipped + result.predicted == 6
    assert contents(tmp_path / "out") == whole


def test_interrupted(tmp_path, images):
    def before(source):
        if source.name == "i5.png":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(images, tmp_path / "out", StubPredictor(before, batch_size=1), outputs=("coco",))
    assert not json.loads((tmp_path / "out" / "predict.json").read_text())["finished"]
    result = run(images, tmp_path / "out", outputs=("coco",))
    assert result.skipped + result.predicted == 6
    assert "i5.png" in rows(tmp_path / "out")


def test_two_processes_at_once(tmp_path, images):
    message = []

    def before(source):
        with pytest.raises(UserError, match="another process writes there") as error:
            run(images, tmp_path / "out")
        message.append(error)

    run(images, tmp_path / "out", StubPredictor(before))
    assert message


def test_where_there_are_no_locks_it_is_told(tmp_path, images, monkeypatch, caplog):
    def no_locks(handle):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("unet_sharp_det.files.lock", no_locks)
    with caplog.at_level(logging.WARNING):
        assert run(images, tmp_path / "out").predicted == 6
    assert "out: cannot be locked (No locks available). Let no other process write" in caplog.text


def test_what_cannot_be_reached_for_a_while_keeps_its_results(tmp_path, images):
    """Links to a share that is not mounted."""
    (tmp_path / "in").mkdir()
    for image in images.iterdir():
        (tmp_path / "in" / image.name).symlink_to(image)
    run(tmp_path / "in", tmp_path / "out")
    before = contents(tmp_path / "out")
    images.rename(tmp_path / "away")
    result = run(tmp_path / "in", tmp_path / "out")
    assert (result.predicted, len(result.failed)) == (0, 6)
    assert contents(tmp_path / "out") == before
    (tmp_path / "away").rename(images)
    assert run(tmp_path / "in", tmp_path / "out").skipped == 6


@pytest.mark.parametrize("outputs", [("labels",), ("labels", "coco")])
def test_the_joined_coco_is_of_the_results_that_there_are(tmp_path, images, outputs):
    output = tmp_path / "out"
    run(images, output, outputs=("labels", "coco"))
    run(images / "i1.png", output, StubPredictor(score_threshold=0.3), outputs, overwrite=True)
    assert (output / "coco.json").is_file() == ("coco" in outputs)
    if "coco" in outputs:
        coco = json.loads((output / "coco.json").read_text())
        assert [image["file_name"] for image in coco["images"]] == ["i1.png"]


def test_a_coco_json_of_others_stays(tmp_path, images):
    run(images, tmp_path / "out")
    (tmp_path / "out" / "coco.json").write_text("the work of weeks")
    run(images, tmp_path / "out")
    run(images, tmp_path / "out", StubPredictor(score_threshold=0.3), overwrite=True)
    assert (tmp_path / "out" / "coco.json").read_text() == "the work of weeks"


def test_the_joined_coco_follows_an_image_that_changed(tmp_path, images):
    output = tmp_path / "out"
    run(images, output, outputs=("coco",))
    cv2.imwrite(str(images / "i1.png"), spots(1, count=2))
    run(images, output, outputs=("labels",))
    coco = json.loads((output / "coco.json").read_text())
    assert "i1.png" not in [image["file_name"] for image in coco["images"]]


def test_half_written_files_go_if_they_are_of_a_run(tmp_path, images):
    output = tmp_path / "out"
    run(images, output)
    own, other = output / ".i1_labels.tif.k3j_x8p2.tif", output / "a" / ".model.pth.k3j_x8p2.pth"
    other.parent.mkdir()
    for path in (own, other):
        path.touch()
    run(images, output)
    assert other.exists()
    assert not own.exists()


def test_files_of_others_stay(tmp_path, images):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "i2_labels.tif").write_text("the work of weeks")
    with pytest.raises(UserError, match="i2_labels.tif, which is not of this tool"):
        run(images, tmp_path / "out")
    assert (tmp_path / "out" / "i2_labels.tif").read_text() == "the work of weeks"
    with pytest.raises(UserError, match="i2_labels.tif, which is not of this tool"):
        run(images, tmp_path / "out")  # the first try must not have made it the tool's own
    assert (tmp_path / "out" / "i2_labels.tif").read_text() == "the work of weeks"
    assert run(images, tmp_path / "out", overwrite=True).predicted == 6


def test_files_of_others_beside_results(tmp_path, images):
    """A new image in a folder with records, and one whose planes are known once it is open."""
    output = tmp_path / "out"
    run(images / "i1.png", output)
    (output / "i2_labels.tif").write_text("the work of weeks")
    with pytest.raises(UserError, match="i2_labels.tif, which is not of this tool"):
        run(images, output)
    (output / "i2_labels.tif").unlink()
    write_stack(images / "stack.tif", [spots(1), spots(2)])
    (output / "stack_z001_labels.tif").write_text("the work of years")
    result = run(images, output)
    assert [os.path.basename(each.source) for each in result.failed] == ["stack.tif"]
    assert "stack_z001_labels.tif, which is not of this tool" in result.failed[0].error
    assert (output / "stack_z001_labels.tif").read_text() == "the work of years"
    assert result.predicted == 5
    (output / "stack_z001_labels.tif").unlink()
    assert run(images, output).predicted == 2
    assert "stack.tif" not in rows(output)


def test_a_failed_image_has_no_claim_to_its_names(tmp_path, images):
    def before(source):
        if source.name == "i2.png":
            raise MemoryError

    run(images, tmp_path / "out", StubPredictor(before))
    (tmp_path / "out" / "i2_labels.tif").write_text("corrected by hand")
    result = run(images, tmp_path / "out")
    assert "i2_labels.tif, which is not of this tool" in result.failed[0].error


@pytest.mark.parametrize("name", ["summary.csv", "coco.json", "predict.json"])
def test_files_of_others_named_as_those_of_the_folder(tmp_path, images, name):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    for _ in range(2):
        with pytest.raises(UserError, match=f"{name}, which is not of this tool"):
            run(images, tmp_path / "out")
    assert (tmp_path / "out" / name).read_text() == "mine"


@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"a": 1}\n',
        '{"settings": {}}\n{"source": "a", "nonsense": 1}\n',
        '{"settings": {}}\n{"source": "a", "stamp": "1-1", "stem": "../a"}\n',
        '{"settings": {}}\n{"source": "a", "stamp": "1-1", "stem": "a", '
        '"outputs": {"labels": "../../precious.tif"}}\n',
        '{"settings": {}}\n[1]\n',
    ],
)
def test_damaged_records(tmp_path, images, text):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / RECORDS).write_text(text)
    with pytest.raises(UserError, match="is damaged, or not of this tool. Remove it and use"):
        run(images, tmp_path / "out", overwrite=True)
