"""AP metrics in files and logs: the table, the JSON, and why some are undefined."""

import math
import os

from tabulate import tabulate

from ...errors import counted
from ...files import write_json, write_text
from ..record import AP_METRICS_FILE, AP_TABLE_FILE, EvaluationOptions, nan_to_none
from .ap import CocoResult


def explain_undefined(results: dict[str, CocoResult]) -> list[str]:
    """Return a line for each metric that is NaN, with the reason, which tasks share."""
    definitions = next(iter(results.values())).definitions
    metrics = [result.metrics for result in results.values()]
    undefined = [name for name in definitions if any(math.isnan(each[name]) for each in metrics)]
    if "AP" in undefined:
        return ["All metrics are NaN: the images have no ground truth object."]
    return [
        f"{each} is NaN: no ground truth object for the {definitions[each]}." for each in undefined
    ]


def format_table(results: dict[str, CocoResult]) -> str:
    """Format the results of tasks as a Markdown table, a row per metric."""
    rows = [
        [name, *(result.metrics[name] for result in results.values()), definition]
        for name, definition in next(iter(results.values())).definitions.items()
    ]
    return tabulate(rows, ["metric", *results, "definition"], "pipe", floatfmt=".2f")


def write_ap_report(
    folder,
    results: dict[str, CocoResult],
    options: EvaluationOptions,
    dataset: str,
    objects: int,
    **facts,
) -> None:
    """Write ``ap_table.md`` and ``metrics.json`` (NaN as null) into ``folder``, atomically.

    ``objects`` is the number of annotated ones, ``facts`` what else the JSON file is to say.
    """
    result = next(iter(results.values()))
    title = (
        f"# Average precision on {dataset}\n\n{counted(len(result.image_ids), 'image')} with "
        f"{counted(objects, 'annotated object')}, at most {options.max_dets} detections per "
        f"image. In percent, by {result.implementation}."
    )
    write_text(os.path.join(folder, AP_TABLE_FILE), f"{title}\n\n{format_table(results)}\n")
    content = {
        "dataset": dataset,
        "images": len(result.image_ids),
        "objects": objects,
        "max_dets": options.max_dets,
        "implementation": result.implementation,
        **facts,
        "results": {task: nan_to_none(each.metrics) for task, each in results.items()},
        "definitions": result.definitions,
    }
    write_json(os.path.join(folder, AP_METRICS_FILE), content, indent=2)
