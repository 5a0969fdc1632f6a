"""What a training left behind: curves and config."""

import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..data.coco_json import is_finite
from ..errors import UserError

CURVES_FILE, CONFIG_FILE = "metrics.json", "config.yaml"


@dataclass(frozen=True)
class Training:
    """The files of an OUTPUT_DIR.

    Attributes:
        curves: of :func:`read_curves`.
        config: text of the config; "": there is none.
    """

    curves: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    config: str = ""

    @classmethod
    def of_evaluation(cls, evaluation: Path, run, dataset: str) -> "Training":
        """Read what is there in the OUTPUT_DIR ``run`` of an evaluation's folder, see
        :func:`read_curves`; nothing where these are one folder, which no training wrote."""
        if evaluation == Path(run):
            return cls()
        return cls(read_curves(Path(run, CURVES_FILE), dataset), _text(Path(run, CONFIG_FILE)))


def read_curves(path, dataset: str = "") -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read detectron2's metrics.json, a JSON object per line.

    A resumed training repeats iterations: the last value counts. A line that a killed training cut
    off, to which a resumed one appends its first, is left out.

    Args:
        path: of the file; without one there are no curves.
        dataset: of several in DATASETS.TEST, the one whose curves are wanted; its name is left out
            of theirs.

    Returns:
        ``{name: (iterations (K,), values (K,))}``, e.g. "total_loss", "validation/total_loss",
        "segm/AP"; iterations increase.

    Raises:
        UserError: a whole line is no JSON object with an iteration.
    """
    series = defaultdict(dict)
    for number, line in enumerate(_text(path).splitlines(), start=1):
        try:
            entry = json.loads(line)
            iteration = int(entry.pop("iteration"))
        except json.JSONDecodeError:
            continue
        except (ValueError, AttributeError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}, line {number}: is no line of a training's log ({error}). Delete it, or "
                "move the file away for a report without curves."
            ) from error
        for name, value in entry.items():
            if is_finite(value):
                series[_without_dataset(name, dataset)][iteration] = value
    return {
        name: (np.array(sorted(values)), np.array([values[x] for x in sorted(values)], float))
        for name, values in sorted(series.items())
    }


def _without_dataset(name: str, dataset: str) -> str:
    """Return "segm/AP" of "<dataset>/segm/AP", and "validation/x" of "validation/<dataset>/x".

    The data set may be called "segm" too: "segm/AP" stays as it is.
    """
    parts = name.split("/")
    if len(parts) > 2 and dataset in parts[:2]:
        parts.remove(dataset)
    return "/".join(parts)


def _text(path) -> str:
    path = Path(path)
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
