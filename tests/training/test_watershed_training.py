"""Training of instances without boxes, as a user runs it."""

import torch

from unet_sharp_det.config import setup_cfg
from unet_sharp_det.prediction import Predictor
from unet_sharp_det.training import NucleiTrainer

COMPACT = "configs/DSB2018-InstanceSegmentation/compact/watershed_lite0_unetsharp.yaml"


def test_overfits_an_image(repository, register_part, tmp_path):
    def choose(counts):
        return [sorted(counts, key=counts.get)[len(counts) // 3]]

    one_image = register_part("watershed_image", choose, by_size=True)
    cfg = setup_cfg(str(repository / COMPACT), ["MODEL.DEVICE", "cpu", "OUTPUT_DIR", str(tmp_path)])
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = (one_image,)
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.WATERSHED.NUM_CLASSES = 2
    cfg.MODEL.BACKBONE.NAME = "build_unet_encoder"
    cfg.MODEL.UNET.CHANNELS = [8, 16, 32]
    cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES = ["res0", "res1", "res2"]
    cfg.MODEL.SEM_SEG_HEAD.NODE_CHANNELS = [8, 16, 32]
    cfg.INPUT.SCALE_TRAIN = [1.0]
    cfg.INPUT.CROP.SIZE = [64, 64]
    cfg.SOLVER.WARMUP_ITERS = 5
    cfg.SOLVER.IMS_PER_BATCH = 4
    cfg.SOLVER.MAX_ITER = 100
    cfg.SOLVER.BASE_LR = 0.03
    cfg.SOLVER.AMP.ENABLED = False
    torch.manual_seed(0)
    trainer = NucleiTrainer(cfg)
    trainer.train()
    results = trainer._last_eval_results
    assert results["instances"]["F1_50_image_mean"] > 60
    assert results["segm"]["AP50"] > 40
    assert min(results["segm"][f"AP-{name}"] for name in ("small", "large")) > 20
    (tmp_path / "config.yaml").write_text(cfg.dump())
    predict = Predictor.from_checkpoint(tmp_path / "model_final.pth", device="cpu")
    assert predict.class_names == ("small", "large")
