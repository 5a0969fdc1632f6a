"""Two processes, each with a part of the images, give the results and the files of one."""

import json

import cv2
import numpy as np
from detectron2.data import DatasetCatalog
from detectron2.evaluation import DatasetEvaluators
from evaluation_helpers import coco_dataset, instances
from two_processes import in_two_processes

from unet_sharp_det.data import register_coco_nuclei
from unet_sharp_det.evaluation import InstanceEvaluator, NucleiCOCOEvaluator, SemanticEvaluator
from unet_sharp_det.evaluation.record import COCO_RESULTS_FILE
from unet_sharp_det.modeling.semantic_labels import SemanticLabels

NAME = "test_two_processes"
TRUTH = {i: [(i, 0, i + 9, 9), (20, i, 30, 30)] for i in range(1, 8)}
TASKS = {"bbox": "AP", "segm": "AP", "instances": "DSB_score", "foreground": "IoU_image_mean"}


def evaluate_part(folder, rank, world_size):
    options = {"output_dir": str(folder)}
    evaluators = DatasetEvaluators(
        [
            NucleiCOCOEvaluator(NAME, **options),
            InstanceEvaluator(NAME, **options),
            SemanticEvaluator(NAME, SemanticLabels(), **options),
        ]
    )
    evaluators.reset()
    for image_id in list(TRUTH)[rank::world_size]:
        found = instances([(0, 0, 9, 9), (20, 20, 30, 30)], [0.5 + image_id / 20, 0.6])
        output = {"instances": found, "sem_seg": found.pred_masks.any(dim=0)[None].float()}
        image = {"image_id": image_id, "file_name": f"{image_id}.png"}
        evaluators.process([image], [output])
    return evaluators.evaluate()


def run_rank(rank, folder):
    results = evaluate_part(folder / f"out{rank}", rank, 2)
    (folder / f"{rank}.json").write_text(json.dumps(results))


def test_two_processes_give_the_results_of_one(tmp_path):
    (tmp_path / "gt.json").write_text(json.dumps(coco_dataset(TRUTH)))
    for image_id in TRUTH:
        cv2.imwrite(str(tmp_path / f"{image_id}.png"), np.zeros((64, 64, 3), np.uint8))
    register_coco_nuclei(NAME, tmp_path / "gt.json", tmp_path, ["nucleus"])
    DatasetCatalog.get(NAME)  # As the loader does, which numbers the classes.
    in_two_processes(run_rank, tmp_path, tmp_path)
    one = evaluate_part(tmp_path / "one", 0, 1)
    for task, metric in {**TASKS, "sem_seg": "IoU_image_mean"}.items():
        assert 0 < one[task][metric] < 100
    # The areas have no ground truth in some bins: NaN equals NaN here.
    np.testing.assert_equal(json.loads((tmp_path / "0.json").read_text()), dict(one))
    assert json.loads((tmp_path / "1.json").read_text()) == {}
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(files) == 9
    files.remove(COCO_RESULTS_FILE)  # Whose order is that of the processes.
    for name in files:
        assert (tmp_path / "out0" / name).read_text() == (tmp_path / "one" / name).read_text(), name
    assert not (tmp_path / "out1").exists()
