"""Runs over many files: bad ones among them, and what the folder gets as a whole."""

import csv
import io
import json
import os

import numpy as np
import pytest
import tifffile
from run_files import OF_ALL, files, rows, run, write_images, write_stack
from stub_predictor import StubPredictor, spots, write_mixed_folder

from unet_sharp_det.batch import images as images_module
from unet_sharp_det.batch import run as run_module
from unet_sharp_det.batch import units
from unet_sharp_det.batch.run import predict_files
from unet_sharp_det.errors import UserError
from unet_sharp_det.evaluation.evaluate_files import evaluate_files
from unet_sharp_det.evaluation.readers.truth import CocoTruth
from unet_sharp_det.images.source import ReadOptions
from unet_sharp_det.masks.instances import SparseInstances
from unet_sharp_det.outputs import OUTPUTS


@pytest.fixture
def images(tmp_path):
    return write_images(tmp_path / "images")


def test_two_channels_are_predicted_as_on_the_page_and_said(tmp_path, caplog):
    stack = np.stack([spots(0), np.zeros_like(spots(0))])
    about = {"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP"]}}
    tifffile.imwrite(tmp_path / "a.ome.tif", stack, metadata=about)
    result = run(tmp_path / "a.ome.tif", tmp_path / "out")
    assert (result.predicted, result.failed, result.objects) == (1, [], 4)
    assert "has 2 channels" in caplog.text
    assert "0 DAPI, 1 GFP" in caplog.text
    assert "channel 0 alone is predicted" in (tmp_path / "out" / "predict.log").read_text()
    result = run(tmp_path / "a.ome.tif", tmp_path / "b", read_options=ReadOptions(channels=(1,)))
    assert result.objects == 0


