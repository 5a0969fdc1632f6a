"""Label maps: files of every depth read as they are, others painted from annotations."""

import numpy as np
import pycocotools.mask as mask_util
import pytest
from PIL import Image

from unet_sharp_det.data.label_maps import paint_distances, read_label_map
from unet_sharp_det.errors import DatasetError
from unet_sharp_det.modeling.semantic_labels import SemanticLabels

SIZE = {"height": 12, "width": 16}
SHAPE = (12, 16)


def rectangle(rows, columns):
    mask = np.zeros(SHAPE, np.uint8, order="F")
    mask[slice(*rows), slice(*columns)] = 1
    return mask


def nucleus(segmentation, category_id=0, **more):
    return {"category_id": category_id, "segmentation": segmentation, **more}


def rle(rows, columns):
    return mask_util.encode(rectangle(rows, columns))


def paint(*annotations):
    return read_label_map({**SIZE, "file_name": "a.png", "annotations": list(annotations)})


def test_the_file_comes_before_the_annotations(tmp_path, write_png):
    path = write_png(tmp_path / "labels.png", np.full(SHAPE, 3, np.uint8))
    annotations = [nucleus(rle((2, 5), (3, 9)))]
    record = {**SIZE, "sem_seg_file_name": str(path), "annotations": annotations}
    assert (read_label_map(record) == 3).all()


def test_a_file_of_another_size_is_named(tmp_path, write_png):
    path = write_png(tmp_path / "labels.png", np.zeros((16, 12), np.uint8))
    with pytest.raises(DatasetError, match=r"\(16, 12\), but its image has \(12, 16\)"):
        read_label_map({**SIZE, "sem_seg_file_name": str(path)})


def test_a_palette_is_named(tmp_path):
    picture = Image.fromarray(np.ascontiguousarray(rectangle((2, 5), (3, 9)))).convert("P")
    picture.save(tmp_path / "labels.png")
    with pytest.raises(DatasetError, match=r"labels\.png.*palette"):
        read_label_map({**SIZE, "sem_seg_file_name": str(tmp_path / "labels.png")})


def test_without_file_and_annotations_it_says_what_to_give():
    with pytest.raises(DatasetError, match=r"a\.png.*sem_seg_file_name.*annotations"):
        read_label_map({**SIZE, "file_name": "a.png"})


def test_no_annotations_are_all_background():
    labels = paint()
    assert labels.shape == SHAPE
    assert labels.dtype == np.uint8
    assert not labels.any()


def test_the_last_of_several_categories_has_the_shared_pixels():
    wide, low, corner = ((2, 6), (0, 16)), ((4, 8), (3, 9)), ((5, 7), (8, 12))
    labels = paint(nucleus(rle(*wide), 1), nucleus(rle(*low), 0), nucleus(rle(*corner), 1))
    expected = np.zeros(SHAPE, int)
    for box, label in ((wide, 2), (low, 1), (corner, 2)):
        expected[rectangle(*box) > 0] = label
    assert (labels == expected).all()


@pytest.mark.parametrize("crowd_is_first", [True, False])
def test_crowd_is_ignored_where_nothing_else_lies(crowd_is_first):
    crowd = nucleus(rle((0, 12), (4, 8)), iscrowd=1)
    annotations = [crowd, nucleus(rle((2, 5), (3, 9)))]
    labels = paint(*annotations[:: 1 if crowd_is_first else -1])
    expected = 255 * rectangle((0, 12), (4, 8))
    expected[2:5, 3:9] = 1
    assert (labels == expected).all()


@pytest.mark.parametrize(
    "annotation, message",
    [
        ({"category_id": 0}, "has no 'segmentation'"),
        (nucleus(rle((2, 5), (3, 9)), 254), "category_id 254"),
        (nucleus(rle((2, 5), (3, 9)), -1), "category_id -1"),
    ],
)
def test_annotations_that_cannot_be_painted_are_named(annotation, message):
    with pytest.raises(DatasetError, match=rf"a\.png.*{message}"):
        paint(nucleus(rle((2, 5), (3, 9))), annotation)


def test_the_largest_category_is_painted():
    assert paint(nucleus(rle((2, 5), (3, 9)), 253)).max() == 254


class TestDistances:
    def bands(self, *annotations, classes=0):
        record = {**SIZE, "file_name": "a.png", "annotations": list(annotations)}
        labels = SemanticLabels(3 + classes, target="distance", class_channels=classes)
        return paint_distances(record, labels)

    def test_objects_that_touch_are_apart(self):
        found = self.bands(nucleus(rle((2, 7), (2, 7))), nucleus(rle((2, 7), (7, 12))))
        assert found[4].tolist() == [0, 0, 1, 1, 2, 1, 1, 1, 1, 2, 1, 1, 0, 0, 0, 0]

    def test_a_crowd_is_ignored_but_for_the_objects_in_it(self):
        crowd = nucleus(rle((0, 12), (0, 10)), iscrowd=1)
        found = self.bands(nucleus(rle((2, 7), (2, 7))), crowd)
        assert found[4].tolist() == [255, 255, 1, 1, 2, 1, 1, 255, 255, 255, 0, 0, 0, 0, 0, 0]

    def test_each_of_several_classes_has_bands_of_its_own(self):
        crowd = nucleus(rle((0, 12), (0, 16)), 5, iscrowd=1)
        objects = [nucleus(rle((2, 7), (2 + 4 * k, 7 + 4 * k)), (1, 0, 1)[k]) for k in range(3)]
        found = self.bands(*objects, crowd, classes=2)
        # The last one has the pixels that two share.
        assert found[4, 1:16].tolist() == [255, 4, 4, 4, 4, 1, 1, 1, 1, 4, 4, 5, 4, 4, 255]

    def test_a_class_beyond_them_is_named(self):
        with pytest.raises(DatasetError, match=r"a\.png.*category_id 2, but the model knows 2"):
            self.bands(nucleus(rle((2, 7), (2, 7)), 2), classes=2)

    def test_an_image_without_objects_is_background(self):
        assert not self.bands().any()
        assert not self.bands(classes=2).any()

    def test_without_annotations_there_are_no_distances(self):
        with pytest.raises(DatasetError, match=r"a\.png: has no labels"):
            paint_distances({**SIZE, "file_name": "a.png"}, SemanticLabels(3, target="distance"))
