"""Runs on Dask's workers: the same files as one process writes, whatever dies on the way."""

import errno
import functools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import dask
import pytest
from distributed import Client, KilledWorker, LocalCluster
from prediction_models import BrightBlobs, predictor_of
from run_files import OF_ALL, contents, files, rows, run, write_images, write_stack
from stub_predictor import StubPredictor, spots

from unet_sharp_det.batch import dask_units
from unet_sharp_det.batch.dask_units import DaskUnits, open_client
from unet_sharp_det.errors import ConfigError, UserError
from unet_sharp_det.files import _temporary_of


@pytest.fixture(scope="module")
def threads():
    """A client of two workers in this process."""
    options = {"processes": False, "dashboard_address": None}
    with LocalCluster(n_workers=2, threads_per_worker=1, **options) as cluster:
        with Client(cluster) as client:
            yield client


@pytest.fixture(autouse=True)
def nothing_is_loaded():
    dask_units._work_of.cache_clear()
    dask_units._open.cache_clear()


@pytest.fixture
def images(tmp_path):
    return write_images(tmp_path / "images")


def load_tiling(**options):
    return predictor_of(BrightBlobs(), tile_size=64, tile_overlap=16, **options)


def test_the_files_are_those_of_one_process(images, tmp_path, threads, monkeypatch):
    """Single images, a stack, one that is cut into tiles, and one whose blocks go to workers."""
    monkeypatch.setattr(dask_units, "LARGE", 150 * 150)
    cv2.imwrite(str(images / "tiled.png"), spots(1, 100, 120, count=9) * 3)
    cv2.imwrite(str(images / "large.png"), spots(2, 230, 300, count=40) * 3)
    write_stack(images / "stack.tif", [spots(seed) for seed in range(3)])
    (images / "bad.png").write_text("bad")
    for name in ("half.png", "half.jpg"):  # whose headers are whole
        cv2.imwrite(str(images / name), spots(3) * 3)
        (images / name).write_bytes((images / name).read_bytes()[:-100])
    outputs = ("labels", "table", "geojson", "overlay", "coco")
    here = run(images, tmp_path / "here", load_tiling(), outputs)
    units = DaskUnits(threads, load_tiling)
    there = run(images, tmp_path / "there", load_tiling(), outputs, run_units=units)
    assert (there.predicted, there.objects) == (here.predicted, here.objects) == (11, here.objects)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    assert rows(tmp_path / "there") == rows(tmp_path / "here")
    errors = {Path(each.source).name: each.error for each in there.failed}
    assert errors.keys() == {"bad.png", "half.png", "half.jpg"}
    assert errors == {Path(each.source).name: each.error for each in here.failed}
    again = run(images, tmp_path / "there", load_tiling(), outputs, run_units=units)
    assert (again.predicted, again.skipped) == (0, 9)


def test_tiles_too_large_for_a_workers_memory_are_halved(tmp_path, threads, monkeypatch):
    monkeypatch.setattr(dask_units, "LARGE", 0)
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), spots(2, 130, 200, count=20) * 3)
    load = functools.partial(predictor_of, BrightBlobs(memory=70 * 70), tile_size=128)
    run(tmp_path / "images", tmp_path / "here", load())
    run(tmp_path / "images", tmp_path / "there", load(), run_units=DaskUnits(threads, load))
    labels = [(tmp_path / where / "a_labels.tif").read_bytes() for where in ("here", "there")]
    assert labels[0] == labels[1]


def fail(folder, times, source):
    """Fail as an unreliable share does, for image i2 so many times."""
    if source.name == "i2.png":
        with open(folder / "tries", "a") as file:
            file.write("x")
        if (folder / "tries").stat().st_size <= times:
            raise OSError(errno.ESTALE, "Stale file handle")


@pytest.mark.parametrize("times", [2, 9])
def test_what_fails_is_tried_three_times(images, tmp_path, threads, times):
    load = functools.partial(StubPredictor, functools.partial(fail, tmp_path, times), batch_size=1)
    result = run(images, tmp_path / "out", load(), run_units=DaskUnits(threads, load))
    assert result.predicted == (6 if times == 2 else 5)
    assert [Path(each.source).name for each in result.failed] == ["i2.png"] * (times == 9)


