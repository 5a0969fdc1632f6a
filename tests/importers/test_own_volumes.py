"""Folders of a user's own, and what holds for all kinds: going on, folders of other origin."""

import json

import numpy as np
import pytest
from scans import CT, blocks, cases_of, noise, write_scan
from volume_files import write_series

from unet_sharp_det.errors import DatasetError, UserError
from unet_sharp_det.importers import dataset
from unet_sharp_det.volumes import read_labels, read_volume

NAMES = ("--labels", "organ", "tumour")


def add(root, stem, suffix=".nii.gz", ending="", channels=("",), labels=(1, 2)):
    for seed, channel in enumerate(channels):
        path = root / f"images{ending}" / f"{stem}{channel}{suffix}"
        write_scan(path, noise(CT, seed), **CT)
    write_scan(root / f"labels{ending}" / f"{stem}{suffix}", blocks(CT, *labels), **CT)


def test_pairs_of_any_format(tmp_path, run_import):
    for stem, suffix in enumerate((".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")):
        add(tmp_path, str(stem), suffix)
    (tmp_path / "images" / "._0.nii.gz").write_bytes(b"\0")  # by a Mac
    (tmp_path / "labels" / "notes.txt").write_text("")
    status, content, _ = run_import("volumes", tmp_path, *NAMES)
    assert status == 0
    assert content["labels"] == {"0": "background", "1": "organ", "2": "tumour"}
    cases = cases_of(content)
    assert cases["2"]["image"] == ["volumes/2.nrrd"]
    assert cases["4"]["image"] == ["volumes/4.nii.gz"]  # which .mhd and .raw become
    folder = tmp_path / "datasets" / "volumes"
    for case in cases.values():
        scan = read_volume(folder / case["image"][0])
        labels = read_labels(folder / case["label"], like=scan)
        np.testing.assert_array_equal(scan.array[0], noise(CT)[:, ::-1, ::-1])
        np.testing.assert_array_equal(labels.array[0], blocks(CT, 1, 2)[:, ::-1, ::-1])
        assert scan.geometry.spacing == pytest.approx(CT["spacing"])
        assert scan.native.origin == pytest.approx(CT["origin"])


def test_a_decathlon_task_names_its_labels(tmp_path, run_import):
    add(tmp_path, "spleen_2", ending="Tr", labels=(1,))
    add(tmp_path, "spleen_20", ending="Tr", labels=(1,))
    own = {"labels": {"0": "background", "1": "spleen"}, "modality": {"0": "CT"}}
    (tmp_path / "dataset.json").write_text(json.dumps(own))
    _, content, _ = run_import("volumes", tmp_path)
    assert content["labels"] == own["labels"]
    assert cases_of(content)["spleen_2"]["image"] == ["volumes/spleen_2.nii.gz"]


def test_nnunet_names_its_labels_the_other_way_round(tmp_path, run_import):
    add(tmp_path, "spleen_2", ending="Tr", channels=("_0000",), labels=(1,))
    own = {"labels": {"background": 0, "spleen": 1}, "channel_names": {"0": "CT"}}
    (tmp_path / "dataset.json").write_text(json.dumps(own))
    assert run_import("volumes", tmp_path)[1]["labels"] == {"0": "background", "1": "spleen"}
    own["labels"]["spleen"] = [1, 2]
    (tmp_path / "dataset.json").write_text(json.dumps(own))
    with pytest.raises(DatasetError, match="has no names of labels"):
        run_import("volumes", tmp_path)


def test_channels_as_nnunet_names_them(tmp_path, run_import):
    add(tmp_path, "brain", channels=("_0000", "_0001"))
    _, content, _ = run_import("volumes", tmp_path, *NAMES)
    folder = tmp_path / "datasets" / "volumes"
    case = cases_of(content)["brain"]
    scan = read_volume([folder / file for file in case["image"]])
    np.testing.assert_array_equal(scan.array[1], noise(CT, 1)[:, ::-1, ::-1])


def test_mistakes_are_named(tmp_path, run_import):
    with pytest.raises(DatasetError, match="Lay files into images/ and labels/"):
        run_import("volumes", tmp_path, *NAMES)
    add(tmp_path, "a")
    with pytest.raises(DatasetError, match="Name the labels 1, 2, ... by --labels"):
        run_import("volumes", tmp_path)
    with pytest.raises(UserError, match="--labels is no option of lits17"):
        run_import("lits17", tmp_path, *NAMES)
    with pytest.raises(DatasetError, match="equal names"):
        run_import("volumes", tmp_path, "--labels", "organ", "organ")
    twin = write_scan(tmp_path / "images" / "a.nrrd", noise(CT), **CT)
    with pytest.raises(DatasetError, match="a.nii.gz and a.nrrd are both of the image a"):
        run_import("volumes", tmp_path, *NAMES)
    twin.unlink()
    write_scan(tmp_path / "labels" / "b.nrrd", blocks(CT, 1), **CT)
    add(tmp_path, "c", labels=())
    write_scan(tmp_path / "labels" / "c.nii.gz", blocks(CT, 1) * 0.5, **CT)
    write_scan(tmp_path / "images" / "d.nii.gz", noise(CT), **CT)
    status, _, text = run_import("volumes", tmp_path, *NAMES)
    assert status == 1
    assert "b: There is no b in " in text
    assert "c.nii.gz: holds fractions" in text
    assert "d: There is no d.nii.gz in labels" in text


