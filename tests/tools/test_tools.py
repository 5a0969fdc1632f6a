"""The command lines that other tests do not run: drawing, and help."""

import cv2

COMPACT = "configs/DSB2018-InstanceSegmentation/compact/mask_rcnn_lite0_unetsharp.yaml"


def finished(done):
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


class TestVisualize:
    def test_ground_truth(self, run_tool, repository, tmp_path):
        config = ["--config-file", repository / COMPACT, "--source", "annotation", "--limit", 2]
        montage = tmp_path / "montage.png"
        options = ["--output-dir", tmp_path, "--montage", montage]
        out = finished(run_tool("tools/visualize_data.py", *config, *options))
        paths = out.split()
        assert len(paths) == 3
        assert all(cv2.imread(path) is not None for path in paths)

    def test_own_data_registered_at_detectron2_s_import(
        self, run_tool, repository, converted_sample, tmp_path, monkeypatch, environment
    ):
        """As datasets/README.md says; drawn as a semantic network's training sees it."""
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
