"""What an evaluation was made with, kept beside its results so that a report can repeat it."""

import dataclasses
import json
import numbers
import os
from dataclasses import dataclass, field
from pathlib import Path

from detectron2.config import CfgNode

from ..data.coco_json import is_finite
from ..errors import ConfigError, UserError
from ..files import write_json
from .coco.ap import area_ranges, max_dets_list

RECORD_FILE = "evaluation.json"
_TYPES = {
    "dataset": str,
    "truth": str,
    "images": str | None,
    "suffix": str | None,
    "truth_suffix": str | None,
    "allow_missing": bool,
}
_LARGEST_TOLERANCE = 100  # The disk that boundaries are dilated by has its square of pixels.


@dataclass(frozen=True)
class EvaluationOptions:
    """The choices that measures depend on.

    Attributes:
        score_threshold: predicted objects of at least this score count, but for AP and AR. Scores
            of other tools may lie outside of [0, 1].
        min_area: predicted objects of at least this many pixels that no other one covers count,
            but for AP and AR.
        max_covered: predicted objects of which those of higher scores cover more than this share,
            0 to 1, vanish, but for AP and AR.
        boundary_tolerance: 0 to 100 pixels, see :class:`BoundaryCounts`.
        max_dets: only that many detections of an image, by highest score, count for AP and AR.
        area_sides: two sides (a, b) in pixels that part small | medium | large objects.

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
        if not is_finite(self.score_threshold):
            raise ConfigError(
                f"score_threshold must be a finite number, not {self.score_threshold}."
            )
        if not isinstance(self.min_area, numbers.Integral) or self.min_area < 0:
            raise ConfigError(
                f"min_area must be a whole number of pixels, 0 or more, not {self.min_area}."
            )
        if not is_finite(self.max_covered) or not 0 <= self.max_covered <= 1:
            raise ConfigError(f"max_covered must lie in 0 to 1, not {self.max_covered}.")
        tolerance = self.boundary_tolerance
        if not is_finite(tolerance) or not 0 <= tolerance <= _LARGEST_TOLERANCE:
            raise ConfigError(
                f"boundary_tolerance must lie in 0 to {_LARGEST_TOLERANCE} pixels, not {tolerance}."
            )
        # Only to raise.
        max_dets_list(self.max_dets)
        area_ranges(self.area_sides)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "EvaluationOptions":
        """Read TEST.INSTANCES, TEST.DETECTIONS_PER_IMAGE and TEST.AREA_SIDES."""
        try:
            return cls(
                score_threshold=cfg.TEST.INSTANCES.SCORE_THRESHOLD,
                min_area=cfg.TEST.INSTANCES.MIN_AREA,
                max_covered=cfg.TEST.INSTANCES.MAX_COVERED,
                boundary_tolerance=cfg.TEST.INSTANCES.BOUNDARY_TOLERANCE,
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
        predictions: file or folder; relative to the record's own folder if it lies there.
        images: folder that the images' file names are relative to; None: no pictures.
        suffix, truth_suffix: of label maps, see ``label_folders.find_label_maps``.
        allow_missing: whether images without a label map count as empty.
        options: of the measures.
    """

    dataset: str
    truth: str
    predictions: str
    images: str | None = None
    suffix: str | None = None
    truth_suffix: str | None = None
    allow_missing: bool = False
    options: EvaluationOptions = field(default_factory=EvaluationOptions)

    def write(self, folder) -> None:
        """Write the record to ``folder``, atomically, its paths made absolute."""
        content = dataclasses.asdict(self)
        for key in ("truth", "images"):
            content[key] = content[key] and os.path.abspath(content[key])
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
                "tools/train_net.py --eval-only, or tools/evaluate.py for files."
            )
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            options = content.pop("options")
            options["area_sides"] = tuple(options["area_sides"])
            options.setdefault("max_covered", 1.0)  # Records of before the option.
            content["predictions"] = str(Path(folder) / content["predictions"])
            record = cls(**content, options=EvaluationOptions(**options))
            for name, kind in _TYPES.items():
                if not isinstance(getattr(record, name), kind):
                    raise TypeError(f"{name} cannot be {getattr(record, name)!r}")
            return record
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise UserError(f"{path}: is no record of an evaluation ({error}).") from error
