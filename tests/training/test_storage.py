"""A training's folder at an address: what is brought there, who may write, what a resume finds."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from detectron2.utils import comm
from torch import nn
from torch.multiprocessing import start_processes

from unet_sharp_det import training
from unet_sharp_det.addresses import local_path
from unet_sharp_det.checkpoints import open_trained_model
from unet_sharp_det.checkpoints.loading import SkipCheckpointer
from unet_sharp_det.cli.train import parse_args
from unet_sharp_det.errors import UserError
from unet_sharp_det.training import storage
from unet_sharp_det.training.run import _work
from unet_sharp_det.training.storage import WriterLock, stored_run

RUN = "memory://bucket/run"


def save(folder, number, **files):
    for name, content in {f"model_{number}.pth": str(number), **files}.items():
        with open(os.path.join(folder, name), "w") as file:
            file.write(content)
    with open(os.path.join(folder, "last_checkpoint"), "w") as file:
        file.write(f"model_{number}.pth")


def held(store) -> dict:
    files = {path.removeprefix("/bucket/run/"): store.cat_file(path) for path in store.find("/")}
    return {name: content for name, content in files.items() if "writer.lock" not in name}


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """A function after which this is another machine."""
    return lambda: monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "elsewhere"))


def start(resume=True, wait_s=0):
    return stored_run(RUN, resume=resume, wait_s=wait_s)


def test_what_is_new_is_brought_and_the_last_checkpoint_named_last(memory_store, monkeypatch):
    brought, put_file = [], type(memory_store).put_file
    monkeypatch.setattr(
        type(memory_store),
        "put_file",
        lambda *args, **_: brought.append(args[2][12:]) or put_file(*args),
    )
    with start(resume=False) as (folder, bring):
        save(folder, 1, log="a")
        bring()
        assert sorted(brought[:2]) == ["log", "model_1.pth"]
        assert brought[2:] == ["last_checkpoint"]
        os.remove(f"{folder}/model_1.pth")
        save(folder, 2)
        bring()
        assert brought[3:] == ["model_2.pth", "last_checkpoint"]
        save(folder, 2, log="ab")
    assert held(memory_store) == {
        "log": b"ab",
        "model_2.pth": b"2",
        "last_checkpoint": b"model_2.pth",
    }


def test_another_machine_gets_the_last_checkpoint_and_the_small_files(memory_store, elsewhere):
    with start(resume=False) as (folder, _):
        save(folder, 1, log="a")
        save(folder, 2)
    elsewhere()
    with start() as (folder, _):
        names = [name for name in sorted(os.listdir(folder)) if name[0] != "."]
        assert names == ["last_checkpoint", "log", "model_2.pth", "writer.lock"]
        save(folder, 3)
    assert sorted(held(memory_store)) == [
        *("last_checkpoint", "log", "model_1.pth", "model_2.pth", "model_3.pth")
    ]


def test_a_new_run_takes_nothing_of_an_old_one(memory_store):
    with start(resume=False) as (folder, _):
        save(folder, 1)
    memory_store.store.clear()
    with start(resume=False):
        pass
    with start() as (folder, _):
        assert not os.path.exists(f"{folder}/last_checkpoint")
    assert held(memory_store) == {}


def test_what_could_not_be_brought_is_brought_by_a_resume(memory_store, monkeypatch, caplog):
    def refuse(*_, **__):
        raise PermissionError("Access Denied")

    def run():
        with start(resume=False) as (folder, bring):
            save(folder, 1)
            bring()
            assert "Access Denied" in caplog.text

    with monkeypatch.context() as broken:
        broken.setattr(type(memory_store), "put_file", refuse)
        with pytest.raises(UserError, match="run: cannot be written .*Denied.*All files are in "):
            run()
    assert held(memory_store) == {}
    with start() as (folder, _):
        assert len(held(memory_store)) == 2
        assert os.path.exists(f"{folder}/last_checkpoint")


def test_another_run_of_that_address_is_not_mixed_with_that_of_this_machine(
    memory_store, tmp_path, monkeypatch
):
    with start(resume=False) as (folder, _):
        save(folder, 1, log="a")
    memory_store.store.clear()
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("FVCORE_CACHE", str(tmp_path / "elsewhere"))
        with start(resume=False) as (folder, _):
            save(folder, 2)
    with start() as (folder, _):
        assert Path(folder, "last_checkpoint").read_text() == "model_2.pth"
    assert sorted(held(memory_store)) == ["last_checkpoint", "model_2.pth"]


def test_what_was_fetched_in_part_is_not_brought(memory_store, elsewhere, monkeypatch):
    def cut(store, source, target):
        Path(target).write_text("")
        raise ConnectionError("cut")

    with start(resume=False) as (folder, _):
        save(folder, 1)
    elsewhere()
    with monkeypatch.context() as broken:
        broken.setattr(type(memory_store), "get_file", cut)
        with pytest.raises(UserError, match="run: cannot be reached .*cut"), start():
            pytest.fail("began without the checkpoint")
    assert held(memory_store)["model_1.pth"] == b"1"
    with start() as (folder, _):
        assert Path(folder, "model_1.pth").read_text() == "1"


class Clock:
    """Time that goes on only while somebody sleeps."""

    def __init__(self, monkeypatch):
        self.now, self.on_sleep = 0.0, lambda: None
        monkeypatch.setattr(storage, "time", self)

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        self.on_sleep()


class TestWriterLock:
    @pytest.fixture
    def clock(self, monkeypatch):
        return Clock(monkeypatch)

    @pytest.fixture
    def lock(self, memory_store):
        return lambda: WriterLock(memory_store, "/bucket/lock", "memory://bucket")

    @pytest.mark.parametrize("wait_s", [0, 100])
    def test_one_that_is_alive_is_left_alone(self, lock, clock, memory_store, wait_s):
        lock().acquire(0, dead=None)

        def beat():
            if clock.now % 20 == 0:
                memory_store.pipe_file("/bucket/lock/1", f"a {clock.now}".encode())

        clock.on_sleep = beat
        with pytest.raises(UserError, match="memory://bucket: another process writes there"):
            lock().acquire(wait_s, dead=None)
        assert clock.now == max(20, wait_s)

    def test_one_that_died_is_followed_after_90_s(self, lock, clock):
        first, second = lock(), lock()
        first.acquire(0, dead=None)
        assert second.acquire(0, dead=None) == first.token
        assert clock.now == 90
        assert second.number == second.newest()[0] == 2

    def test_one_that_ended_is_followed_at_once(self, lock, clock):
        first, second = lock(), lock()
        first.acquire(0, dead=None)
        first.release()
        second.acquire(0, dead=None)
        assert lock().acquire(0, dead=second.token) == second.token
        assert clock.now == 0

    def test_of_two_that_follow_at_once_one_wins(self, lock, clock, monkeypatch):
        first, second = lock(), lock()
        before = lock()
        before.acquire(0, dead=None)
        seen = first.newest()
        second.acquire(0, dead=before.token)
        with monkeypatch.context() as late:
            late.setattr(first, "newest", lambda: seen)
            clock.on_sleep = late.undo
            with pytest.raises(UserError, match="another process writes there"):
                first.acquire(0, dead=before.token)
        assert second.number == second.newest()[0] == 2


def test_a_run_that_was_taken_over_writes_nothing_more(memory_store):
    def run():
        with start(resume=False) as (folder, bring):
            other = WriterLock(memory_store, "/bucket/run/writer.lock", RUN)
            other.acquire(0, dead=other.newest()[1])
            save(folder, 1)
            bring()

    with pytest.raises(UserError, match="another process took this run over"):
        run()
    assert held(memory_store) == {}


def work(rank, settings, machines, folder):
    """A worker on one of two machines that share no folder but the store's."""
    os.environ["FVCORE_CACHE"] = str(machines[rank])
    rendezvous = f"file://{folder}/rendezvous"
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=2)
    comm.create_local_process_group(1)
    _work(parse_args(settings))
    dist.destroy_process_group()


