"""Parts of the sample to overfit on."""

import contextlib
import json
from collections import Counter
from pathlib import Path

import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from unet_sharp_det.config import setup_cfg
from unet_sharp_det.data import register_coco_nuclei
from unet_sharp_det.files import write_text
from unet_sharp_det.training import NucleiTrainer

DEMO = Path(__file__).parents[2] / "configs/DSB2018-InstanceSegmentation/compact/demo.yaml"


@contextlib.contextmanager
def registered_parts(converted_sample, folder):
    """Yield a function (name, choose) that registers some training images of the sample.

    ``choose`` gets the numbers of nuclei by image id and returns the ids to take. The json files
    are written to ``folder``; at the end the data sets are forgotten.
    """
    registered = []

    def register(name, choose) -> str:
        json_file = converted_sample / "annotations" / "dsb2018_train.json"
        content = json.loads(json_file.read_text())
        ids = set(choose(Counter(nucleus["image_id"] for nucleus in content["annotations"])))
        content["images"] = [image for image in content["images"] if image["id"] in ids]
        content["annotations"] = [n for n in content["annotations"] if n["image_id"] in ids]
        path = folder / f"{name}.json"
        path.write_text(json.dumps(content))
        register_coco_nuclei(name, path, converted_sample, ["nucleus"])
        registered.append(name)
        return name

    yield register
    for name in registered:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def overfit(name, folder) -> dict:
    """Train the demo's Mask R-CNN on a data set, always the same views; return its metrics."""
    cfg = setup_cfg(str(DEMO), ["MODEL.DEVICE", "cpu", "OUTPUT_DIR", str(folder)])
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = (name,)
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.INPUT.SCALE_TRAIN = [2.0]
    cfg.INPUT.COLOR.PROB = 0.0
    cfg.INPUT.RANDOM_ROTATE90 = False
    cfg.INPUT.RANDOM_FLIP = "none"
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.SOLVER.MAX_ITER = 60
    cfg.SOLVER.AMP.ENABLED = False
    cfg.TEST.VALIDATION_LOSS = True
    write_text(folder / "config.yaml", cfg.dump())
    torch.manual_seed(0)
    trainer = NucleiTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    return trainer._last_eval_results
