"""The files: what is in them, that they are checked, and what is refused."""

import json
import sys

import pytest
import torch
from detectron2.modeling import build_model
from prediction_models import watershed_cfg
from test_probability_model import assert_same

from unet_sharp_det import cli
from unet_sharp_det.checkpoints.loading import SkipCheckpointer
from unet_sharp_det.checkpoints.trained_model import open_trained_model
from unet_sharp_det.config import setup_cfg
from unet_sharp_det.errors import UserError
from unet_sharp_det.export import (
    ExportRequest,
    ProbabilityModel,
    checks,
    export_model,
    model_files,
)
from unet_sharp_det.export.formats import check_combination
from unet_sharp_det.export.graphs import DETECTIONS
from unet_sharp_det.export.metadata import METADATA_FILE
from unet_sharp_det.modeling.pruning import cut_to_level

RCNN = "configs/quick_schedules/mask_rcnn_lite0_unetsharp_instant_test.yaml"


@pytest.fixture
def saved(semantic_config, trained, checkpoint):
    """(checkpoint, config, model) of a tiny network of two levels."""
    cfg = semantic_config("INPUT.FORMAT", "BGR", "OUTPUT_DIR", "/home/somebody/run", levels=2)
    model = trained(cfg)
    return checkpoint(model, cfg), cfg, model


class TestFormats:
    def test_torch_export(self, saved):
        path, _, model = saved
        done = export_model(ExportRequest(path, "torch_export"))
        files = {METADATA_FILE: ""}
        loaded = torch.export.load(path.with_suffix(".pt2"), extra_files=files)
        assert_same(loaded.module(), model)
        assert json.loads(files[METADATA_FILE])["input_order"] == "BGR"
        assert len(done) == 3
        assert all(0 <= check.difference < 1e-3 for check in done)

    def test_torchscript(self, saved):
        path, _, model = saved
        export_model(ExportRequest(path, "torchscript"))
        assert_same(torch.jit.load(path.with_suffix(".ts")), model)

    def test_onnx(self, saved):
        runtime = pytest.importorskip("onnxruntime")
        onnx = pytest.importorskip("onnx")
        path, cfg, model = saved
        export_model(ExportRequest(path, "onnx", level=1))
        small, _ = cut_to_level(model, cfg, 1)
        session = runtime.InferenceSession(str(path.with_name("model_final_L1.onnx")))
        assert session.get_inputs()[0].shape == ["batch", 3, "height", "width"]

        def run(batch):
            return torch.from_numpy(session.run(None, {"images": batch.numpy()})[0])

        assert_same(run, small, tolerance=1e-4)
        says = session.get_modelmeta().custom_metadata_map
        assert says["scheme"] == "unetsharp"
        assert says["level"] == "1"
        assert says["input_order"] == "BGR"
        assert says["probability_threshold"] == "0.5"
        assert says["input_range"] == "0..255"
        assert says["contrast_stretch_expected"] == "true"
        assert json.loads(says["class_names"]) == ["nucleus"]
        assert json.loads(says["pixel_mean"]) == list(cfg.MODEL.PIXEL_MEAN)
        assert says["producer"].startswith("unet_sharp_det ")
        proto = onnx.load(path.with_name("model_final_L1.onnx"))
        assert {entry.domain: entry.version for entry in proto.opset_import}[""] == 18

    @pytest.mark.parametrize("precision", ["fp32", "fp16"])
    def test_safetensors_needs_nothing_else(self, saved, precision, tmp_path):
        path, _, model = saved
        alone = tmp_path / "elsewhere" / "model.safetensors"
        export_model(ExportRequest(path, "safetensors", precision, output=alone))
        opened = open_trained_model(alone, device="cpu")
        loaded, cfg = opened.model, opened.cfg
        for name, value in model.state_dict().items():
            expected = value.half().float() if precision == "fp16" else value
            if value.is_floating_point():
                assert torch.equal(loaded.state_dict()[name], expected), name
        assert b"somebody" not in alone.read_bytes()
        assert cfg.INPUT.FORMAT == "BGR"


