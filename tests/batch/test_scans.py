"""Many scans: what is written of each; done ones are skipped, bad ones named."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import SimpleITK as sitk
import torch
import volume_files
from run_files import files, rows
from scans import write_scan
from volume_files import TURNS, write_series

from unet_sharp_det.batch import predict_scans
from unet_sharp_det.cli import predict as tool
from unet_sharp_det.config import setup_cfg
from unet_sharp_det.errors import ConfigError, UserError
from unet_sharp_det.modeling.semantic_labels import SemanticLabels
from unet_sharp_det.prediction import VolumePredictor
from unet_sharp_det.volumes import read_labels, read_volume


class Bright(VolumePredictor):
    """Labels what is above a value in all channels; counts its calls."""

    def __init__(self, above=50):
        super().__init__(self.model_of, self.prepare_of, SemanticLabels())
        self.above = above
        self.calls = 0

    def model_of(self, inputs):
        self.calls += 1
        images = [each["image"] for each in inputs]
        return [{"sem_seg": (each > self.above).all(0, keepdim=True).float()} for each in images]

    def prepare_of(self, volume, where):
        return torch.from_numpy(volume.array.astype(np.float32))


@pytest.fixture
def scan(tmp_path):
    """A function that writes a scan with two blocks, of 8 and of 27 voxels."""

    def write(name, seed=0):
        array = np.random.default_rng(seed).integers(0, 40, (8, 10, 12)).astype(np.int16)
        array[1:3, 1:3, 1:3] = array[4:7, 4:7, 4:7] = 100
        return write_scan(tmp_path / name, array, spacing=(1, 1, 2))

    return write


def test_a_second_run_goes_on(scan, tmp_path):
    good, again = scan("good.nii.gz"), scan("again.nrrd")
    bad = tmp_path / "bad.nii"
    bad.write_bytes(b"no volume")
    output, predictor = tmp_path / "out", Bright()
    (tmp_path / "empty").mkdir()
    others = [bad, tmp_path / "empty", tmp_path / "none.nii"]
    result = predict_scans(predictor, [good, *others, again], output)
    assert (result.predicted, result.objects, predictor.calls) == (2, 4, 2)
    assert [Path(each.source) for each in result.failed] == others
    assert "bad.nii: cannot be read" in result.failed[0].error
    written = {"good_labels.nii.gz", "good_planes.png", "again_labels.nrrd", "again_planes.png"}
    assert written <= files(output)
    row = rows(output)["good.nii.gz"]
    assert (row["height"], row["width"], row["objects"], row["status"]) == ("10", "12", "2", "done")
    assert float(row["median_area_px"]) == (8 + 27) / 2
    assert float(row["coverage"]) == pytest.approx(35 / 960, abs=1e-6)
    assert rows(output)["bad.nii"]["status"] == "failed"

    scan("again.nrrd", seed=1)
    scan("bad.nii")
    result = predict_scans(predictor, [good, bad, again], output)
    assert (result.predicted, result.skipped, predictor.calls) == (2, 1, 4)
    with pytest.raises(ConfigError, match="object_distance was None, is 8"):
        predict_scans(predictor, [good], output, object_distance=8)
    result = predict_scans(predictor, [good], output, object_distance=8, overwrite=True)
    assert (result.predicted, result.objects) == (1, 2)
    assert "good_objects.nii.gz" in files(output)
    assert "again_labels.nrrd" not in files(output)


def test_scans_of_one_name_and_labels_of_others(scan, tmp_path):
    result = predict_scans(Bright(), [scan("a/s.nii"), scan("b/s.nii")], tmp_path / "out")
    assert result.predicted == 2
    assert {"a/s_labels.nii", "b/s_labels.nii"} <= files(tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "s_labels.nii").write_text("drawn by hand")
    with pytest.raises(UserError, match="is not of this tool and would be replaced"):
        predict_scans(Bright(), [tmp_path / "a" / "s.nii"], tmp_path / "mine")


def test_channels_of_a_scan_and_slices_of_a_series(scan, tmp_path):
    flair, t1, t2 = (scan(f"{name}.nii", seed) for seed, name in enumerate(("flair", "t1", "t2")))
    predictor = Bright()
    for inputs, predicted in (([flair, t1], 1), ([flair, t1], 0), ([flair, t2], 1)):
        result = predict_scans(predictor, inputs, tmp_path / "out", channels=2)
        assert result.predicted == predicted
    with pytest.raises(UserError, match="sees 2 channels, but there are 1 INPUTs"):
        predict_scans(predictor, [flair], tmp_path / "out", channels=2)

    stored = np.full((3, 4, 5), 1024, np.uint16)
    stored[1] = 3000
    series = write_series(tmp_path / "case.7", stored)
    for predicted in (1, 0):
        assert predict_scans(predictor, [series], tmp_path / "dicom").predicted == predicted
    stored[2] = 3000
    write_series(series, stored)
    assert predict_scans(predictor, [series], tmp_path / "dicom").predicted == 1
    labels = sitk.ReadImage(str(tmp_path / "dicom" / "case.7_labels.nii.gz"))
    assert sitk.GetArrayFromImage(labels)[:, 0, 0].tolist() == [0, 1, 1]


def test_the_command_names_what_failed(scan, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(VolumePredictor, "from_checkpoint", lambda *_, **__: Bright())
    cfg = setup_cfg("", ["MODEL.META_ARCHITECTURE", "VolumeSegmentor", "MODEL.PIXEL_MEAN", "[0.0]"])
    monkeypatch.setattr(tool.checkpoints, "config_of", lambda *_: cfg)
    monkeypatch.setattr(tool.checkpoints, "identify_model", lambda *_: {"weights": "ab"})
    names = [str(tmp_path / "none.nii"), str(scan("good.nii"))]
    assert tool.main([*names, "--output", str(tmp_path / "out")]) == 1
    shown = capsys.readouterr()
    assert shown.out.startswith("1 image with 2 objects")
    assert "none.nii: does not exist" in shown.err[shown.err.index("1 image failed:") :]
    assert tool.main([names[1], "--output", str(tmp_path / "out")]) == 0
    assert "1 file done before" in capsys.readouterr().out


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mhd"])
def test_labels_lie_on_the_voxels_of_the_scan(turn, ending, tmp_path):
    original = volume_files.scan(TURNS[turn])
    sitk.WriteImage(original, str(tmp_path / f"scan{ending}"))
    values = sitk.GetArrayFromImage(original)
    middle = float(np.median(values))
    predict_scans(Bright(middle), [tmp_path / f"scan{ending}"], tmp_path / "out")

    written = "scan_labels" + (".nii.gz" if ending == ".mhd" else ending)
    labels = sitk.ReadImage(str(tmp_path / "out" / written))
    expected = values > middle
    assert 0 < expected.sum() < expected.size
    assert np.array_equal(sitk.GetArrayFromImage(labels), expected)
    assert labels.GetSize() == original.GetSize()
    for found, true in (
        (labels.GetSpacing(), original.GetSpacing()),
        (labels.GetOrigin(), original.GetOrigin()),
        (labels.GetDirection(), original.GetDirection()),
    ):
        assert found == pytest.approx(true, abs=1e-5)


def test_objects_and_a_picture_beside_the_labels(tmp_path):
    array = np.zeros((10, 12, 12), np.int16)
    array[2:5, 2:6, 2:6] = array[6:9, 6:11, 6:11] = 100
    write_scan(tmp_path / "scan.nii.gz", array, spacing=(1, 1, 2.5), origin=(3, 4, 5))
    predict_scans(Bright(), [tmp_path / "scan.nii.gz"], tmp_path / "out", object_distance=8)
    objects = read_labels(
        tmp_path / "out" / "scan_objects.nii.gz", like=read_volume(tmp_path / "scan.nii.gz")
    )
    assert np.array_equal(objects.array[0] > 0, array > 0)
    assert objects.array.max() == 2
    picture = cv2.imread(str(tmp_path / "out" / "scan_planes.png"))
    assert picture.shape[0] == 512
    assert (picture.min(axis=2) != picture.max(axis=2)).any()  # Contours have colours.
