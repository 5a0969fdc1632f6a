import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from evaluation_helpers import coco_dataset, encode, rectangle_mask
from scripts import load_script

from unet_sharp_det.data import register_coco_nuclei
from unet_sharp_det.errors import DatasetError, UserError
from unet_sharp_det.masks.drawing import (
    distinct_colors,
    draw_label_contours,
    draw_planes,
    draw_side_by_side,
    upscale_factor,
)

tool = load_script(Path(__file__).parents[2] / "tools" / "visualize_data.py")

CAPTION_HEIGHT = 28
RED, GREEN = (255, 0, 0), (0, 255, 0)


def black(height=20, width=30):
    return np.zeros((height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "size, factor", [((256, 320), 2), ((512, 640), 1), ((511, 640), 2), ((100, 50), 11)]
)
def test_upscale_factor(size, factor):
    assert upscale_factor(*size) == factor


def test_colors_are_distinct():
    colors = distinct_colors(150)
    assert len(set(colors)) == 150
    assert colors[:10] == distinct_colors(10)
    steps = np.abs(np.diff(np.array(colors), axis=0)).max(axis=1)
    assert steps.min() > 60


@pytest.mark.parametrize("thickness", [1, 2])
def test_contour_is_the_rim_of_the_object(thickness):
    labels = rectangle_mask(20, 30, (4, 5, 12, 15)).astype(np.int32)
    drawn = draw_label_contours(black(), labels, [RED], thickness=thickness)
    expected = labels > 0
    expected[5 + thickness : 15 - thickness, 4 + thickness : 12 - thickness] = False
    np.testing.assert_array_equal(drawn, expected[:, :, None] * np.array(RED))


def test_touching_objects_keep_their_colors():
    labels = np.zeros((20, 30), np.int32)
    labels[2:8, 2:8], labels[2:8, 8:14] = 1, 2
    image = black()
    drawn = draw_label_contours(image, labels, [RED, GREEN])
    assert (drawn[5, 7] == RED).all()
    assert (drawn[5, 8] == GREEN).all()
    assert not image.any()


def test_montage_places_pictures():
    sizes = [(10, 20), (30, 10), (5, 5)]
    pictures = [np.full((*size, 3), 100 + i, dtype=np.uint8) for i, size in enumerate(sizes)]
    grid = tool.montage(pictures, columns=2)
    assert grid.shape == (30 + 4 + 30, 20 + 4 + 20, 3)
    assert (grid[:10, :20] == 100).all()
    assert (grid[:30, 24:34] == 101).all()
    assert (grid[34:39, :5] == 102).all()
    assert (grid != 24).any(axis=2).sum() == 10 * 20 + 30 * 10 + 5 * 5
    assert tool.montage(pictures, columns=2, cell_width=40).shape == (120 + 4 + 120, 84, 3)


@pytest.fixture
def nuclei(tmp_path):
    """The name of a registered data set of two black images, one without nuclei."""
    name = "test_visualize_data"
    dataset = coco_dataset({1: [(8, 8, 24, 24)], 2: []})
    (tmp_path / "gt.json").write_text(json.dumps(dataset))
    for image in dataset["images"]:
        cv2.imwrite(str(tmp_path / image["file_name"]), black(64, 64))
    register_coco_nuclei(name, tmp_path / "gt.json", tmp_path, ["nucleus"])
    return name


def contour_pixels(path, panel):
    """The marked pixels below the caption of one of the panels, at the scale of 8."""
    picture = cv2.imread(str(path))
    return picture[CAPTION_HEIGHT:, panel * 516 : panel * 516 + 512].any(axis=2)


def test_an_id_of_the_data_set_cannot_name_a_file_elsewhere(nuclei, tmp_path):
    content = json.loads((tmp_path / "gt.json").read_text())
    old, new = content["images"][0]["id"], "../../evil"
    for entry in (content["images"][0], *content["annotations"]):
        key = "image_id" if "image_id" in entry else "id"
        entry[key] = new if entry[key] == old else entry[key]
    content["images"] = content["images"][:1]
    (tmp_path / "gt.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="evil_1.png' could lead out of"):
        tool.main(["--dataset", nuclei, "--output-dir", str(tmp_path / "a" / "out")])
    assert not list(tmp_path.glob("evil*"))


def test_tool_draws_annotations(nuclei, tmp_path, capsys):
    out, grid = tmp_path / "out", tmp_path / "grid.png"
    arguments = ["--dataset", nuclei, "--output-dir", str(out), "--montage", str(grid)]
    assert tool.main(arguments) == 0
    paths = [out / "1_1.png", out / "2_2.png"]
    assert capsys.readouterr().out.split() == [str(path) for path in (*paths, grid)]
    marked = contour_pixels(paths[0], panel=0)
    assert marked.shape == (512, 512)
    assert marked[64, 64:192].all()
    assert not marked[80:176, 80:176].any()
    assert not contour_pixels(paths[1], panel=0).any()
    assert cv2.imread(str(grid)).shape[1] == 1440 + 4


def test_tool_draws_augmented_images(nuclei, tmp_path):
    options = ["INPUT.MIN_SIZE_TRAIN", "(128,)", "INPUT.RANDOM_FLIP", "none"]
    options += ["MODEL.MASK_ON", "False", "INPUT.MASK_FORMAT", "bitmask"]
    arguments = ["--dataset", nuclei, "--source", "dataloader", "--limit", "1"]
    assert tool.main([*arguments, "--output-dir", str(tmp_path / "out"), *options]) == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["1_1.png"]
    marked = contour_pixels(tmp_path / "out" / "1_1.png", panel=0)
    assert marked.shape == (512, 512)
    assert marked[64, 70:180].all()


def test_tool_draws_predictions_above_the_threshold(nuclei, tmp_path):
    boxes = {0.9: (32, 32, 48, 48), 0.4: (0, 32, 16, 48)}
    results = [
        {"image_id": 1, "score": score, "segmentation": encode(rectangle_mask(64, 64, box))}
        for score, box in boxes.items()
    ]
    (tmp_path / "results.json").write_text(json.dumps(results))
    arguments = ["--dataset", nuclei, "--predictions", str(tmp_path / "results.json")]
    assert tool.main([*arguments, "--output-dir", str(tmp_path / "out")]) == 0
    path = tmp_path / "out" / "1_1.png"
    assert cv2.imread(str(path)).shape == (512 + CAPTION_HEIGHT, 3 * 512 + 8, 3)
    assert not contour_pixels(path, panel=0).any()
    assert contour_pixels(path, panel=1)[64, 64:192].all()
    found = contour_pixels(path, panel=2)
    assert found[256, 256:384].all()
    assert not found[:, :128].any()
    tool.main([*arguments, "--output-dir", str(tmp_path / "low"), "--threshold", "0.4"])
    assert contour_pixels(tmp_path / "low" / "1_1.png", panel=2)[256, :128].all()


@pytest.mark.parametrize(
    "entry, message",
    [
        (
            {"image_id": 1, "channel": "a", "segmentation": {}},
            "result 0 .* has no score. Give",
        ),
        ({"image_id": 1, "score": 0.9, "bbox": [0, 0, 9, 9]}, "result 0 .* no segmentation"),
    ],
)
def test_predictions_of_another_kind(nuclei, tmp_path, entry, message):
    (tmp_path / "results.json").write_text(json.dumps([entry]))
    with pytest.raises(UserError, match=message):
        tool.main(["--dataset", nuclei, "--predictions", str(tmp_path / "results.json")])
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(UserError, match="results.json: is not JSON"):
        tool.main(["--dataset", nuclei, "--predictions", str(tmp_path / "results.json")])


def test_annotations_without_masks(nuclei, tmp_path):
    content = json.loads((tmp_path / "gt.json").read_text())
    for annotation in content["annotations"]:
        del annotation["segmentation"]
    (tmp_path / "gt.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="1.png: mask 0 .* has no 'segmentation'"):
        tool.main(["--dataset", nuclei, "--output-dir", str(tmp_path / "out")])


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--dataset", "test_visualise_data"], "Did you mean 'test_visualize_data'"),
        (["--dataset", "test_visualize_data", "--limit", "0"], "--limit"),
        (["--dataset", "test_visualize_data", "--predictions", "no.json"], "no.json"),
        ([], "--dataset NAME"),
    ],
)
def test_tool_errors(nuclei, arguments, message):
    with pytest.raises(UserError, match=message):
        tool.main(arguments)


def test_a_long_picture_keeps_a_pixel_of_its_width():
    picture = draw_side_by_side(black(3000, 2), [np.ones((3000, 2), np.int32)] * 2)
    assert picture.shape == (1000, 2, 3)


def test_planes_lie_as_radiologists_look_at_them():
    """z, y, x run to the patient's head, back and left, which is the right of a picture."""
    array = np.zeros((10, 20, 20), np.float32)
    labels = np.zeros(array.shape, np.int64)
    labels[8, 14:17, 3:6] = 1  # The patient's head, back and right.
    picture = draw_planes(array, labels, (4.0, 2.0, 2.0))
    assert picture.shape == (512, 3 * 512, 3)
    rows, columns = np.nonzero(picture.any(axis=2))
    for panel, (top, left) in enumerate(((0.775, 0.225), (0.15, 0.225), (0.15, 0.775))):
        inside = columns // 512 == panel
        assert rows[inside].mean() / 512 == pytest.approx(top, abs=0.01)
        assert (columns[inside].mean() - panel * 512) / 512 == pytest.approx(left, abs=0.01)
