"""The command lines that other tests do not run: LazyConfig training, drawing."""

import json

import cv2
import pytest

from unet_sharp_det.errors import ConfigError
from unet_sharp_det.training import load_lazy_cfg

COMPACT = "configs/DSB2018-InstanceSegmentation/compact/mask_rcnn_lite0_unetsharp.yaml"
LAZY = "configs/LazyConfigs/mask_rcnn_R_50_unetsharp.py"


def finished(done):
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


class TestLazyConfig:
    SMALL = (
        "train.init_checkpoint=''",
        "optimizer.lr=1e-6",
        "train.max_iter=2",
        "dataloader.train.mapper.augmentations.0.crop_size=[64,64]",
        "dataloader.train.total_batch_size=1",
        "dataloader.train.num_workers=0",
        "dataloader.test.num_workers=0",
        "dataloader.test.mapper.augmentations.0.factors=[0.25]",
    )

    def test_trains_evaluates_and_resumes(self, run_tool, repository, tmp_path):
        command = ["tools/lazyconfig_train_net.py", "--config-file", repository / LAZY]
        options = [*self.SMALL, f"train.output_dir={tmp_path}"]
        finished(run_tool(*command, *options))
        assert (tmp_path / "model_final.pth").is_file()
        assert (tmp_path / "model_best.pth").is_file()
        results = json.loads((tmp_path / "inference" / "metrics.json").read_text())["results"]
        assert set(results) == {"bbox", "segm"}
        out = finished(run_tool(*command, "--resume", *options, "train.max_iter=3"))
        assert "Starting training from iteration 2" in out

    @pytest.mark.parametrize(
        ("option", "message"),
        [
            ("train.max_iters=2", "Did you mean 'max_iter'"),
            ("model.backbone.node_channel=2", "Did you mean 'node_channels'"),
            ("dataloader.train.mapper.augmentations.9.prob=1", "index: '9'"),
            ("train.max_iter", "'path.key=value'"),
        ],
    )
    def test_unknown_key(self, repository, option, message):
        with pytest.raises(ConfigError, match=message):
            load_lazy_cfg(str(repository / LAZY), [option])

    def test_an_argument_of_the_target_is_known(self, repository):
        cfg = load_lazy_cfg(str(repository / LAZY), ["model.backbone.node_channels=32"])
        assert cfg.model.backbone.node_channels == 32


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
