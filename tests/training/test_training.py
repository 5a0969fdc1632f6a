"""Training as a user runs it: it learns, several workers agree, and a killed run goes on."""

import errno
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
from detectron2.engine import HookBase, TrainerBase

from unet_sharp_det.config import setup_cfg
from unet_sharp_det.data import register_coco_nuclei
from unet_sharp_det.errors import DatasetError, TrainingError
from unet_sharp_det.training import NucleiTrainer, explain_failure

INSTANT = "configs/quick_schedules/mask_rcnn_lite0_unetsharp_instant_test.yaml"
DEMO = "configs/DSB2018-InstanceSegmentation/compact/demo.yaml"


def test_overfits_two_images(overfitted_run):
    assert overfitted_run.results["segm"]["AP50"] > 80
    assert (overfitted_run.folder / "model_best.pth").is_file()
    metrics = (overfitted_run.folder / "metrics.json").read_text().splitlines()
    assert json.loads(metrics[-1])["validation/loss_mask"] > 0


class FullDisk(HookBase):
    def after_step(self):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_told_without_a_traceback(caplog):
    logger = logging.getLogger(TrainerBase.__module__)
    logger.addHandler(caplog.handler)  # detectron2's do not reach the root
    trainer = TrainerBase()
    trainer.run_step = lambda: None
    trainer.register_hooks([FullDisk()])
    try:
        with (
            pytest.raises(TrainingError, match=r"^out: cannot be written \(No space .*--resume"),
            explain_failure("out"),
        ):
            trainer.train(0, 2)
    finally:
        logger.removeHandler(caplog.handler)
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize(
    ("key", "name", "message"),
    [
        ("TEST", "dsb2018_vall", "DATASETS.TEST: 'dsb2018_vall' is not known. Did you mean"),
        ("TRAIN", "mine_train", "DATASETS.TRAIN: 'mine_train'.*DETECTRON2_ENV_MODULE"),
        ("TEST", "unconverted_val", "There is no file .*unconverted.*val.json"),
    ],
)
def test_unusable_data_are_told_before_anything_is_built(
    repository, tmp_path, monkeypatch, key, name, message
):
    json_file = tmp_path / "unconverted" / "val.json"
    register_coco_nuclei("unconverted_val", json_file, tmp_path, ["nucleus"])
    cfg = setup_cfg(str(repository / INSTANT), ["TEST.VALIDATION_LOSS", "False"])
    cfg.DATASETS[key] = (name,)
    if key == "TRAIN":
        cfg.DATASETS.TEST = ()
    monkeypatch.setattr(NucleiTrainer, "build_model", lambda *_: pytest.fail("built the model"))
    with pytest.raises(DatasetError, match=message):
        NucleiTrainer(cfg)


def test_two_processes_end_with_equal_weights(environment, repository, tmp_path):
    script = repository / "tests" / "training" / "train_and_save_each_rank.py"
    command = [sys.executable, str(script), str(repository / INSTANT), str(tmp_path)]
    subprocess.run(command, env=environment, check=True, timeout=300)
    first, second = (torch.load(tmp_path / f"rank{rank}.pth") for rank in range(2))
    assert first["images"] != second["images"]
    for name, value in first["model"].items():
        assert torch.equal(value, second["model"][name])
    name = "backbone.grid.nodes.0_3.0.0.weight"
    assert not torch.equal(first["before"][name], first["model"][name])


def test_a_killed_run_goes_on_from_its_last_checkpoint(environment, repository, tmp_path):
    command = [sys.executable, str(repository / "tools" / "train_net.py"), "--resume"]
    command += ["--config-file", str(repository / INSTANT), "OUTPUT_DIR", str(tmp_path)]
    command += ["SOLVER.MAX_ITER", "24", "SOLVER.CHECKPOINT_PERIOD", "2", "MODEL.DEVICE", "cpu"]
    command += ["TEST.VALIDATION_LOSS", "False"]
    with open(tmp_path / "first.log", "w") as log:
        run = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        deadline = time.monotonic() + 240
        while not (tmp_path / "model_0000003.pth").exists():
            assert run.poll() is None, (tmp_path / "first.log").read_text()[-3000:]
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
    assert not (tmp_path / "model_final.pth").exists()
    last = (tmp_path / "last_checkpoint").read_text()
    finished = int(re.fullmatch(r"model_(\d+)\.pth", last)[1])

    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"Starting training from iteration {finished + 1}" in done.stdout
    final = torch.load(tmp_path / "model_final.pth")
    assert final["iteration"] == 23
    assert final["trainer"]["iteration"] == 23


class TestBadInput:
    """What a user sees: one line, exit status 2, nothing left behind."""

    def train(self, run_tool, tmp_path, *options, flags=()):
        config = ["--config-file", INSTANT.removeprefix("configs/"), *flags]
        return run_tool("tools/train_net.py", *config, "OUTPUT_DIR", tmp_path / "out", *options)

    def test_one_line(self, run_tool, tmp_path):
        semantic = "configs/quick_schedules/unetsharp_cgm_instant_test.yaml"
        head = "MODEL.SEM_SEG_HEAD"
        mistakes = {
            "holds no image": [INSTANT, "DATASETS.TRAIN", "('dsb2018_test',)"],
            "Did you mean 'unetsharp'": [INSTANT, "MODEL.FPN.SKIP_SCHEME", "unetsharpp"],
            "Did you mean 'MODEL.FPN.SKIP_SCHEME'": [INSTANT, "MODEL.FPN.SKIP_SCHEM", "fpn"],
            "Did you mean 'AdamW'": [INSTANT, "SOLVER.OPTIMIZER", "AdmW"],
            "'nowhere.pth': there is no file of": [INSTANT, "MODEL.WEIGHTS", "nowhere.pth"],
            "CGM needs ACTIVATION: sigmoid": [
                *(semantic, f"{head}.ACTIVATION", "softmax", f"{head}.NUM_CLASSES", "2")
            ],
            "Did you mean 'unetpp'": [semantic, f"{head}.SKIP_SCHEME", "unet3pp"],
        }
        output = ["OUTPUT_DIR", str(tmp_path / "out")]
        commands = [
            ["--config-file", config.removeprefix("configs/"), *output, *options]
            for config, *options in mistakes.values()
        ]
        done = run_tool("tests/training/train_with_mistakes.py", json.dumps(commands))
        assert done.returncode == 0, done.stderr[-3000:]
        for message, (status, told) in zip(mistakes, json.loads(done.stdout), strict=True):
            assert status == 2, told
            assert "Traceback" not in told
            (error,) = [line for line in told.splitlines() if line.startswith("error: ")]
            assert message in error
        assert not list(tmp_path.rglob("*.pth"))

    def test_one_of_two_workers_tells(self, run_tool, tmp_path):
        options = ["MODEL.DEVICE", "cpu", "MODEL.FPN.SKIP_SCHEME", "unetsharpp"]
        flags = ["--num-gpus", "2", "--dist-url", "auto"]
        done = self.train(run_tool, tmp_path, *options, flags=flags)
        assert done.returncode == 2, done.stderr[-3000:]
        error = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert len(error) == 1
        assert "Did you mean 'unetsharp'" in error[0]

    def test_divergence_is_explained(self, run_tool, tmp_path):
        options = ["SOLVER.BASE_LR", "1e30", "SOLVER.WARMUP_ITERS", "0"]
        done = self.train(run_tool, tmp_path, *options)
        assert done.returncode == 2, done.stderr[-3000:]
        assert "Lower SOLVER.BASE_LR" in done.stderr
