"""The panel in a viewer of napari, on a virtual display: found, shown, cancelled, refused."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("napari")
import napari.layers
from npe2 import PluginManifest
from prediction_models import BrightBlobs, predictor_of
from stub_predictor import StubPredictor, spots

import unet_sharp_det
from unet_sharp_det.errors import UserError
from unet_sharp_det.prediction import Predictor
from unet_sharp_det.prediction.options import AUTO, LOWEST_SCORE

MANIFEST = Path(unet_sharp_det.__file__).parent / "napari_plugin" / "napari.yaml"


def test_the_manifest_names_what_there_is():
    manifest = PluginManifest.from_file(MANIFEST)
    assert manifest.name == "unet_sharp_det"
    manifest.validate_imports()
    patterns = [reader.filename_patterns for reader in manifest.contributions.readers]
    assert patterns == [["*_labels.tif", "*_linked.tif"], ["*.geojson"]]


@pytest.fixture
def viewer(make_napari_viewer, npe2pm):
    """A viewer that knows napari's own plugin and ours."""
    import napari_builtins

    builtins = Path(napari_builtins.__file__).with_name("builtins.yaml")
    with npe2pm.tmp_plugin(manifest=str(MANIFEST)), npe2pm.tmp_plugin(manifest=str(builtins)):
        yield make_napari_viewer()


@pytest.fixture
def panel(viewer):
    _, panel = viewer.window.add_plugin_dock_widget("unet_sharp_det", "Find objects")
    return panel


@pytest.fixture
def use(monkeypatch):
    """A function (predictor) that has it take the place of every trained model."""

    def replace(predictor):
        asked = []

        def load(weights, options):
            asked.append((weights, options))
            if isinstance(predictor, Exception):
                raise predictor
            return predictor

        monkeypatch.setattr(Predictor, "from_checkpoint", load)
        return asked

    return replace


def wait(qtbot, panel):
    """Until the search has ended and what it sent has arrived."""
    worker = panel._worker
    for _ in range(1000):
        qtbot.processEvents()
        if panel._worker is None:
            return worker
        qtbot.thread().msleep(10)
    raise AssertionError("the search does not end")


def test_labels_and_table_come_back(viewer, panel, use, qtbot):
    asked = use(StubPredictor())
    image = np.stack([spots(0), spots(1)])
    viewer.add_image(image, name="cells", scale=(2, 0.5, 0.5), units="um")
    panel.threshold.value = 0.4
    assert panel.channel_axis.choices == (None, 0)
    assert (panel.start.enabled, panel.cancel.enabled) == (True, False)
    panel.start.changed.emit(True)
    assert (panel.start.enabled, panel.cancel.enabled) == (False, True)
    wait(qtbot, panel)
    assert (panel.start.enabled, panel.cancel.enabled) == (True, False)
    [(weights, options)] = asked
    assert (weights, options.score_threshold, options.scale) == ("nuclei", LOWEST_SCORE, AUTO)
    assert panel.seen.value == "0.25 to 0.5 times, for objects of 40 to 80 pixels"
    labels = viewer.layers["cells objects"]
    np.testing.assert_array_equal(labels.data > 0, image > 100)
    assert tuple(labels.scale) == (2, 0.5, 0.5)
    assert labels.features["index"].tolist() == list(range(1, 9))
    assert {"score", "class", "area_px", "area_um2", "intensity_mean_c0"} <= set(labels.features)
    assert "Features table widget (napari)" in viewer.window.dock_widgets
    panel.threshold.value = 0.75  # filters them at once; scores are 0.9, 0.8, 0.7 and 0.6
    assert labels.features["index"].tolist() == np.unique(labels.data)[1:].tolist() == [1, 2, 5, 6]
    panel.threshold.value = 0
    np.testing.assert_array_equal(labels.data > 0, image > 100)
    labels.fill((0, 0, 0), 99)  # What is painted is kept.
    panel.threshold.value = 0.85
    assert np.unique(labels.data).tolist() == [*range(9), 99]


