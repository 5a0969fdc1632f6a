"""An import in this process."""

import pytest
from annotated_images import Imported

from unet_sharp_det.cli.import_ import main


@pytest.fixture
def run_images(tmp_path, monkeypatch, capsys):
    """A function (source, *options) that imports, and returns what was written."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "datasets"))

    def run(source, *options, name="mine"):
        status = main([str(source), "--name", name, *options])
        return Imported(tmp_path / "datasets" / name, status, capsys.readouterr().out)

    return run
