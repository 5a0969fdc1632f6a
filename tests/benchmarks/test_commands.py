"""Benchmarks as a user runs them: the tables are complete, figures are not judged here."""

import re

import pytest

from benchmarks.__main__ import MODULES

COMPACT = "configs/DSB2018-InstanceSegmentation/compact/mask_rcnn_lite0_unetsharp.yaml"


@pytest.fixture
def run_benchmark(run_tool):
    """A function (name, *arguments) that returns what the command prints."""

    def run(*arguments):
        done = run_tool("-m", "benchmarks", *arguments)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run


def numbers(out, row):
    line = next(line for line in out.splitlines() if line.startswith(f"| {row}"))
    return [float(x) for x in re.findall(r"[-+]?\d+\.\d+", line)]


@pytest.mark.parametrize("task", ["necks", "detectors"])
def test_models(run_benchmark, repository, task):
    options = ["--config-file", repository / COMPACT, "--size", 128, "--batch", 1, "--schemes", "#"]
    out = run_benchmark(task, "--repeats", 1, *options)
    fpn, sharp = (numbers(out, scheme) for scheme in ("fpn", "unetsharp"))
    params, macs = 0, 1
    assert sharp[params] > fpn[params]
    assert sharp[macs] > fpn[macs]
    assert fpn[3] == fpn[5] == fpn[7] == 1.0


def test_anchors(run_benchmark, repository):
    config = ["--config-file", repository / COMPACT]
    out = run_benchmark("anchors", *config)
    ours, default = numbers(out, "[12, 24"), numbers(out, "[32, 64")
    assert ours[-1] > default[-1] > 0


def test_benchmarks_that_the_documents_name_are_there(repository):
    files = [*repository.glob("*.md"), *repository.glob("docs/**/*.md")]
    text = "\n".join(file.read_text() for file in files)
    named = set(re.findall(r"python -m benchmarks ([a-z]\w*)", text))
    assert len(named) > 5
    assert named <= MODULES.keys()
