"""The figure of pruned networks, from what their benchmark wrote."""

import json

import pytest

from unet_sharp_det.errors import UserError
from unet_sharp_det.report.pruning import pruning_plot

LEVELS = [
    {"level": 1, "params": 1_250_000, "gmac": 1.0, "images_per_s": 40.0, "quality": 70.5},
    {"level": 2, "params": 9_000_000, "gmac": 9.0, "images_per_s": 10.25, "quality": None},
]


def write(path, **content):
    facts = {"title": "UNet# pruned", "machine": "a CPU", "measure": "IoU"}
    whole = {"levels": LEVELS, **facts, **content}
    path.write_text(json.dumps(whole))
    return path


def test_bars_have_the_numbers(tmp_path):
    plot = pruning_plot(write(tmp_path / "a.json"))
    assert (plot.key, plot.title, "a CPU" in plot.caption) == ("pruning", "UNet# pruned", True)
    size, speed, iou = plot.figure.axes
    titles = [ax.get_title() for ax in (size, speed, iou)]
    assert titles == ["parameters (M)", "images / s", "IoU (%)"]
    assert [bar.get_height() for bar in size.patches] == pytest.approx([1.25, 9])
    assert [bar.get_height() for bar in speed.patches] == [40, 10.25]
    assert [text.get_text() for text in size.texts] == ["1.25", "9.00"]
    assert [text.get_text() for text in iou.texts] == ["70.50", "n/a"]
    assert [label.get_text() for label in iou.get_xticklabels()] == ["L1", "L2"]


def test_without_any_value(tmp_path):
    plot = pruning_plot(write(tmp_path / "a.json", levels=[{**LEVELS[0], "quality": None}]))
    assert plot.figure.axes[2].get_ylim() == (0, 1)


def test_a_file_of_something_else(tmp_path):
    for levels in ([], [{"level": 1}]):
        with pytest.raises(UserError, match="a.json: has no 'levels' .* Benchmark the pruning"):
            pruning_plot(write(tmp_path / "a.json", levels=levels))
    with pytest.raises(UserError, match="no file .*none.json.*benchmarks/pruning.py"):
        pruning_plot(tmp_path / "none.json")
