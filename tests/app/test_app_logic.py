"""What the app does without its server: images, their objects and files, sessions, turns."""

import json
import threading
from dataclasses import replace

import cv2
import numpy as np
import pytest
import shapely
import tifffile
from app_helpers import SHAPE, SIDES, PlainAnalyser, StubPredictor, squares, write_image

from unet_sharp_det.app.analysis import Analyser, Found, Search, View, objects_file
from unet_sharp_det.app.cards import read_card, render_card
from unet_sharp_det.app.queue import Queue
from unet_sharp_det.app.sessions import MOST_IMAGES, Sessions, safe_name
from unet_sharp_det.app.tiles import TILE
from unet_sharp_det.config import setup_cfg
from unet_sharp_det.errors import UserError
from unet_sharp_det.masks.instances import SparseInstances

AREAS = [side**2 for side in SIDES]
ROOM = 10**9


@pytest.fixture
def analyser():
    return Analyser({"stub": StubPredictor, "other": lambda: StubPredictor(missing=(2,))})


@pytest.fixture
def view(tmp_path):
    return View(write_image(tmp_path / "a.png"), 0, (0,))


@pytest.fixture
def found(analyser, view, tmp_path):
    """A folder with what was found in the squares."""
    folder = tmp_path / "found"
    folder.mkdir()
    analyser.find(view, Search("stub"), folder)
    return folder


@pytest.fixture
def session(tmp_path):
    (tmp_path / "sessions").mkdir()
    return Sessions(tmp_path / "sessions").open("key")


