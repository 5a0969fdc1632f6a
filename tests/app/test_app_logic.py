"""What the app does without its page: images opened, objects filtered, numbers, files, sessions."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from app_helpers import SHAPE, SIDES, StubPredictor, squares, write_image

from unet_sharp_det.app import server
from unet_sharp_det.app.analysis import Analyser, View
from unet_sharp_det.app.presentation import (
    LONGEST_SIDE,
    count_areas,
    draw_objects,
    histogram,
    measure,
    message,
    summary,
)
from unet_sharp_det.app.sessions import Sessions, safe_name
from unet_sharp_det.errors import UserError
from unet_sharp_det.images.source import open_image
from unet_sharp_det.masks.drawing import distinct_colors
from unet_sharp_det.masks.instances import SparseInstances

AREAS = [side**2 for side in SIDES]
NUCLEUS = ("nucleus",)


@pytest.fixture
def analyser():
    return Analyser(StubPredictor)


@pytest.fixture
def found(analyser, tmp_path):
    return analyser.find(View(write_image(tmp_path / "a.png"), 0, (0,)))


@pytest.fixture
def session(tmp_path):
    (tmp_path / "sessions").mkdir()
    return Sessions(tmp_path / "sessions").open("key")


class TestImages:
    def test_planes_and_channels_of_a_stack(self, analyser, tmp_path):
        values = np.arange(3 * 2 * SHAPE[0] * SHAPE[1]) % 251
        stack = values.reshape(3, 2, *SHAPE).astype(np.uint16)
        tifffile.imwrite(tmp_path / "s.tif", stack, imagej=True, metadata={"axes": "ZCYX"})
        file = analyser.inspect(tmp_path / "s.tif")
        assert (file.planes, file.channels) == (("z=0", "z=1", "z=2"), 2)
        assert file.default_channels == (0,)
        analyser.find(View(tmp_path / "s.tif", 2, (1,)))
        (source,) = analyser.predictor.calls
        assert np.array_equal(source.window(slice(0, 96), slice(0, 128))[..., 0], stack[2, 1])

    def test_a_gray_and_a_colour_image(self, analyser, tmp_path):
        assert analyser.inspect(write_image(tmp_path / "a.png")).channels == 1
        tifffile.imwrite(tmp_path / "b.tif", np.zeros((9, 9, 3), np.uint8), photometric="rgb")
        file = analyser.inspect(tmp_path / "b.tif")
        assert (file.planes, file.channels, file.default_channels) == (("",), 3, (0, 1, 2))

    def test_channels_have_the_names_of_the_file(self, analyser, tmp_path):
        stack = np.zeros((2, 20, 30), np.uint8)
        about = {"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP"]}}
        tifffile.imwrite(tmp_path / "a.ome.tif", stack, metadata=about)
        file = analyser.inspect(tmp_path / "a.ome.tif")
        assert file.channel_labels == ["channel 0: DAPI", "channel 1: GFP"]
        tifffile.imwrite(tmp_path / "b.tif", stack, imagej=True, metadata={"axes": "CYX"})
        assert analyser.inspect(tmp_path / "b.tif").channel_labels == ["channel 0", "channel 1"]

    @pytest.mark.parametrize("count", [2, 5, 100])
    def test_many_channels_are_counted_at_once(self, analyser, tmp_path, monkeypatch, count):
        pixels = np.zeros((count, 9, 9), np.uint8)
        path, opened = tmp_path / "c.ome.tif", []
        tifffile.imwrite(path, pixels, metadata={"axes": "CYX"})
        monkeypatch.setattr(
            "unet_sharp_det.app.analysis.open_image",
            lambda *given: opened.append(given) or open_image(*given),
        )
        assert (analyser.inspect(path).channels, len(opened)) == (count, 1)

    def test_a_large_image_is_shown_reduced_and_its_objects_too(self, analyser, tmp_path):
        shape = (2 * LONGEST_SIDE + 5, 40)
        tifffile.imwrite(tmp_path / "l.tif", np.full(shape, 7, np.uint8))
        display = analyser.display(View(tmp_path / "l.tif", 0, (0,)))
        assert display.shape == (-(-shape[0] // 3), -(-shape[1] // 3), 3)
        mask = np.ones((9, 9), bool)
        objects = SparseInstances.from_windows(shape, [(3000, 12)], [mask], [1.0], [0])
        rows, columns = np.nonzero((draw_objects(display, objects, NUCLEUS) != display).any(axis=2))
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == (1000, 1002, 4, 6)

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
        Analyser(StubPredictor, pixels).inspect(path)
        with pytest.raises(UserError, match="--max-pixels"):
            Analyser(StubPredictor, pixels - 1).inspect(path)

    def test_errors_of_the_predictor_and_of_memory_are_told(self, tmp_path, monkeypatch):
        tifffile.imwrite(tmp_path / "o.tif", np.zeros((9, 9), np.uint8))
        analyser, view = Analyser(StubPredictor), View(tmp_path / "o.tif", 0, (0,))
        with pytest.raises(UserError, match=r"^o\.tif: is not of the size"):
            analyser.find(view)

        def fail(*args, **kwargs):
            raise MemoryError

        monkeypatch.setattr(analyser.predictor, "predict_many", fail)
        with pytest.raises(UserError, match="memory doesn't suffice"):
            analyser.find(view)


class TestObjects:
    @pytest.mark.parametrize(
        "score, min_area, count",
        [(0.05, 0, 5), (0.3, 0, 4), (0.31, 0, 3), (0.05, 65, 3), (1, 0, 0)],
    )
    def test_thresholds_need_no_second_look(self, analyser, found, score, min_area, count):
        assert len(found.objects(score, min_area)) == count
        assert len(analyser.predictor.calls) == 1

    @pytest.mark.parametrize("seed", range(5))
    def test_they_are_those_of_a_prediction_with_these_thresholds(self, found, seed):
        random = np.random.default_rng(seed)
        corners, sides = random.integers(0, 60, (30, 2)), random.integers(3, 25, 30)
        masks = [np.ones((side, side), bool) for side in sides]
        raw = SparseInstances.from_windows(SHAPE, corners, masks, random.random(30), [0] * 30)
        candidates = raw.at_least(0.05).without_overlaps(max_covered=0.5)
        shown = replace(found, candidates=candidates).objects(0.4, 20)
        expected = raw.at_least(0.4).without_overlaps(20, max_covered=0.5)
        assert 0 < len(shown) < len(candidates)
        assert shown.scores.tolist() == expected.scores.tolist()
        assert (shown.label_map() == expected.label_map()).all()

    def test_sizes(self, found):
        objects = found.objects(0.5, 0)
        sizes = measure(objects, None)
        assert (sizes.areas.tolist(), sizes.unit) == (AREAS[:3], "px")
        assert sizes.coverage == sum(AREAS[:3]) / (SHAPE[0] * SHAPE[1])
        sizes = measure(objects, (0.5, 0.25))
        assert (sizes.areas.tolist(), sizes.unit) == ([area / 8 for area in AREAS[:3]], "µm²")

    def test_files_hold_the_objects_that_are_seen(self, analyser, found, tmp_path):
        objects = found.objects(0.5, 0)
        labels, table = analyser.write(found, objects, (1, 1), tmp_path, ["labels", "table"])
        assert labels.name == "a_labels.tif"
        shown = np.where(squares() <= 3, squares(), 0)
        assert np.array_equal(tifffile.imread(labels), shown)
        header, *rows = table.read_text().splitlines()
        assert len(rows) == 3
        assert "area_um2" in header

    def test_progress_ends_with_all(self, analyser, tmp_path):
        fractions = []
        analyser.find(View(write_image(tmp_path / "a.png"), 0, (0,)), fractions.append)
        assert fractions[-1] == 1


class TestPresentation:
    def test_outlines_lie_in_the_objects(self, found):
        picture = draw_objects(found.display, found.objects(0.5, 0), NUCLEUS)
        factor = picture.shape[0] // SHAPE[0]
        assert factor > 1
        plain = draw_objects(found.display, SparseInstances.empty(SHAPE), NUCLEUS)
        changed = (picture != plain).any(axis=2)
        numbers = squares().repeat(factor, axis=0).repeat(factor, axis=1)[changed]
        assert set(numbers.tolist()) == {1, 2, 3}

    def test_of_several_classes_outlines_have_the_colours_of_the_legend(self, found):
        names = ("nucleus", "mitosis")
        objects = found.objects(0.5, 0)
        objects.classes[:] = [0, 1, 0]
        picture = draw_objects(found.display, objects, names)
        height = draw_objects(found.display, objects, NUCLEUS).shape[0]
        image, legend = picture[:height], picture[height:]
        for color in distinct_colors(2):
            assert (image == color).all(axis=2).any()
            assert (legend == color).all(axis=2).any()

    def test_the_histogram_counts_every_object(self, found):
        sizes = measure(found.objects(0, 0), None)
        counts = re.findall(r"<title>.* px: (\d+) objects</title>", histogram(sizes))
        assert sum(map(int, counts)) == len(SIDES)
        assert "<title>" not in histogram(measure(SparseInstances.empty(SHAPE), None))

    def test_the_histogram_has_few_bars_for_outliers(self):
        counts, _ = count_areas(np.append(np.arange(1000) / 1000, 1e6))
        assert (len(counts) <= 50, sum(counts)) == (True, 1001)

    def test_the_numbers(self, found):
        objects = found.objects(0.5, 0)
        text = summary(measure(objects, None), objects, NUCLEUS)
        for part in ("<dd>3</dd>", "<dd>267 px</dd>", "<dd>256 px</dd>", "<dd>6.5%</dd>"):
            assert part in text
        text = summary(measure(objects, None), objects, ("<b>", "cell"))
        assert "<dt>&lt;b&gt;</dt><dd>3</dd>" in text
        assert "<dt>cell</dt><dd>0</dd>" in text
        none = SparseInstances.empty(SHAPE)
        assert text.count("–") == 0
        assert summary(measure(none, None), none, ("nucleus",)).count("–") == 2

    def test_a_message_is_text(self):
        assert "&lt;img src=x&gt;" in message("<img src=x>", error=True)
        assert message("") == ""


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

    def test_an_image_replaces_the_former_one_and_its_files(self, session, tmp_path, found):
        first = session.take_image(write_image(tmp_path / "a.png"), "a.png")
        session.found = found
        session.write_picture(found.display)
        second = session.take_image(tmp_path / "a.png", "../b.png")
        assert not first.parent.exists()
        assert session.folder in second.parents
        assert second.read_bytes() == (tmp_path / "a.png").read_bytes()
        with pytest.raises(UserError, match="Press Find objects"):
            session.current_found()

    def test_an_image_has_a_folder_of_its_own(self, session, tmp_path, found):
        """A TIFF may name files beside it as parts of its own."""
        path = session.take_image(write_image(tmp_path / "a.png"), "a.png")
        session.write_picture(found.display)
        (session.results_folder() / "a_labels.tif").touch()
        assert list(path.parent.iterdir()) == [path]

    def test_only_the_last_pictures_are_kept(self, session, tmp_path):
        session.take_image(write_image(tmp_path / "a.png"), "a.png")
        pictures = [session.write_picture(np.zeros((2, 2, 3), np.uint8)) for _ in range(5)]
        assert [path.exists() for path in pictures] == [False, False, True, True, True]

    def test_too_many_sessions_close_the_one_unused_longest(self, tmp_path):
        sessions = Sessions(tmp_path, limit=2)
        first, second = sessions.open("1"), sessions.open("2")
        assert sessions.get("1") is first
        sessions.open("3")
        kept = [key for key in "123" if sessions.get(key) is not None]
        assert (kept, second.closed, first.closed) == (["1", "3"], True, False)
        assert not second.folder.exists()
        with pytest.raises(UserError, match="Open it again"):
            second.current_image()

    def test_a_closed_session_leaves_nothing(self, tmp_path):
        image = write_image(tmp_path / "a.png")
        (tmp_path / "s").mkdir()
        sessions = Sessions(tmp_path / "s")
        sessions.open("1").take_image(image, "a.png")
        sessions.close("1")
        sessions.close("never opened")
        assert list(Path(tmp_path / "s").iterdir()) == []
        assert image.exists()


class TestPage:
    """Its actions, without a browser."""

    @pytest.fixture
    def opened(self, tmp_path, monkeypatch):
        """A page with a stack of 3 planes, 2 channels each, open, its predictor and a request."""
        for name, value in server.QUIET.items():
            monkeypatch.setenv(name, value)
        from unet_sharp_det.app.page import Page

        stack = np.zeros((3, 2, *SHAPE), np.uint8)
        tifffile.imwrite(tmp_path / "s.tif", stack, imagej=True, metadata={"axes": "ZCYX"})
        (tmp_path / "sessions").mkdir()
        predictor, request = StubPredictor(), SimpleNamespace(session_hash="a")
        page = Page(Analyser(lambda: predictor), Sessions(tmp_path / "sessions"), pixel_size=0)
        page.open_upload(str(tmp_path / "s.tif"), request)
        return page, predictor, request

    def find(self, page, request, plane=1, channels=(0,)):
        rest = (0.5, 0, 0, True, request, lambda *_, **__: None)
        return page.find(plane, list(channels), *rest)

    def test_results_of_another_plane_are_not_shown(self, opened):
        page, predictor, request = opened
        predict_many = predictor.predict_many

        def move_the_slider_meanwhile(*args, **kwargs):
            page.show_view(3, [0], request)
            return predict_many(*args, **kwargs)

        predictor.predict_many = move_the_slider_meanwhile
        shown = self.find(page, request)
        assert page.results not in shown
        assert "plane or channel was chosen" in shown[page.message].value
        predictor.predict_many = predict_many
        assert self.find(page, request, plane=3)[page.results].visible

    def test_visitors_without_an_image_take_nothing_from_others(self, opened):
        page, _, request = opened
        for number in range(40):
            visitor = SimpleNamespace(session_hash=f"visitor {number}")
            page.open_nothing(visitor)
            assert page.adjust(0.5, 0, 0, True, visitor) == {}
            for shown in (
                page.show_view(1, [0], visitor),
                self.find(page, visitor),
                page.write_files(0.5, 0, 0, ["table"], visitor),
            ):
                assert "No image is open" in shown[page.message].value
        assert self.find(page, request)[page.results].visible

    def test_two_channels_are_on_the_way_to_three(self, opened):
        page, _, request = opened
        self.find(page, request)
        shown = page.show_view(1, [0, 1], request)
        assert not shown[page.results].visible
        assert "Choose one channel, or three." in shown[page.message].value
        assert "Choose one channel" in self.find(page, request, channels=(0, 1))[page.message].value


@pytest.mark.parametrize("host", ["::1", "fe80::1"])
def test_addresses_that_gradio_cannot_serve(host):
    with pytest.raises(UserError, match=f"--host {host}: the page has no IPv6"):
        server._check_address(host, None)
