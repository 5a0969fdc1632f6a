"""The command app and the start of its server: what is wrong is a line, before any work."""

import importlib
import logging
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import warnings
from pathlib import Path

import pytest
from app_helpers import StubPredictor

from unet_sharp_det import cli
from unet_sharp_det.app import server
from unet_sharp_det.app.analysis import Analyser
from unet_sharp_det.config import setup_cfg
from unet_sharp_det.errors import UserError
from unet_sharp_det.prediction.options import AUTO, LOWEST_SCORE


@pytest.fixture(scope="module")
def tool():
    return importlib.import_module("unet_sharp_det.cli.app")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--port", "70000"], "--port is 70000"),
        (["--max-upload-mb", "0"], "--max-upload-mb is 0"),
        (["--max-pixels", "-1"], "--max-pixels is -1"),
        ([], "no such file.pth"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_bad_arguments(tool, tmp_path, arguments, words):
    with pytest.raises(UserError, match=words):
        tool.main(["--weights", str(tmp_path / "no such file.pth"), *arguments])


def test_options_reach_the_predictor_and_the_page(tool, monkeypatch, recwarn):
    given = {}

    class Stop(Exception):
        pass

    def from_checkpoint(path, **options):
        given.update(options, path=path)
        warnings.warn("torch.meshgrid: in an upcoming release, ...", UserWarning, stacklevel=1)
        return StubPredictor()

    def serve(analyser, models, **options):
        given.update(options, models=models, max_pixels=analyser.max_pixels)
        analyser.load(next(iter(models)))
        raise Stop

    monkeypatch.setattr(tool.signal, "signal", lambda number, handler: None)
    monkeypatch.setattr(tool.app, "IsolatedAnalyser", lambda analyser: analyser)
    monkeypatch.setattr(tool.prediction.Predictor, "from_checkpoint", from_checkpoint)
    monkeypatch.setattr(tool.app, "serving", serve)
    given_config = (
        "MODEL.WEIGHTS w.pth TEST.INSTANCES.SCORE_THRESHOLD 0.3 TEST.INSTANCES.MIN_AREA 40"
    )
    own = setup_cfg("", given_config.split())
    config_of = tool.checkpoints.config_of
    monkeypatch.setattr(
        tool.checkpoints, "config_of", lambda *args: own if "w.pth" in args else config_of(*args)
    )
    arguments = "--weights w.pth --device cpu --port 0"
    arguments += " --max-pixels 99"
    with pytest.raises(Stop):
        tool.main([*arguments.split(), "--trust-pickle"])
    options = given["options"]
    assert (options.score_threshold, options.min_area) == (LOWEST_SCORE, None)
    assert options.scale == AUTO
    assert list(given["models"]) == ["w", "nuclei", "nuclei-fast"]
    own = given["models"]["w"]
    assert own.score_threshold == 0.3
    assert "| score threshold | 0.3 |" in own.card
    assert given["models"]["nuclei"].card.startswith("# nuclei")
    assert (given["path"], given["device"], given["trust_pickle"]) == ("w.pth", "cpu", True)
    assert (given["host"], given["port"]) == ("127.0.0.1", 0)
    assert given["max_pixels"] == 99
    assert not [each for each in recwarn if "meshgrid" in str(each.message)]


@pytest.mark.parametrize(
    "weights, names",
    [
        ("nuclei-fast", ["nuclei-fast", "nuclei"]),
        ("runs/nuclei.pth", ["nuclei_own", "nuclei", "nuclei-fast"]),
        ("runs/my <model>.pth", ["my_model_", "nuclei", "nuclei-fast"]),
    ],
)
def test_the_models_that_are_offered(tool, weights, names):
    offered = tool.offered_models(tool.parse_args(["--weights", weights]))
    assert list(offered) == names
    assert offered[names[0]] == (weights, None)


def test_without_fastapi_the_command_that_installs_it_is_told(tool, monkeypatch):
    monkeypatch.setitem(sys.modules, "fastapi", None)
    monkeypatch.delitem(sys.modules, "unet_sharp_det.app.routes", raising=False)
    monkeypatch.setattr(tool.signal, "signal", lambda number, handler: None)
    with pytest.raises(UserError, match=r"fastapi is missing.*pip install 'unet_sharp_det\[app\]'"):
        cli._run("app", ["--port", "0"])


def test_which_addresses_only_this_computer_reaches():
    assert all(map(server.is_loopback, ("127.0.0.1", "127.1.2.3", "localhost", "::1")))
    assert not any(map(server.is_loopback, ("0.0.0.0", "192.168.0.7", "my-computer")))


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1", "no-such-host.invalid", "::1"])
def test_an_address_that_is_taken_or_not_ours_is_refused(host):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"--host {host} --port {port}: cannot be used"):
            with server.serving(Analyser({}), {}, host=host, port=port):
                pass


def test_a_signal_at_the_start_leaves_no_files(repository, environment, tmp_path):
    weights = tmp_path / "w.pth"
    weights.write_text("no weights")
    (tmp_path / "config.yaml").write_text("VERSION: 2")
    command = [sys.executable, "-m", "unet_sharp_det", "app", "--weights", str(weights)]
    with tempfile.TemporaryDirectory() as name:  # short, unlike tmp_path: sockets lie in it
        process = subprocess.Popen(
            [*command, "--port", "0"],
            env={**environment, "TMPDIR": name},
            stderr=subprocess.PIPE,
            text=True,
        )
        while process.poll() is None and not list(Path(name).glob("unet_sharp_det_app_*")):
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")
        assert list(Path(name).glob("unet_sharp_det_app_*")) == []


def test_an_open_address_is_warned_about(caplog):
    with (
        caplog.at_level(logging.WARNING),
        server.serving(Analyser({}), {}, host="0.0.0.0", port=0),
    ):
        pass
    assert "it has no password" in caplog.text


def test_another_address_of_this_computer():
    with server.serving(Analyser({}), {}, host="127.0.0.2", port=0) as address:
        assert urllib.request.urlopen(address, timeout=30).status == 200