def test_a_second_import_reads_what_changed(tmp_path, run_import, monkeypatch):
    add(tmp_path, "a")
    add(tmp_path, "b")
    first = run_import("volumes", tmp_path, *NAMES)
    read = []
    monkeypatch.setattr(
        dataset, "read_volume", lambda paths: read.append(paths[0].name) or read_volume(paths)
    )
    assert run_import("volumes", tmp_path, *NAMES) == first
    assert read == []
    write_scan(tmp_path / "images" / "b.nii.gz", noise(CT, 7), **CT)
    run_import("volumes", tmp_path, *NAMES)
    assert read == ["b.nii.gz"]
    stored = read_volume(tmp_path / "datasets" / "volumes" / "volumes" / "b.nii.gz")
    np.testing.assert_array_equal(stored.array[0], noise(CT, 7)[:, ::-1, ::-1])


def test_changed_voxels_of_a_folder_or_beside_a_header_are_noticed(tmp_path, run_import):
    stored = tmp_path / "datasets" / "volumes"
    scan = np.arange(4 * 8 * 6, dtype=np.uint16).reshape(4, 8, 6)
    folder = write_series(tmp_path / "images" / "a", scan, intercept=0)
    header = write_scan(tmp_path / "labels" / "a.mhd", scan // 192, spacing=(0.5, 1.5, 2))
    run_import("volumes", tmp_path, *NAMES)
    write_series(folder, scan * 2, intercept=0)
    run_import("volumes", tmp_path, *NAMES)
    assert np.array_equal(read_volume(stored / "volumes" / "a.nii.gz").array[0], scan * 2)
    header.with_suffix(".raw").write_bytes((scan // 192 + 1).tobytes())
    run_import("volumes", tmp_path, *NAMES)
    assert read_labels(stored / "labels" / "a.nii.gz").array.max() == 1


def test_a_source_that_was_moved_goes_on(tmp_path, run_import):
    add(tmp_path / "old", "a")
    first = run_import("volumes", tmp_path / "old", *NAMES)
    (tmp_path / "old").rename(tmp_path / "new")
    assert run_import("volumes", tmp_path / "new", *NAMES) == first
    record = tmp_path / "datasets" / "volumes" / "import.json"
    record.write_text(record.read_text().replace("entry", "entries"))
    with pytest.raises(DatasetError, match="import.json: is damaged .*Give another --name"):
        run_import("volumes", tmp_path / "new", *NAMES)


def test_all_cases_have_the_same_channels(tmp_path, run_import):
    add(tmp_path, "a")
    add(tmp_path, "b", channels=("_0000", "_0001"))
    _, content, text = run_import("volumes", tmp_path, *NAMES)
    assert "a: It has 1 channels, others have 2" in text
    assert list(cases_of(content)) == ["b"]


def test_labels_that_no_case_had_may_be_named_anew(tmp_path, run_import):
    add(tmp_path, "a")
    with pytest.raises(DatasetError, match="no case can be used"):
        run_import("volumes", tmp_path, "--labels", "organ")
    _, content, _ = run_import("volumes", tmp_path, *NAMES)
    assert list(cases_of(content)) == ["a"]


def test_a_stored_file_that_was_deleted_comes_back(tmp_path, run_import):
    add(tmp_path, "a")
    run_import("volumes", tmp_path, *NAMES)
    stored = tmp_path / "datasets" / "volumes" / "labels" / "a.nii.gz"
    stored.unlink()
    run_import("volumes", tmp_path, *NAMES)
    assert stored.exists()


def test_an_interrupted_import_goes_on(tmp_path, run_import, monkeypatch):
    for stem in "abc":
        add(tmp_path, stem)

    def stop_at_b(paths):
        if paths[0].name.startswith("b"):
            raise KeyboardInterrupt
        return read_volume(paths)

    monkeypatch.setattr(dataset, "read_volume", stop_at_b)
    with pytest.raises(KeyboardInterrupt):
        run_import("volumes", tmp_path, *NAMES)
    assert not (tmp_path / "datasets" / "volumes" / "dataset.json").exists()
    read = []
    monkeypatch.setattr(
        dataset, "read_volume", lambda paths: read.append(paths[0].name) or read_volume(paths)
    )
    _, content, _ = run_import("volumes", tmp_path, *NAMES)
    assert read == ["b.nii.gz", "c.nii.gz"]
    assert sorted(cases_of(content)) == ["a", "b", "c"]


def test_a_folder_of_another_origin_is_left_alone(tmp_path, run_import):
    add(tmp_path, "a")
    output = tmp_path / "datasets" / "volumes"
    output.mkdir(parents=True)
    (output / "thesis.txt").write_text("mine")
    with pytest.raises(DatasetError, match="holds files of another origin"):
        run_import("volumes", tmp_path, *NAMES)
    assert [path.name for path in output.iterdir()] == ["thesis.txt"]
    (output / "thesis.txt").unlink()
    run_import("volumes", tmp_path, *NAMES)
    with pytest.raises(DatasetError, match="was imported as"):
        run_import("volumes", tmp_path, "--labels", "organ", "other")
