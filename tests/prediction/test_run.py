"""Runs over many files: bad ones among them, stopped and gone on with, and with other settings."""

import csv
import json
import multiprocessing
import os
import signal
import sys
import time
from dataclasses import replace

import cv2
import numpy as np
import pytest
import tifffile
from stub_predictor import StubPredictor, spots, write_mixed_folder

from unet_sharp_det.errors import ConfigError, UserError
from unet_sharp_det.prediction import batch_run
from unet_sharp_det.prediction.image_source import ReadOptions
from unet_sharp_det.prediction.inputs import RECORDS
from unet_sharp_det.prediction.outputs import OUTPUTS
from unet_sharp_det.prediction.progress import Progress
from unet_sharp_det.prediction.run import predict_files

OF_ALL = {"summary.csv", "predict.json", "predict.log", RECORDS, ".predict.lock"}


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(6):
        cv2.imwrite(str(folder / f"i{number}.png"), spots(number))
    return folder


def run(images, output, predictor=None, outputs=("labels",), **options):
    predictor = predictor or StubPredictor()
    return predict_files(predictor, [images], output, outputs=outputs, **options)


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def contents(folder):
    return {name: (folder / name).read_bytes() for name in files(folder) - OF_ALL}


def rows(folder):
    with open(folder / "summary.csv", newline="") as file:
        return {row["image"] + row["plane"]: row for row in csv.DictReader(file)}


def write_stack(path, planes):
    tifffile.imwrite(path, np.stack(planes), imagej=True, metadata={"axes": "ZYX"})


def test_mixed_folder(tmp_path):
    planes = write_mixed_folder(tmp_path / "in")
    output = tmp_path / "out"
    result = run(tmp_path / "in", output, outputs=tuple(OUTPUTS))
    suffixes = {"pages": ["_z000", "_z001", "_z002"], "time.ome": ["_t000", "_t001"]}
    names = [f"{stem}{suffix}" for stem in planes for suffix in suffixes.get(stem, [""])]
    endings = [each.ending for each in OUTPUTS.values()]
    expected = {f"{name}{ending}" for name in names for ending in endings}
    assert files(output) == expected | OF_ALL | {"coco.json"}
    assert {os.path.basename(each.source) for each in result.failed} == {"broken.png", "text.tif"}
    assert (result.predicted, result.skipped) == (len(names), 0)

    table = rows(output)
    assert len(table) == len(names) + 2
    assert table["broken.png"]["status"] == "failed"
    assert "broken.png" in table["broken.png"]["error"]
    row = table["gray8.png"]
    labels = tifffile.imread(output / "gray8_labels.tif")
    areas = np.bincount(labels.ravel())[1:]
    assert (row["height"], row["width"], row["objects"], row["status"]) == ("40", "50", "4", "done")
    assert float(row["mean_area_px"]) == pytest.approx(areas.mean(), abs=0.01)
    assert float(row["median_area_px"]) == np.median(areas)
    assert float(row["coverage"]) == pytest.approx((labels > 0).mean(), abs=1e-6)
    assert result.objects == sum(int(each["objects"] or 0) for each in table.values())
    with open(output / "time.ome_t000_objects.csv") as file:
        assert "area_um2" in next(csv.reader(file))

    log = (output / "predict.log").read_text()
    assert "text.tif failed: " in log
    about = json.loads((output / "predict.json").read_text())
    assert (about["finished"], about["failed_images"]) == (True, 2)
    assert about["settings"]["score_threshold"] == 0.5
    assert about["common_folder"] == str(tmp_path / "in")


def test_coco_of_all(tmp_path, images):
    os.mkdir(images / "sub")
    write_stack(images / "sub" / "z.tif", [spots(1), spots(2)])
    run(images, tmp_path / "out", outputs=("coco",), recursive=True)
    coco = json.loads((tmp_path / "out" / "coco.json").read_text())
    names = [f"i{number}.png" for number in range(6)] + ["sub/z_z000.tif", "sub/z_z001.tif"]
    assert [image["file_name"] for image in coco["images"]] == names
    assert [image["id"] for image in coco["images"]] == list(range(1, 9))
    annotations = coco["annotations"]
    assert [each["id"] for each in annotations] == list(range(1, len(annotations) + 1))
    counts = np.bincount([each["image_id"] for each in annotations])[1:]
    table = rows(tmp_path / "out")
    assert counts.tolist() == [int(row["objects"]) for row in table.values()]
    assert coco["categories"] == [{"id": 1, "name": "nucleus"}]


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


def test_overwrite_predicts_anew_and_keeps_the_others(tmp_path, images):
    run(images, tmp_path / "out")
    predictor = StubPredictor()
    run(images / "i2.png", tmp_path / "out", predictor, overwrite=True)
    assert predictor.seen == ["i2.png"]
    assert len(rows(tmp_path / "out")) == 6


def test_results_of_several_calls(tmp_path, images):
    run(images / "i1.png", tmp_path / "out")
    run(images / "i4.png", tmp_path / "out")
    assert list(rows(tmp_path / "out")) == ["i1.png", "i4.png"]


def test_only_the_image_that_raises_fails(tmp_path, images):
    def before(source):
        if source.name == "i2.png":
            raise MemoryError
        if source.name == "i3.png":
            raise RuntimeError("strange\nthings")

    predictor = StubPredictor(before)
    result = run(images, tmp_path / "out", predictor)
    reasons = {os.path.basename(each.source): each.error for each in result.failed}
    assert set(reasons) == {"i2.png", "i3.png"}
    assert reasons["i3.png"].startswith("RuntimeError: strange")
    assert result.predicted == 4
    log = (tmp_path / "out" / "predict.log").read_text()
    assert "in before" in log  # the traceback
    assert rows(tmp_path / "out")["i3.png"]["error"].startswith("RuntimeError: strange things")


