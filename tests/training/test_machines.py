"""A training on two machines: a killed process is replaced, and nothing of the training is lost.

The machines are network namespaces, or, where none can be made, two agents on localhost.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from unet_sharp_det.cli.train import main
from unet_sharp_det.data import register_coco_nuclei

INSTANT = "configs/quick_schedules/mask_rcnn_lite0_fpn_instant_test.yaml"
OPTIONS = ["MODEL.DEVICE", "cpu", "SOLVER.AMP.ENABLED", "False", "TEST.VALIDATION_LOSS", "False"]
OPTIONS += ["SEED", "3", "DATALOADER.REPLAYABLE", "True", "SOLVER.CHECKPOINT_PERIOD", "1"]


@dataclass(frozen=True)
class Machine:
    address: str
    interface: str
    namespace: str = ""

    @property
    def enter(self) -> list[str]:
        return ["ip", "netns", "exec", self.namespace] if self.namespace else []


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@contextlib.contextmanager
def namespaces():
    """Yield two machines with a cable between them."""
    names = [f"sharp{os.getpid()}{side}" for side in "ab"]
    with contextlib.ExitStack() as stack:
        for name in names:
            ip("netns", "add", name)
            stack.callback(ip, "netns", "del", name)
        ip(
            *"link add cable netns".split(),
            names[0],
            *"type veth peer cable netns".split(),
            names[1],
        )
        for number, name in enumerate(names, 1):
            ip("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", "cable")
            for interface in ("cable", "lo"):
                ip("-n", name, "link", "set", interface, "up")
        yield [Machine(f"10.77.0.{number}", "cable", name) for number, name in enumerate(names, 1)]


@pytest.fixture
def machines(record_property):
    with contextlib.ExitStack() as stack:
        try:
            found = stack.enter_context(namespaces())
        except (OSError, subprocess.CalledProcessError):
            found = [Machine("127.0.0.1", "lo")] * 2
        record_property("machines", "namespaces" if found[0].namespace else "localhost")
        yield found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


def on_one_core(number=0):
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[number % len(cores) :][:1])


@pytest.fixture
def start_agents(machines, environment, repository, tmp_path):
    """A function (train_net's arguments) that starts torchrun on each machine, on a core each."""
    started, port = [], free_port()

    def start(*arguments):
        for number, machine in enumerate(machines):
            command = [*machine.enter, sys.executable, "-m", "torch.distributed.run"]
            command += ["--nnodes", "2", "--nproc-per-node", "1", "--max-restarts", "3"]
            command += ["--rdzv-backend", "c10d", "--rdzv-conf", f"is_host={number == 0}"]
            command += ["--rdzv-endpoint", f"{machines[0].address}:{port}"]
            command += ["--local-addr", machine.address, str(repository / "tools/train_net.py")]
            with open(tmp_path / f"machine{number}.log", "w") as log:
                agent = subprocess.Popen(
                    [*command, *arguments],
                    env={
                        **environment,
                        "GLOO_SOCKET_IFNAME": machine.interface,
                        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
                    },
                    stdout=log,
                    stderr=log,
                    preexec_fn=lambda number=number: on_one_core(number),
                )
            started.append(agent)
        return started

    yield start
    for agent in started:
        agent.terminate()  # It ends its worker, too.
        agent.wait(60)


def writers(agents) -> list[int]:
    """The processes of rank 0 that agents have started."""
    children = []
    for agent in agents:
        for task in Path(f"/proc/{agent.pid}/task").glob("*/children"):
            children += map(int, task.read_text().split())
    return [pid for pid in children if b"\0RANK=0\0" in Path(f"/proc/{pid}/environ").read_bytes()]


def train_undisturbed(rank, port, arguments, data):
    """Be one of two workers, as torchrun's environment names them."""
    on_one_core(rank)
    for catalog in (DatasetCatalog, MetadataCatalog):
        catalog.remove("dsb2018_train")
    json_file = data / "annotations" / "dsb2018_train.json"
    register_coco_nuclei("dsb2018_train", json_file, data, ["nucleus"])
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK="0", LOCAL_WORLD_SIZE="1")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    main(arguments)


def test_a_killed_writer_is_replaced_and_the_weights_are_those_of_an_undisturbed_run(
    start_agents, converted_sample, repository, tmp_path
):
    config = ["--config-file", str(repository / INSTANT), *OPTIONS, "OUTPUT_DIR"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    agents = start_agents(*config, str(killed))
    logs = [tmp_path / f"machine{number}.log" for number in range(2)]
    end = time.monotonic() + 240
    while not (killed / "model_0000001.pth").exists():
        assert time.monotonic() < end, [log.read_text()[-2000:] for log in logs]
        time.sleep(0.01)
    (writer,) = writers(agents)
    os.kill(writer, signal.SIGKILL)
    ended = [agent.wait(240) for agent in agents]
    assert ended == [0, 0], [log.read_text()[-2000:] for log in logs]
    said = "".join(log.read_text() for log in logs)
    starts = [int(first) for first in re.findall(r"Starting training from iteration (\d+)", said)]
    assert starts in ([0, 1], [0, 2], [0, 3])
    assert (killed / "inference" / "ap_table.md").is_file()

    arguments = (free_port(), [*config, str(whole), "DATASETS.TEST", "()"], converted_sample)
    torch.multiprocessing.start_processes(
        train_undisturbed, arguments, nprocs=2, start_method="fork"
    )
    resumed, expected = (torch.load(each / "model_final.pth") for each in (killed, whole))
    assert resumed["iteration"] == expected["iteration"] == 3
    for name, value in expected["model"].items():
        assert torch.equal(value, resumed["model"][name]), name
