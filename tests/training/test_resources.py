"""The memory of a GPU, whose peak stays over the processes of a training."""

import json

import pytest
import torch

from unet_sharp_det.training import write_device_memory


@pytest.fixture
def write(tmp_path, monkeypatch):
    """A function (MiB, **options) that writes a process' peak and returns what is on record."""
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)

    def run(mib, **options):
        monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: mib * 2**20)
        write_device_memory(tmp_path, **options)
        return json.loads((tmp_path / "device_memory.json").read_text())["peak_mib"]

    return run


def test_a_resumed_training_keeps_the_highest_peak(write):
    assert write(900, resumed=True) == 900
    assert write(300, resumed=True) == 900
    assert write(1200, resumed=True) == 1200


def test_a_new_training_in_the_folder_begins_anew(write):
    write(900)
    assert write(300) == 300