def stand_in(args, cfg, trainer_class, after_save, place):
    """Write a checkpoint, and check that the one before is there."""
    assert not trainer_class.lazy or trainer_class.lazy.train.output_dir == cfg.OUTPUT_DIR
    number = int(cfg.SEED)
    checkpointer = SkipCheckpointer(nn.Linear(1, 1), cfg.OUTPUT_DIR)
    checkpointer.after_save = after_save
    last = checkpointer.get_checkpoint_file() if checkpointer.has_checkpoint() else ""
    assert os.path.basename(last) == (f"model_{number - 1}.pth" if number else "")
    assert not last or torch.load(last)["number"] == number - 1
    comm.synchronize()
    checkpointer.save(f"model_{number}", number=number)


@pytest.mark.parametrize("config", ["", "LazyConfigs/unetsharp_semantic.py"])
def test_two_machines_change_their_parts(config, tmp_path, monkeypatch):
    """The second one goes on as the writer, from a checkpoint that the first one wrote."""
    monkeypatch.setattr(training.run, "_train_or_evaluate", stand_in)
    settings = ["--resume", "--config-file", config]
    machines = [tmp_path / "a", tmp_path / "b"]
    for number in range(2):
        keys = [f"OUTPUT_DIR file://{tmp_path}/store".split(), ["SEED", str(number)]]
        if config:
            keys = [[f"train.output_dir=file://{tmp_path}/store"], [f"train.seed={number}"]]
        (tmp_path / str(number)).mkdir()
        arguments = ([*settings, *keys[0], *keys[1]], machines, tmp_path / str(number))
        start_processes(work, arguments, nprocs=2, start_method="fork")
        machines.reverse()
    assert torch.load(tmp_path / "store" / "model_1.pth")["number"] == 1
    assert (tmp_path / "store" / "writer.lock" / "2").read_text().endswith(" released")


