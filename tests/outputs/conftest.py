"""Images and objects that every output is tested on."""

import numpy as np
import pytest

from unet_sharp_det.images.source import from_array
from unet_sharp_det.masks.instances import SparseInstances
from unet_sharp_det.outputs import OutputContext, write_outputs


def random_labels(shape, count, seed):
    """Objects that touch each other and the border, with holes and in several parts."""
    rng = np.random.default_rng(seed)
    seeds = rng.integers(0, shape, (count, 2))
    distances = np.linalg.norm(np.indices(shape)[..., None] - seeds.T[:, None, None], axis=0)
    labels = distances.argmin(axis=2) + 1
    labels[distances.min(axis=2) > 9] = 0
    labels[rng.random(shape) < 0.15] = 0
    return labels.astype(np.int32)


@pytest.fixture(scope="session")
def instances():
    """14 objects of two classes on 61 x 83 pixels; the last but one is a single pixel."""
    labels = random_labels((61, 83), 12, seed=1)
    labels[:6, :6] = 0
    labels[1, 2], labels[3:5, 1:4] = 13, 14
    found = SparseInstances.from_label_map(labels, np.linspace(0.99, 0.5, 14))
    found.classes[3] = 1
    return found


@pytest.fixture(scope="session")
def context():
    """An image of three channels of 16 bits, of pixels that are not square."""
    array = np.random.default_rng(2).integers(0, 65536, (61, 83, 3)).astype(np.uint16)
    return OutputContext(from_array(array, "a.tif"), ("nucleus", "mitosis"), (0.5, 0.25))


@pytest.fixture
def write(context, tmp_path):
    """A function (name, instances, context=...) that writes an output and returns its path."""

    def write_one(name, instances, context=context):
        [path] = write_outputs(instances, context, tmp_path / "a.b", [name])
        return path

    return write_one
