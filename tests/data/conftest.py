"""Helpers that write tiny data sets in Kaggle's layout, and run the converter on them."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scripts import load_script

from unet_sharp_det.errors import run_cli

REPOSITORY = Path(__file__).parents[2]
TRAIN_ID = "0000000a" + "1" * 56  # 10 % 10 = 0


@pytest.fixture
def square():
    """A function (rows, columns, shape) that returns a 0/255 mask of a filled rectangle."""

    def make(rows, columns, shape=(12, 16)):
        mask = np.zeros(shape, np.uint8)
        mask[slice(*rows), slice(*columns)] = 255
        return mask

    return make


@pytest.fixture
def kaggle(tmp_path, write_png, rgba):
    """A function (id, masks by name, image) that adds one image folder; returns their parent."""

    def add(dsb_id=TRAIN_ID, masks=None, image=None) -> Path:
        folder = tmp_path / "kaggle" / dsb_id
        write_png(folder / "images" / f"{dsb_id}.png", rgba() if image is None else image)
        for name, mask in (masks or {}).items():
            write_png(folder / "masks" / f"{name}.png", mask)
        return folder.parent

    return add


@pytest.fixture
def prepare(monkeypatch, capsys):
    """A function (*arguments) that runs prepare_dsb2018.py; returns (status, stdout, stderr)."""
    path = REPOSITORY / "datasets" / "prepare_dsb2018.py"
    module = load_script(path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", [path.name, *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_info:
            run_cli(module.main)
        captured = capsys.readouterr()
        return exit_info.value.code, captured.out, captured.err

    return run
