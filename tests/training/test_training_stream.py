import random

import numpy as np
import pytest
import torch
from detectron2.data.build import build_batch_data_loader

from unet_sharp_det.errors import ConfigError
from unet_sharp_det.training.stream import ReplayableLoader, TrainingStream, seeded

RECORDS = [{"image_id": i, "width": 3 if i % 3 else 1, "height": 2} for i in range(7)]


def draw(record):
    drawn = random.random(), np.random.rand(), torch.rand(1).item()
    return {**record, "drawn": drawn}


def batches(count, skipped=0, grouped=True, workers=0):
    stream = TrainingStream(RECORDS, draw, 5, batch_size=2, grouped=grouped)
    stream.skip_batches(skipped)
    loader = build_batch_data_loader(
        stream, None, 2, aspect_ratio_grouping=grouped, num_workers=workers
    )
    return [batch for batch, _ in zip(loader, range(count), strict=False)]


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("skipped", [1, 2, 5, 11])
def test_goes_on_where_it_was(grouped, skipped):
    assert batches(8, skipped, grouped) == batches(skipped + 8, 0, grouped)[skipped:]


@pytest.mark.parametrize("grouped", [True, False])
def test_is_the_same_with_two_loading_processes(grouped):
    assert batches(9, 4, grouped, workers=2) == batches(9, 4, grouped)


def test_every_image_comes_and_draws_anew():
    found = [record for batch in batches(40) for record in batch]
    assert {record["image_id"] for record in found} == set(range(7))
    assert len({record["drawn"] for record in found}) == len(found)


def test_seeded_leaves_the_generators_as_they_were():
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    expected = draw({})
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    with seeded(1, 2):
        inside = draw({})
    assert draw({}) == expected != inside


def test_the_loader_skips_batches_and_needs_a_seed():
    def loaded(count, skipped=0, seed=5):
        loader = ReplayableLoader(RECORDS, draw, seed=seed, total_batch_size=2)
        loader.skip_batches(skipped)
        return [batch for batch, _ in zip(loader, range(count), strict=False)]

    assert loaded(3, skipped=2) == loaded(5)[2:] == batches(5)[2:]
    with pytest.raises(ConfigError, match="at least 0, now -1"):
        loaded(1, seed=-1)
