"""The command lines that other tests do not run: drawing, and help."""


def finished(done):
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


class TestVisualize:
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