class TestVolumes:
    @pytest.fixture
    def of_volumes(self, checkpoint):
        """(checkpoint, model) of a tiny V-Net#."""
        sizes = ["INPUT.VOLUME.PATCH_SIZE", "[8, 12, 16]", "MODEL.UNET.CHANNELS", "[4, 6, 8]"]
        sizes += ["MODEL.SEM_SEG_HEAD.IN_FEATURES", "['res0', 'res1', 'res2']", "MODEL.DEVICE"]
        sizes += ["cpu", "MODEL.UNET.NORM", "BN", "MODEL.SEM_SEG_HEAD.NORM", "BN"]
        values = ["INPUT.VOLUME.WINDOW", "[-200, 250]", "MODEL.PIXEL_MEAN", "[0.1]"]
        values += ["MODEL.SEM_SEG_HEAD.DEEP_SUPERVISION", "all"]
        cfg = setup_cfg("Volumes/compact/liver_vnetsharp.yaml", [*sizes, *values])
        torch.manual_seed(0)
        model = build_model(cfg).eval()
        return checkpoint(model, cfg), model

    @staticmethod
    def read(path):
        """The function of a graph, and its metadata."""
        files = {METADATA_FILE: ""}
        if path.suffix == ".ts":
            return torch.jit.load(path, _extra_files=files), json.loads(files[METADATA_FILE])
        if path.suffix == ".pt2":
            program = torch.export.load(path, extra_files=files)
            return program.module(), json.loads(files[METADATA_FILE])
        session = pytest.importorskip("onnxruntime").InferenceSession(str(path))

        def run(patches):
            return torch.from_numpy(session.run(None, {"images": patches.numpy()})[0])

        return run, session.get_modelmeta().custom_metadata_map

    @pytest.mark.parametrize("file_format", ["torch_export", "onnx", "torchscript"])
    def test_patches(self, of_volumes, file_format):
        path, model = of_volumes
        request = ExportRequest(path, file_format)
        assert len(export_model(request)) == 3
        run, about = self.read(request.path)
        patches = torch.randn(5, 1, 8, 12, 16)
        with torch.no_grad():
            found = model([{"image": patch} for patch in patches])
        expected = torch.stack([each["sem_seg"] for each in found])
        assert torch.allclose(run(patches), expected, atol=1e-4)
        assert expected.std() > 1e-4
        assert (about["patch_size"], about["window"]) == ("[8, 12, 16]", "[-200, 250]")
        assert "input_range" not in about

    def test_weights_of_a_level(self, of_volumes):
        path, _ = of_volumes
        request = ExportRequest(path, "safetensors", "fp16", level=1)
        export_model(request)
        opened = open_trained_model(request.path, device="cpu")
        assert len(opened.model.sem_seg_head.in_features) == 2
        with pytest.raises(UserError, match="onnx: 'bf16'.*Available: fp32"):
            export_model(ExportRequest(path, "onnx", "bf16"))


class TestWatershed:
    """Of a model that makes objects, the probabilities of its bands are written."""

    def test_those_of_a_level(self, checkpoint):
        cfg = watershed_cfg()
        torch.manual_seed(0)
        model = build_model(cfg).eval()
        path = checkpoint(model, cfg)
        assert len(export_model(ExportRequest(path, "torch_export", level=1))) == 3
        files = {METADATA_FILE: ""}
        loaded = torch.export.load(path.with_name("model_final_L1.pt2"), extra_files=files).module()
        image = torch.rand(3, 45, 60) * 255
        with torch.no_grad():
            (expected,) = cut_to_level(model, cfg, 1)[0].probabilities([{"image": image}])
        assert torch.allclose(loaded(image[None])[0], expected, atol=1e-4)
        assert json.loads(files[METADATA_FILE])["target"] == "distance"


@pytest.fixture(scope="module")
def traced(repository, tmp_path_factory):
    """(checkpoint, model, function of each format) of a Mask R-CNN that was written."""
    torch.manual_seed(0)
    cfg = setup_cfg(str(repository / RCNN), ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""])
    folder = tmp_path_factory.mktemp("rcnn")
    model = build_model(cfg).eval()
    SkipCheckpointer(model, str(folder)).save("model_final")
    (folder / "config.yaml").write_text(cfg.dump())
    path = folder / "model_final.pth"
    export_model(ExportRequest(path, "torchscript"))
    export_model(ExportRequest(path, "onnx"))
    session = pytest.importorskip("onnxruntime").InferenceSession(path.with_suffix(".onnx"))
    assert [each.name for each in session.get_outputs()] == DETECTIONS

    def run(image):
        return [torch.from_numpy(array) for array in session.run(None, {"image": image.numpy()})]

    return path, model, {"torchscript": torch.jit.load(path.with_suffix(".ts")), "onnx": run}


