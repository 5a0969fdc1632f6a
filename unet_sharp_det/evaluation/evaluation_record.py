"""What an evaluation was made with, kept beside its results so that a report can repeat it."""

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from detectron2.config import CfgNode

from unet_sharp_det.errors import ConfigError, UserError
from unet_sharp_det.files import write_json

RECORD_FILE = "evaluation.json"


@dataclass(frozen=True)
class EvaluationOptions:
    """The choices that measures depend on.

    Attributes:
        score_threshold: predicted objects of at least this score count, but for AP and AR.
        min_area: predicted objects of at least this many pixels that no other one covers count,
            but for AP and AR.
        boundary_tolerance: pixels, see :class:`BoundaryCounts`.
        max_dets: only that many detections of an image, by highest score, count for AP and AR.
        area_sides: two sides (a, b) in pixels that part small | medium | large objects.

    Raises:
        ConfigError: one of the first three is outside of its range.
    """

    score_threshold: float = 0.5
    min_area: int = 0
    boundary_tolerance: float = 2.0
    max_dets: int = 500
    area_sides: tuple[float, float] = (32, 96)

    def __post_init__(self):
        if not 0.0 <= self.score_threshold <= 1.0:
            raise ConfigError(f"score_threshold must lie in [0, 1], not {self.score_threshold}.")
        if self.min_area < 0:
            raise ConfigError(f"min_area must be 0 or more pixels, not {self.min_area}.")
        if self.boundary_tolerance < 0:
            raise ConfigError(
                f"boundary_tolerance must be 0 or more pixels, not {self.boundary_tolerance}."
            )

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "EvaluationOptions":
        """Read TEST.INSTANCES, TEST.DETECTIONS_PER_IMAGE and TEST.AREA_SIDES."""
        return cls(
            score_threshold=cfg.TEST.INSTANCES.SCORE_THRESHOLD,
            min_area=cfg.TEST.INSTANCES.MIN_AREA,
            boundary_tolerance=cfg.TEST.INSTANCES.BOUNDARY_TOLERANCE,
            max_dets=cfg.TEST.DETECTIONS_PER_IMAGE,
            area_sides=tuple(cfg.TEST.AREA_SIDES),
        )


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
            content["predictions"] = str(Path(folder) / content["predictions"])
            return cls(**content, options=EvaluationOptions(**options))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"{path}: is no record of an evaluation ({error}).") from error
