"""LIDC-IDRI: series in folders, slices by their UID, readings from anywhere below the source."""

import numpy as np
import pytest
from lidc_files import XRAY, square, write_lidc_xml, write_series
from scans import CT, cases_of, noise

from unet_sharp_det.errors import ConfigError, DatasetError
from unet_sharp_det.importers.lidc import convert
from unet_sharp_det.volumes import read_labels, read_volume

SERIES = "1.3.6.1.4.1.14519.5.2.1.6279.6001.303494235102183795724852353824"[:50]
PLAIN = {key: CT[key] for key in ("size", "spacing", "origin")}


@pytest.fixture
def write_case(tmp_path):
    """A function that writes a patient's scan, with a nodule that three of four readers drew."""

    def write(patient="LIDC-IDRI-0001", series=SERIES, geometry=PLAIN, xml="069.xml", **options):
        folder = tmp_path / "LIDC" / patient / "01-01-2000-30178" / f"{series[-6:]}.000000-03192"
        array = noise(geometry)
        slices = write_series(folder, geometry, array, series, patient, **options)
        (uid, z), (above, higher) = slices[2:4]
        drawn = [(uid, z, True, square(1, 2, 5, 8)), (above, higher, True, square(1, 2, 5, 8))]
        hole = [*drawn, (uid, z, False, [(3, 5)])]
        write_lidc_xml(
            folder / xml, series, [[drawn], [drawn], [hole], [[(uid, z, True, [(8, 8)])]]]
        )
        return folder, array

    return write


def nodule():
    """What is within the outlines of ``write_case``."""
    expected = np.zeros(CT["size"][::-1], np.uint8)
    expected[2:4, 3:8, 2:5] = 1
    return expected


def test_slices_are_matched_by_their_uid_and_not_by_the_order_of_files(
    write_case, run_import, tmp_path
):
    _, array = write_case(order=[5, 0, 7, 2, 6, 1, 4, 3])
    status, content, _ = run_import("lidc", tmp_path / "LIDC")
    assert status == 0
    case = cases_of(content)[SERIES]
    assert case["patient"] == "LIDC-IDRI-0001"
    root = tmp_path / "datasets" / "lidc"
    scan = read_volume(root / case["image"][0])
    np.testing.assert_array_equal(scan.array[0], array)
    assert scan.array.dtype == np.int16
    assert scan.geometry.spacing == pytest.approx(CT["spacing"])
    labels = read_labels(root / case["label"], like=scan).array[0]
    np.testing.assert_array_equal(labels, nodule())  # Two of four see no hole.


def test_a_patient_on_his_front_has_the_nodule_where_it_was_drawn(write_case, run_import, tmp_path):
    _, array = write_case(geometry=CT)
    _, content, _ = run_import("lidc", tmp_path / "LIDC", "--agreement", "0.75")
    root, case = tmp_path / "datasets" / "lidc", cases_of(content)[SERIES]
    scan = read_volume(root / case["image"][0])
    np.testing.assert_array_equal(scan.array[0], array[:, ::-1, ::-1])  # LPS
    expected = nodule()
    expected[2, 5, 3] = 0  # Three of four are asked for; one drew the hole.
    np.testing.assert_array_equal(
        read_labels(root / case["label"]).array[0, :, ::-1, ::-1], expected
    )


def test_odd_parts_are_left_out_and_said(write_case, run_import, tmp_path):
    write_case()
    copy, _ = write_case("LIDC-IDRI-0001-copy", xml="070.xml")
    lacking, _ = write_case("LIDC-IDRI-0002", series="1.9.2")
    (lacking / "1-004.dcm").unlink()
    unread, _ = write_case("LIDC-IDRI-0003", series="1.9.3")
    (unread / "069.xml").unlink()
    stray, _ = write_case("LIDC-IDRI-0004", series="1.9.4")
    text = (stray / "069.xml").read_text().replace("1.9.4.3", "1.9.4.99")
    (stray / "069.xml").write_text(text)
    broken, _ = write_case("LIDC-IDRI-0006", series="1.9.6")
    (broken / "069.xml").write_text("<LidcReadMessage")
    truncated, _ = write_case("LIDC-IDRI-0007", series="1.9.7")
    (truncated / "1-000.dcm").write_bytes((truncated / "1-000.dcm").read_bytes()[:-20])
    nothing, _ = write_case("LIDC-IDRI-0008", series="1.9.8")
    for path in nothing.glob("*.dcm"):
        path.write_bytes(b"")
    (copy / "158.xml").write_text(XRAY)
    write_series(
        copy.parent / "x-ray", PLAIN, noise(PLAIN), "1.9.5", "LIDC-IDRI-0001", modality="DX"
    )
    status, content, text = run_import("lidc", tmp_path / "LIDC")
    assert status == 1
    assert list(cases_of(content)) == [SERIES]
    lines = "\n".join(line.strip() for line in text.splitlines())
    assert f"{SERIES}: another case has the same name" in lines
    assert "1.9.2: " in lines
    assert "mm" in lines
    assert "1.9.3: " in lines
    assert "1.9.6: " in lines
    assert f"{truncated}/1-000.dcm: is no slice that can be read" in lines
    assert f"{nothing}/1-000.dcm: is no slice that can be read" in lines
    assert "no XML file has readings of it" in lines
    assert "has an outline on a slice" in lines
    assert "1.9.5" not in lines


def test_other_folders_and_shares_are_refused(write_case, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"empty: has no CT slices \*\.dcm"):
        convert(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(ConfigError, match="--agreement 50: is no share"):
        convert(tmp_path / "empty", tmp_path / "out", agreement=50)
    folder, _ = write_case()
    convert(tmp_path / "LIDC", tmp_path / "out")
    with pytest.raises(DatasetError, match="'agreement': 0.5.*another --name"):
        convert(tmp_path / "LIDC", tmp_path / "out", agreement=0.75)
    (folder / "1-000.dcm").write_text("no DICOM")
    with pytest.raises(DatasetError, match=r"1-000\.dcm: is no slice that can be read"):
        convert(tmp_path / "LIDC", tmp_path / "new")
