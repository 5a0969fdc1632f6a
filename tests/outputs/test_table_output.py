"""The table against scikit-image's region properties of the whole label map."""

import csv
import math
import re

import numpy as np
import pyarrow.parquet
import pytest
import tifffile
from skimage.measure import regionprops

from unet_sharp_det.images.planes import PlaneReader
from unet_sharp_det.images.source import ReadOptions, from_array, open_image
from unet_sharp_det.masks.instances import SparseInstances
from unet_sharp_det.outputs import OUTPUTS, OutputContext, object_table


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def expected_row(region, shape):
    """What scikit-image says of an object, in the table's columns and pixels."""
    y0, x0, y1, x1 = region.bbox
    row = {
        "centroid_x_px": region.centroid[1],
        "centroid_y_px": region.centroid[0],
        "bbox_left_px": x0,
        "bbox_top_px": y0,
        "bbox_width_px": x1 - x0,
        "bbox_height_px": y1 - y0,
        "touches_border": int(x0 == 0 or y0 == 0 or y1 == shape[0] or x1 == shape[1]),
        "area_px": region.area,
        "perimeter_px": region.perimeter,
        "major_axis_px": region.axis_major_length,
        "minor_axis_px": region.axis_minor_length,
        "equivalent_diameter_px": region.equivalent_diameter_area,
        "eccentricity": region.eccentricity,
        "solidity": region.solidity,
    }
    for name in ("mean", "std", "min", "max"):
        for channel, value in enumerate(np.atleast_1d(getattr(region, f"intensity_{name}"))):
            row[f"intensity_{name}_c{channel}"] = value
    return row


def assert_angle(row, region):
    if region.axis_major_length - region.axis_minor_length > 1e-6:
        # scikit-image counts from the rows' axis, which points down.
        difference = float(row["orientation_deg"]) - math.degrees(region.orientation) - 90
        assert (difference + 90) % 180 - 90 == pytest.approx(0, abs=1e-4)
    assert 0 <= float(row["orientation_deg"]) < 180


@pytest.mark.parametrize("tile", [1024, 16, 5])
def test_every_column_in_pixels(tile, instances, context, write, monkeypatch):
    monkeypatch.setattr(object_table, "_TILE", tile)
    sizes, real = [], PlaneReader.__call__

    def read_window(*arguments):
        window = real(*arguments)
        sizes.append(window.shape[0] * window.shape[1])
        return window

    monkeypatch.setattr(PlaneReader, "__call__", read_window)
    rows = read(write("table", instances, OutputContext(context.source, context.class_names)))
    labels = instances.label_map()
    assert max(sizes) <= (tile + np.ptp(instances.boxes.reshape(-1, 2, 2), axis=1).max()) ** 2
    assert len(sizes) <= math.ceil(labels.shape[0] / tile) * math.ceil(labels.shape[1] / tile)
    regions = regionprops(labels, context.source.window(slice(None), slice(None)))
    assert len(rows) == len(regions) == 14
    for row, region in zip(rows, regions, strict=True):
        expected = expected_row(region, labels.shape)
        assert_angle(row, region)
        assert row["id"] == str(region.label)
        assert row["class"] == ("mitosis" if region.label == 4 else "nucleus")
        assert float(row["score"]) == pytest.approx(instances.scores[region.label - 1])
        assert set(row) == {*expected, "id", "class", "score", "orientation_deg"}
        for name, value in expected.items():
            assert float(row[name]) == pytest.approx(value, rel=1e-7, abs=1e-6), name


def test_micrometres_of_pixels_that_are_not_square(instances, context, write):
    rows = read(write("table", instances))
    regions = regionprops(instances.label_map(), spacing=(0.5, 0.25))
    for row, region in zip(rows, regions, strict=True):
        assert_angle(row, region)
        assert row["perimeter_um"] == ""
        for name, value in {
            "centroid_x_um": region.centroid[1],
            "centroid_y_um": region.centroid[0],
            "area_um2": region.area,
            "major_axis_um": region.axis_major_length,
            "minor_axis_um": region.axis_minor_length,
            "equivalent_diameter_um": region.equivalent_diameter_area,
            "eccentricity": region.eccentricity,
        }.items():
            assert float(row[name]) == pytest.approx(value, rel=1e-7, abs=1e-6), name


