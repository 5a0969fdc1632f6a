"""Truth and predictions from files: what is read, how images are paired, and what is refused."""

import json

import cv2
import numpy as np
import pytest
from evaluation_helpers import coco_dataset, detection, encode, rectangle_mask
from label_map_files import label_map, save

from unet_sharp_det.errors import DatasetError
from unet_sharp_det.evaluation import EvaluationOptions
from unet_sharp_det.evaluation.evaluation import average_precision, match_images
from unet_sharp_det.evaluation.instances.results import InstanceResults
from unet_sharp_det.evaluation.readers.predictions import open_predictions
from unet_sharp_det.evaluation.readers.truth import open_truth

OPTIONS = EvaluationOptions()
BOXES = {1: [(0, 0, 8, 8), (8, 0, 20, 8), (30, 30, 40, 50)], 2: [(5, 5, 25, 25)]}


def write(path, content):
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def coco(tmp_path):
    return open_truth(write(tmp_path / "truth.json", coco_dataset(BOXES)))


@pytest.fixture
def folder(tmp_path):
    """The same truth as label maps "1.png" and "2.png"."""
    for image_id, boxes in BOXES.items():
        save(tmp_path / "truth" / f"{image_id}.png", label_map(boxes))
    return tmp_path / "truth"


def measures(truth, predictions, options=OPTIONS, **arguments):
    opened = open_predictions(predictions, truth, options, **arguments)
    return InstanceResults(match_images(truth, opened, options)).metrics["instances"]


class TestPairing:
    @pytest.mark.parametrize(
        ("truth", "found", "suffixes"),
        [
            (["a.png", "b.png"], ["a.tif", "b.npy"], {}),
            (["a_masks.png", "b_label.png"], ["a_cp_masks.tif", "b.npy"], {}),
            (["a_mask.png"], ["a_mask.tif"], {}),
            (["a.png"], ["a.png", "a_cp_masks.png"], {"suffix": "_cp_masks"}),
            (["a.png", "b.png"], ["a-x.png", "b-x.tif", "c.png"], {"suffix": "-x"}),
            (["a.png"], ["a.png", "a.tif", "notes.txt", ".a.png"], {"suffix": ".tif"}),
            (["x_mask.png"], ["x_mask_pred.tif"], {"truth_suffix": ""}),
        ],
    )
    def test_stems(self, truth, found, suffixes, tmp_path):
        for name in truth:
            save(tmp_path / "truth" / name, label_map(BOXES[1], np.uint8))
        for name in found:
            save(tmp_path / "found" / name, label_map(BOXES[1], np.uint8))
        truth = open_truth(tmp_path / "truth", suffixes.pop("truth_suffix", None))
        assert measures(truth, tmp_path / "found", **suffixes)["DSB_score"] == 100

    @pytest.mark.parametrize(
        ("found", "arguments", "message"),
        [
            (["1.png"], {}, "no prediction for 1 of the 2 images.*2.png.*--allow-missing"),
            (["1.png", "2.png", "9.png"], {}, "1 image that .* does not have: '9'.*--suffix"),
            (["1.png", "1_masks.tif", "2.png"], {}, "both of the image 1.*--suffix"),
            (["1.png", "2.png"], {"suffix": "_x"}, "no label map.*'_x'.*It has e.g. 1.png"),
            (["1.jpg"], {}, r"no label map \(.png, .tif"),
        ],
    )
    def test_what_does_not_fit(self, found, arguments, message, coco, tmp_path):
        for name in found:
            (tmp_path / "maps").mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / "maps" / name), label_map(BOXES[1]).astype(np.uint8))
        with pytest.raises(DatasetError, match=message):
            measures(coco, tmp_path / "maps", **arguments)

    def test_missing_maps_count_as_empty_on_request(self, coco, tmp_path, caplog):
        save(tmp_path / "maps" / "1.png", label_map(BOXES[1]))
        assert measures(coco, tmp_path / "maps", allow_missing=True)["DSB_score"] == 50
        assert "1 of the 2 images are missing, count as empty: '2.png'" in caplog.text

    def test_images_of_one_stem(self, tmp_path):
        dataset = coco_dataset(BOXES)
        for image, part in zip(dataset["images"], "ab", strict=True):
            image["file_name"] = f"{part}/x.png"
        truth = open_truth(write(tmp_path / "truth.json", dataset))
        save(tmp_path / "maps" / "x.png", label_map(BOXES[1]))
        with pytest.raises(DatasetError, match="'a/x.png', 'b/x.png' have the same stem"):
            measures(truth, tmp_path / "maps")
        assert measures(truth, tmp_path / "truth.json")["DSB_score"] == 100

    def test_pictures_beside_the_truth(self, folder, tmp_path):
        (tmp_path / "1.jpg").touch()
        records = open_truth(folder).records
        assert records["1"].find_picture(folder) == folder / "1.png"
        assert records["1"].find_picture(tmp_path) == tmp_path / "1.jpg"
        assert records["2"].find_picture(tmp_path) is None

    @pytest.mark.parametrize("name", ["../1.jpg", "{root}/1.jpg", "..\\1.jpg"])
    def test_pictures_elsewhere_are_not_looked_for(self, tmp_path, name):
        dataset = coco_dataset(BOXES)
        dataset["images"][0]["file_name"] = name.format(root=tmp_path)
        (tmp_path / "1.jpg").touch()
        record = next(iter(open_truth(write(tmp_path / "truth.json", dataset)).records.values()))
        with pytest.raises(DatasetError, match="could lead out of"):
            record.find_picture(tmp_path / "images")


