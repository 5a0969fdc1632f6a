"""A folder of OME-Zarr is one input, and results name the fields of its plates."""

import csv
import shutil

import fsspec
import numpy as np
import pytest
import tifffile
from stub_predictor import StubPredictor, spots
from yaozarrs import v05
from yaozarrs.write.v05 import write_plate
from zarr_files import describe, levels, write_v04, write_v05

from unet_sharp_det.batch.inputs import GONE, Stems, find_files
from unet_sharp_det.batch.run import predict_files


@pytest.fixture
def folder(tmp_path):
    """Two images of OME-Zarr, one in a folder below, and a TIFF beside them."""
    write_v04(tmp_path / "in" / "a.ome.zarr", spots(0))
    write_v05(tmp_path / "in" / "below" / "b.zarr", spots(1))
    (tmp_path / "in" / "a.ome.zarr" / "0" / "thumbnail.png").touch()
    tifffile.imwrite(tmp_path / "in" / "below" / "b.tif", spots(2))
    return tmp_path / "in"


def test_a_zarr_is_found_as_a_file_and_not_searched(folder):
    def names(*inputs, **options):
        return [file.name for file in find_files(map(str, inputs), **options)]

    everything = ["a.ome.zarr", "below/b.tif", "below/b.zarr"]
    assert names(folder) == ["a.ome.zarr"]
    assert names(folder, recursive=True) == names(folder / "**" / "*") == everything
    assert names(folder / "*" / "*.zarr") == ["below/b.zarr"]
    assert names(folder / "below" / "b.zarr") == ["b.zarr"]
    unnamed = shutil.move(folder / "below" / "b.zarr", folder / "c")
    assert names(unnamed) == ["c"]


def test_stems(folder):
    files = find_files([str(folder), "memory://bucket/a.ome.zarr"], recursive=True)
    stems = Stems(files, [])
    assert [stems.of(file) for file in files] == [
        *("in/a.ome", "below/b.tif", "below/b.zarr", "bucket/a.ome")
    ]


def test_a_plate_an_image_and_an_address_are_predicted_once(folder, tmp_path):
    image = describe(v05, "yx")
    fields = {("A", "1", str(k)): (image, levels(spots(k, count=k + 1))) for k in range(2)}
    write_plate(folder / "plate.zarr", fields, writer="zarr")
    shutil.copytree(folder / "below" / "b.zarr", tmp_path / "remote.zarr")
    address = "memory://bucket/remote.zarr"
    fsspec.filesystem("memory").put(f"{tmp_path}/remote.zarr", address, recursive=True)
    predictor, output = StubPredictor(), tmp_path / "out"
    inputs = [str(folder), address, "memory://bucket/gone.zarr"]
    result = predict_files(predictor, inputs, output, outputs=["labels"])
    assert (result.predicted, len(result.failed)) == (4, 1)
    assert "gone.zarr: cannot be read as OME-Zarr" in result.failed[0].error
    for name, count in {"plate_A_1_0": 1, "plate_A_1_1": 2, "a.ome": 4, "remote": 4}.items():
        assert np.unique(tifffile.imread(output / f"{name}_labels.tif")).size == count + 1
    with open(output / "summary.csv") as file:
        rows = {(row["image"], row["plane"]): row["status"] for row in csv.DictReader(file)}
    assert rows == {
        (f"{folder}/a.ome.zarr", ""): "done",
        (f"{folder}/plate.zarr", "_A_1_0"): "done",
        (f"{folder}/plate.zarr", "_A_1_1"): "done",
        ("memory:/bucket/remote.zarr", ""): "done",
        ("memory:/bucket/gone.zarr", ""): "failed",
    }
    assert predict_files(predictor, inputs, output, outputs=["labels"]).skipped == 3
    write_v04(folder / "a.ome.zarr", spots(5, count=3))
    again = predict_files(predictor, inputs, output, outputs=["labels"])
    assert (again.predicted, again.skipped) == (1, 2)


def test_the_stamp_of_what_is_gone(folder):
    (file,) = find_files([str(folder / "below" / "b.zarr")])
    assert file.stamp() != GONE
    shutil.rmtree(file.path)
    assert file.stamp() == GONE
