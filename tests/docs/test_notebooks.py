"""The notebooks run, and what they show is what is kept in them."""

import base64
import re

import nbformat
import pytest
from scripts import load_script

NAMES = ["build-schemes", "measure-nuclei"]


@pytest.fixture
def run(repository, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(repository))
    return load_script(repository / "docs" / "write_notebooks.py").run


def texts(notebook):
    """The outputs as text, cell by cell, but for pictures."""
    shown = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    kept = [out for out in shown if "image/jpeg" not in out.get("data", {})]
    return [out.get("text") or out["data"]["text/plain"] for out in kept]


def pictures(notebook):
    shown = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    return [out.data["image/jpeg"] for out in shown if "image/jpeg" in out.get("data", {})]


def numbers(notebook):
    return [float(number) for text in texts(notebook) for number in re.findall(r"\d[\d.]*\b", text)]


def test_all_are_tested(repository):
    assert sorted(path.stem for path in (repository / "docs/notebooks").glob("*.ipynb")) == NAMES


def test_the_schemes_cost_what_the_notebook_shows(run, repository):
    """If they do not: python docs/write_notebooks.py."""
    path = repository / "docs/notebooks/build-schemes.ipynb"
    assert texts(run(path)) == texts(nbformat.read(path, as_version=4))


def test_the_nuclei_are_those_that_the_notebook_shows(run, repository):
    """But for what another processor rounds. If not: python docs/write_notebooks.py."""
    path = repository / "docs/notebooks/measure-nuclei.ipynb"
    kept, new = nbformat.read(path, as_version=4), run(path)
    assert numbers(new) == pytest.approx(numbers(kept), rel=0.1)
    assert len(pictures(new)) == len(pictures(kept)) == 2
    for picture in pictures(kept):
        assert len(base64.b64decode(picture)) < 100_000
