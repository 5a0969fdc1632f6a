"""What trackers get of a training: read again from their local files, by no network."""

import json
import struct
import sys
import time

import pytest
from detectron2.engine import HookBase
from detectron2.utils import comm
from sigterm import SigtermAt
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from unet_sharp_det.config import setup_cfg
from unet_sharp_det.errors import ConfigError
from unet_sharp_det.training import EarlyStop, NucleiTrainer, StopOnSignal
from unet_sharp_det.training.tracking import build_tracker

SEMANTIC = "configs/quick_schedules/unetsharp_cgm_instant_test.yaml"
OPTIONS = ["MODEL.DEVICE", "cpu", "SOLVER.AMP.ENABLED", "False", "SOLVER.MAX_ITER", "3"]
OPTIONS += ["TEST.VALIDATION_LOSS", "False", "DATALOADER.NUM_WORKERS", "0"]


class Mlflow:
    """Reads what is in a folder of MLflow."""

    def __init__(self, monkeypatch, folder):
        pytest.importorskip("mlflow")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{folder}/mlruns")
        monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")

    def runs(self):
        from mlflow import MlflowClient

        self._client = MlflowClient()
        return [run.info.run_id for run in self._client.search_runs(["0"])]

    def is_finished(self, run_id):
        return self._client.get_run(run_id).info.status == "FINISHED"

    def config(self, run_id):
        return self._client.get_run(run_id).data.params

    def scalars(self, run_id):
        names = self._client.get_run(run_id).data.metrics
        histories = (self._client.get_metric_history(run_id, name) for name in names)
        return {(each.key, each.step): each.value for found in histories for each in found}

    def images(self, run_id):
        files = self._client.list_artifacts(run_id, "images")
        return [each.path for each in files if each.path.endswith(".png")]


class Wandb:
    """Reads what is in an offline folder of Weights & Biases."""

    def __init__(self, monkeypatch, folder):
        wandb = pytest.importorskip("wandb")
        monkeypatch.setenv("WANDB_MODE", "offline")
        monkeypatch.setenv("WANDB_SILENT", "true")
        monkeypatch.setattr(wandb, "run", None)
        self._folder = folder / "out" / "wandb"

    def runs(self):
        self._records = {}
        for file in sorted(self._folder.glob("offline-run-*/run-*.wandb")):
            run_id = file.stem.removeprefix("run-")
            self._records.setdefault(run_id, []).extend(self._finished(file))
        return list(self._records)

    @staticmethod
    def _finished(file):
        """The records once the last is there, and whole: another process writes them."""
        broken = pytest.importorskip("google.protobuf.message").DecodeError
        end = time.monotonic() + 30
        while True:
            try:
                records = list(wandb_records(file.read_bytes()))
            except (struct.error, broken):
                records = []
            if any(each.HasField("exit") for each in records) or time.monotonic() > end:
                return records
            time.sleep(0.1)

    def is_finished(self, run_id):
        codes = [each.exit.exit_code for each in self._records[run_id] if each.HasField("exit")]
        return codes[-1] == 0

    def config(self, run_id):
        runs = [each.run for each in self._records[run_id] if each.HasField("run")]
        return {each.key: json.loads(each.value_json) for each in runs[0].config.update}

    def _history(self, run_id):
        for record in self._records[run_id]:
            for item in record.history.item:
                yield item.nested_key, record.history.step.num, json.loads(item.value_json)

    def scalars(self, run_id):
        found = self._history(run_id)
        return {(names[0], step): value for names, step, value in found if len(names) == 1}

    def images(self, run_id):
        return [value for names, _, value in self._history(run_id) if names[1:] == ["path"]]


def wandb_records(content):
    """The records of a .wandb file, which is a log of LevelDB after 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    place, parts = 7, b""
    while place < len(content):
        left = 2**15 - place % 2**15
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(parts)
            parts = b""


@pytest.fixture
def train(repository, register_part, tmp_path):
    """A function (tracker, *hooks, resume=False) that trains 3 iterations in tmp_path/out."""
    name = register_part("one", lambda counts: [min(counts, key=counts.get)])

    def run(tracker, *hooks, resume=False):
        folder = tmp_path / "out"
        folder.mkdir(exist_ok=True)
        options = [*OPTIONS, "OUTPUT_DIR", str(folder), "TRACKING", tracker]
        options += ["DATASETS.TRAIN", f"('{name}',)", "DATASETS.TEST", f"('{name}',)"]
        trainer = NucleiTrainer(setup_cfg(str(repository / SEMANTIC), options))
        trainer.register_hooks([*hooks, StopOnSignal(trainer.checkpointer)])
        trainer.resume_or_load(resume=resume)
        trainer.train()

    return run


@pytest.mark.parametrize("kind", [Wandb, Mlflow])
def test_a_stopped_training_and_the_rest_of_it_are_one_run(train, tmp_path, monkeypatch, kind):
    tracker = kind(monkeypatch, tmp_path)
    with pytest.raises(SystemExit):
        train(kind.__name__.lower(), SigtermAt(1))
    (run_id,) = tracker.runs()
    assert not tracker.is_finished(run_id)
    train(kind.__name__.lower(), resume=True)
    assert tracker.runs() == [run_id]
    assert tracker.is_finished(run_id)
    assert tracker.config(run_id)["SOLVER.MAX_ITER"] == "3"

    expected = {}
    for line in map(json.loads, (tmp_path / "out" / "metrics.json").read_text().splitlines()):
        iteration = line.pop("iteration")
        expected |= {(name, iteration): value for name, value in line.items()}
    assert {("total_loss", 1), ("total_loss", 2), ("sem_seg/IoU_image_mean", 3)} <= set(expected)
    found = tracker.scalars(run_id)
    assert {each: found.get(each) for each in expected} == pytest.approx(expected)

    assert len(tracker.images(run_id)) == 1
    (folder,) = {file.parent for file in tmp_path.rglob("events.out.tfevents.*")}
    assert len(EventAccumulator(str(folder)).Reload().Tags()["images"]) == 1


class Raise(HookBase):
    def __init__(self, error):
        self._error = error

    def after_step(self):
        raise self._error


@pytest.mark.parametrize(("error", "status"), [(EarlyStop(), "FINISHED"), (OSError(), "FAILED")])
def test_how_a_run_ends(train, tmp_path, monkeypatch, error, status):
    tracker = Mlflow(monkeypatch, tmp_path)
    try:
        train("mlflow", Raise(error))
    except OSError:
        assert status == "FAILED"
    (run_id,) = tracker.runs()
    assert tracker._client.get_run(run_id).info.status == status
    assert ("total_loss", 0) in tracker.scalars(run_id)


def test_of_several_workers_the_first_has_the_run(monkeypatch, tmp_path):
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    assert build_tracker("mlflow", str(tmp_path), {}) is None


class TestBadInput:
    def test_an_unknown_tracker(self, train):
        with pytest.raises(ConfigError, match="TRACKING.*Did you mean 'wandb'"):
            train("wandbb")

    def test_a_missing_package(self, train, monkeypatch):
        monkeypatch.setitem(sys.modules, "mlflow", None)
        with pytest.raises(ConfigError, match=r"mlflow.*missing.*unet_sharp_det\[tracking\]"):
            train("mlflow")

    def test_a_tracker_that_is_not_set_up(self, train, monkeypatch, tmp_path):
        Mlflow(monkeypatch, tmp_path)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://runs")
        with pytest.raises(ConfigError, match="mlflow cannot start a run: .*nowhere"):
            train("mlflow")