class TestImages:
    def test_planes_channels_and_the_maximum_of_a_stack(self, analyser, tmp_path):
        values = np.arange(3 * 2 * SHAPE[0] * SHAPE[1]) % 251
        stack = values.reshape(3, 2, *SHAPE).astype(np.uint16)
        path = tmp_path / "s.tif"
        tifffile.imwrite(path, stack, imagej=True, metadata={"axes": "ZCYX"})
        file = analyser.inspect(path)
        assert (file.planes, file.projected) == (("z=0", "z=1", "z=2"), ("z=max",))
        assert (file.channels, file.default_channels) == (("channel 0", "channel 1"), (0,))
        analyser.find(View(path, 2, (1,)), Search("stub"), tmp_path)
        analyser.find(View(path, 0, (1,), projected=True), Search("stub"), tmp_path)
        seen = [
            source.window(slice(0, 96), slice(0, 128))[..., 0]
            for source in analyser._predictors["stub"].calls
        ]
        assert np.array_equal(seen, [stack[2, 1], stack[:, 1].max(axis=0)])

    def test_a_colour_image_and_names_of_channels(self, analyser, tmp_path):
        tifffile.imwrite(tmp_path / "b.tif", np.zeros((9, 9, 3), np.uint8), photometric="rgb")
        file = analyser.inspect(tmp_path / "b.tif")
        assert (file.planes, file.projected, file.default_channels) == (("",), (), (0, 1, 2))
        about = {"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP"]}}
        about |= {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25}
        stack = np.zeros((2, 20, 30), np.uint8)
        tifffile.imwrite(tmp_path / "a.ome.tif", stack, metadata=about)
        file = analyser.inspect(tmp_path / "a.ome.tif")
        assert (file.channels, file.pixel_size) == (("DAPI", "GFP"), (0.25, 0.5))

    def test_tiles_are_the_image_at_each_level(self, analyser, tmp_path):
        shape = (2 * TILE + 5, 4 * TILE + 1)
        image = np.zeros(shape, np.uint8)
        image[1000:1016, 2000:2040] = 200
        tifffile.imwrite(tmp_path / "l.tif", image)
        last = analyser.render(View(tmp_path / "l.tif", 0, (0,)), tmp_path / "tiles")
        assert last == 3
        for level in range(last + 1):
            factor = 2 ** (last - level)
            whole = np.zeros([-(-side // factor) for side in shape], np.uint8)
            for path in (tmp_path / "tiles" / str(level)).iterdir():
                column, row = map(int, path.stem.split("_"))
                tile = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
                place = whole[row * TILE :, column * TILE :][:TILE, :TILE]
                assert tile.shape == place.shape
                place[:] = tile
            rows, columns = np.nonzero(whole > 127)
            edges = (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1)
            assert edges == tuple(edge // factor for edge in (1000, 1016, 2000, 2040))

    @pytest.mark.parametrize(
        "content",
        [b"no image", b"", b"II*\0\xff\xff\xff\xff"],
        ids=["text", "empty", "broken TIFF"],
    )
    def test_a_bad_file_is_named_without_its_folder(self, analyser, tmp_path, content):
        path = tmp_path / "bad.tif"
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"bad\.tif") as caught:
            analyser.inspect(path)
        assert str(tmp_path) not in str(caught.value)

    @pytest.mark.parametrize("name", ["a.png", "a.tif"])
    def test_too_many_pixels_are_refused_however_they_are_read(self, tmp_path, name):
        path = write_image(tmp_path / name)
        pixels = SHAPE[0] * SHAPE[1]
        Analyser({}, pixels).inspect(path)
        with pytest.raises(UserError, match="--max-pixels"):
            Analyser({}, pixels - 1).inspect(path)

    def test_errors_of_the_predictor_and_of_memory_are_told(self, analyser, tmp_path, monkeypatch):
        tifffile.imwrite(tmp_path / "o.tif", np.zeros((9, 9), np.uint8))
        view = View(tmp_path / "o.tif", 0, (0,))
        with pytest.raises(UserError, match=r"^o\.tif: is not of the size"):
            analyser.find(view, Search("stub"), tmp_path)

        def fail(*args, **kwargs):
            raise MemoryError

        monkeypatch.setattr(analyser._predictors["stub"], "find", fail)
        with pytest.raises(UserError, match="memory doesn't suffice"):
            analyser.find(view, Search("stub"), tmp_path)


class TestObjects:
    @pytest.mark.parametrize("seed", range(5))
    def test_they_are_those_of_a_prediction_with_these_thresholds(self, view, seed):
        random = np.random.default_rng(seed)
        corners, sides = random.integers(0, 60, (30, 2)), random.integers(3, 25, 30)
        masks = [np.ones((side, side), bool) for side in sides]
        raw = SparseInstances.from_windows(SHAPE, corners, masks, random.random(30), [0] * 30)
        candidates = raw.at_least(0.05).without_overlaps(max_covered=0.5)
        measures = {"score": candidates.scores, "area_px": candidates.areas}
        found = Found(view, candidates, ("nucleus",), measures, scale=1.0, diameter=20.0)
        shown = found.objects({"score": (0.4, None), "area_px": (20, None), "absent": (1, 2)})
        expected = raw.at_least(0.4).without_overlaps(20, max_covered=0.5)
        assert 0 < len(shown) < len(candidates)
        assert shown.scores.tolist() == expected.scores.tolist()
        assert (shown.label_map() == expected.label_map()).all()

    def test_outlines_enclose_the_objects(self, found):
        page = json.loads(objects_file(found).read_text())
        assert page["measures"]["area_px"] == AREAS
        for (ring,), box in zip(page["outlines"], page["boxes"], strict=True):
            square, drawn = shapely.box(*box), shapely.Polygon(np.reshape(ring, (-1, 2)))
            assert shapely.symmetric_difference(square, drawn).area <= 0.5  # the corners

    def test_pairs_of_two_models(self, analyser, view, found, tmp_path):
        analyser.find(view, Search("other"), tmp_path)
        assert analyser.compare(found, tmp_path) == [(0, 0), (2, 1), (3, 2), (4, 3)]

    def test_files_hold_the_objects_within_the_limits(self, analyser, found, tmp_path):
        limits = {"score": (0.5, None), "area_px": (None, 399)}
        row = analyser.write(found, limits, (0.5, 0.25), tmp_path / "b", ["labels", "table"])
        shown = squares()
        expected = np.select([shown == 2, shown == 3], [1, 2])
        assert np.array_equal(tifffile.imread(tmp_path / "b_labels.tif"), expected)
        table = (tmp_path / "b_objects.csv").read_text()
        assert len(table.splitlines()) == 3
        assert "area_um2" in table
        assert (row["image"], row["objects"], row["mean_area_px"]) == ("b", 2, 200)

    def test_files_of_an_image_that_was_removed_meanwhile_are_told(self, analyser, tmp_path):
        with pytest.raises(UserError, match="removed, or shown otherwise, meanwhile"):
            analyser.write(tmp_path / "gone", {}, None, tmp_path / "a", ["table"])

    def test_images_and_planes_of_the_same_name_have_files_of_their_own(self, analyser, tmp_path):
        stack = tmp_path / "a.tif"
        tifffile.imwrite(stack, np.stack([squares()] * 3), imagej=True, metadata={"axes": "ZYX"})
        others = [write_image(tmp_path / name) for name in ("a_Z001.png", "b.png", "B.png")]
        views = [View(stack, 1, (0,)), *(View(path, 0, (0,)) for path in others)]
        archive, rows = tmp_path / "archive", []
        archive.mkdir()
        for number, view in enumerate(views):
            folder = tmp_path / str(number)
            folder.mkdir()
            analyser.find(view, Search("stub"), folder)
            limits = {"score": ((0.5, 0.7, 0.2, 0.0)[number], None)}
            rows.append(analyser.write(folder, limits, None, archive / view.path.stem, ["table"]))
        counts = {path.name: len(path.read_text().splitlines()) - 1 for path in archive.iterdir()}
        expected = {"a_z001": 3, "a_Z001_2": 2, "b": 4, "B_2": 5}
        assert counts == {f"{stem}_objects.csv": count for stem, count in expected.items()}
        assert [row["image"] for row in rows] == list(expected)


class TestSessions:
    @pytest.mark.parametrize(
        "name, safe",
        [
            ("../../etc/passwd", "passwd"),
            ("C:\\data\\my cells (1).tif", "my_cells_1.tif"),
            ("<script>.png", "script.png"),
            ("..", "image"),
            (".png", "png"),
            ("x" * 300 + ".tif", "x" * 80 + ".tif"),
            ("x" + "細" * 80 + ".tif", "x" + "細" * 26 + ".tif"),
            ("Zellkerne_äöü.ome.tif", "Zellkerne_äöü.ome.tif"),
        ],
    )
    def test_names_are_plain(self, name, safe):
        assert safe_name(name) == safe

    def test_images_have_folders_of_their_own(self, session):
        images = [session.add(name, 1, ROOM) for name in ("a.png", "A.tif", "../a.png")]
        assert len({image.path.parent for image in images}) == 3
        assert all(session.folder in image.path.parents for image in images)
        assert all(list(image.path.parent.iterdir()) == [] for image in images)

    def test_there_is_room_for_so_many_bytes_and_images(self, session):
        session.add("a.png", 6, 10)
        with pytest.raises(UserError, match="no more room"):
            session.add("b.png", 5, 10)
        for _ in range(MOST_IMAGES - 1):
            session.add("b.png", 0, 10)
        with pytest.raises(UserError, match="no more room"):
            session.add("b.png", 0, 10)

    def test_another_view_drops_what_was_found(self, session, view, tmp_path):
        image = session.add("a.png", 1, ROOM)
        image.show(view, image.new_folder(), 0)
        task, tiles = image.start(Search("stub")), image.tiles
        image.show(replace(view, plane=1), image.new_folder(), 0)
        assert task.stopped.is_set()
        assert not task.folder.exists()
        assert not tiles.exists()
        with pytest.raises(UserError, match="Press Find objects"):
            image.done("stub")

    def test_too_many_sessions_forget_the_one_away_longest(self, tmp_path):
        sessions = Sessions(tmp_path, limit=2)
        first, second = sessions.open("1"), sessions.open("2")
        second.add("a.png", 1, ROOM)
        assert sessions.get("1") is first
        sessions.open("3")
        assert [key for key in "123" if sessions.get(key) is not None] == ["1", "3"]
        assert not second.folder.exists()
        with pytest.raises(UserError, match="Open it again"):
            second.image(1)


class TestQueue:
    def test_visitors_take_turns_and_stopped_searches_are_passed_over(self, session, view):
        searched, analyser = [], PlainAnalyser({"stub": StubPredictor})
        find, analyser.held = analyser.find, threading.Lock()
        analyser.find = lambda view, *rest: (find(view, *rest), searched.append(view.plane))[0]
        image = session.add("a.png", 1, ROOM)
        tasks = []
        for plane in range(5):
            image.show(replace(view, plane=plane), image.new_folder(), 0)
            tasks.append(image.start(Search("stub")))
            image.tasks = {}
        analyser._plane = lambda given: Analyser._plane(analyser, view)
        with analyser.held:
            queue = Queue(analyser)
            for visitor, task in zip("aaaab", tasks, strict=True):
                queue.add(visitor, task)
            tasks[2].stop()
        while any(task.is_active for task in tasks):
            threading.Event().wait(0.01)
        queue.close()
        assert searched in ([0, 4, 1, 3], [0, 1, 4, 3])
        assert [task.state for task in tasks] == ["done", "done", "cancelled", "done", "done"]

    def test_what_fails_is_told_and_the_next_one_runs(self, session, view, tmp_path):
        tifffile.imwrite(tmp_path / "o.tif", np.zeros((9, 9), np.uint8))
        image, tasks = session.add("a.png", 1, ROOM), []
        queue = Queue(PlainAnalyser({"stub": StubPredictor}))
        for path in (tmp_path / "o.tif", view.path):
            image.show(replace(view, path=path), image.new_folder(), 0)
            tasks.append(image.start(Search("stub")))
            image.tasks = {}
            queue.add("a", tasks[-1])
        while any(task.is_active for task in tasks):
            threading.Event().wait(0.01)
        queue.close()
        assert [task.state for task in tasks] == ["failed", "done"]
        assert tasks[0].error.startswith("o.tif: is not of the size")


def test_a_card_is_the_text_beside_the_weights_or_what_the_config_says(tmp_path):
    weights = tmp_path / "mine.pth"
    cfg = setup_cfg("", ["MODEL.WEIGHTS", str(weights), "INPUT.PIXEL_SIZE", "0.5"])
    assert "# mine.pth\n" in read_card(cfg)
    assert "| pixel size | 0.5 µm |" in read_card(cfg)
    weights.with_suffix(".md").write_text("# Mine")
    assert read_card(cfg) == "# Mine"


def test_a_card_has_no_links_that_lead_nowhere():
    text = "# A\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n[zoo](../../Z.md#a) [paper](https://a.org/b)"
    page = render_card("a", text)
    assert "<td>1</td>" in page
    assert "Z.md" not in page
    assert '<a href="https://a.org/b">paper</a>' in page
