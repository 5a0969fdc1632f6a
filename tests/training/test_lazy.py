"""Trainings of LazyConfigs: they stop, go on, evaluate and fail as those of YAML configs do."""

import json

import pytest
import torch
from detectron2.config import instantiate
from detectron2.engine import SimpleTrainer
from detectron2.utils.env import seed_all_rng

from unet_sharp_det.config import setup_cfg
from unet_sharp_det.errors import ConfigError, DatasetError
from unet_sharp_det.evaluation.record import EvaluationOptions, EvaluationRecord
from unet_sharp_det.training import (
    StopOnSignal,
    load_lazy_cfg,
    read_config,
)
from unet_sharp_det.training.lazy import LAZY_KEYS

DETECTOR = "configs/LazyConfigs/mask_rcnn_R_50_unetsharp.py"
SEMANTIC = "configs/LazyConfigs/unetsharp_semantic.py"
LOSS = "validation/total_loss"
SMALL = [
    "train.device=cpu",
    "train.amp.enabled=False",
    "train.seed=3",
    "train.replayable=True",
    "train.checkpointer.period=100",
    "model.backbone.channels=[4,4,8,8,16]",
    "model.sem_seg_head.decoder.options.edge_channels=4",
    "dataloader.train.mapper.augmentations.1.crop_size=[64,64]",
    "dataloader.train.total_batch_size=2",
    "dataloader.train.num_workers=0",
    "dataloader.test.mapper.augmentations.1.factors=[0.5]",
    "dataloader.test.num_workers=0",
]


@pytest.fixture
def train(repository, register_part):
    """A function (folder, *options, resume=False) that trains on three images."""
    name = register_part("three", lambda counts: sorted(counts, key=counts.get)[:3])
    options = [f"dataloader.{part}.dataset.names={name}" for part in ("train", "test")]

    def run(folder, *more, resume=False):
        folder.mkdir(exist_ok=True)
        more = [*SMALL, *options, f"train.output_dir={folder}", *more]
        cfg, trainer_class = read_config(str(repository / SEMANTIC), more)
        seed_all_rng(3)
        trainer = trainer_class(cfg)
        trainer.register_hooks([StopOnSignal(trainer.checkpointer)])
        trainer.resume_or_load(resume=resume)
        trainer.train()
        return trainer

    return run


def test_stops_early_and_stays_stopped(train, tmp_path, caplog):
    options = ["train.max_iter=5", "train.eval_period=1", "train.checkpointer.period=1"]
    options += ["train.checkpointer.max_to_keep=1", f"train.best_metric={LOSS}"]
    options += ["train.early_stopping.patience=1", "train.early_stopping.min_delta=1000"]
    caplog.set_level("INFO")
    for resume, message in ((False, "Stopped early at iteration 1"), (True, "had stopped early")):
        caplog.clear()
        train(tmp_path, *options, resume=resume)
        assert message in caplog.text
        assert "Exception" not in caplog.text
        lines = map(json.loads, (tmp_path / "metrics.json").read_text().splitlines())
        assert [line["iteration"] for line in lines if LOSS in line] == [1]
        assert torch.load(tmp_path / "model_final.pth")["iteration"] == 1
    state = torch.load(tmp_path / "model_0000000.pth")["trainer"]["hooks"]
    assert state["EarlyStopping"]["best_iter"] == state["BestCheckpointer"]["best_iter"] == 0
    record = EvaluationRecord.read(tmp_path / "inference")
    assert record.dataset == "three"
    assert record.options == EvaluationOptions()
    assert (tmp_path / "inference" / "speed.json").is_file()


def test_precision(train, tmp_path, monkeypatch):
    """bf16 reaches the network; a device that has no fp16 trains in float32."""
    dtypes = []
    monkeypatch.setattr(
        SimpleTrainer, "run_step", lambda self: dtypes.append(_dtype_of_a_product(self.model))
    )
    options = ["train.max_iter=1", "train.eval_period=0", "train.validation_loss=False"]
    options += ["train.best_metric=''", "train.amp.enabled=True"]
    train(tmp_path, *options, "train.amp.precision=bf16")
    assert dtypes == [torch.bfloat16]


def _dtype_of_a_product(model):
    found = []
    hook = model.sem_seg_head.register_forward_pre_hook(
        lambda module, inputs: found.append(inputs[0]["res0"].dtype)
    )
    image = {"image": torch.zeros(3, 64, 64), "sem_seg": torch.zeros(64, 64, dtype=torch.int64)}
    model.train()([image])
    hook.remove()
    return found[0]


