"""What the AP metrics mean, why some are undefined, and the files that report them."""

import math
import os

from ...files import write_json, write_text

AREA_BINS = ("small", "medium", "large")
METRICS_FILE = "metrics.json"
TABLE_FILE = "ap_table.md"


def area_bin_text(label: str, low: float, high: float) -> str:
    """Name the areas of one of ``AREA_BINS``, which go from ``low`` to ``high`` pixels."""
    return f"at least {low:g} pixels" if label == "large" else f"{low:g} to {high:g} pixels"


def metric_definitions(max_dets, area_ranges, class_names) -> dict[str, str]:
    """Return ``{metric: definition}`` in the order of the reports.

    Args:
        max_dets: increasing limits of detections per image.
        area_ranges: (lowest, highest) area in pixels of small, medium and large objects.
        class_names: names of the classes; of several, each has an AP of its own.
    """
    definitions = {
        "AP": (
            "mean over IoU thresholds 0.50, 0.55 .. 0.95 of the area under the 101-point "
            f"interpolated precision-recall curve, {max_dets[-1]} detections per image"
        ),
        "AP50": "the same at IoU threshold 0.50",
        "AP75": "the same at IoU threshold 0.75",
    }
    for label, (low, high) in zip(AREA_BINS, area_ranges, strict=True):
        text = area_bin_text(label, low, high)
        definitions[f"AP{label[0]}"] = f"AP of {label} objects: area of {text}"
    for limit in max_dets:
        definitions[f"AR@{limit}"] = "mean over the IoU thresholds of the recall of an image's " + (
            "best detection" if limit == 1 else f"{limit} best detections"
        )
    if len(class_names) > 1:
        definitions.update((f"AP-{name}", "AP of that class") for name in class_names)
    return definitions


def explain_undefined(results: dict, area_ranges) -> list[str]:
    """Return a line for each metric that is NaN in ``{task: {metric: percent}}``, with the reason.

    Tasks share their ground truth, and so the reason.
    """
    undefined = {
        name for metrics in results.values() for name, value in metrics.items() if math.isnan(value)
    }
    if "AP" in undefined:
        return ["All metrics are NaN: the images have no ground truth object."]
    lines = [
        f"AP{label[0]} is NaN: no ground truth object has an area of "
        f"{area_bin_text(label, low, high)} (TEST.AREA_SIDES)."
        for label, (low, high) in zip(AREA_BINS, area_ranges, strict=True)
        if f"AP{label[0]}" in undefined
    ]
    categories = sorted(name for name in undefined if name.startswith("AP-"))
    return lines + [f"{name} is NaN: no ground truth object of that class." for name in categories]


def format_table(results: dict, definitions: dict) -> str:
    """Format ``{task: {metric: percent}}`` as a Markdown table, a row per metric."""
    rows = [["metric", *results, "definition"], ["---", *["---:"] * len(results), "---"]]
    for name in next(iter(results.values())):
        values = [f"{metrics[name]:.2f}" for metrics in results.values()]
        rows.append([name, *values, definitions[name]])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def write_report(folder: str, facts: dict, results: dict, definitions: dict) -> None:
    """Write ``ap_table.md`` and ``metrics.json`` (NaN as null) into ``folder``, atomically.

    Args:
        folder: made if it does not exist.
        facts: name of the data set, numbers of images, of objects, of detections per image, and
            the implementation: ``{"dataset", "images", "objects", "max_dets", "implementation"}``.
        results: ``{task: {metric: percent}}``.
        definitions: ``{metric: definition}``.
    """
    title = (
        "# Average precision on {dataset}\n\n{images} images with {objects} annotated objects, at "
        "most {max_dets} detections per image. In percent, by {implementation}."
    ).format(**facts)
    write_text(
        os.path.join(folder, TABLE_FILE), f"{title}\n\n{format_table(results, definitions)}\n"
    )
    numbers = {
        task: {name: None if math.isnan(value) else value for name, value in metrics.items()}
        for task, metrics in results.items()
    }
    content = {**facts, "results": numbers, "definitions": definitions}
    write_json(os.path.join(folder, METRICS_FILE), content, indent=2)