def test_a_writer_that_raises(tmp_path, images, monkeypatch):
    real = batch_run.write_outputs

    def write(instances, context, stem, names):
        if context.source.name == "i2.png":
            raise ZeroDivisionError("in a writer")
        return real(instances, context, stem, names)

    monkeypatch.setattr(batch_run, "write_outputs", write)
    result = run(images, tmp_path / "out")
    (failed,) = result.failed
    assert failed.error.startswith("ZeroDivisionError: in a writer")
    monkeypatch.undo()
    assert run(images, tmp_path / "out").predicted == 1


def test_a_full_disk_stops_the_run(tmp_path, images, monkeypatch):
    real = batch_run.write_outputs

    def write(instances, context, stem, names):
        if context.source.name == "i2.png":
            raise RuntimeError("cannot save") from OSError(28, "No space left on device")
        return real(instances, context, stem, names)

    monkeypatch.setattr(batch_run, "write_outputs", write)
    with pytest.raises(UserError, match="No space left on device.*goes on"):
        run(images, tmp_path / "out")
    assert list(rows(tmp_path / "out")) == ["i0.png", "i1.png"]


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


def kill_in_predictor(child, output):
    def before(source):
        if source.name == "i5.png":
            while len((output / RECORDS).read_text().splitlines()) < 5:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)

    return StubPredictor(before, batch_size=1)


def kill_in_writer(child, output):
    overlay = OUTPUTS["overlay"]

    def write(instances, context, path):
        if context.source.name == "i3.png":
            path.write_bytes(b"half of it")
            os.kill(os.getpid(), signal.SIGKILL)
        overlay.write(instances, context, path)

    child.setitem(OUTPUTS, "overlay", replace(overlay, write=write))
    return StubPredictor()


def kill_before_record(child, output):
    real = batch_run.Records.add

    def add(self, record):
        if record.stem == "i3":
            self._file.write('{"source": "cut sho')
            self._file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        real(self, record)

    child.setattr(batch_run.Records, "add", add)
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
    ignored = {"seconds"}
    strip = [{k: v for k, v in row.items() if k not in ignored} for row in rows(output).values()]
    expected = rows(tmp_path / "whole").values()
    assert strip == [{k: v for k, v in row.items() if k not in ignored} for row in expected]


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


def test_chunks_are_bounded(tmp_path, images, monkeypatch):
    monkeypatch.setattr(batch_run, "_PIXELS_AT_ONCE", 3 * 40 * 50)
    predictor = StubPredictor()
    run(images, tmp_path / "a", predictor)
    assert [len(call) for call in predictor.calls] == [3, 3]
    monkeypatch.undo()
    predictor = StubPredictor(batch_size=1)
    run(images, tmp_path / "b", predictor)
    assert [len(call) for call in predictor.calls] == [4, 2]


class Recorded(Progress):
    def __init__(self):
        super().__init__()
        self.parts = []

    def reach(self, part):
        super().reach(part)
        self.parts.append(part)


def test_progress(tmp_path, images):
    tifffile.imwrite(images / "large.tif", spots(0, 400, 500), imagej=True)
    (images / "bad.png").write_text("bad")
    progress = Recorded()
    run(images, tmp_path / "out", progress=progress)
    assert (progress.images, progress.done) == (8, 8)
    assert progress.parts == sorted(progress.parts)
    assert progress.parts[-1] == pytest.approx(1)
    assert max(np.diff(progress.parts)) > 0.8  # the large image is most of the work
    again = Recorded()
    run(images, tmp_path / "out", progress=again)
    assert again.images == 1  # the bad one


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_read_only_output(tmp_path, images):
    (tmp_path / "out").mkdir(mode=0o500)
    with pytest.raises(UserError, match="--output .*out: cannot be written to"):
        run(images, tmp_path / "out")


def test_output_that_is_a_file(tmp_path, images):
    (tmp_path / "out").write_text("")
    with pytest.raises(UserError, match="--output .*out: cannot be written to"):
        run(images, tmp_path / "out")


def test_two_processes_at_once(tmp_path, images):
    message = []

    def before(source):
        with pytest.raises(UserError, match="another process is writing") as error:
            run(images, tmp_path / "out")
        message.append(error)

    run(images, tmp_path / "out", StubPredictor(before))
    assert message


def test_files_of_others_stay(tmp_path, images):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "i2_labels.tif").write_text("the work of weeks")
    with pytest.raises(UserError, match="i2_labels.tif, which is not of this tool"):
        run(images, tmp_path / "out")
    assert (tmp_path / "out" / "i2_labels.tif").read_text() == "the work of weeks"
    assert run(images, tmp_path / "out", overwrite=True).predicted == 6


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "does not begin with settings"),
        ('{"a": 1}\n', "does not begin with settings"),
        ('{"settings": {}}\n{"source": "a", "nonsense": 1}\n', "no record"),
        (
            '{"settings": {}}\n{"source": "a", "size": 1, "changed": 1, "stem": "a", '
            '"outputs": {"labels": "../../precious.tif"}}\n',
            "no record",
        ),
        ('{"settings": {}}\n[1]\n', "no record"),
    ],
)
def test_damaged_records(tmp_path, images, text, message):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / RECORDS).write_text(text)
    with pytest.raises(UserError, match=message):
        run(images, tmp_path / "out", overwrite=True)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"outputs": ()}, "--outputs: name at least one"),
        ({"outputs": ("label",)}, "Did you mean 'labels'"),
        ({"pixel_size": (0.0, 1.0)}, "--pixel-size must be above 0"),
    ],
)
def test_mistakes(tmp_path, images, options, message):
    with pytest.raises(UserError, match=message):
        run(images, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
