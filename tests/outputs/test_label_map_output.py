import cv2
import numpy as np
import pytest
import skimage.io
import tifffile

from unet_sharp_det.images.source import from_array
from unet_sharp_det.masks.instances import SparseInstances
from unet_sharp_det.outputs import OutputContext, label_map

READERS = {
    "tifffile": tifffile.imread,
    "skimage": skimage.io.imread,
    "opencv": lambda path: cv2.imread(str(path), cv2.IMREAD_UNCHANGED),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("rows", [1, 7, 61, 1000])
def test_label_map_is_read_by_others(reader, rows, instances, write, monkeypatch):
    monkeypatch.setattr(label_map, "_STRIP_PIXELS", rows * 83)
    found = READERS[reader](write("labels", instances))
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, instances.label_map())


def test_more_objects_than_16_bits_can_number(write):
    """65,536 objects of one pixel are one too many."""
    count = 2**16
    labels = np.zeros((221, 301), np.int32)
    labels.ravel()[:count] = np.arange(1, count + 1)
    y, x = np.divmod(np.arange(count), 301)
    many = SparseInstances(
        labels.shape,
        boxes=np.stack([x, y, x + 1, y + 1], axis=1),
        masks=[np.ones((1, 1), bool)] * count,
        scores=np.ones(count),
        classes=np.zeros(count, int),
    )
    context = OutputContext(from_array(labels[..., None], "b"), ("nucleus",))
    for found, dtype in ((many, np.uint32), (many.select(np.arange(count - 1)), np.uint16)):
        path = write("labels", found, context)
        for reader in READERS.values():
            assert reader(path).dtype == dtype
            np.testing.assert_array_equal(reader(path), np.where(labels > len(found), 0, labels))


def test_pixel_size_as_imagej_writes_it(instances, write, context):
    with tifffile.TiffFile(write("labels", instances)) as tiff:
        tags = {tag.name: tag.value for tag in tiff.pages[0].tags}
        assert tiff.imagej_metadata["unit"] == "micron"
    assert tags["ResolutionUnit"] == 1
    assert np.divide(*tags["XResolution"]) == 1 / 0.25
    assert np.divide(*tags["YResolution"]) == 1 / 0.5
    with tifffile.TiffFile(write("labels", instances, OutputContext(context.source, "ab"))) as tiff:
        assert tiff.imagej_metadata is None
        assert "ImageDescription" not in tiff.pages[0].tags
        # ImageJ opens neither tiles nor predictors.
        assert not tiff.pages[0].is_tiled
        assert "Predictor" not in tiff.pages[0].tags


def test_only_files_that_may_need_it_are_bigtiff(instances, write, monkeypatch):
    for big in (False, True):
        monkeypatch.setattr(label_map, "_LARGEST_CLASSIC", 61 * 83 * 2 - big)
        with tifffile.TiffFile(write("labels", instances)) as tiff:
            assert tiff.is_bigtiff is big
            np.testing.assert_array_equal(tiff.asarray(), instances.label_map())
