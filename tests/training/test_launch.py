"""How many workers there may be, and what they talk by."""

import importlib
import os
import signal
from types import SimpleNamespace

import pytest
import torch

from unet_sharp_det.errors import ConfigError, UserError
from unet_sharp_det.training.launch import check_num_gpus

launch_module = importlib.import_module("unet_sharp_det.training.launch")


@pytest.mark.parametrize(
    ("count", "device", "choice"),
    [(65, "cuda", "Ask for 1, or"), (4096, "cpu", "Ask for 1"), (0, "cpu", "Ask for 1")],
)
def test_more_workers_than_there_are(count, device, choice, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match=f"--num-gpus {count}, .*{choice}"):
        check_num_gpus(count, device)


class TestCpuWorkersWhereThereAreGpus:
    """detectron2 and torchrun's part take NCCL where CUDA is available, which CPUs cannot use."""

    @pytest.fixture(autouse=True)
    def gpu(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")

    def test_of_the_launcher_see_none(self, monkeypatch):
        seen = []
        monkeypatch.setattr(signal, "signal", lambda *_: None)
        monkeypatch.setattr(
            launch_module,
            "detectron2_launch",
            lambda *_, dist_url, **__: seen.append((os.environ["CUDA_VISIBLE_DEVICES"], dist_url)),
        )
        launch_module.launch(None, SimpleNamespace(num_gpus=2), "cpu")
        assert seen == [("", "auto")]

    @pytest.mark.parametrize(("device", "backend"), [("cpu", "gloo"), ("cuda", "nccl")])
    def test_of_torchrun_talk_by_gloo(self, monkeypatch, device, backend):
        chosen, devices = [], []
        for name, value in [("LOCAL_RANK", "1"), ("LOCAL_WORLD_SIZE", "2")]:
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(torch.cuda, "set_device", devices.append)
        monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
        monkeypatch.setattr(launch_module.dist, "init_process_group", chosen.append)
        monkeypatch.setattr(launch_module.dist, "destroy_process_group", lambda: None)
        monkeypatch.setattr(launch_module.comm, "create_local_process_group", lambda _: None)
        ran, args = [], SimpleNamespace(resume=False)
        launch_module.launch(ran.append, args, device)
        assert (chosen, ran) == ([backend], [args])
        assert args.resume
        assert devices == ([1] if device == "cuda" else [])


def test_one_worker_is_always_there():
    check_num_gpus(1, "cuda")
    check_num_gpus(1, "cpu")


def test_the_first_worker_that_fails_tells_it(monkeypatch, capsys):
    store, waits = torch.distributed.HashStore(), []
    monkeypatch.setattr(torch.distributed.distributed_c10d, "_get_default_store", lambda: store)
    monkeypatch.setattr(launch_module.time, "sleep", waits.append)

    def fail(error):
        raise error

    for message in ("first", "second"):
        with pytest.raises(SystemExit) as ended:
            launch_module._run_worker(fail, UserError(message), "cpu")
        assert ended.value.code == 2
    assert capsys.readouterr().err == "error: first\n"
    assert waits == [60]
