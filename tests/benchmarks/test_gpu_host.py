"""What is brought to a GPU host without network, and what runs there: rehearsed on the CPU."""

import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from scripts import load_script

EXPERIMENT = """\
seeds: [0]
opts: {SOLVER.MAX_ITER: 2, DATALOADER.NUM_WORKERS: 1, TEST.VALIDATION_LOSS: false}
runs:
  fpn: {config: quick_schedules/mask_rcnn_lite0_fpn_instant_test.yaml}
"""
#: A program whose child outlives it, unless both are ended.
STUBBORN = """\
import pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
pathlib.Path(sys.argv[1]).write_text(str(child.pid))
time.sleep(60)
"""


@pytest.fixture(scope="module")
def load(repository):
    """A function that imports a script of benchmarks/gpu."""

    def load(name):
        return load_script(repository / "benchmarks" / "gpu" / f"{name}.py")

    return load


@pytest.fixture(scope="module")
def build(load):
    return load("build")


class TestBuild:
    def test_packages_are_those_that_the_host_lacks(self, build, tmp_path):
        names = build.missing_packages("3.12", {"torch", "timm", "torchvision"}, {"tensorboard"})
        assert {"fvcore", "omegaconf", "antlr4-python3-runtime", "shapely", "scipy"} <= names
        # What torch, timm and tensorboard need is there, or not needed.
        assert not names & {"numpy", "sympy", "safetensors", "tensorboard", "werkzeug"}
        assert not [name for name in names if name.startswith("nvidia")]
        listed = tmp_path / "host.txt"
        listed.write_text("SciPy==1.0\nnot.known==2\nTensorBoard==2.20\n")
        assert build.read_names(str(listed)) == {"scipy", "not-known", "tensorboard"}
        fewer = build.missing_packages("3.12", build.read_names(f"torch,{listed}"), set())
        assert "scipy" in fewer
        assert "scipy" not in build.missing_packages("3.12", build.read_names(str(listed)), set())

    def test_versions_and_hashes_are_those_of_the_lock_file(self, build, repository):
        entries = build.locked({"fvcore", "numpy"}, "3.12")
        lock = (repository / "requirements" / "lock.txt").read_text()
        for line in entries.replace("\\", "").splitlines():
            assert line.strip() in lock
        assert entries.count("==") == 2
        assert entries.count("--hash=sha256:") > 2
        with pytest.raises(build.UserError, match=r"lacks unheard-of\. Run: make lock"):
            build.locked({"fvcore", "unheard-of"}, "3.12")

    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_images_are_packed_without_loss(self, build, tmp_path, channels):
        pixels = np.random.default_rng(0).integers(0, 256, (9, 7, channels), dtype=np.uint8)
        pixels[:, :, 3:] = 255
        path = tmp_path / "image.png"
        cv2.imwrite(str(path), pixels)
        packed = np.frombuffer(build.pack_image(path), np.uint8)
        expected = np.broadcast_to(pixels[:, :, :3], (9, 7, 3))
        assert np.array_equal(cv2.imdecode(packed, cv2.IMREAD_COLOR), expected)


def test_a_stage_ends_with_all_its_processes_when_its_time_is_up(load, tmp_path):
    script, pid_file = tmp_path / "stubborn.py", tmp_path / "pid"
    script.write_text(STUBBORN)
    runner = load("run").Runner(tmp_path, dict(os.environ), 1.5)
    begin = time.monotonic()
    runner.run("out.txt", script, pid_file)
    assert not runner.succeeded
    assert time.monotonic() - begin < 8
    # A killed process dies when the system next runs it.
    while is_alive(pid_file.read_text()) and time.monotonic() - begin < 20:
        time.sleep(0.1)
    assert not is_alive(pid_file.read_text())


def is_alive(pid: str) -> bool:
    try:
        return Path("/proc", pid, "stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module")
def bundle(build, converted_sample, tmp_path_factory):
    """Two images of the sample, without packages."""
    folder = tmp_path_factory.mktemp("bundle")
    data = folder / "dsb2018"
    (data / "annotations").mkdir(parents=True)
    (data / "images").mkdir()
    for split in ("train", "val", "test"):
        path = converted_sample / "annotations" / f"dsb2018_{split}.json"
        content = json.loads(path.read_text())
        content["images"] = [i for i in content["images"] if i["height"] == i["width"] == 256][:1]
        kept = {image["id"] for image in content["images"]}
        content["annotations"] = [n for n in content["annotations"] if n["image_id"] in kept]
        (data / "annotations" / path.name).write_text(json.dumps(content))
        for image in content["images"]:
            shutil.copy(converted_sample / image["file_name"], data / image["file_name"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "install", lambda site, names, python: site.mkdir())
        patch.setattr(sys, "argv", ["build.py", f"--data={data}", f"--output={folder}/bundle.zip"])
        assert build.main() == 0
    return folder / "bundle.zip"


def test_a_rehearsal_leaves_every_result(repository, bundle, converted_sample, tmp_path):
    with zipfile.ZipFile(bundle) as archive:
        names = archive.namelist()
    assert sum(name.endswith(".webp") for name in names) == 2
    (tmp_path / "tiny.yaml").write_text(EXPERIMENT)
    command = [sys.executable, str(repository / "benchmarks" / "gpu" / "run.py"), str(bundle)]
    command += ["--out=out", "--work=work", "--experiment=tiny.yaml", "--tiny", "--minutes=9"]
    if shutil.which("unshare") and not subprocess.run(["unshare", "-rn", "true"]).returncode:
        command = ["unshare", "-rn", *command]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500
    )
    out = tmp_path / "out"
    assert done.returncode == 0, done.stdout + (out / "log.txt").read_text()[-5000:]

    with zipfile.ZipFile(out / "train.zip") as archive:
        kept = json.loads(archive.read("tiny/fpn/seed0.json"))
    assert kept["cost"]["iterations"] == 2
    assert kept["git"] == [json.loads((tmp_path / "work" / "git.json").read_text())]
    page = (out / "RESULTS.md").read_text()
    assert page.strip() in done.stdout
    for part in (
        "Stages: checks done, speed done, train done.",
        "1 passed",
        "Necks on",
        "s an image",
    ):
        assert part in page
    for row in ("| unetsharp ", "| literal ", "| nuclei ", "### tiny", "| fpn "):
        assert row in page

    for path in (tmp_path / "work" / "data" / "dsb2018" / "images").iterdir():
        original = cv2.imread(str(converted_sample / "images" / path.name))
        assert np.array_equal(cv2.imread(str(path)), original)
