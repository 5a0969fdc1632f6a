"""The page in a browser, with a predictor that needs no network."""

import csv
import logging
import re
import urllib.request

import cv2
import numpy as np
import pytest
from app_helpers import SIDES, StubPredictor, write_image

pytest.importorskip("gradio")

from unet_sharp_det.app.analysis import Analyser
from unet_sharp_det.app.server import QUIET, serving

TIMEOUT = 30_000


@pytest.fixture(scope="module")
def predictor():
    return StubPredictor()


@pytest.fixture(scope="module")
def address(predictor, tmp_path_factory):
    """Where the page is served, with files up to 0.1 MB and an example."""
    folder = tmp_path_factory.mktemp("app")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setattr("tempfile.tempdir", str(folder))
        for name in QUIET:
            patch.setenv(name, "as it was")  # restored afterwards
        example = write_image(folder / "e.png")
        with serving(
            Analyser(lambda: predictor), port=None, max_upload_mb=0.1, example=example
        ) as address:
            yield address
        assert [path.name for path in folder.iterdir()] == ["e.png"]


@pytest.fixture
def open_page(address, browser_page):
    def open_page(**options):
        opened = browser_page(address, **options)
        opened.page.set_default_timeout(TIMEOUT)
        opened.page.wait_for_selector("#start")
        return opened

    return open_page


def upload(opened, path):
    with opened.page.expect_file_chooser() as chooser:
        opened.page.click("#upload button")
    chooser.value.set_files(path)


def wait_for_count(opened, count):
    opened.page.wait_for_selector(f"#numbers dd >> nth=0 >> text=/^{count}$/")


def test_from_an_image_to_a_table(open_page, predictor, tmp_path):
    opened = open_page(width=1400, height=900)
    page, calls = opened.page, len(predictor.calls)
    assert page.is_disabled("#start")
    upload(opened, write_image(tmp_path / "my cells.png"))
    page.wait_for_selector("#picture img")
    before = page.get_attribute("#picture img", "src")
    page.click("#start:enabled")
    wait_for_count(opened, 3)
    assert page.get_attribute("#picture img", "src") != before
    page.wait_for_function("document.querySelector('#picture img').naturalWidth > 128")
    page.wait_for_selector("#histogram svg path >> nth=0")
    assert len(predictor.calls) == calls + 1

    page.fill("#score input[type=number]", "0.2")
    wait_for_count(opened, 4)
    page.fill("#min-area input", "100")
    wait_for_count(opened, 3)
    page.fill("#pixel-size input", "0.5")
    page.wait_for_selector("#numbers >> text=66.7 µm²")
    assert len(predictor.calls) == calls + 1

    page.click("#write")
    page.wait_for_selector("#files a")
    with page.expect_download() as download:
        page.click("#files a[href$='.csv']")
    assert download.value.suggested_filename == "my_cells_objects.csv"
    with open(download.value.path(), newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["area_px"]) for row in rows] == [side**2 for side in SIDES[:3]]
    endings = [link.get_attribute("href")[-8:] for link in page.query_selector_all("#files a")]
    assert endings == ["bels.tif", "ects.csv", "rois.zip", ".geojson"]

    picture = cv2.imdecode(np.frombuffer(page.screenshot(), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (900, 1400, 3)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50
    assert opened.problems == []


def test_narrow_dark_and_with_the_example(open_page):
    opened = open_page(width=400, height=900, color_scheme="dark")
    opened.page.click("text=Use an example image")
    opened.page.wait_for_selector("#picture img")
    opened.page.click("#start:enabled")
    wait_for_count(opened, 3)
    opened.page.wait_for_selector("#histogram svg path >> nth=0")
    widths = "(e => [e.scrollWidth, e.clientWidth])(document.scrollingElement)"
    assert len(set(opened.page.evaluate(widths))) == 1
    ground = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert sum(map(int, re.findall(r"\d+", ground)[:3])) < 200
    assert opened.problems == []


def test_a_bad_file_is_told_and_a_good_one_after_it_works(open_page, tmp_path):
    opened = open_page()
    bad = tmp_path / "<b>notes.tif"
    bad.write_text("not an image")
    upload(opened, bad)
    opened.page.wait_for_selector("#message [role=alert] >> text=notes.tif")
    assert "Traceback" not in opened.page.inner_text("body")
    assert "sessions/" not in opened.page.inner_text("body")
    assert opened.page.is_disabled("#start")
    opened.page.click("#upload [aria-label='Clear']")
    upload(opened, write_image(tmp_path / "a.png"))
    opened.page.wait_for_selector("#start:enabled")
    assert opened.page.locator("#message [role=alert]").count() == 0
    assert opened.problems == []


def test_an_open_address_is_warned_about(caplog):
    with (
        caplog.at_level(logging.WARNING),
        serving(Analyser(StubPredictor), host="0.0.0.0", port=None),
    ):
        pass
    assert "it has no password" in caplog.text


def test_another_address_of_this_computer():
    with serving(Analyser(StubPredictor), host="127.0.0.2", port=None) as address:
        assert urllib.request.urlopen(address, timeout=30).status == 200
