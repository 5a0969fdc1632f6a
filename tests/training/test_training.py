"""Training as a user runs it: it learns, several workers agree, and mistakes are told."""

import errno
import json
import logging

import pytest
import torch
from detectron2.engine import HookBase, TrainerBase
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from two_processes import train_in_two_processes

from unet_sharp_det.config import setup_cfg
from unet_sharp_det.data import register_coco_nuclei
from unet_sharp_det.errors import CheckpointError, ConfigError, DatasetError, TrainingError
from unet_sharp_det.training import NucleiTrainer, explain_failure
from unet_sharp_det.training.run import kept_config

INSTANT = "configs/quick_schedules/mask_rcnn_lite0_unetsharp_instant_test.yaml"
DEMO = "configs/DSB2018-InstanceSegmentation/compact/demo.yaml"


def test_overfits_two_images(register_part, repository, tmp_path):
    """Always the same views, so that a Mask R-CNN knows them by heart."""

    def fewest_nuclei(counts):
        return [i for _, i in sorted((n, i) for i, n in counts.items() if n >= 10)[:2]]

    name = register_part("two", fewest_nuclei)
    cfg = setup_cfg(str(repository / DEMO), ["MODEL.DEVICE", "cpu", "OUTPUT_DIR", str(tmp_path)])
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = (name,)
    cfg.INPUT.SCALE_TRAIN, cfg.INPUT.SCALE_TEST = [1.0], 1.0
    cfg.INPUT.CROP.SIZE = [96, 96]
    cfg.INPUT.COLOR.PROB = 0.0
    cfg.INPUT.RANDOM_ROTATE90 = False
    cfg.INPUT.RANDOM_FLIP = "none"
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.WARMUP_ITERS = 60, 5
    cfg.SOLVER.BASE_LR = 0.002
    cfg.SOLVER.AMP.ENABLED = False
    cfg.TEST.VALIDATION_LOSS = True
    seed_all_rng(0)  # numpy draws the order of the images
    trainer = NucleiTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    assert trainer._last_eval_results["segm"]["AP50"] > 80
    assert (tmp_path / "model_best.pth").is_file()
    metrics = (tmp_path / "metrics.json").read_text().splitlines()
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
        ("TRAIN", "mine_train", "'mine_train'.*in none .set DETECTRON2_DATASETS.*ENV_MODULE"),
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
    monkeypatch.setenv("DETECTRON2_DATASETS", "none")
    with pytest.raises(DatasetError, match=message):
        NucleiTrainer(cfg)


def test_a_refused_run_leaves_the_config_of_a_former_one(tmp_path):
    @kept_config(tmp_path)
    def refused():
        (tmp_path / "config.yaml").write_text("new")
        raise ConfigError("another scheme than that of the checkpoint")

    (tmp_path / "config.yaml").write_text("former")
    with pytest.raises(ConfigError):
        refused()
    assert (tmp_path / "config.yaml").read_text() == "former"