class TestTruth:
    def test_folder_and_json_are_alike(self, coco, folder):
        maps = open_truth(folder)
        assert {key: record.shape for key, record in maps.records.items()} == {
            "1": (64, 64),
            "2": (64, 64),
        }
        assert measures(coco, folder)["DSB_score"] == 100
        assert measures(maps, coco.where)["DSB_score"] == 100
        for ours, true in zip(maps.coco.anns.values(), coco.coco.anns.values(), strict=True):
            assert (ours["area"], ours["bbox"]) == (true["area"], true["bbox"])

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda d: d["images"].clear(), "holds no image"),
            (lambda d: d["annotations"][0].pop("segmentation"), "id 1 has no 'segm"),
            (lambda d: d["images"][0].update(look=[]), r"has the look \[\]"),
        ],
    )
    def test_malformed_json(self, change, message, tmp_path):
        dataset = coco_dataset(BOXES)
        change(dataset)
        write(tmp_path / "truth.json", dataset)
        with pytest.raises(DatasetError, match=message):
            open_truth(tmp_path / "truth.json").instance_map(1)

    def test_crowd_regions(self, tmp_path):
        dataset = coco_dataset({1: [*BOXES[1], (50, 50, 64, 64)]})
        dataset["annotations"][3]["iscrowd"] = 1
        truth = open_truth(write(tmp_path / "truth.json", dataset))
        assert np.array_equal(truth.void(1), rectangle_mask(64, 64, (50, 50, 64, 64)))
        assert len(truth.instance_map(1)) == 3
        assert measures(truth, tmp_path / "truth.json")["DSB_score"] == 100
        dataset["annotations"][3]["segmentation"]["counts"] = ""
        write(tmp_path / "truth.json", dataset)
        with pytest.raises(DatasetError, match="with id 4 has an RLE with .* cut off"):
            open_truth(tmp_path / "truth.json")

    def test_other_paths(self, tmp_path, folder):
        for path, message in [
            (tmp_path / "none.json", "There is no file"),
            (folder / "1.png", "is one label map, give the folder"),
        ]:
            with pytest.raises(DatasetError, match=message):
                open_truth(path)

    def test_empty_ground_truth(self, tmp_path):
        truth = open_truth(write(tmp_path / "truth.json", coco_dataset({1: [], 2: []})))
        results = [detection(BOXES[2][0])]
        assert measures(truth, write(tmp_path / "found.json", results))["DSB_score"] == 50
        found = open_predictions(tmp_path / "found.json", truth, OPTIONS)
        assert np.isnan(average_precision(truth, found, OPTIONS)["segm"].metrics["AP"])


