"""LUNA16: spheres in world millimetres, or outlines of LIDC; subsets as folds."""

import numpy as np
import pytest
from lidc_files import square, write_lidc_xml
from scans import CT, cases_of, noise, write_scan

from unet_sharp_det.errors import ConfigError, DatasetError
from unet_sharp_det.importers.luna16 import convert
from unet_sharp_det.volumes import read_labels, read_volume

HEADER = "seriesuid,coordX,coordY,coordZ,diameter_mm\n"


@pytest.fixture
def luna(tmp_path):
    """A folder of LUNA16 with series 1.0 to 1.9, one per subset, that run to right and front."""
    for fold in range(10):
        write_scan(tmp_path / f"luna/subset{fold}/1.{fold}.mhd", noise(CT, fold), **CT)
    # The voxel x = 4, y = 5, z = 3 of the files; a series that is not here.
    spot = [
        start + sign * step * at
        for start, sign, step, at in zip(
            CT["origin"], (-1, -1, 1), CT["spacing"], (4, 5, 3), strict=True
        )
    ]
    rows = f"1.0,{','.join(map(str, spot))},5.2\n1.77,1,2,3,4\n"
    (tmp_path / "luna/annotations.csv").write_text(HEADER + rows)
    return tmp_path / "luna"


def labels_of(tmp_path, content, series):
    """A series' labels in the axes of its file: z, y, x."""
    root, case = tmp_path / "datasets/luna16", cases_of(content)[series]
    scan = read_volume(root / case["image"][0])
    assert (scan.native.direction, scan.native.origin) == (
        CT["direction"],
        pytest.approx(CT["origin"]),
    )
    return read_labels(root / case["label"], like=scan).array[0][:, ::-1, ::-1]


def test_a_nodule_is_a_sphere_in_millimetres_whatever_the_direction(
    luna, run_import, tmp_path, caplog
):
    status, content, _ = run_import("luna16", luna)
    assert status == 0
    found = labels_of(tmp_path, content, "1.0")
    z, y, x = np.ogrid[:8, :12, :10]
    distance = ((x - 4) * 0.7) ** 2 + ((y - 5) * 0.7) ** 2 + ((z - 3) * 2.5) ** 2
    np.testing.assert_array_equal(found, distance <= 2.6**2)
    assert found.sum() * 0.7 * 0.7 * 2.5 == pytest.approx(np.pi / 6 * 5.2**3, rel=0.25)
    assert labels_of(tmp_path, content, "1.1").sum() == 0
    assert "1 of its series have no volume: 1.77" in caplog.text


def test_subsets_are_folds(luna, run_import):
    _, content, _ = run_import("luna16", luna)
    folds = {split: [case["id"] for case in content[split]] for split in ("train", "val", "test")}
    assert folds == {"train": [f"1.{n}" for n in range(8)], "val": ["1.8"], "test": ["1.9"]}


def test_nodules_of_lidc_are_matched_by_series_and_height(luna, run_import, tmp_path):
    for fold in range(10):
        z = CT["origin"][2] + 2 * 2.5
        drawn = [("", z, True, square(1, 2, 5, 8))]
        write_lidc_xml(tmp_path / f"xml/{fold}.xml", f"1.{fold}", [[drawn], [drawn], [], []])
    (tmp_path / "xml/4.xml").unlink()
    status, content, text = run_import("luna16", luna, "--lidc-xml", str(tmp_path / "xml"))
    expected = np.zeros((8, 12, 10))
    expected[2, 3:8, 2:5] = 1
    np.testing.assert_array_equal(labels_of(tmp_path, content, "1.5"), expected)
    assert status == 1
    assert "1.4.mhd: no XML file has readings of it" in text


def test_a_volume_without_voxels_and_a_nodule_outside_are_left_out(luna, run_import):
    (luna / "subset3/1.3.raw").unlink()
    with (luna / "annotations.csv").open("a") as file:
        file.write("1.2,900,0,0,5\n")
    status, content, text = run_import("luna16", luna)
    assert status == 1
    assert set(cases_of(content)) == {f"1.{n}" for n in (0, 1, 4, 5, 6, 7, 8, 9)}
    assert "1.2.mhd: a nodule of annotations.csv, at (900.0, 0.0, 0.0) mm, lies outside" in text


def test_bad_input_is_named(luna, tmp_path):
    with pytest.raises(ConfigError, match="--agreement is of LIDC's readers"):
        convert(luna, tmp_path / "out", agreement=0.5)
    with pytest.raises(DatasetError, match=r"has no subset0/\*\.mhd"):
        convert(tmp_path, tmp_path / "out")
    (luna / "annotations.csv").write_text(HEADER + "1.0,1,2,x,4\n")
    with pytest.raises(DatasetError, match=r"annotations\.csv, line 2: is not seriesuid, coordX"):
        convert(luna, tmp_path / "out")
    (luna / "annotations.csv").unlink()
    with pytest.raises(DatasetError, match=r"There is no file .*annotations\.csv"):
        convert(luna, tmp_path / "out")
