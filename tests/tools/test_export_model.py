"""The command export as a user calls it."""

import torch
from detectron2.modeling import build_model

from unet_sharp_det.checkpoints.loading import SkipCheckpointer
from unet_sharp_det.config import setup_cfg

INSTANT = "configs/quick_schedules/unetsharp_cgm_instant_test.yaml"


def test_writes_and_says_the_differences(run_tool, repository, tmp_path):
    cfg = setup_cfg(str(repository / INSTANT), ["MODEL.DEVICE", "cpu"])
    SkipCheckpointer(build_model(cfg), str(tmp_path)).save("model_final")
    (tmp_path / "config.yaml").write_text(cfg.dump())
    options = ("--format", "torchscript", "--level", 1)
    done = run_tool("-m", "unet_sharp_det", "export", tmp_path / "model_final.pth", *options)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("max |difference|") == 3
    assert "model_final_L1.ts" in done.stdout
    traced = torch.jit.load(tmp_path / "model_final_L1.ts")
    assert traced(torch.zeros(1, 3, 21, 30)).shape == (1, 1, 21, 30)