class TestResults:
    def test_the_highest_score_has_the_pixels(self, coco, tmp_path):
        results = [
            detection((0, 0, 16, 8), 0.6),
            detection((0, 0, 8, 8), 0.9),
            detection((30, 30, 40, 50), 0.4),
            detection((0, 0, 8, 8), 0.9),
            detection((60, 60, 61, 62), 0.7),
        ]
        options = EvaluationOptions(min_area=3)
        found = open_predictions(write(tmp_path / "found.json", results), coco, options)
        [first, second] = match_images(coco, found, options)
        assert sorted(first.pred_areas) == [64, 64]
        assert sorted(first.iou) == [64 / 96, 1]
        assert len(second.pred_areas) == 0
        assert [len(found.coco_results()), found.has_scores] == [5, True]

    @pytest.mark.parametrize(
        ("entry", "message"),
        [
            (detection((0, 0, 8, 8), image_id=9), r"not have: 9. It has '1 \(1.png\)', '2"),
            (detection((0, 0, 8, 8), image_id=[1]), "a whole number or a text"),
            (detection((0, 0, 8, 8), score=float("nan")), "result 1 .* image 1 has the score nan"),
            (detection((0, 0, 8, 8), score=None), "has the score None"),
            (detection((0, 0, 8, 8), score=10**400), "has the score 1000"),
            (detection((0, 0, 8, 8), bbox=[0, 0, 8, None]), r"result 1 .* has the bbox \[0"),
            (detection((0, 0, 8, 8), category_id=0), r"result 1 .* the category 0; .* has \[1\]"),
            (detection((0, 0, 8, 8), category_id=[1]), r"result 1 .* has the category \[1\]"),
            (detection((0, 0, 8, 8), segmentation=None), "image 1 has no segmentation"),
            ({"image_id": 1, "segmentation": 3}, r"has no score. Give a list of COCO results"),
            (
                detection((0, 0, 1, 1), segmentation=encode(np.ones((9, 64), bool))),
                r"1.png has a mask of .*\(9, 64\), but the image has \(64, 64\)",
            ),
            (
                detection((0, 0, 8, 8), segmentation={"size": [64, 64], "counts": "0l"}),
                "result 1 .* of 1.png has an RLE .* cut off",
            ),
        ],
    )
    @pytest.mark.parametrize("score", [0.9, 0.1])
    def test_malformed(self, entry, message, score, coco, tmp_path):
        """Below the score threshold too."""
        if entry.get("score") == 0.9:
            entry = {**entry, "score": score}
        path = write(tmp_path / "found.json", [detection(BOXES[1][0]), entry])
        with pytest.raises(DatasetError, match=message):
            open_predictions(path, coco, OPTIONS).coco_results()

    @pytest.mark.parametrize("content", [3, "a", {"images": []}, [1], None])
    def test_no_predictions_at_all(self, content, coco, tmp_path):
        with pytest.raises(DatasetError, match="holds no predictions. Give a list of COCO"):
            open_predictions(write(tmp_path / "found.json", content), coco, OPTIONS)

    def test_an_empty_list_detects_nothing(self, coco, tmp_path, caplog):
        path = write(tmp_path / "found.json", [])
        assert measures(coco, path)["recall_50_pooled"] == 0
        assert "holds no detection" in caplog.text
        found = open_predictions(path, coco, OPTIONS)
        assert average_precision(coco, found, OPTIONS)["segm"].metrics["AP"] == 0

    def test_ap_against_label_maps(self, coco, folder, tmp_path):
        """Whose ids are texts; of two classes one is left, and boxes are made of masks."""
        results = [detection(box, 0.9, k) for k, boxes in BOXES.items() for box in boxes]
        results += [detection((0, 0, 8, 9), 0.95), detection((50, 50, 60, 60), 0.2, 2)]
        path = write(tmp_path / "found.json", results)
        expected = average_precision(coco, open_predictions(path, coco, OPTIONS), OPTIONS)
        expected_measures = measures(coco, path)
        truth = open_truth(folder)
        write(path, [{**result, "category_id": 5} for result in results])
        found = average_precision(truth, open_predictions(path, truth, OPTIONS), OPTIONS)
        for task, result in expected.items():
            assert result.metrics == pytest.approx(found[task].metrics, nan_ok=True)
            assert 50 < result.metrics["AP"] < 100
        assert measures(truth, path) == pytest.approx(expected_measures, nan_ok=True)

    def test_errors_name_the_entry_of_the_file(self, coco, tmp_path):
        """Whose order is not that of the images."""
        results = [detection(BOXES[2][0], image_id=2), detection(BOXES[1][0])]
        del results[0]["category_id"]
        path = write(tmp_path / "found.json", results)
        with pytest.raises(DatasetError, match="found.json: result 0 .* has the category None"):
            average_precision(coco, open_predictions(path, coco, OPTIONS), OPTIONS)


