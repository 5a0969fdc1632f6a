"""StarDist beside the package's models, with a stand-in for StarDist."""

import re

import pytest

from benchmarks.__main__ import main

STAND_IN = {
    "tensorflow/__init__.py": """
__version__ = "0"
class config:
    class threading:
        set_intra_op_parallelism_threads = set_inter_op_parallelism_threads = print
""",
    "csbdeep/__init__.py": "__version__ = '0'",
    "csbdeep/utils.py": "def normalize(image, *_, axis): return image / 255",
    "stardist/__init__.py": "__version__ = '0'",
    "stardist/models.py": """
from scipy import ndimage
class StarDist2D:
    def __init__(self, config, name, basedir):
        assert name == "model"
    def predict_instances(self, image):
        return ndimage.label(image[:, :, 0] > 0.2)[0], {}
""",
}


@pytest.fixture
def stardist(tmp_path, monkeypatch):
    """The folder of a model of the stand-in, which is on the path."""
    for name, code in STAND_IN.items():
        path = tmp_path / "packages" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "packages"))
    return tmp_path / "model"


def rows(out):
    found = re.findall(r"^\| (\S+) +\|(.*)\|$", out, re.MULTILINE)
    return {name: [float(cell) for cell in cells.split("|")] for name, cells in found[1:]}


def test_both_find_nuclei(stardist, converted_sample, repository, monkeypatch, capsys):
    monkeypatch.chdir(repository)
    options = ["--data", converted_sample, "--stardist", stardist, "--sizes", 256, "--count", 1]
    options += ["--models", "nuclei-fast", "--repeats", 1, "--accuracy"]
    main(["finders", *map(str, options)])
    costs, accuracy = capsys.readouterr().out.split("images\n")
    for name in ("StarDist", "nuclei-fast"):
        images, seconds, _, peak = rows(costs)[name]
        assert images == 2
        assert seconds > 0
        assert peak > 10
    assert rows(accuracy)["nuclei-fast"][0] > rows(accuracy)["StarDist"][0] > 0
