"""run.sh on a host: what it refuses, what it unpacks, and that it does so once."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

STAND_IN = """\
import os, sys, carried
print(carried.__file__)
print(*sys.argv[1:])
print(os.environ["DETECTRON2_DATASETS"], os.environ["PIP_NO_INDEX"], os.environ["HF_HUB_OFFLINE"])
"""


class Host:
    """A bundle of one wheel, whose experiments only say how they were called."""

    def __init__(self, repository: Path, folder: Path):
        self.folder, self.bundle = folder, folder / "bundle"
        offline = repository / "unet_sharp_det" / "offline"
        project = self.bundle / "project"
        for name in ("tools", "unet_sharp_det/offline", "configs/experiments"):
            (project / name).mkdir(parents=True)
        shutil.copy(offline / "run.sh", self.bundle)
        shutil.copy(offline / "prepare_host.py", project / "unet_sharp_det" / "offline")
        (project / "tools" / "run_experiments.py").write_text(STAND_IN)
        (project / "configs" / "experiments" / "known.yaml").touch()
        self.wheel = self.bundle / "wheels" / "carried-1-py3-none-any.whl"
        self.wheel.parent.mkdir()
        with zipfile.ZipFile(self.wheel, "w") as archive:
            archive.writestr("carried.py", "")
            archive.writestr("carried-1.data/platlib/carried_too.py", "")
            archive.writestr("carried-1.data/scripts/carry", "")
        self.manifest = {
            "python": "{}.{}".format(*sys.version_info),
            "have": {"numpy": [">=1.22"]},
            "wheels": {self.wheel.name: hashlib.sha256(self.wheel.read_bytes()).hexdigest()},
            "data": None,
        }

    def run(self, *arguments, **environment) -> subprocess.CompletedProcess:
        (self.bundle / "manifest.json").write_text(json.dumps(self.manifest))
        clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        return subprocess.run(
            ["bash", str(self.bundle / "run.sh"), *arguments],
            env={**clean, "PYTHON": sys.executable, **environment},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def refusal(self, *arguments, **environment) -> str:
        result = self.run(*(arguments or ["known"]), **environment)
        assert result.returncode == 2
        assert not result.stdout
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1
        return result.stderr


@pytest.fixture
def host(repository, tmp_path):
    return Host(repository, tmp_path)


def test_runs_an_experiment_with_what_it_carries(host):
    result = host.run("known", "--minutes", "9", "--jobs", "2")
    assert result.returncode == 0, result.stderr
    carried, arguments, surroundings = result.stdout.splitlines()
    site = host.bundle / "unpacked" / "site"
    assert Path(carried) == site / "carried.py"
    known = host.bundle / "project" / "configs" / "experiments" / "known.yaml"
    assert arguments == f"{known} --folder output/known --minutes 9 --jobs 2"
    assert surroundings == f"{host.bundle / 'unpacked' / 'data'} 1 1"
    assert {path.name for path in site.iterdir() if path.name != "__pycache__"} == {
        "carried.py",
        "carried_too.py",
    }


def test_unpacks_once_and_again_for_another_bundle(host):
    elsewhere = {"BUNDLE_STATE": str(host.folder / "state"), "OUT": "results"}
    (host.folder / "own.yaml").touch()
    first = host.run("own.yaml", **elsewhere)
    assert "own.yaml --folder results/own" in first.stdout
    wheel = host.wheel.read_bytes()
    host.wheel.unlink()
    assert host.run("own.yaml", **elsewhere).stdout == first.stdout
    host.manifest["wheels"] = {"another.whl": hashlib.sha256(wheel).hexdigest()}
    assert "another.whl: is missing" in host.refusal("own.yaml", **elsewhere)
    host.wheel.with_name("another.whl").write_bytes(wheel[:-1])
    assert "another.whl: is damaged" in host.refusal("own.yaml", **elsewhere)
    host.wheel.with_name("another.whl").write_bytes(wheel)
    assert host.run("own.yaml", **elsewhere).stdout == first.stdout
    shutil.rmtree(host.folder / "state" / "site")
    assert host.run("own.yaml", **elsewhere).stdout == first.stdout


def test_a_path_is_not_taken_for_a_name(host):
    assert "there is no experiment 'mine/known.yaml'" in host.refusal("mine/known.yaml")


@pytest.mark.parametrize(("content", "state"), [(None, "missing"), ('{"pyth', "damaged")])
def test_refuses_a_bundle_without_its_manifest(host, content, state):
    manifest = host.bundle / "manifest.json"
    if content is not None:
        manifest.write_text(content)
    script = host.bundle / "project" / "unet_sharp_det" / "offline" / "prepare_host.py"
    result = subprocess.run(
        [sys.executable, str(script), str(host.bundle), str(host.folder / "state")],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {manifest}: is {state}. Copy the bundle again")


def test_refuses_another_python(host):
    host.manifest["python"] = "3.99"
    message = host.refusal()
    assert "the bundle was made for 3.99" in message
    assert "PYTHON=/path/to/python3.99" in message
    assert not (host.bundle / "unpacked").exists()


def test_refuses_a_python_without_torch(host):
    # -S: an interpreter that has the standard library alone.
    bare = host.folder / "bare-python"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    bare.chmod(0o755)
    host.manifest["have"] = {"torch": [">=2.0"]}
    message = host.refusal(PYTHON=str(bare))
    assert "torch: not installed" in message
    assert "--have torch" in message


def test_refuses_what_is_too_old_or_broken(host):
    host.manifest["have"] = {"numpy": [">=1", ">=99"]}
    assert f"numpy: version {version('numpy')}" in (message := host.refusal())
    assert ">=99 is needed" in message
    broken = host.folder / "packages"
    (broken / "broken-1.dist-info").mkdir(parents=True)
    (broken / "broken-1.dist-info" / "METADATA").write_text("Name: Broken\nVersion: 1\n")
    (broken / "broken-1.dist-info" / "top_level.txt").write_text("broken_module\n")
    (broken / "broken_module.py").write_text("raise OSError('libcuda.so: no such file')\n")
    host.manifest["have"] = {"broken": []}
    message = host.refusal(PYTHONPATH=str(broken))
    assert "'import broken_module' fails (OSError: libcuda.so: no such file)" in message


def test_refuses_unknown_experiments_interpreters_and_places(host):
    assert "one of: known" in host.refusal("knwon")
    assert "no Python interpreter 'nopython'" in host.refusal("known", PYTHON="nopython")
    (host.folder / "file").touch()
    message = host.refusal("known", BUNDLE_STATE=str(host.folder / "file"))
    assert "BUNDLE_STATE" in message
    assert host.run("--help").stdout.startswith("Runs an experiment")
    assert host.run().returncode == 2