def test_values_that_detectron2_asserts(repository, monkeypatch):
    cfg = setup_cfg(str(repository / INSTANT), ["MODEL.META_ARCHITECTURE", "MaskRCNN"])
    with pytest.raises(ConfigError, match="'MaskRCNN' found in 'META_ARCH' registry!.* Correct"):
        NucleiTrainer.build_model(cfg)
    for key, value, message in [
        ("MODEL.RPN.IN_FEATURES", ["p2", "p9"], "KeyError: 'p9'"),
        ("MODEL.PIXEL_STD", [1.0], "have different shapes"),
    ]:
        wrong = setup_cfg(str(repository / INSTANT), ["MODEL.DEVICE", "cpu"])
        wrong.merge_from_list([key, value])
        with pytest.raises(ConfigError, match=f"The model cannot be built .*{message}"):
            NucleiTrainer.build_model(wrong)
    cfg.SOLVER.OPTIMIZER, cfg.SOLVER.LR_SCHEDULER_NAME = "AdmW", "WarmupStepWithFixedGammaLR"
    with pytest.raises(ConfigError, match="SOLVER.OPTIMIZER.* Did you mean 'AdamW'"):
        NucleiTrainer.build_optimizer(cfg, None)
    for key, value, message in [
        ("SOLVER.MAX_ITER", 0, "SOLVER.MAX_ITER is 0. Give 1 or more"),
        ("SOLVER.CHECKPOINT_PERIOD", -1, "SOLVER.CHECKPOINT_PERIOD is -1. Give 1 or more"),
        ("SOLVER.LR_SCHEDULER_NAME", "WarmupCosine", "Did you mean 'WarmupCosineLR'"),
        ("SOLVER.NUM_DECAYS", 9, "SOLVER.NUM_DECAYS is 9. Give 1 to SOLVER.MAX_ITER, which is 4"),
        ("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "norms", "Did you mean 'norm'"),
        ("DATALOADER.NUM_WORKERS", -1, "DATALOADER.NUM_WORKERS is -1. Give 0 or more"),
        ("DATALOADER.SAMPLER_TRAIN", "Sampler", "Did you mean 'TrainingSampler'"),
        ("DATASETS.TRAIN", (), "DATASETS.TRAIN is empty. Name"),
    ]:
        wrong = cfg.clone()
        wrong.merge_from_list([key, value])
        with pytest.raises(ConfigError, match=message):
            NucleiTrainer(wrong)
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    for batch in (0, 3):
        cfg.SOLVER.IMS_PER_BATCH = batch
        with pytest.raises(ConfigError, match=r"IMS_PER_BATCH is \d. Set a multiple of the 2"):
            NucleiTrainer.build_train_loader(cfg)


def test_two_processes_end_with_equal_weights(register_part, repository, tmp_path):
    name = register_part("four", lambda counts: sorted(counts, key=counts.get)[:4])
    options = ["MODEL.DEVICE", "cpu", "SOLVER.AMP.ENABLED", "False", "OUTPUT_DIR", str(tmp_path)]
    options += ["DATASETS.TRAIN", f"('{name}',)", "DATASETS.TEST", "()"]
    first, second = train_in_two_processes(setup_cfg(str(repository / INSTANT), options))
    assert first["images"] != second["images"]
    for name, value in first["model"].items():
        assert torch.equal(value, second["model"][name])
    name = "backbone.grid.nodes.0_3.0.0.weight"
    assert not torch.equal(first["before"][name], first["model"][name])


def test_a_run_goes_on_with_its_own_model_and_optimizer_only(register_part, repository, tmp_path):
    name = register_part("two", lambda counts: sorted(counts, key=counts.get)[:2])
    options = ["MODEL.DEVICE", "cpu", "OUTPUT_DIR", str(tmp_path), "SOLVER.AMP.ENABLED", "False"]
    options += ["DATASETS.TRAIN", f"('{name}',)", "DATASETS.TEST", "()"]

    def build(*more):
        return NucleiTrainer(setup_cfg(str(repository / INSTANT), [*options, *more]))

    build().checkpointer.save("model_0000000", iteration=0)
    for other, message in [
        (["MODEL.ROI_HEADS.NUM_CLASSES", "2"], "does not hold the weights of this model"),
        (["SOLVER.OPTIMIZER", "SGD"], "its run has another optimizer"),
        (["SOLVER.BIAS_LR_FACTOR", "2.0"], "its run has another optimizer"),
    ]:
        with pytest.raises(CheckpointError, match=message):
            build(*other).resume_or_load(resume=True)
    in_fp16 = build("SOLVER.AMP.ENABLED", "True", "SOLVER.AMP.PRECISION", "fp16")
    in_fp16.resume_or_load(resume=True)
    assert in_fp16.start_iter == 1


class TestBadInput:
    """What a user sees: one line, exit status 2, nothing left behind."""

    def train(self, run_tool, tmp_path, *options, flags=()):
        config = ["--config-file", INSTANT.removeprefix("configs/"), *flags]
        return run_tool("tools/train_net.py", *config, "OUTPUT_DIR", tmp_path / "out", *options)

    def test_one_line(self, run_tool, tmp_path):
        mistakes = {
            "holds no image": ["DATASETS.TRAIN", "('dsb2018_test',)"],
            "Did you mean 'MODEL.FPN.SKIP_SCHEME'": ["MODEL.FPN.SKIP_SCHEM", "fpn"],
            "'nowhere.pth': there is no file of": ["MODEL.WEIGHTS", "nowhere.pth"],
        }
        for message, options in mistakes.items():
            done = self.train(run_tool, tmp_path, *options)
            assert done.returncode == 2, done.stderr
            assert "Traceback" not in done.stderr
            (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
            assert message in error
        assert not list(tmp_path.rglob("*.pth"))

    def test_one_of_two_workers_tells(self, run_tool, tmp_path):
        options = ["MODEL.DEVICE", "cpu", "MODEL.FPN.SKIP_SCHEME", "unetsharpp"]
        done = self.train(run_tool, tmp_path, *options, flags=["--num-gpus", "2"])
        assert done.returncode == 2, done.stderr[-3000:]
        error = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert len(error) == 1
        assert "Did you mean 'unetsharp'" in error[0]

    def test_divergence_is_explained(self, run_tool, tmp_path):
        options = ["SOLVER.BASE_LR", "1e30", "SOLVER.WARMUP_ITERS", "0"]
        done = self.train(run_tool, tmp_path, *options)
        assert done.returncode == 2, done.stderr[-3000:]
        assert "Lower SOLVER.BASE_LR" in done.stderr
