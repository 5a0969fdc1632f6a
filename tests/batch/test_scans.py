"""Many scans: done ones are skipped, bad ones named, others of the same settings made anew."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from run_files import files, rows
from scans import write_scan
from volume_files import write_series

from unet_sharp_det.batch import predict_scans
from unet_sharp_det.cli import predict as tool
from unet_sharp_det.config import setup_cfg
from unet_sharp_det.errors import ConfigError, UserError
from unet_sharp_det.modeling.semantic_labels import SemanticLabels
from unet_sharp_det.prediction import VolumePredictor


class Bright(VolumePredictor):
    """Labels what is above 50 in all channels; counts its calls."""

    def __init__(self):
        super().__init__(self.model_of, self.prepare_of, SemanticLabels())
        self.calls = 0

    def model_of(self, inputs):
        self.calls += 1
        return [{"sem_seg": (each["image"] > 50).all(0, keepdim=True).float()} for each in inputs]

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