class TestDataSets:
    def test_scores_if_annotations_have_them(self, coco, tmp_path):
        dataset = coco_dataset(BOXES)
        path = write(tmp_path / "found.json", dataset)
        found = open_predictions(path, coco, OPTIONS)
        assert not found.has_scores
        assert measures(coco, path)["DSB_score"] == 100
        for annotation in dataset["annotations"]:
            annotation["score"] = 0.5 if annotation["image_id"] == 1 else 0.4
        assert measures(coco, write(path, dataset))["DSB_score"] == 50
        assert open_predictions(path, coco, OPTIONS).has_scores

    def test_images_are_paired_by_name(self, tmp_path):
        """Also an id 0, which is no missing one."""
        dataset = coco_dataset({0: BOXES[1], 1: BOXES[2]})
        truth = open_truth(write(tmp_path / "truth.json", dataset))
        other = coco_dataset({7: BOXES[1], 0: BOXES[2]})
        for image, name in zip(other["images"], ("0.tif", "elsewhere/1.png"), strict=True):
            image["file_name"] = name
        assert measures(truth, write(tmp_path / "found.json", other))["DSB_score"] == 100

    def test_images_of_one_name_are_paired_by_their_folders(self, tmp_path):
        dataset, other = coco_dataset(BOXES), coco_dataset({2: BOXES[1], 1: BOXES[2]})
        for images in (dataset["images"], other["images"]):
            for image, folder in zip(images, "ab", strict=True):
                image["file_name"] = f"{folder}/x.png"
        truth = open_truth(write(tmp_path / "truth.json", dataset))
        for start in ("", "/data/"):
            for image in other["images"]:
                image["file_name"] = start + image["file_name"]
            assert measures(truth, write(tmp_path / "found.json", other))["DSB_score"] == 100
        for image in other["images"]:
            image["file_name"] = image["file_name"].replace("/x", "/c/x")
        with pytest.raises(DatasetError, match="'a/x.png', 'b/x.png' have the same stem"):
            measures(truth, write(tmp_path / "found.json", other))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda d: d["annotations"][0].update(score=1), "1 of 4 annotations have a 'score'"),
            (lambda d: d["images"][0].update(height=60), r"image has \(60, 64\)"),
            (lambda d: d["images"][0].update(file_name="2.tif"), "are the same one"),
            (
                lambda d: d["images"][1].update(file_name="b.png"),
                r"does not have: 'b.png'. It has '1 \(1.png\)', '2 \(2.png\)'",
            ),
            (lambda d: d["annotations"][0].pop("segmentation"), "with id 1 .* no segmentation"),
        ],
    )
    def test_malformed(self, change, message, coco, tmp_path):
        dataset = coco_dataset(BOXES)
        change(dataset)
        with pytest.raises(DatasetError, match=message):
            open_predictions(write(tmp_path / "found.json", dataset), coco, OPTIONS)


class TestSemantic:
    def masks(self, **changes):
        one = {"image_id": 1, "file_name": "/data/1.png", "channel": "nucleus"}
        two = {"image_id": 2, "file_name": "/data/2.png", "channel": "nucleus"}
        union = label_map(BOXES[1]) > 0
        union[8, 20] = True  # Touches at a corner.
        one["segmentation"], two["segmentation"] = encode(union), encode(label_map(BOXES[2]) > 0)
        return [{**one, **changes}, two]

    def test_components(self, coco, folder, tmp_path):
        path = write(tmp_path / "semantic.json", self.masks())
        for truth in (coco, open_truth(folder)):
            found = open_predictions(path, truth, OPTIONS)
            [first, second] = match_images(truth, found, OPTIONS)
            assert sorted(first.pred_areas) == [1, 160, 200]
            assert list(second.pred_areas) == [400]
        assert not found.has_scores

    def test_another_channel(self, coco, tmp_path):
        masks = self.masks()
        masks.append({**masks[1], "channel": "b", "segmentation": encode(label_map(BOXES[1]) == 1)})
        found = open_predictions(write(tmp_path / "semantic.json", masks), coco, OPTIONS)
        assert sorted(match_images(coco, found, OPTIONS)[1].pred_areas) == [64, 391]

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"file_name": "other.png"}, "1 image that"),
            ({"image_id": 2, "file_name": "2.png"}, "repeats a channel of the image 2"),
            ({"segmentation": None}, "mask 0 .* no segmentation"),
            ({"segmentation": {"size": [64, 64]}}, "1.png: .* no run lengths"),
            ({"channel": []}, r"mask 0 .* has the channel \[\]"),
            ({"file_name": 1}, "mask 0 .* has the file_name 1"),
            ({"segmentation": encode(np.ones((9, 9), bool))}, r"\(9, 9\), but the image"),
        ],
    )
    def test_malformed(self, changes, message, coco, tmp_path):
        path = write(tmp_path / "semantic.json", self.masks(**changes))
        with pytest.raises(DatasetError, match=message):
            measures(coco, path, allow_missing=True)
