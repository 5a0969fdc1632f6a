"""The command predict: from the command line to files, with a network that is not trained."""

import contextlib
import importlib
import json
import os
import signal
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import cv2
import pytest
import tifffile
import torch
from detectron2.modeling import build_model

from unet_sharp_det.batch import dask_units
from unet_sharp_det.batch.units import run_here
from unet_sharp_det.config import setup_cfg
from unet_sharp_det.errors import UserError
from unet_sharp_det.outputs import OUTPUTS

INSTANT = "configs/quick_schedules/unetsharp_cgm_instant_test.yaml"


@pytest.fixture(scope="module")
def tool():
    return importlib.import_module("unet_sharp_det.cli.predict")


@pytest.fixture(scope="module")
def weights(repository, tmp_path_factory):
    """A checkpoint with its config beside it, as a training leaves them."""
    folder = tmp_path_factory.mktemp("run")
    cfg = setup_cfg(str(repository / INSTANT), ["MODEL.DEVICE", "cpu"])
    torch.manual_seed(0)
    torch.save({"model": build_model(cfg).state_dict()}, folder / "model_final.pth")
    (folder / "config.yaml").write_text(cfg.dump())
    return folder / "model_final.pth"


@pytest.fixture
def images(converted_sample, tmp_path):
    """Parts of two images of the sample and two broken files."""
    folder = tmp_path / "images"
    folder.mkdir()
    for path in sorted((converted_sample / "images").iterdir())[:2]:
        cv2.imwrite(str(folder / path.name), cv2.imread(str(path))[:96, :120])
    (folder / "broken.tif").write_bytes(b"II*\0 and no more")
    (folder / "empty.png").touch()
    return folder


@pytest.fixture
def called(tool, monkeypatch):
    """What the tool gives to the predictor and to predict_files."""
    found = SimpleNamespace()

    def from_checkpoint(path, **options):
        found.path, found.loading = path, options

    def predict_files(predictor, inputs, output, **options):
        found.inputs, found.output, found.running = inputs, output, options
        return tool.RunSummary(Path(output), 1, 2, (), 3, 4.0)

    monkeypatch.setattr(tool.prediction.Predictor, "from_checkpoint", from_checkpoint)
    monkeypatch.setattr(tool, "predict_files", predict_files)
    monkeypatch.setattr(tool.checkpoints, "identify_model", lambda *arguments: {"weights": "ab"})
    monkeypatch.setattr(tool.checkpoints, "config_of", lambda *arguments: setup_cfg())
    return found