def test_every_key_has_the_type_of_its_yaml_key(repository):
    """Of a config that sets no key of ours."""
    cfg, _ = read_config(str(repository / DETECTOR), [])
    default = setup_cfg()
    for key in LAZY_KEYS:
        ours, theirs = cfg, default
        for part in key.split("."):
            ours, theirs = ours[part], theirs[part]
        assert type(ours) is type(theirs), key


def test_a_config_without_our_keys_has_them(repository, tmp_path):
    lines = (repository / DETECTOR).read_text().splitlines()
    lines = [line for line in lines if not line.startswith(_OURS)]
    (tmp_path / "plain.py").write_text("\n".join(lines))
    cfg, _ = read_config(str(tmp_path / "plain.py"), ["train.early_stopping.patience=2"])
    assert cfg.TEST.BEST_METRIC == ""
    assert not cfg.TEST.VALIDATION_LOSS
    assert cfg.TEST.EARLY_STOPPING.PATIENCE == 2


_OURS = ("train.best_metric", "train.amp.precision", "train.validation_loss", "train.early_stop")


class TestBadInput:
    @pytest.mark.parametrize(
        ("option", "message"),
        [
            ("train.max_iters=2", "Did you mean 'max_iter'"),
            ("model.backbone.options.node_channel=2", "Did you mean 'node_channels'"),
            ("dataloader.train.mapper.augmentations.9.prob=1", "index: '9'"),
            ("train.max_iter", "'path.key=value'"),
        ],
    )
    def test_unknown_key(self, repository, option, message):
        with pytest.raises(ConfigError, match=message):
            load_lazy_cfg(str(repository / DETECTOR), [option])

    def test_an_argument_of_the_target_is_known(self, repository):
        cfg = load_lazy_cfg(str(repository / DETECTOR), ["model.backbone.options.node_channels=32"])
        assert cfg.model.backbone.options.node_channels == 32

    def test_unknown_data(self, repository):
        options = ["dataloader.test.dataset.names=dsb2018_vall"]
        cfg, trainer_class = read_config(str(repository / DETECTOR), options)
        with pytest.raises(DatasetError, match="dataloader.test.dataset.names: 'dsb2018_vall'"):
            trainer_class(cfg)

    def test_replayable_data_take_no_sampler(self, train, tmp_path):
        with pytest.raises(ConfigError, match="dataloader.train: 'sampler' is not known"):
            train(tmp_path, "dataloader.train.sampler=null")


def test_detectors_are_evaluated_as_those_of_yaml(repository, register_part, tmp_path):
    name = register_part("one_image", lambda counts: list(counts)[:1])
    options = [f"dataloader.test.dataset.names={name}", f"train.output_dir={tmp_path}"]
    evaluators = instantiate(
        load_lazy_cfg(str(repository / DETECTOR), options).dataloader.evaluator
    )
    evaluators.reset()
    assert set(evaluators.evaluate()) == {"bbox", "segm", "instances", "foreground"}
    record = EvaluationRecord.read(tmp_path / "inference")
    assert record.dataset == name
    file = repository / "configs" / "DSB2018-InstanceSegmentation" / "mask_rcnn_R_50_unetsharp.yaml"
    assert record.options == EvaluationOptions.from_config(setup_cfg(str(file)))


def test_the_tool_trains_goes_on_and_evaluates(run_tool, repository, tmp_path):
    options = [
        "train.init_checkpoint=''",
        "optimizer.lr=1e-6",
        "train.max_iter=2",
        "dataloader.train.mapper.augmentations.0.crop_size=[64,64]",
        "dataloader.train.total_batch_size=1",
        "dataloader.train.num_workers=0",
        "dataloader.test.num_workers=0",
        "dataloader.test.mapper.augmentations.0.factors=[0.25]",
        f"train.output_dir={tmp_path}",
    ]

    def run(*more, flags=()):
        command = ["tools/train_net.py", "--config-file", repository / DETECTOR, *flags]
        done = run_tool(*command, *options, *more)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    def results():
        return json.loads((tmp_path / "inference" / "metrics.json").read_text())["results"]

    run()
    assert (tmp_path / "model_final.pth").is_file()
    assert (tmp_path / "model_best.pth").is_file()
    assert set(results()) == {"bbox", "segm"}
    assert "Starting training from iteration 2" in run("train.max_iter=3", flags=["--resume"])
    of_training = results()
    run(f"train.init_checkpoint={tmp_path / 'model_final.pth'}", flags=["--eval-only"])
    assert results() == of_training
