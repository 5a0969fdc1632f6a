"""The command lines that other tests do not run: drawing, measuring."""

import re

import cv2
import pytest

COMPACT = "configs/DSB2018-InstanceSegmentation/compact/mask_rcnn_lite0_unetsharp.yaml"


def finished(done):
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


class TestVisualize:
    @pytest.mark.parametrize("source", ["annotation", "dataloader"])
    def test_ground_truth(self, run_tool, repository, tmp_path, source):
        config = ["--config-file", repository / COMPACT, "--source", source, "--limit", 2]
        montage = tmp_path / "montage.png"
        options = ["--output-dir", tmp_path, "--montage", montage]
        out = finished(run_tool("tools/visualize_data.py", *config, *options))
        paths = out.split()
        assert len(paths) == 3
        assert all(cv2.imread(path) is not None for path in paths)

    def test_own_data_registered_at_detectron2_s_import(
        self, run_tool, repository, converted_sample, tmp_path, monkeypatch, environment
    ):
        """As GETTING_STARTED says; drawn as a semantic network's training sees it."""
        json_file = converted_sample / "annotations" / "dsb2018_val.json"
        (tmp_path / "mine.py").write_text(
            "from unet_sharp_det.data import register_coco_nuclei\n\n"
            "def setup_environment():\n"
            f"    register_coco_nuclei('mine', {str(json_file)!r}, {str(converted_sample)!r}, "
            "['nucleus'])\n"
        )
        monkeypatch.setitem(environment, "DETECTRON2_ENV_MODULE", str(tmp_path / "mine.py"))
        config = repository / "configs/DSB2018-SemanticSegmentation/compact/unet.yaml"
        options = ["--config-file", config, "--dataset", "mine", "--source", "dataloader"]
        options += ["--limit", "1", "--output-dir", tmp_path / "out"]
        finished(run_tool("tools/visualize_data.py", *options))
        assert len(list((tmp_path / "out").glob("*.png"))) == 1

    def test_missing_predictions(self, run_tool, tmp_path):
        options = ["--dataset", "dsb2018_val", "--predictions", tmp_path / "none.json"]
        done = run_tool("tools/visualize_data.py", *options)
        assert done.returncode == 2
        assert "none.json" in done.stderr


class TestBenchmark:
    """The tables are complete; figures are not judged here."""

    def numbers(self, out, row):
        line = next(line for line in out.splitlines() if line.startswith(f"| {row}"))
        return [float(x) for x in re.findall(r"[-+]?\d+\.\d+", line)]

    @pytest.mark.parametrize("task", ["necks", "detectors"])
    def test_models(self, run_tool, repository, task):
        options = ["--config-file", repository / COMPACT, "--size", 128, "--batch", 1]
        out = finished(run_tool("tools/benchmark.py", "--repeats", 1, task, *options))
        fpn, sharp = (self.numbers(out, scheme) for scheme in ("fpn", "unetsharp"))
        params, macs = 0, 1
        assert sharp[params] > fpn[params]
        assert sharp[macs] > fpn[macs]
        assert fpn[3] == fpn[5] == fpn[7] == 1.0

    def test_evaluation(self, run_tool):
        options = ["--images", 4, "--detections", 20]
        out = finished(run_tool("tools/benchmark.py", "--repeats", 1, "evaluation", *options))
        slow, fast = self.numbers(out, "pycocotools"), self.numbers(out, "faster-coco-eval")
        assert slow[0] == fast[0] > 0

    def test_converter(self, run_tool, sample_folder):
        out = finished(run_tool("tools/benchmark.py", "--repeats", 1, "converter", sample_folder))
        assert "32 images, 1111 masks" in out
        assert self.numbers(out, "convert_dsb2018")[0] > 0

    def test_anchors(self, run_tool, repository):
        config = ["--config-file", repository / COMPACT]
        out = finished(run_tool("tools/benchmark.py", "anchors", *config))
        ours, default = self.numbers(out, "[12, 24"), self.numbers(out, "[32, 64")
        assert ours[-1] > default[-1] > 0
