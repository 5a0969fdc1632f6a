"""The folder of an evaluation: its files, and the record of what was compared by which options."""

import dataclasses
import itertools
import math
import numbers
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..addresses import address_of
from ..data.coco_json import is_finite
from ..errors import ConfigError, UserError
from ..files import read_json, write_json

RECORD_FILE = "evaluation.json"
AP_METRICS_FILE = "metrics.json"
AP_TABLE_FILE = "ap_table.md"
COCO_RESULTS_FILE = "coco_instances_results.json"
INSTANCE_METRICS_FILE = "instance_metrics.json"
INSTANCE_IMAGES_FILE = "instances_per_image.csv"
SEMANTIC_METRICS_FILE = "semantic_metrics.json"
SEMANTIC_IMAGES_FILE = "semantic_per_image.csv"
SEMANTIC_PREDICTIONS_FILE = "semantic_predictions.json"
SLICES_FOLDER = "slices"

# Bootstrap samples of the images for intervals; AP takes longer.
SAMPLES, AP_SAMPLES = 1000, 200

_LARGEST_AREA = 1e5**2


@dataclass(frozen=True)
class EvaluationOptions:
    """The choices that measures depend on; the first four do not matter to COCO's AP and AR.

    Attributes:
        score_threshold: predicted objects of at least this score count. Scores of other tools may
            lie outside of [0, 1].
        min_area: predicted objects of at least this many pixels that no other one covers count.
        max_covered: predicted objects of which those of higher scores cover more than this share,
            0 to 1, vanish.
        boundary_tolerance: 0 to 100 pixels, see :func:`boundary_f1`.
        max_dets: only that many detections of an image, by highest score, count for AP and AR.
        area_sides: two sides (a, b) in pixels: for AP an object of at most a^2 pixels is small,
            from a^2 to b^2 medium, from b^2 large; one on a boundary is in both bins.

    Raises:
        ConfigError: one is no number, or outside of its range.
    """

    score_threshold: float = 0.5
    min_area: int = 0
    max_covered: float = 0.5
    boundary_tolerance: float = 2.0
    max_dets: int = 500
    area_sides: tuple[float, float] = (32, 96)

    def __post_init__(self):
        whole = {"kind": numbers.Integral}
        self._check("score_threshold", "be a finite number")
        self._check("min_area", "be a whole number of pixels, 0 or more", 0, **whole)
        self._check("max_covered", "lie in 0 to 1", 0, 1)
        # The disk that boundaries are dilated by has the square of the tolerance as pixels.
        self._check("boundary_tolerance", "lie in 0 to 100 pixels", 0, 100)
        self._check("max_dets", "be a whole number, 1 or more", 1, 2**31 - 1, **whole)
        sides = self.area_sides
        are_numbers = len(sides) == 2 and all(map(is_finite, sides))
        if not are_numbers or not 0 < sides[0] < sides[1] < math.sqrt(_LARGEST_AREA):
            raise ConfigError(
                f"area_sides must be two increasing sides in pixels, e.g. [32, 96], not {sides}."
            )

    def _check(self, name, what: str, low=-math.inf, high=math.inf, kind=numbers.Real) -> None:
        value = getattr(self, name)
        if not is_finite(value) or not isinstance(value, kind) or not low <= value <= high:
            raise ConfigError(f"{name} must {what}, not {value}.")

    @property
    def counting(self) -> dict[str, float]:
        """Which predicted objects count, as the constructors of :class:`InstanceMap` take it."""
        return {key: getattr(self, key) for key in ("score_threshold", "min_area", "max_covered")}

    @property
    def recall_limits(self) -> list[int]:
        """The increasing limits of detections per image at which AR is taken."""
        return sorted({1, min(100, self.max_dets), self.max_dets})

    @property
    def area_ranges(self) -> list[list[float]]:
        """The (lowest, highest) area in pixels of small, medium and large objects."""
        bounds = [0.0, *(float(side) ** 2 for side in self.area_sides), _LARGEST_AREA]
        return [list(pair) for pair in itertools.pairwise(bounds)]

    @classmethod
    def from_config(cls, cfg) -> "EvaluationOptions":
        """Read TEST.INSTANCES, TEST.DETECTIONS_PER_IMAGE and TEST.AREA_SIDES of a CfgNode."""
        instances = cfg.TEST.INSTANCES
        try:
            return cls(
                score_threshold=instances.SCORE_THRESHOLD,
                min_area=instances.MIN_AREA,
                max_covered=instances.MAX_COVERED,
                boundary_tolerance=instances.BOUNDARY_TOLERANCE,
                max_dets=cfg.TEST.DETECTIONS_PER_IMAGE,
                area_sides=tuple(cfg.TEST.AREA_SIDES),
            )
        except ConfigError as error:
            raise ConfigError(
                f"{error} Set TEST.INSTANCES, TEST.DETECTIONS_PER_IMAGE or TEST.AREA_SIDES."
            ) from error


@dataclass(frozen=True)
class EvaluationRecord:
    """Files and options of an evaluation.

    Attributes:
        dataset: what reports call the data.
        truth: COCO json file, or folder of label maps.
        predictions: file or folder; relative to the record's own folder if it lies there. Of
            volumes :data:`SEMANTIC_IMAGES_FILE`, for predictions are not kept.
        images: folder that the images' file names are relative to; None: no pictures.
        suffix, truth_suffix: of label maps, see :func:`find_label_maps`.
        allow_missing: whether images without a prediction count as empty.
    """

    dataset: str
    truth: str
    predictions: str
    images: str | None = None
    suffix: str | None = None
    truth_suffix: str | None = None
    allow_missing: bool = False
    options: EvaluationOptions = field(default_factory=EvaluationOptions)

    @property
    def is_of_volumes(self) -> bool:
        """Whether :class:`VolumeEvaluator` made it."""
        return Path(self.predictions).name == SEMANTIC_IMAGES_FILE

    def write(self, folder) -> None:
        """Write the record to ``folder``, atomically, its paths absolute, or addresses."""
        content = dataclasses.asdict(self)
        for key in ("truth", "images"):
            path = content[key]
            content[key] = path and (address_of(path) or os.path.abspath(path))
        write_json(os.path.join(folder, RECORD_FILE), content, indent=2)

    @classmethod
    def read(cls, folder) -> "EvaluationRecord":
        """Read the record of ``folder``; ``predictions`` is then a path of its own.

        Raises:
            UserError: there is none, or it is malformed.
        """
        path = Path(folder) / RECORD_FILE
        if not path.is_file():
            raise UserError(
                f"There is no {RECORD_FILE} in {folder}. An evaluation writes it: "
                "unet-sharp-det train --eval-only, or unet-sharp-det evaluate for files."
            )
        try:
            content = read_json(path, dict)
            options = content.pop("options")
            options["area_sides"] = tuple(options["area_sides"])
            content["predictions"] = str(Path(folder) / content["predictions"])
            record = cls(**content, options=EvaluationOptions(**options))
            for each in dataclasses.fields(record):
                if not isinstance(value := getattr(record, each.name), each.type):
                    raise TypeError(f"{each.name} cannot be {value!r}")
            return record
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"{path}: is no record of an evaluation ({error}).") from error


def nan_to_none(values: dict) -> dict:
    """Return numbers, or intervals of them, as JSON can hold them, undefined ones as null."""
    return {name: None if np.isnan(value).any() else value for name, value in values.items()}
