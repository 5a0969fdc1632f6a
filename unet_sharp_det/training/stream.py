"""Training images in an order, and with augmentations, that a resumed training goes on with."""

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from detectron2.data import DatasetFromList
from detectron2.data.build import build_batch_data_loader
from detectron2.data.samplers import TrainingSampler
from detectron2.engine import HookBase
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from torch.utils.data import IterableDataset, get_worker_info

from ..errors import ConfigError


class ReplayableLoader:
    """A training loader that goes on where a stopped training was.

    detectron2's starts with the same first images again, with other augmentations. This one leaves
    out what the batches of the iterations before have used.
    """

    def __init__(
        self,
        dataset: Sequence[dict],
        mapper: Callable[[dict], dict],
        *,
        seed: int,
        total_batch_size: int,
        num_workers: int = 0,
        aspect_ratio_grouping: bool = True,
    ):
        """
        Args:
            dataset: dataset dicts with "width" and "height".
            mapper: maps one, drawing from the generators of Python, numpy and torch (CPU).
            seed: of the order and of the augmentations, at least 0.
            others: as of ``detectron2.data.build_detection_train_loader``.
        """
        if seed < 0:
            raise ConfigError(
                f"Replayable data need a seed of at least 0, now {seed}. Set SEED (LazyConfig: "
                "train.seed)."
            )
        self._stream = TrainingStream(
            dataset,
            mapper,
            seed,
            batch_size=total_batch_size // comm.get_world_size(),
            grouped=aspect_ratio_grouping,
        )
        self._batches = build_batch_data_loader(
            self._stream,
            None,
            total_batch_size,
            aspect_ratio_grouping=aspect_ratio_grouping,
            num_workers=num_workers,
            seed=seed,  # Without one it would draw from the model's random numbers at its start.
        )

    def skip_batches(self, count: int) -> None:
        """Begin after ``count`` batches; to be called before the iteration starts."""
        self._stream.skip_batches(count)

    def __iter__(self) -> Iterator[list[dict]]:
        return iter(self._batches)


class TrainingStream(IterableDataset):
    """An endless stream of mapped images; the one at a position depends on seed and position only,
    not on the number of loading processes.

    ``batch_size`` is this worker's; ``grouped``: wide and tall images get batches of their own.
    """

    def __init__(self, records, mapper, seed: int, *, batch_size: int, grouped: bool):
        self._groups = [bool(r["width"] > r["height"]) if grouped else False for r in records]
        self._records = DatasetFromList(list(records), copy=False)
        self._mapper = mapper
        self._sampler = TrainingSampler(len(records), seed=seed)
        self._seed = (seed, comm.get_rank())
        self._batch_size = batch_size
        self._chunk = 1 if grouped else batch_size
        self._used: set[int] = set()

    def skip_batches(self, count: int) -> None:
        """Begin after ``count`` batches, with those images first that had none of them yet."""
        self._used = set()
        waiting: tuple[list[int], list[int]] = ([], [])
        stream = enumerate(self._sampler)
        while count:
            position, index = next(stream)
            batch = waiting[self._groups[index]]
            batch.append(position)
            if len(batch) == self._batch_size:
                self._used.update(batch)
                batch.clear()
                count -= 1

    def __iter__(self) -> Iterator[dict]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        unused = (item for item in enumerate(self._sampler) if item[0] not in self._used)
        for turn, (position, index) in enumerate(unused):
            if turn // self._chunk % workers == number:
                with seeded(*self._seed, position):
                    mapped = self._mapper(self._records[index])
                yield mapped


class SeedIterations(HookBase):
    """Seed what the model draws, by worker and iteration: a resumed training draws the same."""

    def __init__(self, seed: int):
        self._seed = seed

    def before_step(self) -> None:
        sequence = np.random.SeedSequence((self._seed, comm.get_rank(), self.trainer.iter))
        seed_all_rng(int(sequence.generate_state(1)[0]))


@contextlib.contextmanager
def seeded(*seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed the generators of Python, numpy and torch (CPU and ``device``), and put them back."""
    python, arrays = random.getstate(), np.random.get_state()
    gpus = [device] if device is not None and device.type == "cuda" else []
    first, second, third = np.random.SeedSequence(seed).generate_state(3).tolist()
    try:
        with torch.random.fork_rng(devices=gpus):
            random.seed(first)
            np.random.seed(second)
            torch.default_generator.manual_seed(third)
            for gpu in gpus:
                with torch.cuda.device(gpu):
                    torch.cuda.manual_seed(third)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(arrays)
