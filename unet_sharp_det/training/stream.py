"""Training images in an order, and with augmentations, that a resumed training goes on with."""

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetFromList, get_detection_dataset_dicts
from detectron2.data.build import (
    build_batch_data_loader,
    filter_images_with_only_crowd_annotations,
)
from detectron2.data.samplers import TrainingSampler
from detectron2.utils import comm
from torch.utils.data import IterableDataset, get_worker_info

from ..data.label_checks import check_label_maps
from ..data.mapper import NucleiDatasetMapper
from ..errors import ConfigError, DatasetError


class TrainingStream(IterableDataset):
    """An endless stream of mapped images; the one at a position depends on seed and position only.

    detectron2's loader starts anew when a training is resumed: the same first images come again,
    with other augmentations. This one leaves out what the batches of the iterations before have
    used. Its order does not depend on the number of loading processes.
    """

    def __init__(
        self,
        records: Sequence[dict],
        mapper: Callable[[dict], dict],
        seed: int,
        *,
        batch_size: int,
        grouped: bool,
    ):
        """
        Args:
            records: dataset dicts with "width" and "height".
            mapper: maps one, drawing from the generators of Python, numpy and torch (CPU).
            seed: of the order and of the augmentations.
            batch_size: images of a batch of this worker.
            grouped: whether wide and tall images get into batches of their own, see
                ``detectron2.data.common.AspectRatioGroupedDataset``.
        """
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


@contextlib.contextmanager
def seeded(*seed: int) -> Iterator[None]:
    """Seed the generators of Python, numpy and torch (CPU), and put them back afterwards."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    first, second, third = np.random.SeedSequence(seed).generate_state(3).tolist()
    random.seed(first)
    np.random.seed(second)
    torch.default_generator.manual_seed(third)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def load_training_records(cfg: CfgNode, mapper: NucleiDatasetMapper) -> list[dict]:
    """Load the images of ``DATASETS.TRAIN``, and check that there is what to train on.

    Raises:
        DatasetError: a data set is unusable, there is no object, one lacks the mask that the model
            learns, or the label maps cannot be meant, see :func:`check_label_maps`.
    """
    records = get_detection_dataset_dicts(cfg.DATASETS.TRAIN, filter_empty=False)
    mapper.check_masks(records)
    if mapper.semantic is not None:
        check_label_maps(records, mapper.semantic, ", ".join(cfg.DATASETS.TRAIN))
    with_objects = filter_images_with_only_crowd_annotations(records)
    has_label_maps = any("sem_seg_file_name" in record for record in records)
    if not with_objects and (mapper.use_instances or not has_label_maps):
        raise DatasetError(
            f"DATASETS.TRAIN: {', '.join(cfg.DATASETS.TRAIN)} has no object in its {len(records)} "
            "images, so there is nothing to train on. Annotate some."
        )
    return with_objects if cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS else records


def build_replayable_loader(cfg: CfgNode, mapper: NucleiDatasetMapper):
    """Build the training loader of ``DATALOADER.REPLAYABLE``.

    Returns:
        (loader, stream): what detectron2's loader gives, and the :class:`TrainingStream` in it.

    Raises:
        ConfigError: there is no seed, or the sampler is another than TrainingSampler.
    """
    if cfg.SEED < 0 or cfg.DATALOADER.SAMPLER_TRAIN != "TrainingSampler":
        raise ConfigError(
            f"DATALOADER.REPLAYABLE needs SEED >= 0, now {cfg.SEED}, and SAMPLER_TRAIN "
            f"TrainingSampler, now {cfg.DATALOADER.SAMPLER_TRAIN}. Set them, or it to False."
        )
    records = load_training_records(cfg, mapper)
    grouped = cfg.DATALOADER.ASPECT_RATIO_GROUPING
    batch_size = cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size()
    stream = TrainingStream(records, mapper, cfg.SEED, batch_size=batch_size, grouped=grouped)
    loader = build_batch_data_loader(
        stream,
        None,
        cfg.SOLVER.IMS_PER_BATCH,
        aspect_ratio_grouping=grouped,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        seed=cfg.SEED,  # Without one it would draw from the model's random numbers when it starts.
    )
    return loader, stream