def test_a_full_disk_ends_it(images, tmp_path, threads, monkeypatch):
    def refuse(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("unet_sharp_det.batch.images.write_outputs", refuse)
    with pytest.raises(UserError, match="cannot be written .No space left.*Make room, and the"):
        run(images, tmp_path / "out", run_units=DaskUnits(threads, StubPredictor))


def test_a_worker_that_cannot_begin_ends_it(images, tmp_path, threads):
    def load():
        raise UserError("There is no model.")

    with pytest.raises(UserError, match="There is no model"):
        run(images, tmp_path / "out", run_units=DaskUnits(threads, load))


def test_a_unit_that_ends_every_worker_is_named(images, tmp_path, threads, monkeypatch):
    """Of the images that were done with it, only the one that it is about fails. What it had begun
    to write is gone."""
    do = dask_units._do

    def die(recipe, records, folder):
        if any(record.source.endswith("i2.png") for record in records):
            _temporary_of(folder / "i2_labels.tif").touch()
            raise KilledWorker("task", SimpleNamespace(address="tcp://a"), 4)
        return do(recipe, records, folder)

    monkeypatch.setattr(dask_units, "_do", die)
    result = run(images, tmp_path / "out", run_units=DaskUnits(threads, StubPredictor))
    (failed,) = result.failed
    assert failed.source.endswith("i2.png")
    assert (
        "ended every worker that tried it, or took them more than 60 minutes. Give" in failed.error
    )
    assert result.predicted == 5
    assert files(tmp_path / "out") - OF_ALL == {f"i{n}_labels.tif" for n in (0, 1, 3, 4, 5)}


@pytest.fixture
def helpers_on_path(monkeypatch):
    """Processes know the stub predictor."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))


def kill_once(folder, source):
    if source.name == "i2.png" and not (folder / "killed").exists():
        (folder / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_is_killed(images, tmp_path, helpers_on_path):
    run(images, tmp_path / "here")
    load = functools.partial(StubPredictor, functools.partial(kill_once, tmp_path))
    with open_client("local:2") as client:
        units = DaskUnits(client, load)
        result = run(images, tmp_path / "there", run_units=units)
    assert (tmp_path / "killed").exists()
    assert (result.predicted, result.failed) == (6, [])
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


def test_a_unit_that_hangs_ends_its_process():
    code = "import os, time; from unet_sharp_det.batch.dask_units import _limited as limited; "
    code += "limited(0.1, os.write, 1, b'done'); time.sleep(0.3); "
    code += "os.write(1, b', alive'); limited(0.1, time.sleep, 60)"
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert (ended.returncode, ended.stdout) == (1, "done, alive"), ended.stderr


def kill_process(pid, source):
    if source.name == "i5.png":
        time.sleep(1)  # The results of the images before it arrive.
        os.kill(pid, signal.SIGKILL)


def test_a_scheduler_that_is_lost(images, tmp_path, threads, helpers_on_path):
    file = tmp_path / "scheduler.json"
    of_file = ["--scheduler-file", str(file)]
    scheduler = _start("dask_scheduler", "--host", "127.0.0.1", "--port", "0", *of_file)
    worker = _start("dask_worker", "--nthreads", "1", "--no-nanny", *of_file)
    with scheduler, worker:
        try:
            while not file.exists():
                time.sleep(0.1)
            address = json.loads(file.read_text())["address"]
            kill = functools.partial(kill_process, scheduler.pid)
            load = functools.partial(StubPredictor, kill, batch_size=1)
            with pytest.raises(UserError, match="scheduler was lost.*same command again"):
                with open_client(address) as client:
                    run(images, tmp_path / "out", load(), run_units=DaskUnits(client, load))
        finally:
            scheduler.kill()
            worker.kill()
    load = functools.partial(StubPredictor, batch_size=1)
    again = run(images, tmp_path / "out", load(), run_units=DaskUnits(threads, load))
    assert 0 < again.predicted == 6 - again.skipped < 6


def _start(name, *options):
    code = f"from distributed.cli import {name}; {name}.main()"
    return subprocess.Popen([sys.executable, "-c", code, "--no-dashboard", *options])


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("locl", "--dask: 'locl' is not known. Did you mean 'local'"),
        ("local:0", "--dask local:0: write a number above 0 after the colon"),
        ("tcp://127.0.0.1:9", "--dask tcp://127.0.0.1:9: no scheduler answers.*dask scheduler"),
    ],
)
def test_where_there_is_no_dask(where, message, monkeypatch):
    monkeypatch.setattr(dask_units, "_TIMEOUT", 0.5)
    with pytest.raises((ConfigError, UserError), match=message), open_client(where):
        pass


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"cores": 1, "memory": "1GB"}, "sbatch: error: no such memory"),
        ({"cores": None}, "You must specify how much cores"),
    ],
)
def test_jobs_that_slurm_refuses(settings, reason, tmp_path, monkeypatch):
    import dask_jobqueue  # noqa: F401  Its defaults must be there before they are changed.

    script = tmp_path / "sbatch"
    script.write_text("#!/bin/sh\necho 'sbatch: error: no such memory' >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    message = rf"--dask slurm: no job can be submitted \({reason}.*\). See .*jobqueue.yaml"
    with dask.config.set({f"jobqueue.slurm.{key}": value for key, value in settings.items()}):
        with pytest.raises(UserError, match=message), open_client("slurm:2"):
            pass


def test_it_is_told_once_that_there_is_no_worker(monkeypatch, caplog):
    monkeypatch.setattr(dask_units, "PATIENCE", 0.001)
    workers, looked = [{}, {}, {"a": 1}, {}], threading.Event()

    def nthreads():
        if not workers:
            looked.set()
        return workers.pop(0)  # raises in the end, as when the scheduler is lost

    client = SimpleNamespace(nthreads=nthreads, dashboard_link="")
    with dask_units._watched(client, "Start one."):
        assert looked.wait(60)
    assert caplog.messages == ["--dask: the run waits for a worker, none is there. Start one."] * 2
