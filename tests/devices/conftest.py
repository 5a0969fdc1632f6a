"""The device of these tests: the first GPU, or the CPU, where they are small."""

import pytest
import torch

from unet_sharp_det.config import setup_cfg

CONFIGS = {
    "detector": "mask_rcnn_lite0_unetsharp_instant_test.yaml",
    "semantic": "unetsharp_cgm_instant_test.yaml",
}


@pytest.fixture(scope="session")
def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(scope="session")
def gpu(device) -> str:
    if device == "cpu":
        pytest.skip("needs a GPU")
    return device


@pytest.fixture
def config(repository):
    """A function (name of ``CONFIGS``, *options) that reads a config."""

    def read(name, *options):
        path = repository / "configs" / "quick_schedules" / CONFIGS[name]
        return setup_cfg(str(path), [*map(str, options)])

    return read
