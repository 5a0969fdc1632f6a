"""Images in processes of their own: the same results, and an end for those that take too much."""

import threading
import time

import numpy as np
import pytest
from app_helpers import MisledAnalyser, StubPredictor, write_image

from unet_sharp_det.app.analysis import Analyser, View
from unet_sharp_det.app.isolation import IsolatedAnalyser
from unet_sharp_det.errors import UserError


@pytest.fixture(scope="module")
def isolated():
    """Gives an image 4 seconds and half a GiB."""
    misled = MisledAnalyser(StubPredictor, max_pixels=20_000)
    analyser = IsolatedAnalyser(misled, read_seconds=4, read_memory=2**29)
    analyser.load()
    yield analyser
    analyser.close()


@pytest.fixture
def view(tmp_path):
    return View(write_image(tmp_path / "a.png"), 0, (0,))


def test_results_are_those_of_the_analyser(isolated, view, tmp_path):
    plain, fractions = Analyser(StubPredictor), []
    assert isolated.inspect(view.path) == plain.inspect(view.path)
    assert np.array_equal(isolated.display(view), plain.display(view))
    found, expected = isolated.find(view, fractions.append), plain.find(view)
    assert np.array_equal(found.candidates.label_map(), expected.candidates.label_map())
    assert (found.class_names, fractions) == (expected.class_names, [1])
    (table,) = isolated.write(found, found.objects(0.5, 0), None, tmp_path, ["table"])
    assert len(table.read_text().splitlines()) == 4


def test_errors_are_those_of_the_analyser(isolated, view, tmp_path):
    (tmp_path / "notes.tif").write_text("no image")
    with pytest.raises(UserError, match=r"^notes\.tif: "):
        isolated.inspect(tmp_path / "notes.tif")
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        isolated.inspect(tmp_path / "fails.png")

    def refuse(fraction):
        raise UserError("Another image was chosen.")

    with pytest.raises(UserError, match=r"^Another image was chosen\.$"):
        isolated.find(view, refuse)
    assert len(isolated.find(view).candidates) == 5


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


def test_an_image_that_fills_the_memory_is_ended(isolated, tmp_path):
    with pytest.raises(UserError, match=r"^grows\.png: needs more than 0\.5 GiB of memory"):
        isolated.inspect(tmp_path / "grows.png")


def test_the_network_is_started_again_after_a_crash(isolated, view, tmp_path):
    def find(path):
        return isolated.find(View(path, 0, (0,)))

    for method in (isolated.inspect, find):
        with pytest.raises(UserError, match=r"^crashes\.png: .* crashed"):
            method(tmp_path / "crashes.png")
    assert len(isolated.find(view).candidates) == 5


def test_the_end_ends_every_process(view, tmp_path):
    analyser = IsolatedAnalyser(MisledAnalyser(StubPredictor))
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
