"""Objects linked over slices: the numbers, the files, and what is refused."""

import numpy as np
import pytest
import tifffile
from run_files import files, run, write_stack
from stub_predictor import spots

from unet_sharp_det.batch.linking import link_slices
from unet_sharp_det.errors import ConfigError, UserError
from unet_sharp_det.images.source import open_image


def linked(*slices, least_iou=0.25):
    maps = [np.array(each) for each in slices]
    tables = link_slices(maps, least_iou)
    return [table[each].tolist() for table, each in zip(tables, maps, strict=True)]


def test_objects_that_overlap_are_one():
    first, second = [[1, 1, 0, 2, 2, 0]], [[1, 1, 0, 0, 0, 2]]
    assert linked(first, second) == [[[1, 1, 0, 2, 2, 0]], [[1, 1, 0, 0, 0, 3]]]


def test_an_object_has_one_successor_the_nearest():
    first, second = [[1] * 10], [[1] * 4 + [2] * 6]
    assert linked(first, second) == [[[1] * 10], [[2] * 4 + [1] * 6]]


def test_the_least_iou_is_held():
    first, second = [[1] * 10], [[1] * 5 + [0] * 5]
    assert linked(first, second, least_iou=0.5)[1] == [[1] * 5 + [0] * 5]
    assert linked(first, second, least_iou=0.51)[1] == [[2] * 5 + [0] * 5]


def test_a_gap_ends_an_object():
    assert linked([[1, 1]], [[0, 0]], [[1, 1]]) == [[[1, 1]], [[0, 0]], [[2, 2]]]


def test_slices_of_cellpose(tmp_path):
    """The same partition of voxels as Cellpose's stitching, on random discs."""
    utils = pytest.importorskip("cellpose.utils")
    random = np.random.default_rng(0)
    stack = np.zeros((6, 40, 40), np.int32)
    y, x = np.mgrid[:40, :40]
    for labels in stack:
        for number, (row, column) in enumerate([(10, 10), (10, 30), (30, 10), (30, 30)], 1):
            row, column = np.array([row, column]) + random.integers(-2, 3, 2)
            if random.random() < 0.8:
                labels[(y - row) ** 2 + (x - column) ** 2 < 36] = number
        numbers = np.unique(labels[labels > 0])
        labels[labels > 0] = np.searchsorted(numbers, labels[labels > 0]) + 1
    expected = utils.stitch3D(stack.copy(), stitch_threshold=0.25)
    tables = link_slices(stack, 0.25)
    found = np.stack([table[each] for table, each in zip(tables, stack, strict=True)])
    pairs = np.unique(np.stack([found.ravel(), np.asarray(expected).ravel()]), axis=1)
    assert pairs.shape[1] == found.max() + 1  # One to one, background too.


def test_a_stack_gets_one_file_which_a_second_run_leaves(tmp_path):
    stack = np.stack([spots(0), spots(0), spots(1)])
    metadata = {"axes": "ZYX", "unit": "micron"}
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, metadata=metadata, resolution=(4, 2))
    tifffile.imwrite(tmp_path / "b.tif", spots(2))
    for _ in range(2):
        result = run(tmp_path, tmp_path / "out", link=0.25)
        assert result.failed == []
        assert "a_linked.tif" in files(tmp_path / "out")
    assert "b_linked.tif" not in files(tmp_path / "out")
    with tifffile.TiffFile(tmp_path / "out" / "a_linked.tif") as tiff:
        labels = tiff.asarray()
        assert tiff.is_imagej
        assert tiff.series[0].axes == "ZYX"
    (first, _, _) = open_image(tmp_path / "out" / "a_linked.tif")
    assert first.pixel_size == (0.5, 0.25)
    assert labels.shape == stack.shape
    assert labels.max() == 4  # The four spots lie at the same places in each slice.
    for plane, found in enumerate(labels):
        own = tifffile.imread(tmp_path / "out" / f"a_z{plane:03d}_labels.tif")
        assert ((own > 0) == (found > 0)).all()


def test_a_linked_stack_goes_with_the_slices_that_it_is_of(tmp_path):
    image, output = tmp_path / "a.tif", tmp_path / "out"
    for planes, options in ((2, {}), (3, {"pixel_size": (2, 2), "overwrite": True})):
        write_stack(image, [spots(seed) for seed in range(planes)])
        run(image, output, link=0.25, overwrite=True)
        write_stack(image, [spots(seed) for seed in range(3)])
        run(image, output, **options)
        assert "a_z001_labels.tif" in files(output)
        assert "a_linked.tif" not in files(output)


def test_a_stack_whose_label_maps_were_removed_is_left_out(tmp_path):
    output = tmp_path / "out"
    for name in "ab":
        write_stack(tmp_path / f"{name}.tif", [spots(0), spots(1)])
        run(tmp_path / f"{name}.tif", output, link=0.25)
        for each in output.glob("a_*"):
            each.unlink()
    assert {"a_linked.tif", "b_linked.tif"} & files(output) == {"b_linked.tif"}


def test_what_cannot_be(tmp_path):
    stack = np.stack([spots(0), spots(1)])
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    with pytest.raises(ConfigError, match="--link is 2.0"):
        run(tmp_path / "a.tif", tmp_path / "out", link=2.0)
    with pytest.raises(ConfigError, match="Add labels to --outputs"):
        run(tmp_path / "a.tif", tmp_path / "out", outputs=("table",), link=0.5)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a_linked.tif").write_text("mine")
    with pytest.raises(UserError, match="which is not of this tool"):
        run(tmp_path / "a.tif", tmp_path / "out", link=0.5)
    assert (tmp_path / "out" / "a_linked.tif").read_text() == "mine"