def test_real_run_and_again(run_tool, tool, weights, images, tmp_path, capsys):
    output = tmp_path / "out"
    command = ["--weights", weights, images, "--output", output, "--outputs", "labels", "coco"]
    done = run_tool("-m", "unet_sharp_det", "predict", *command)
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("2 images with ")
    summary = done.stderr[done.stderr.index("2 images failed:") :]
    assert summary.count(f"{images}/broken.tif: ") == 1
    assert summary.count(f"{images}/empty.png: ") == 1
    assert "Traceback" not in done.stderr
    good = sorted(path for path in images.iterdir() if path.stem not in ("broken", "empty"))
    coco = json.loads((output / "coco.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == [path.name for path in good]
    assert len(coco["annotations"]) > 0
    for path, image in zip(good, coco["images"], strict=True):
        labels = tifffile.imread(output / f"{path.stem}_labels.tif")
        assert labels.shape == (image["height"], image["width"])
        count = sum(each["image_id"] == image["id"] for each in coco["annotations"])
        assert labels.max() == count

    (images / "broken.tif").unlink()
    (images / "empty.png").unlink()
    assert tool.main(list(map(str, command))) == 0
    assert capsys.readouterr().out.startswith("0 images with 0 objects in 0 s, 2 files done")
    with pytest.raises(UserError, match=r"min_area was 0, is 5\. Name another folder"):
        tool.main([*map(str, command), "--min-area", "5"])
    with pytest.raises(UserError, match="config was .* is "):
        tool.main([*map(str, command), "--opts", "INPUT.STRETCH_CONTRAST", "False"])


def test_arguments(tool, called):
    arguments = "a b --weights w --output o --outputs labels,coco table --score-threshold .3 "
    arguments += "--min-area 7 --batch-size 2 --tile-size 512 --tile-overlap 64 --scale 0.5 "
    arguments += "--pixel-size 0.5 0.25 --channels 0,1 2 --channel-axis C --plane-axis -3 "
    arguments += "--planes 0 3 7 3 --series 1 --max-pixels 99 --device cpu --precision bf16 "
    arguments += "--trust-pickle --overwrite --recursive --link --config-file c --opts A B"
    assert tool.main(arguments.split()) == 0
    assert (called.path, called.inputs, called.output) == ("w", ["a", "b"], "o")
    options = tool.PredictionOptions(
        score_threshold=0.3,
        min_area=7,
        batch_size=2,
        tile_size=512,
        tile_overlap=64,
        scale=0.5,
        precision="bf16",
    )
    assert called.loading == {
        "config_file": "c",
        "config_opts": ["A", "B"],
        "device": "cpu",
        "trust_pickle": True,
        "options": options,
    }
    running = called.running
    running.pop("progress")
    assert running == {
        "outputs": ["labels", "coco", "table"],
        "read_options": tool.ReadOptions(
            channels=(0, 1, 2),
            channel_axis="C",
            plane_axis=-3,
            planes=(0, 3, 7),
            series=1,
            max_pixels=99,
        ),
        "pixel_size": (0.25, 0.5),  # y before x
        "link": 0.25,
        "recursive": True,
        "overwrite": True,
        "weights": {"weights": "ab"},
        "run_units": run_here,
    }


def test_dask_gets_what_loads_the_model(tool, called, monkeypatch, tmp_path):
    """By an absolute path, for a worker may run in another folder."""
    (tmp_path / "w.pth").touch()
    monkeypatch.chdir(tmp_path)
    opened = []

    @contextlib.contextmanager
    def open_client(where):
        opened.append(where)
        yield "client"

    monkeypatch.setattr(dask_units, "open_client", open_client)
    assert tool.main("a --weights w.pth --output o --dask local:3".split()) == 0
    units = called.running["run_units"]
    assert (opened, units._client) == (["local:3"], "client")
    units._load()
    assert called.path == str(tmp_path / "w.pth")


def test_defaults(tool, called, capsys):
    tool.main("a --weights w --output o --planes max --outputs all".split())
    assert called.loading["options"] == tool.PredictionOptions()
    assert called.running["read_options"] == tool.ReadOptions(planes="max")
    assert called.running["outputs"] == list(OUTPUTS)
    assert capsys.readouterr().out == "1 image with 3 objects in 4 s, 2 files done before: o\n"


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("--pixel-size 1 2 3", "--pixel-size takes one or two numbers"),
        ("--pixel-size 1um", "--pixel-size takes numbers, not '1um'"),
        ("--planes max 1", "--planes takes numbers, not 'max 1'"),
        ("--channels 0 /", "--channels takes numbers or names, not '/'. INPUTs stand before"),
        ("--channels 0 1", "choose one channel, or three"),
        ("--outputs labels images", "INPUTs stand before it.*'images' is not known"),
        ("--score-threshold 2", "score_threshold is 2.0, but it must be from 0 to 1"),
    ],
)
def test_mistakes(tool, called, arguments, message):
    with pytest.raises(UserError, match=message):
        tool.main(f"a --weights w --output o {arguments}".split())


def test_no_short_form_that_could_be_either_output_or_outputs(tool, called, capsys):
    with pytest.raises(SystemExit):
        tool.main("a --weights w --output o -o results".split())
    assert "unrecognized arguments: -o" in capsys.readouterr().err


def test_warnings_that_no_user_can_mend_are_not_shown(tool, called, monkeypatch, caplog):
    def predict_files(*_, **__):
        warnings.warn("torch.meshgrid: in an upcoming release, it will be", stacklevel=2)
        warnings.warn("another", stacklevel=2)
        return tool.RunSummary(Path("o"), 1, 0, (), 3, 4.0)

    monkeypatch.setattr(tool, "predict_files", predict_files)
    tool.main("a --weights w --output o".split())
    assert "another" in caplog.text
    assert "meshgrid" not in caplog.text


@pytest.mark.usefixtures("foreground")
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_stopped(tool, called, capsys, monkeypatch, stop):
    def be_stopped(*_, **__):
        os.kill(os.getpid(), stop)
        time.sleep(60)  # The signal may arrive in another thread first.

    monkeypatch.setattr(tool, "predict_files", be_stopped)
    before = signal.getsignal(signal.SIGTERM)
    assert tool.main("a --weights w --output o".split()) == 130
    assert "Give the same command again" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before


def test_help(tool, capsys):
    with pytest.raises(SystemExit):
        tool.parse_args(["--help"])
    text = capsys.readouterr().out
    assert all(f"a{output.ending}" in text for output in OUTPUTS.values())