def test_a_killed_training_on_s3_goes_on(
    environment, repository, converted_sample, tmp_path, monkeypatch
):
    """Config, data, weights and folder in a bucket, by the protocol of S3."""
    moto = pytest.importorskip("moto.server", reason="needs: pip install 'moto[server]' s3fs")
    s3fs = pytest.importorskip("s3fs", reason="needs: pip install 'moto[server]' s3fs")
    server = moto.ThreadedMotoServer(port=0)
    server.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*server.get_host_and_port()))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    bucket = s3fs.S3FileSystem(use_listings_cache=False)
    bucket.mkdir("bucket")
    bucket.put(str(converted_sample), "bucket/data/", recursive=True)
    bucket.put(str(repository / "configs"), "bucket/", recursive=True)
    environment = {**environment, **os.environ, "DETECTRON2_DATASETS": "s3://bucket/data"}
    config = "s3://bucket/configs/quick_schedules/mask_rcnn_lite0_fpn_instant_test.yaml"
    command = [sys.executable, "-m", "unet_sharp_det", "train", "--resume"]
    command += ["--config-file", config, "OUTPUT_DIR", "s3://bucket/run", "MODEL.DEVICE", "cpu"]
    command += ["DATASETS.TEST", "()", "SOLVER.CHECKPOINT_PERIOD", "1", "SOLVER.MAX_ITER", "6"]
    with open(tmp_path / "log", "w") as log:
        run = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        while not bucket.exists("bucket/run/last_checkpoint"):
            assert run.poll() is None, (tmp_path / "log").read_text()[-3000:]
            time.sleep(0.02)
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        named = bucket.cat("bucket/run/last_checkpoint").decode()
        subprocess.run(command, env=environment, stdout=log, stderr=log, check=True)
    started = re.findall(r"Starting training from iteration (\d+)", (tmp_path / "log").read_text())
    assert int(started[0]) == 0 < int(started[1])
    assert torch.load(local_path(f"s3://bucket/run/{named}"))["iteration"] + 1 <= int(started[1])
    assert torch.load(local_path("s3://bucket/run/model_final.pth"))["iteration"] == 5
    assert b"\nOUTPUT_DIR: s3://bucket/run\n" in bucket.cat("bucket/run/config.yaml")
    model, _ = open_trained_model("s3://bucket/run/model_final.pth", device="cpu")
    assert isinstance(model, nn.Module)
    server.stop()
