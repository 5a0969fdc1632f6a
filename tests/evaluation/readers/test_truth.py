"""Label maps in files: formats, what is refused, and many objects."""

import json

import cv2
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from evaluation_helpers import coco_dataset
from label_map_files import label_map, save
from PIL import Image

from unet_sharp_det.errors import DatasetError
from unet_sharp_det.evaluation import EvaluationOptions
from unet_sharp_det.evaluation.evaluation import match_images
from unet_sharp_det.evaluation.readers.predictions import open_predictions
from unet_sharp_det.evaluation.readers.truth import open_truth, read_label_map_file

OPTIONS = EvaluationOptions()
BOXES = [(0, 0, 8, 8), (8, 0, 20, 8), (30, 30, 40, 50)]


def match(truth, folder, **arguments):
    return match_images(truth, open_predictions(folder, truth, OPTIONS, **arguments), OPTIONS)


WRITERS = {
    "8.png": lambda path, labels: cv2.imwrite(str(path), labels.astype(np.uint8)),
    "16.png": lambda path, labels: cv2.imwrite(str(path), labels),
    "lzw.tif": lambda path, labels: Image.fromarray(labels).save(path, compression="tiff_lzw"),
}


def truncate(path, labels):
    save(path, np.random.default_rng(0).integers(0, 999, (64, 64)).astype(np.uint16))
    path.write_bytes(path.read_bytes()[:1500])


COLOURS = np.zeros((64, 64, 3), np.uint8)
BAD = {
    "rgb.png": (lambda path, _: save(path, COLOURS), "not a coloured picture"),
    "palette.png": (
        lambda path, labels: Image.fromarray(labels.astype(np.uint8)).convert("P").save(path),
        "without palette",
    ),
    "pages.tif": (
        lambda path, labels: tifffile.imwrite(path, np.stack([labels] * 2)),
        "has 2 pages.*files of their own",
    ),
    "seg.npy": (
        lambda path, labels: np.save(path, {"masks": labels}, allow_pickle=True),
        "pickled.*cellpose --save_tif",
    ),
    "cut.npy": (truncate, "cut.npy: cannot be read as a label map"),
    "small.npy": (lambda path, labels: np.save(path, labels[1:]), r"\(63, 64\).*\(64, 64\)"),
}


def test_a_label_map_beyond_the_limit_is_told_what_can_be_done(tmp_path):
    tifffile.memmap(tmp_path / "a.tif", shape=(20_000, 20_000), dtype=np.uint8)  # a sparse file
    with pytest.raises(DatasetError, match="has 20000 x 20000.*--outputs coco") as error:
        read_label_map_file(tmp_path / "a.tif")
    assert "--max-pixels" not in str(error.value)


@pytest.mark.parametrize("name", WRITERS)
def test_formats(name, tmp_path):
    WRITERS[name](tmp_path / name, label_map(BOXES))
    assert np.array_equal(read_label_map_file(tmp_path / name), label_map(BOXES))


@pytest.mark.parametrize("name", BAD)
def test_other_files(name, tmp_path):
    writer, message = BAD[name]
    truth = coco_dataset({1: BOXES})
    truth["images"][0]["file_name"] = f"{name[:-4]}.jpg"
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "maps").mkdir()
    writer(tmp_path / "maps" / name, label_map(BOXES))
    with pytest.raises(DatasetError, match=message):
        match(open_truth(tmp_path / "truth.json"), tmp_path / "maps", suffix="")


def test_more_objects_than_16_bits_hold(tmp_path):
    labels = np.arange(1, 90001, dtype=np.uint32).reshape(300, 300)
    save(tmp_path / "truth" / "1.tif", labels)
    save(tmp_path / "found" / "1.tif", labels[::-1, ::-1])
    truth = open_truth(tmp_path / "truth")
    [overlap] = match(truth, tmp_path / "found")
    assert len(overlap.pred_areas) == len(overlap.match(0.5)) == 90000


class TestVolumes:
    """Label maps of volumes: objects as predict writes them, the truth in any volume format."""

    def write(self, folder, name, labels):
        folder.mkdir(exist_ok=True)
        sitk.WriteImage(sitk.GetImageFromArray(labels), str(folder / name))

    @pytest.mark.parametrize("name", ["a_objects.nii.gz", "a_objects.tif"])
    def test_objects_are_matched_in_three_dimensions(self, tmp_path, name):
        true = np.zeros((6, 8, 10), np.uint16)
        true[:, :4, :4], true[:3, 5:, 5:], true[3:, 5:, 5:] = 1, 2, 3  # a slice shows two at most
        found = true.copy()
        found[found == 3] = 2  # two objects that only the depth parts
        self.write(tmp_path / "true", name.replace("_objects", ""), true)
        self.write(tmp_path / "found", name, found)
        (overlap,) = match(open_truth(tmp_path / "true"), tmp_path / "found")
        assert overlap.true_areas.tolist() == [96, 45, 45]
        assert overlap.pred_areas.tolist() == [96, 90]
        assert overlap.iou.tolist() == [1, 0.5, 0.5]


def test_names_keep_their_case(tmp_path):
    save(tmp_path / "a_masks.tif", label_map(BOXES))
    (tmp_path / "a_masks.tif").rename(tmp_path / "a_masks.TIF")
    assert open_truth(tmp_path).records["a"].file_name == "a.TIF"
