"""The label image against the specification, as yaozarrs checks it, and against the label map."""

from dataclasses import replace

import numpy as np
import pytest
import yaozarrs
from image_files import whole
from zarr_files import write_v05, zarr

from unet_sharp_det.images.source import from_array, open_image
from unet_sharp_det.masks.instances import SparseInstances
from unet_sharp_det.outputs import OutputContext, label_image


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(label_image, "_CHUNK", 16)


def test_levels_hold_the_label_map(instances, write, small_chunks):
    path = write("zarr", instances)
    yaozarrs.validate_zarr_store(str(path / "labels"))
    group = zarr.open_group(str(path / "labels" / "objects"))
    labels = instances.label_map()
    assert sorted(group.array_keys()) == ["0", "1", "2", "3"]
    for name, array in group.arrays():
        assert array.dtype == np.uint16
        assert array.metadata.dimension_names == ("y", "x")
        np.testing.assert_array_equal(array[:], labels[:: 2 ** int(name), :: 2 ** int(name)])
    assert max(group["3"].shape) <= 16 < max(group["2"].shape)


def test_sizes_of_pixels(instances, context, write, small_chunks):
    """An independent model of the metadata, and our own reader, say the same."""
    path = write("zarr", instances) / "labels" / "objects"
    metadata = yaozarrs.open_group(str(path)).ome_metadata()
    (multiscale,) = metadata.multiscales
    scales = [each.coordinateTransformations[0].scale for each in multiscale.datasets]
    assert scales == [[0.5 * 2**k, 0.25 * 2**k] for k in range(4)]
    assert {axis.unit for axis in multiscale.axes} == {"micrometer"}
    (source,) = open_image(path)
    assert source.pixel_size == context.pixel_size
    np.testing.assert_array_equal(whole(source)[:, :, 0], instances.label_map())
    path = write("zarr", instances, replace(context, pixel_size=None)) / "labels" / "objects"
    assert open_image(path)[0].pixel_size is None


def test_it_is_valid_beside_its_image(instances, write, tmp_path, small_chunks):
    labels = write("zarr", instances) / "labels"
    image = write_v05(tmp_path / "image.zarr", instances.label_map().astype(np.uint8))
    labels.rename(image / "labels")
    yaozarrs.validate_zarr_store(str(image))


def test_empty_chunks_take_no_file(write, small_chunks):
    labels = np.zeros((64, 96), np.int32)
    labels[40:44, 70:74] = 1
    context = OutputContext(from_array(labels.astype(np.uint8), "a"), ("nucleus",))
    path = write("zarr", SparseInstances.from_label_map(labels), context)
    chunks = path.glob("labels/objects/0/c/*/*")
    assert ["/".join(each.parts[-2:]) for each in chunks] == ["2/4"]
