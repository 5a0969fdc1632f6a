"""Benchmarks as a user runs them: the tables are complete, figures are not judged here."""

import re

import pytest

from benchmarks.__main__ import MODULES, main

COMPACT = "configs/DSB2018-InstanceSegmentation/compact/mask_rcnn_lite0_unetsharp.yaml"


def numbers(out, row):
    line = next(line for line in out.splitlines() if line.startswith(f"| {row}"))
    return [float(x) for x in re.findall(r"[-+]?\d+\.\d+", line)]


@pytest.mark.parametrize("task", ["necks", "detectors"])
def test_models(repository, capsys, task):
    options = ["--config-file", repository / COMPACT, "--size", 128, "--batch", 1, "--schemes", "#"]
    main([task, "--repeats", "1", *map(str, options)])
    out = capsys.readouterr().out
    fpn, sharp = (numbers(out, scheme) for scheme in ("fpn", "unetsharp"))
    params, macs = 0, 1
    assert sharp[params] > fpn[params]
    assert sharp[macs] > fpn[macs]
    assert fpn[3] == fpn[5] == fpn[7] == 1.0


def test_anchors(run_tool, repository):
    done = run_tool("-m", "benchmarks", "anchors", "--config-file", repository / COMPACT)
    assert done.returncode == 0, done.stderr[-3000:]
    ours, default = numbers(done.stdout, "[12, 24"), numbers(done.stdout, "[32, 64")
    assert ours[-1] > default[-1] > 0


def test_benchmarks_are_those_that_the_documents_name(repository):
    files = [*repository.glob("*.md"), *repository.glob("docs/**/*.md")]
    text = "\n".join(file.read_text() for file in files)
    assert set(re.findall(r"python -m benchmarks ([a-z]\w*)", text)) == MODULES.keys()
