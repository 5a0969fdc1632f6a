"""The thresholds that are best on the validation images, and what they are worth on others."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from torch import Tensor

from ..checkpoints.trained_model import load_trained_model
from ..evaluation.evaluation import match_images
from ..evaluation.evaluators.semantic import SemanticEvaluator
from ..evaluation.instances.measures import FOREGROUND_MEASURES
from ..evaluation.instances.pixel_counts import PixelCounts
from ..evaluation.instances.results import InstanceResults, MeasureTable
from ..evaluation.readers.predictions import open_predictions
from ..evaluation.readers.truth import open_truth
from ..evaluation.record import EvaluationOptions, EvaluationRecord
from ..modeling.semantic_labels import SemanticLabels
from ..runtime import accelerate
from ..training import NucleiTrainer

THRESHOLDS = tuple(np.round(np.arange(0.1, 0.91, 0.05), 2).tolist())
_CANDIDATES = {"score_threshold": THRESHOLDS, "min_area": (0, *(2**n for n in range(1, 11)))}
_OBJECTS, _PIXELS = "DSB_score", "Dice_image_mean"


@dataclass(frozen=True)
class Choice:
    """The choice of a threshold, as StarDist's ``optimize_thresholds`` makes it by a search.

    Attributes:
        what: its name.
        measure: by which it is chosen, the larger the better.
        candidates: of which one is chosen.
        values: of the measure (candidates, images).
        usual: of candidates that are equally good the nearest to this one is chosen.
    """

    what: str
    measure: str
    candidates: Sequence[float]
    values: np.ndarray
    usual: float = 0.5

    def __str__(self) -> str:
        pairs = zip(self.candidates, self.values.mean(axis=1), strict=True)
        shown = ", ".join(f"{each:g}: {mean:.1f}" for each, mean in pairs)
        return f"{self.measure} by {self.what}: {shown}. Taken: {self.value:g}."

    @property
    def value(self) -> float:
        """The candidate with the largest mean over the images."""
        return self.candidates[self._best(self.values)]

    @property
    def cross_validated(self) -> float:
        """The mean over two or more images, in which each image has the candidate that is best on
        the others.

        The mean at the best candidate is too good for new images, since these images chose it.
        """
        count = self.values.shape[1]
        rows = [self._best(np.delete(self.values, i, axis=1)) for i in range(count)]
        return float(self.values[rows, range(count)].mean())

    @property
    def worth(self) -> str:
        """What the choice is worth on other images, in words."""
        text = f"The {self.what} {self.value:g} was chosen on these images, which flatters it. "
        if self.values.shape[1] < 2:
            return text + "Two or more validation images would tell how much."
        text += f"{self.measure} of each image with the value that is best on the others: "
        return text + f"{self.cross_validated:.1f}, not {self.values.mean(axis=1).max():.1f}."

    def _best(self, values: np.ndarray) -> int:
        means, rows = values.mean(axis=1), range(len(values))
        return max(rows, key=lambda row: (means[row], -abs(self.candidates[row] - self.usual)))


def choose_option(folder: Path, option: str) -> Choice:
    """Choose an option by which objects count, "score_threshold" or "min_area", from the files of
    an evaluation in a folder."""
    record = EvaluationRecord.read(folder)
    truth = open_truth(record.truth)
    opened = open_predictions(record.predictions, truth, record.options)
    rows = []
    for candidate in _CANDIDATES[option]:
        options = replace(record.options, **{option: candidate})
        predictions = replace(opened, options=options)
        results = InstanceResults(match_images(truth, predictions, options))
        rows.append(results.image_values(_OBJECTS))
    usual = getattr(EvaluationOptions(), option)
    name = option.replace("_", " ").replace("min", "least")
    return Choice(name, _OBJECTS, _CANDIDATES[option], np.array(rows), usual)


def choose_probability_threshold(cfg: CfgNode, weights: Path, folder: Path) -> Choice:
    """Choose the threshold of a binary semantic model on the test images of its config, and put
    into ``folder``, that of their evaluation, what the model finds with it."""
    (name,), labels = cfg.DATASETS.TEST, SemanticLabels.from_config(cfg)
    options = EvaluationOptions.from_config(cfg)
    evaluator = SemanticEvaluator(name, labels, options=options, output_dir=str(folder))
    images, counts = list(_thresholds_passed(cfg, weights)), []
    for record, passed in images:
        truth, valid = evaluator.read_truth(record["image_id"])
        masks = (passed[0].numpy() > row for row in range(len(THRESHOLDS)))
        counts.append([PixelCounts.count(mask, truth[0], valid) for mask in masks])
    tables = (MeasureTable.of(each, FOREGROUND_MEASURES) for each in zip(*counts, strict=True))
    values = np.array([table.image_values(_PIXELS) for table in tables])
    choice = Choice("probability threshold", _PIXELS, THRESHOLDS, values)
    row = THRESHOLDS.index(choice.value)
    for record, passed in images:
        evaluator.process([record], [{"sem_seg": (passed > row).float()}])
    evaluator.evaluate()
    return choice


def _thresholds_passed(cfg: CfgNode, weights: Path) -> Iterator[tuple[dict, Tensor]]:
    """Yield each test image, and how many of ``THRESHOLDS`` its probabilities reach: uint8 (1, H,
    W), a byte per pixel to keep."""
    cfg = cfg.clone()
    cfg.MODEL.WEIGHTS = str(weights)
    model = accelerate(load_trained_model(cfg).model)
    for inputs in NucleiTrainer.build_test_loader(cfg, cfg.DATASETS.TEST[0]):
        with torch.inference_mode():
            outputs = model(inputs)
        for record, output in zip(inputs, outputs, strict=True):
            passed = sum((output["sem_seg"] >= each).byte() for each in THRESHOLDS)
            yield {key: record[key] for key in ("image_id", "file_name")}, passed.cpu()
