from pathlib import Path

import pytest
import yaml

from benchmarks.experiments import Experiment

UNET = "DSB2018-SemanticSegmentation/compact/unet.yaml"


@pytest.fixture
def write_experiment(tmp_path):
    """A function (runs=None, **content) that writes and returns small.yaml, of unet and unetpp."""

    def write(runs=None, **content) -> Path:
        runs = runs or {
            "unet": {"config": UNET},
            "unetpp": {"config": UNET.replace("unet.", "unetpp.")},
        }
        content = {"opts": {"SOLVER.MAX_ITER": 10}, "seeds": [0, 1], **content, "runs": runs}
        path = tmp_path / "small.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    return write


@pytest.fixture
def load_experiment(write_experiment):
    """The same, read."""
    return lambda *args, **content: Experiment.load(write_experiment(*args, **content))


@pytest.fixture(scope="session")
def stand_in() -> Path:
    return Path(__file__).with_name("stand_in_train.py")
