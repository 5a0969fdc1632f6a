"""What tests of several parts share: the repository's folders and its sample, converted once."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import fsspec
import numpy as np
import pytest
import torch
from browser import launch_chromium, page_opener
from detectron2.data import DatasetCatalog, MetadataCatalog
from tool_server import ToolServer

from unet_sharp_det.data.dsb2018_convert import convert_dsb2018

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def leave_nothing_behind():
    """Data sets that a test registers, and threads that it asks for, are unknown to the next one.

    Two threads in each of two processes on two cores make trainings ten times slower.
    """
    known, threads = set(DatasetCatalog.list()), torch.get_num_threads()
    yield
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    for name in set(DatasetCatalog.list()) - known:
        DatasetCatalog.remove(name)
        if name in MetadataCatalog.list():
            MetadataCatalog.remove(name)


@pytest.fixture
def foreground():
    """SIGINT as in a terminal: a shell's background processes ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def sample_folder() -> Path:
    """The sample that the repository ships."""
    return REPOSITORY / "datasets" / "sample"


@pytest.fixture
def write_png():
    """A function (path, array) that writes a PNG, making its folder."""

    def write(path, pixels):
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), np.asarray(pixels))
        return path

    return write


@pytest.fixture
def rgba():
    """A function (height, width, seed) that returns an opaque BGRA noise image."""

    def make(height=12, width=16, seed=0):
        pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 4), dtype=np.uint8)
        pixels[:, :, 3] = 255
        return pixels

    return make


@pytest.fixture(scope="session")
def converted_sample(sample_folder, tmp_path_factory) -> Path:
    """The sample, converted once for all tests, which only read it."""
    root = tmp_path_factory.mktemp("converted") / "dsb2018"
    convert_dsb2018(sample_folder, root)
    return root


@pytest.fixture
def memory_store(tmp_path, monkeypatch):
    """What ``memory://`` addresses are of, empty; files are fetched below ``tmp_path``."""
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]
    yield memory
    memory.store.clear()


@pytest.fixture(scope="session")
def environment(converted_sample) -> dict[str, str]:
    """The environment of a user's shell whose data sets are the converted sample."""
    paths = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "DETECTRON2_DATASETS": str(converted_sample.parent),
        "PYTHONPATH": os.pathsep.join(paths),
    }


@pytest.fixture(scope="session")
def run_tool(environment):
    """A function (script or "-m", *arguments) that runs Python on the repository, as a user would.

    In a fork of a process that has imported the package (a GPU allows no fork), unless detectron2's
    part of the environment has changed, which it reads when it is imported.
    """
    server = ToolServer(environment)

    def run(script, *arguments, timeout=300) -> subprocess.CompletedProcess:
        script = script if script == "-m" else str(REPOSITORY / script)
        command = [script, *map(str, arguments)]
        changed = environment.items() - server.environment.items()
        if torch.cuda.is_available() or any(name.startswith("DETECTRON2") for name, _ in changed):
            return subprocess.run(
                [sys.executable, *command],
                env=environment,
                capture_output=True,
                text=True,
                timeout=timeout,
            )
        return server.run(command, environment, timeout)

    yield run
    server.close()


@pytest.fixture(scope="session")
def chromium():
    """The machine's headless Chromium, or why there is none; see browser.py."""
    with launch_chromium() as browser:
        yield browser


@pytest.fixture
def browser_page(chromium):
    """A function (HTML file, width=1280, height=800, **options) that opens it; see OpenedPage."""
    with page_opener(chromium) as open_page:
        yield open_page