class TestMaskRCNN:
    @pytest.mark.parametrize("file_format", ["torchscript", "onnx"])
    @torch.no_grad()
    def test_another_image_of_another_size(self, traced, file_format):
        _, model, functions = traced
        image = checks.blobs(3, 180, 300, seed=5)
        boxes, classes, masks, scores, size = functions[file_format](image)
        expected = model.inference([{"image": image}], do_postprocess=False)[0]
        assert len(expected) > 0
        assert torch.allclose(boxes, expected.pred_boxes.tensor, atol=1e-2)
        assert torch.equal(classes, expected.pred_classes)
        assert torch.allclose(masks, expected.pred_masks, atol=1e-4)
        assert torch.allclose(scores, expected.scores, atol=1e-4)
        assert size.tolist() == [180, 300]

    def test_a_trace_tracks_no_gradients(self, traced):
        results = traced[2]["torchscript"](checks.blobs(3, 90, 70, seed=5))
        assert not any(result.requires_grad for result in results)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"file_format": "torch_export"}, "cannot be written as torch_export"),
            ({"file_format": "torchscript", "precision": "bf16"}, "'bf16'.*Available: fp32"),
            ({"file_format": "safetensors", "level": 1}, "only a semantic network has levels"),
        ],
    )
    def test_refused(self, traced, options, message):
        with pytest.raises(UserError, match=message):
            export_model(ExportRequest(traced[0], **options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"file_format": "onx"}, "Did you mean 'onnx'"),
        ({"file_format": "onnx", "precision": "fp16"}, "onnx: 'fp16'.*Available: fp32"),
        ({"file_format": "safetensors", "precision": "int8"}, "'int8'.*Available: fp32, fp16"),
        ({"file_format": "onnx", "level": 2}, "Give one of 1 to 1"),
        ({"file_format": "onnx", "level": 1, "mode": "quick"}, "accurate, fast"),
        ({"file_format": "onnx", "mode": "accurate"}, "Give a level, or no mode"),
        ({"file_format": "onnx", "output": "a.pt2"}, "end in .onnx"),
    ],
)
def test_refused(saved, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        export_model(ExportRequest(saved[0], **options))
    assert {path.name for path in tmp_path.iterdir()} <= {
        *("model_final.pth", "config.yaml", "last_checkpoint")
    }


@pytest.mark.parametrize("options", [["MODEL.MASK_ON", "False"], ["MODEL.KEYPOINT_ON", "True"]])
def test_a_detector_of_other_outputs_is_weights_alone(repository, options):
    cfg = setup_cfg(str(repository / RCNN), options)
    check_combination(cfg, "safetensors", "fp16")
    with pytest.raises(UserError, match="an R-CNN without masks or with keypoints cannot be"):
        check_combination(cfg, "onnx", "fp32")


def test_the_checkpoint_itself_is_not_overwritten(saved, tmp_path):
    first = ExportRequest(saved[0], "safetensors", output=tmp_path / "a.safetensors")
    export_model(first)
    with pytest.raises(UserError, match="is the checkpoint itself"):
        export_model(ExportRequest(first.output, "safetensors"))


def test_a_file_that_differs_is_not_written(saved, monkeypatch):
    def wrong(module, example, path, metadata):
        path.write_bytes(b"graph")
        return lambda batch: module(batch) + 0.01

    monkeypatch.setattr(model_files, "write_torchscript", wrong)
    target = saved[0].with_suffix(".ts")
    target.write_bytes(b"the old one")
    with pytest.raises(UserError, match="differs from the model.*nothing was written"):
        export_model(ExportRequest(saved[0], "torchscript"))
    assert target.read_bytes() == b"the old one"
    assert not list(target.parent.glob(".model_final*"))


def test_bf16_may_move_single_pixels_but_not_all(saved):
    model = saved[2]

    def check(precision, moved):
        def found(batch):
            probabilities = ProbabilityModel(model)(batch)
            probabilities[moved] += 0.12
            return probabilities

        return checks.check_probabilities(found, model, 64, precision)

    pixel = (0, 0, 5, 7)
    assert "mean |difference|" in str(check("bf16", pixel)[0])
    for precision, moved in [("fp32", pixel), ("bf16", (..., slice(8), slice(None)))]:
        with pytest.raises(UserError, match="differs from the model"):
            check(precision, moved)


def test_without_onnx(saved, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match=r"pip install 'unet_sharp_det\[export\]'"):
        cli._run("export", [str(saved[0]), "--format", "onnx"])
    assert not saved[0].with_suffix(".onnx").exists()