def test_a_pixel_size_of_the_user_counts_before_the_file_s(tmp_path):
    """For the scale as for measurements."""
    ome = {"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    tifffile.imwrite(tmp_path / "a.ome.tif", spots(0), metadata=ome)
    seen = []
    predictor = StubPredictor(lambda source: seen.append(source.pixel_size))
    for size in (None, (0.25, 0.3)):
        output = tmp_path / str(size)
        run(tmp_path / "a.ome.tif", output, predictor, outputs=["table"], pixel_size=size)
        with open(output / "a.ome_objects.csv") as file:
            row = next(csv.DictReader(file))
        y, x = size or (0.5, 0.5)
        assert float(row["area_um2"]) == pytest.approx(float(row["area_px"]) * y * x)
    assert seen == [(0.5, 0.5), (0.25, 0.3)]
    settings = json.loads((output / "predict.json").read_text())["settings"]
    assert settings["model_pixel_size"] == 0


def test_an_image_in_several_files_is_predicted_once(tmp_path):
    (tmp_path / "in").mkdir()
    planes = "".join(
        f'<TiffData IFD="0" FirstZ="{z}"><UUID FileName="{name}.ome.tif">{name}</UUID></TiffData>'
        for z, name in enumerate("ab")
    )
    for z, name in enumerate("ab"):
        text = (
            f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{name}"><Image>'
            '<Pixels DimensionOrder="XYZCT" SizeX="50" SizeY="40" SizeZ="2" SizeC="1" SizeT="1">'
            f"{planes}</Pixels></Image></OME>"
        )
        path = tmp_path / "in" / f"{name}.ome.tif"
        tifffile.imwrite(path, spots(z, count=z + 1), description=text, metadata=None)
    for predicted in (2, 0):
        result = run(tmp_path / "in", tmp_path / "out")
        assert (result.predicted, result.failed) == (predicted, [])
    objects = {name: row["objects"] for name, row in rows(tmp_path / "out").items()}
    assert objects == {"a.ome.tif_z000": "1", "a.ome.tif_z001": "2"}
    alone = run(tmp_path / "in" / "b.ome.tif", tmp_path / "alone")
    assert "begins in a.ome.tif" in alone.failed[0].error


def test_a_folder_says_which_files_it_did_not_read(images, tmp_path):
    (images / "a.oib").write_bytes(b"Olympus")
    result = run(images, tmp_path / "out")
    assert result.not_read == [images / "a.oib"]
    assert json.loads((tmp_path / "out" / "predict.json").read_text())["not_read_files"] == 1


def test_of_a_picture_only_the_header_is_read_before_its_turn(images, tmp_path, monkeypatch):
    write_stack(images / "stack.tif", [spots(0)] * 2)
    monkeypatch.setattr("unet_sharp_det.images.source.decode", lambda *args: pytest.fail("decoded"))
    planes = []
    run(images, tmp_path / "out", run_units=lambda work, folder, given, log: planes.extend(given))
    assert [plane.outline.shape for plane in planes] == [(40, 50)] * 8
    assert {plane.pixels for plane in planes} == {2000}


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
    own = json.loads((tmp_path / "out" / "sub" / "z_z001_coco.json").read_text())
    assert own["images"][0]["file_name"] == "z_z001.tif"
    assert [image["id"] for image in coco["images"]] == list(range(1, 9))
    annotations = coco["annotations"]
    assert [each["id"] for each in annotations] == list(range(1, len(annotations) + 1))
    counts = np.bincount([each["image_id"] for each in annotations])[1:]
    table = rows(tmp_path / "out")
    assert counts.tolist() == [int(row["objects"]) for row in table.values()]
    assert coco["categories"] == [{"id": 1, "name": "nucleus"}]


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


def test_coco_of_all_without_images_that_fail_now(tmp_path, images):
    """Such a record keeps its former outputs, of which one may be gone."""
    output = tmp_path / "out"
    run(images, output, outputs=("coco", "labels"))
    (output / "i2_coco.json").unlink()

    def before(source):
        raise MemoryError

    result = run(images, output, StubPredictor(before), outputs=("coco", "labels"))
    assert len(result.failed) == 1
    coco = json.loads((output / "coco.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == [
        f"i{n}.png" for n in (0, 1, 3, 4, 5)
    ]


def test_a_plane_that_is_named_twice(tmp_path, images):
    write_stack(images / "stack.tif", [spots(1), spots(2)])
    options = {"read_options": ReadOptions(planes=(1, 1))}
    assert run(images / "stack.tif", tmp_path / "out", **options).predicted == 1
    assert run(images / "stack.tif", tmp_path / "out", **options).skipped == 1


def test_several_series(tmp_path, images, caplog):
    with tifffile.TiffWriter(images / "three.ome.tif", ome=True) as file:
        for seed in range(3):
            file.write(spots(seed), photometric="minisblack")
    run(images, tmp_path / "out")
    (warning,) = (record.message for record in caplog.records if "series" in record.message)
    assert warning.startswith("three.ome.tif: has 3 series")
    assert "--series" in warning


def test_a_writer_that_raises(tmp_path, images, monkeypatch):
    real = images_module.write_outputs

    def write(instances, context, stem, names):
        if context.source.name == "i2.png":
            raise ZeroDivisionError("in a writer")
        return real(instances, context, stem, names)

    monkeypatch.setattr(images_module, "write_outputs", write)
    result = run(images, tmp_path / "out")
    (failed,) = result.failed
    assert failed.error.startswith("ZeroDivisionError: in a writer")
    monkeypatch.undo()
    assert run(images, tmp_path / "out").predicted == 1


def test_a_full_disk_stops_the_run(tmp_path, images, monkeypatch):
    real = images_module.write_outputs

    def write(instances, context, stem, names):
        if context.source.name == "i2.png":
            raise RuntimeError("cannot save") from OSError(28, "No space left on device")
        return real(instances, context, stem, names)

    monkeypatch.setattr(images_module, "write_outputs", write)
    with pytest.raises(UserError, match="No space left on device.*goes on"):
        run(images, tmp_path / "out")
    assert list(rows(tmp_path / "out")) == ["i0.png", "i1.png"]


def test_chunks_are_bounded(tmp_path, images, monkeypatch):
    monkeypatch.setattr(units, "_PIXELS_AT_ONCE", 3 * 40 * 50)
    predictor = StubPredictor()
    run(images, tmp_path / "a", predictor)
    assert [len(call) for call in predictor.calls] == [3, 3]
    monkeypatch.undo()
    predictor = StubPredictor(batch_size=1)
    run(images, tmp_path / "b", predictor)
    assert [len(call) for call in predictor.calls] == [4, 2]


@pytest.fixture
def bars(monkeypatch):
    """The bars of the runs; each has the ``parts`` of the work that it showed."""

    class Bar(run_module.tqdm):
        def __init__(self, **options):
            self.parts = []
            super().__init__(**options)
            made.append(self)

        def update(self, count=1):
            super().update(count)
            self.parts.append(self.n / self.total)

    made = []
    monkeypatch.setattr(run_module, "tqdm", Bar)
    return made


def test_progress(tmp_path, images, bars):
    tifffile.imwrite(images / "large.tif", spots(0, 400, 500), imagej=True)
    (images / "bad.png").write_text("bad")
    run(images, tmp_path / "out", progress=io.StringIO())
    run(images, tmp_path / "out", progress=io.StringIO())
    first, again = bars
    assert "8/8 files" in first.postfix
    assert first.parts == sorted(first.parts)
    assert first.parts[-1] == pytest.approx(1)
    assert max(np.diff(first.parts)) > 0.8  # the large image is most of the work
    assert "1/1 files, bad.png" in again.postfix
    assert again.parts[-1] == 1


def test_progress_of_a_file_that_turns_out_to_be_done(tmp_path, images, monkeypatch, bars):
    """A stack whose planes are done, after a run that could not open it."""
    write_stack(images / "stack.tif", [spots(1), spots(2)])
    run(images / "stack.tif", tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(images_module, "open_image", lambda *_: 1 / 0)
        assert run(images / "stack.tif", tmp_path / "out", overwrite=True).failed
    result = run(images / "stack.tif", tmp_path / "out", progress=io.StringIO())
    assert (result.predicted, result.failed) == (0, [])
    assert bars[-1].parts == [1]
    assert "1/1 files" in bars[-1].postfix


def test_output_that_is_a_file(tmp_path, images):
    (tmp_path / "out").write_text("")
    with pytest.raises(UserError, match="out.*: cannot be written .*choose another place"):
        run(images, tmp_path / "out")


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


def test_evaluates_what_was_written(tmp_path, converted_sample):
    """The truth as prediction: coco.json is paired with it by name, and equals it."""
    truth = CocoTruth(converted_sample / "annotations" / "dsb2018_val.json")
    maps = {
        os.path.basename(record.file_name): truth.instance_map(image_id).labels
        for image_id, record in truth.records.items()
    }

    class Truthful(StubPredictor):
        def predict_many(self, sources, progress=lambda pixels: None):
            return [SparseInstances.from_label_map(maps[source.name]) for source in sources]

    inputs = [converted_sample / record.file_name for record in truth.records.values()]
    predict_files(Truthful(), inputs, tmp_path / "out", outputs=["coco", "labels"])
    coco_file = tmp_path / "out" / "coco.json"
    evaluate_files(coco_file, truth.where, tmp_path, samples=9, ap_samples=2)
    found = json.loads((tmp_path / "instance_metrics.json").read_text())["results"]
    assert found["instances"]["PQ_image_mean"] == pytest.approx(100)
    ap = json.loads((tmp_path / "metrics.json").read_text())["results"]["segm"]
    assert ap["AP"] == pytest.approx(100)


def test_no_output(images):
    with pytest.raises(UserError, match="--output: is empty"):
        run(images, "")