def test_perimeter_in_micrometres_of_square_pixels(instances, context, write):
    square = OutputContext(context.source, context.class_names, (0.5, 0.5001))
    for row in read(write("table", instances, square)):
        found, pixels = float(row["perimeter_um"]), float(row["perimeter_px"])
        assert found == pytest.approx(pixels / 2, rel=1e-3)


def test_columns_do_not_depend_on_the_objects(instances, context, write):
    empty = SparseInstances.empty(instances.shape)
    full = write("table", instances).read_text().splitlines()
    assert write("table", empty).read_text().splitlines() == full[:1]


@pytest.mark.parametrize("names", [None, ["DAPI", "GFP", "Actin", "Cy5"]])
def test_all_channels_are_measured_whichever_the_model_sees(names, tmp_path, write):
    stack = np.arange(4 * 20 * 30, dtype=np.uint16).reshape(4, 20, 30)
    about = {"axes": "CYX"} | ({"Channel": {"Name": names}} if names else {})
    tifffile.imwrite(tmp_path / "c.ome.tif", stack, metadata=about)
    labels = np.zeros((20, 30), np.int32)
    labels[4:9, 7:12] = 1
    found = SparseInstances.from_label_map(labels)
    for chosen in ((1,), (3, 0, 0)):
        (source,) = open_image(tmp_path / "c.ome.tif", ReadOptions(channels=chosen))
        assert source.channels == len(chosen)
        [row] = read(write("table", found, OutputContext(source, ("nucleus",))))
        for channel, name in enumerate(names or ("c0", "c1", "c2", "c3")):
            values = stack[channel, 4:9, 7:12]
            for measure in ("mean", "std", "min", "max"):
                expected = getattr(values, measure)()
                assert float(row[f"intensity_{measure}_{name}"]) == pytest.approx(expected)
        assert sum("mean" in name for name in row) == 4


@pytest.mark.parametrize(
    "pixels, degrees",
    [
        ([(2, 1), (2, 2)], 0),
        ([(1, 2), (2, 2)], 90),
        ([(2, 1), (1, 2)], 45),
        ([(1, 1), (2, 2)], 135),
    ],
)
def test_orientation_is_counterclockwise_from_the_x_axis(pixels, degrees, write):
    labels = np.zeros((4, 4), np.int32)
    labels[tuple(np.transpose(pixels))] = 1
    context = OutputContext(from_array(np.zeros((4, 4, 1), np.uint8)), ("nucleus",))
    [row] = read(write("table", SparseInstances.from_label_map(labels), context))
    assert float(row["orientation_deg"]) == degrees


def test_parquet_holds_the_columns_of_the_table(instances, context, write):
    table = pyarrow.parquet.read_table(write("parquet", instances))
    columns = object_table.object_columns(instances, context)
    assert table.column_names == list(columns)
    for name, column in columns.items():
        np.testing.assert_array_equal(table[name].to_numpy(), column)
    empty = pyarrow.parquet.read_table(write("parquet", SparseInstances.empty((61, 83))))
    assert empty.schema == table.schema


def test_the_document_lists_every_output_and_every_column(repository, instances, context):
    text = (repository / "docs" / "OUTPUTS.md").read_text(encoding="utf-8")
    for name, output in OUTPUTS.items():
        assert f"| `{name}` | `a{output.ending}` |" in text
    table = text[text.index("## Object table") : text.index("## ROIs")]
    listed = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", table, re.M))))
    columns = {
        re.sub(r"_c\d$", "_cN", name) for name in object_table.object_columns(instances, context)
    }
    assert listed == columns