def test_the_sample_opens_and_offers_its_channels(viewer, panel):
    viewer.open_sample("unet_sharp_det", "nuclei")
    assert panel.image.value is viewer.layers["nuclei"]
    assert panel.channel.choices == (None,)
    viewer.add_image(np.zeros((4, 9, 9)), name="stack")
    panel.image.value = viewer.layers["stack"]
    panel.channel_axis.value = 0
    assert panel.channel.choices == (0, 1, 2, 3)
    viewer.add_image(np.zeros((9, 9, 3), np.uint8), name="colours", rgb=True)
    panel.image.value = viewer.layers["colours"]
    assert panel.channel.choices == (None, 0, 1, 2)


def test_cancel_stops_between_tiles(viewer, panel, use, qtbot):
    finder = BrightBlobs()
    find = finder.find

    def press_cancel(*arguments):
        panel._worker.quit()
        return find(*arguments)

    finder.find = press_cancel
    use(predictor_of(finder, tile_size=64, tile_overlap=16, scale=AUTO))
    viewer.add_image(np.tile(spots(0, 64, 64), (6, 6)))
    panel.start.changed.emit(True)
    wait(qtbot, panel)
    assert len(finder.batches) == 1
    assert len(viewer.layers) == 1
    assert panel.start.enabled


@pytest.mark.parametrize("error", [UserError("no such file"), None])
def test_a_mistake_of_the_user_is_told(viewer, panel, use, qtbot, error, monkeypatch):
    told = []
    monkeypatch.setattr("unet_sharp_det.napari_plugin.widget.show_error", told.append)
    use(error)
    if error is not None:
        viewer.add_image(spots(0))
    panel.start.changed.emit(True)
    if error is not None:
        wait(qtbot, panel)
    assert told == ["no such file" if error else "There is no image. Open one first."]
    assert panel.start.enabled


def test_a_model_file_can_be_chosen(viewer, panel, use, qtbot, tmp_path):
    asked = use(StubPredictor())
    assert not panel.file.visible
    viewer.add_image(spots(0))
    panel.model.value = "a file ..."
    panel.file.value, panel.scale.value = tmp_path / "mine.safetensors", 0.5
    panel.start.changed.emit(True)
    wait(qtbot, panel)
    [(weights, options)] = asked
    assert (weights, options.scale) == (str(tmp_path / "mine.safetensors"), 0.5)


def test_layers_are_saved_and_opened_by_name(viewer, tmp_path):
    labels = viewer.add_labels(np.pad([[1, 1], [7, 7]], 3))
    outlines = str(tmp_path / "a.geojson")
    assert labels.save(outlines) == [outlines]
    path = str(tmp_path / "a_labels.tif")
    assert labels.save(path, plugin="unet_sharp_det") == [path]
    [opened] = viewer.open(path, plugin="unet_sharp_det")
    assert isinstance(opened, napari.layers.Labels)
    np.testing.assert_array_equal(opened.data, labels.data)
    [shapes] = viewer.open(outlines, plugin=None)
    assert shapes.features["index"].tolist() == [1, 7]
    again = str(tmp_path / "b.geojson")
    assert shapes.save(again) == [again]
    [former, saved] = [json.loads(Path(path).read_text())["features"] for path in (outlines, again)]
    for a, b in zip(former, saved, strict=True):
        assert a["properties"]["measurements"] == b["properties"]["measurements"]
        assert (a["id"], a["geometry"]) == (b["id"], b["geometry"])


def test_a_closed_panel_ends_its_search(viewer, panel, use, qtbot):
    started, released = threading.Event(), threading.Event()

    def hold(source):
        started.set()
        assert released.wait(20)

    use(StubPredictor(before=hold))
    viewer.add_image(spots(0))
    panel.start.changed.emit(True)
    worker = panel._worker
    assert started.wait(20)
    viewer.window.remove_dock_widget(panel.native)
    panel.native.deleteLater()
    qtbot.sendPostedEvents(None, 52)  # DeferredDelete, which processEvents leaves
    assert worker.abort_requested
    released.set()
    for _ in range(500):
        qtbot.processEvents()
        if not worker.is_running:
            break
        qtbot.thread().msleep(10)
    assert len(viewer.layers) == 1
