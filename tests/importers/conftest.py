"""A run of ``unet-sharp-det import`` in this process, and what it wrote."""

import json

import pytest

from unet_sharp_det.cli.import_ import main


@pytest.fixture
def run_import(tmp_path, monkeypatch, capsys):
    """A function (kind, source, *options) that returns exit status, dataset.json, printed text."""

    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "datasets"))

    def run(kind, source, *options):
        output = tmp_path / "datasets" / kind
        status = main([str(source), "--format", kind, "--name", kind, *options])
        content = json.loads((output / "dataset.json").read_text())
        return status, content, capsys.readouterr().out

    return run
