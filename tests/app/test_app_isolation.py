"""Images in processes of their own: the same results, and an end for those that take too much."""

import json
import threading
import time

import pytest
from app_helpers import MisledAnalyser, StubPredictor, Waiting, write_image

from unet_sharp_det.app import isolation
from unet_sharp_det.app.analysis import Analyser, Search, View, objects_file
from unet_sharp_det.app.isolation import IsolatedAnalyser
from unet_sharp_det.errors import UserError

SEARCH = Search("stub")


@pytest.fixture(scope="module")
def isolated():
    """Gives an image 4 seconds and half a GiB."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(isolation, "_READ_SECONDS", 4)
        patch.setattr(isolation, "_READ_MEMORY", 2**29)
        analyser = IsolatedAnalyser(MisledAnalyser({"stub": StubPredictor}, max_pixels=20_000))
        analyser.load("stub")
        yield analyser
        analyser.close()


@pytest.fixture
def view(tmp_path):
    return View(write_image(tmp_path / "a.png"), 0, (0,))


def test_results_are_those_of_the_analyser(isolated, view, tmp_path):
    plain, waiting = Analyser({"stub": StubPredictor}), Waiting()
    folders = [tmp_path / name for name in ("isolated", "plain")]
    for folder in folders:
        folder.mkdir()
    assert isolated.inspect(view.path) == plain.inspect(view.path)
    counts = [isolated.render(view, folders[0]), plain.render(view, folders[1])]
    counts += [
        isolated.find(view, SEARCH, folders[0], waiting),
        plain.find(view, SEARCH, folders[1]),
    ]
    assert (counts, waiting.fractions) == ([0, 0, 5, 5], [1])
    tiles, found = ([file(each) for each in folders] for file in (first_tile, objects_file))
    assert tiles[0].read_bytes() == tiles[1].read_bytes()
    assert json.loads(found[0].read_text()) == json.loads(found[1].read_text())
    assert isolated.compare(*folders) == [(k, k) for k in range(5)]
    row = isolated.write(folders[0], {"score": (0.5, None)}, None, tmp_path / "a", ["table"])
    assert row["objects"] == 3
    assert len((tmp_path / "a_objects.csv").read_text().splitlines()) == 4


def first_tile(folder):
    return folder / "0" / "0_0.jpg"


def test_errors_are_those_of_the_analyser(isolated, tmp_path):
    (tmp_path / "notes.tif").write_text("no image")
    with pytest.raises(UserError, match=r"^notes\.tif: "):
        isolated.inspect(tmp_path / "notes.tif")
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        isolated.inspect(tmp_path / "fails.png")


def stop_soon(waiting):
    time.sleep(0.3)
    waiting.stopped.set()


@pytest.mark.parametrize("name, lives", [("tiles", True), ("hangs", False)])
def test_a_search_stops_between_tiles_or_is_ended(
    isolated, view, tmp_path, monkeypatch, name, lives
):
    monkeypatch.setattr(isolation, "_PATIENCE", 0.3)
    waiting = Waiting()
    thread = threading.Thread(target=stop_soon, args=[waiting])
    thread.start()
    began, process = time.monotonic(), isolated._finder.process
    with pytest.raises(UserError, match="Cancelled"):
        isolated.find(View(tmp_path / f"{name}.png", 0, (0,)), SEARCH, tmp_path, waiting)
    thread.join()
    assert time.monotonic() - began < 3
    assert process.is_alive() == lives
    assert isolated.find(view, SEARCH, tmp_path, Waiting()) == 5


def test_while_one_image_hangs_others_are_read(isolated, view, tmp_path):
    errors = []

    def wait():
        try:
            isolated.inspect(tmp_path / "hangs.png")
        except UserError as error:
            errors.append(str(error))

    thread = threading.Thread(target=wait)
    thread.start()
    for _ in range(3):
        isolated.inspect(view.path)
    assert errors == []
    thread.join(timeout=20)
    assert len(errors) == 1
    assert errors[0].startswith("hangs.png: needs more than 4 seconds")


def test_an_image_that_fills_the_memory_is_ended(isolated, tmp_path, monkeypatch):
    monkeypatch.setattr(isolation, "_READ_SECONDS", 60)
    with pytest.raises(UserError, match=r"^grows\.png: needs more than 0\.5 GiB of memory"):
        isolated.inspect(tmp_path / "grows.png")


def test_the_network_is_started_again_after_a_crash(isolated, view, tmp_path):
    path = tmp_path / "crashes.png"
    with pytest.raises(UserError, match=r"^crashes\.png: .* crashed"):
        isolated.inspect(path)
    with pytest.raises(UserError, match=r"^crashes\.png: .* crashed"):
        isolated.find(View(path, 0, (0,)), SEARCH, tmp_path, Waiting())
    assert isolated.find(view, SEARCH, tmp_path, Waiting()) == 5


def test_the_end_ends_every_process(tmp_path):
    analyser = IsolatedAnalyser(MisledAnalyser({}))
    caught = []

    def wait():
        with pytest.raises(UserError, match="was ended") as error:
            analyser.inspect(tmp_path / "hangs.png")
        caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    while not analyser._workers:
        time.sleep(0.01)
    time.sleep(0.5)
    analyser.close()
    thread.join(timeout=10)
    assert (len(caught), analyser._workers) == (1, set())


def test_a_folder_in_which_no_socket_can_lie_is_told(monkeypatch):
    def fail():
        raise OSError("AF_UNIX path too long")

    monkeypatch.setattr(isolation.forkserver, "ensure_running", fail)
    with pytest.raises(UserError, match=r"AF_UNIX path too long.*TMPDIR=/tmp"):
        IsolatedAnalyser(Analyser({})).load("m")
