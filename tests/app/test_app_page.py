"""The page in a browser: clicks and keys, and what is then seen."""

import csv
import io
import json
import re
import zipfile

import cv2
import numpy as np
import pytest
import tifffile
from app_helpers import SHAPE, SIDES, find_in_example, wait_for_count, write_image

pytest.importorskip("fastapi")

AREAS = [side**2 for side in SIDES]
# Luminances of WCAG 2: the text and the ground behind it, of every element that shows text.
CONTRASTS = """() => {
  const paint = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = (css) => {
    paint.clearRect(0, 0, 1, 1); paint.fillStyle = css; paint.fillRect(0, 0, 1, 1);
    return [...paint.getImageData(0, 0, 1, 1).data];
  };
  const luminance = (rgb) => rgb.slice(0, 3).map((v) => v / 255)
    .map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const groundOf = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const color = rgba(getComputedStyle(each).backgroundColor);
      if (color[3] > 200) return color;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const isField = element.matches("input:not([type=checkbox], [type=range], [type=file])");
    const hasText = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!element.checkVisibility() || !(hasText || isField)) continue;
    const style = getComputedStyle(element);
    const colors = element.closest("svg") ? [style.fill] : [style.color];
    if (isField) colors.push(getComputedStyle(element, "::placeholder").color);
    for (const color of colors) {
      const [a, b] = [luminance(rgba(color)), luminance(groundOf(element))];
      const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
      found.push([ratio, `${element.tagName} ${element.id} ${element.textContent.slice(0, 30)}`]);
    }
  }
  return found;
}"""

SLOW_SERVER = """
  const {fetch} = window;
  window.fetch = async (...request) => {
    await new Promise((resolve) => setTimeout(resolve, 400));
    return fetch(...request);
  };
"""


def place_of(page, x, y):
    """Where on the page a point of the picture of the squares is, which fills the viewer."""
    box = page.locator("#first .viewer").bounding_box()
    scale = min(box["width"] / SHAPE[1], box["height"] / SHAPE[0])
    left = box["x"] + (box["width"] - scale * SHAPE[1]) / 2
    top = box["y"] + (box["height"] - scale * SHAPE[0]) / 2
    return left + scale * x, top + scale * y


def picture_of(page, viewer="#first"):
    png = page.locator(f"{viewer} .viewer").screenshot()
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)


def test_from_images_to_an_archive(open_page, predictor, tmp_path):
    opened = open_page()
    page, calls = opened.page, len(predictor.calls)
    assert page.is_disabled("#find")
    files = [write_image(tmp_path / name) for name in ("my cells.png", "b.png")]
    page.set_input_files("#files", files)
    page.wait_for_selector("#queue li >> nth=1")
    page.click("#find:enabled")
    wait_for_count(page, 3)
    page.wait_for_selector("#queue li >> nth=1 >> text=3 objects")
    assert len(predictor.calls) == calls + 2
    page.wait_for_selector("#scale >> text=Seen at 0.75 times its size, because nuclei have 46 px.")
    page.uncheck("#all")
    page.fill("#diameter", "100")
    page.click("#find")
    page.wait_for_selector("#scale >> text=Seen at 0.375 times its size, because nuclei have 100")
    assert len(predictor.calls) == calls + 3

    page.fill("#score", "0.2")
    wait_for_count(page, 4)
    page.fill("#low", "100")
    page.press("#low", "Enter")
    wait_for_count(page, 3)
    page.fill("#pixel-size", "0.5")
    page.wait_for_selector("#numbers >> text=66.7 µm²")
    page.wait_for_selector("#limits >> text=Area ≥ 25 µm²")
    assert len(predictor.calls) == calls + 3

    with page.expect_download() as download:
        page.click("#save")
    assert download.value.suggested_filename == "first_results.zip"
    with zipfile.ZipFile(download.value.path()) as archive:
        endings = ("labels.tif", "objects.csv", "outlines.geojson", "overlay.png", "rois.zip")
        kinds = [f"{stem}_{kind}" for stem in ("b", "my_cells") for kind in endings]
        assert sorted(archive.namelist()) == sorted([*kinds, "settings.json", "summary.csv"])
        files = ("my_cells_objects.csv", "summary.csv", "settings.json")
        table, summary, settings = (io.StringIO(archive.read(each).decode()) for each in files)
    assert [row["scale"] for row in csv.DictReader(summary)] == ["0.375", "0.75"]
    chosen = [(each["scale"], each["diameter"]) for each in json.load(settings)["images"]]
    assert chosen == [(0.375, 100), ("auto", None)]
    rows = list(csv.DictReader(table))
    assert [int(row["area_px"]) for row in rows] == AREAS[:3]
    assert [float(row["area_um2"]) for row in rows] == [area / 4 for area in AREAS[:3]]

    page.reload()
    page.wait_for_selector("#queue li >> nth=1")  # The visitor's images are still there.
    wait_for_count(page, 3)
    assert opened.problems == []


def test_a_click_before_the_page_is_ready_waits(open_page):
    opened = open_page()
    page = opened.page
    page.add_init_script(SLOW_SERVER)
    page.reload()
    page.click("#example")
    page.wait_for_selector("#find:enabled")
    assert opened.problems == []


def test_rows_and_objects_point_at_each_other(open_page):
    opened = open_page()
    page = opened.page
    find_in_example(page)
    page.wait_for_timeout(300)
    second = place_of(page, 36, 18)  # a pixel of the second square
    page.mouse.move(*second)
    page.wait_for_selector("#tip >> text=/^Object 2\\s.*Area: 256 px²/s")
    assert page.locator("#table .hovered").inner_text().split()[:3] == ["2", "256", "0.8"]
    page.mouse.click(*second)
    page.wait_for_selector("#row-1[aria-selected=true]")
    before = picture_of(page)
    page.focus("#table")
    page.keyboard.press("ArrowDown")
    page.wait_for_selector("#row-2[aria-selected=true]")
    marked = np.mean(picture_of(page) != before)
    assert 0 < marked < 0.1  # The picture stays where it is,
    page.keyboard.press("Enter")  # until one goes closer.
    page.wait_for_timeout(600)
    assert np.mean(picture_of(page) != before) > marked
    assert page.get_attribute("#table", "aria-activedescendant") == "row-2"
    page.keyboard.press("Escape")
    page.wait_for_selector("#table [aria-selected=true]", state="detached")
    page.click("#table [role=columnheader] >> nth=1")
    first = page.locator("#table .rows [role=gridcell]").first
    assert first.inner_text() == "3"  # by area, from the smallest on
    page.locator("#table .rows [role=gridcell]").first.click()
    page.wait_for_selector("#row-2[aria-selected=true]")
    assert opened.problems == []


def line_width(page, x, y):
    """How many pixels of the screen a line is wide that runs down through a point of the page."""
    return page.evaluate(
        """([x, y]) => {
        const canvas = document.querySelector("#first canvas.objects");
        const {left, top} = canvas.getBoundingClientRect();
        const row = canvas.getContext("2d").getImageData(x - left - 10, y - top, 20, 1).data;
        return row.filter((_, i) => i % 4 === 3).reduce((sum, alpha) => sum + alpha / 255, 0);
    }""",
        [x, y],
    )


def test_outlines_are_as_thick_at_any_zoom(open_page):
    page = open_page().page
    find_in_example(page)
    page.wait_for_timeout(300)
    edge = place_of(page, 4, 20)  # of the first square
    page.mouse.move(*edge)
    page.mouse.move(*place_of(page, 90, 80))
    before, width = picture_of(page), line_width(page, *edge)
    page.mouse.move(*edge)
    page.mouse.wheel(0, -300)
    page.mouse.move(*place_of(page, 2, 2))
    page.wait_for_timeout(800)
    assert np.mean(picture_of(page) != before) > 0.02
    assert 1.5 < width < 4
    assert line_width(page, *edge) == pytest.approx(width, abs=0.6)
    page.click("#zoom-out")
    page.click("#fit")
    page.wait_for_timeout(800)
    assert np.mean(np.abs(picture_of(page).astype(int) - before) > 40) < 0.002


def test_a_range_is_chosen_in_the_histogram(open_page):
    opened = open_page()
    page = opened.page
    find_in_example(page)
    box = page.locator("#histogram").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"], box["y"] + 40, steps=3)
    page.mouse.up()
    wait_for_count(page, 1)  # of 144, 256 and 400 pixels only the largest
    page.click("#limits button")
    wait_for_count(page, 3)
    page.select_option("#measure", "score")
    page.fill("#high", "0.85")
    page.press("#high", "Enter")
    wait_for_count(page, 2)
    page.select_option("#measure", "area_px")
    for end, value in {"low": "12345", "high": "67891"}.items():
        page.fill(f"#{end}", value)
        page.press(f"#{end}", "Enter")
    page.wait_for_selector("#limits button >> text=12,345 px² to 67,891 px²")
    assert (page.input_value("#low"), page.input_value("#high")) == ("12345", "67891")
    assert opened.problems == []


def test_another_image_has_no_selected_object(open_page, tmp_path):
    page = open_page().page
    page.set_input_files("#files", [write_image(tmp_path / f"{n}.png") for n in range(2)])
    page.wait_for_selector("#queue li >> nth=1")
    page.click("#find:enabled")
    wait_for_count(page, 3)
    page.click("#table [data-index='1']")
    page.wait_for_selector("#table [aria-selected=true]")
    page.click("#queue li:nth-child(2) .open")
    page.wait_for_selector("#queue li:nth-child(2) [aria-current=true]")
    wait_for_count(page, 3)
    assert page.locator("#table [aria-selected=true]").count() == 0


def test_searches_wait_and_are_cancelled(open_page, held, tmp_path):
    opened = open_page()
    page = opened.page
    page.set_input_files("#files", [write_image(tmp_path / f"{n}.png") for n in range(3)])
    page.wait_for_selector("#queue li >> nth=2")
    with held:
        page.click("#find:enabled")
        page.wait_for_selector("#queue li >> nth=0 >> text=searching, 0 %")
        page.wait_for_selector("#queue li >> nth=2 >> text=waiting")
        page.click("#cancel")
        page.wait_for_selector("#queue li >> nth=2 >> text=cancelled")
    page.wait_for_selector("#cancel", state="hidden")
    page.uncheck("#all")
    page.click("#find")
    wait_for_count(page, 3)
    assert page.locator("#queue >> text=cancelled").count() == 2
    page.click("#queue [aria-label='Remove 0.png']")
    page.wait_for_selector("#queue li >> nth=2", state="detached")
    assert opened.problems == []


def test_two_models_side_by_side(open_page):
    opened = open_page()
    page = opened.page
    find_in_example(page)
    assert page.get_attribute("#card", "href") == "/models/first"
    page.select_option("#other", "other")
    page.wait_for_selector("#comparison >> text=2 in both (IoU above .5)1 only first0 only other")
    page.wait_for_timeout(500)
    assert np.any(picture_of(page) != picture_of(page, "#second"))
    page.click("#zoom-in")
    page.wait_for_timeout(800)
    page.uncheck("#outlines")
    page.wait_for_timeout(200)
    both = [picture_of(page)[60:, :200].astype(int), picture_of(page, "#second")[60:, :200]]
    assert np.mean(np.abs(both[0] - both[1]) > 30) < 0.005  # the same part of the picture
    page.select_option("#model", "other")
    wait_for_count(page, 2)
    assert page.get_attribute("#card", "href") == "/models/other"
    classes = page.locator("#numbers div:has(.swatch)").all_inner_texts()
    assert [each.split() for each in classes] == [["nucleus", "2"], ["mitosis", "0"]]
    swatches = page.locator("#numbers .swatch")
    assert swatches.nth(0).get_attribute("style") != swatches.nth(1).get_attribute("style")
    assert opened.problems == []


def test_planes_channels_and_a_drawn_diameter(open_page, predictor, tmp_path):
    opened = open_page()
    page = opened.page
    stack = np.zeros((3, 2, *SHAPE), np.uint8)
    stack[:, 1, 40:60, 40:60] = np.reshape([50, 200, 90], (3, 1, 1))
    about = {"axes": "ZCYX", "Channel": {"Name": ["DAPI", "GFP"]}}
    tifffile.imwrite(tmp_path / "s.ome.tif", stack, metadata=about)
    # A view's tiles are gone once the next one is there: each is seen first.
    with page.expect_response("**/0_0.jpg"):
        page.set_input_files("#files", tmp_path / "s.ome.tif")
    with page.expect_response("**/0_0.jpg"):
        page.select_option("#channel", "GFP")
    with page.expect_response("**/0_0.jpg"):
        page.check("#projected")
    page.wait_for_selector("#plane", state="hidden")
    page.click("#draw")
    page.mouse.move(*place_of(page, 10, 50))
    page.mouse.down()
    page.mouse.move(*place_of(page, 110, 50), steps=4)
    page.mouse.up()
    page.click("#find:enabled")
    page.wait_for_selector("#scale >> text=/^Seen at 0.375 times/")
    source, whole = predictor.calls[-1], (slice(0, SHAPE[0]), slice(0, SHAPE[1]))
    assert predictor.diameters[-1] == pytest.approx(100, abs=1.5)
    assert predictor.diameters[-1] == float(page.input_value("#diameter"))
    assert np.array_equal(source.window(*whole)[..., 0], stack[1, 1])
    page.fill("#diameter", "")  # automatic again
    page.click("#find")
    page.wait_for_selector("#scale >> text=/^Seen at 0.75 times/")
    assert predictor.diameters[-1] is None
    assert opened.problems == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 400])
def test_text_is_read_and_nothing_is_cut(open_page, scheme, width):
    opened = open_page(width=width, color_scheme=scheme)
    page = opened.page
    contrasts = page.evaluate(CONTRASTS)
    find_in_example(page)
    page.click("#download summary")
    page.locator("#row-0").click()
    page.mouse.move(0, 0)
    page.wait_for_timeout(300)
    contrasts += page.evaluate(CONTRASTS)
    assert len(contrasts) > 60
    assert [each for each in contrasts if each[0] < 4.5] == []
    assert page.evaluate("() => document.scrollingElement.scrollWidth") == width
    ground = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground)[:3])) < 200) == (scheme == "dark")
    assert opened.problems == []


def test_a_bad_file_is_told_and_a_good_one_beside_it_opens(open_page, tmp_path):
    opened = open_page()
    page, bad = opened.page, tmp_path / "<b>notes.tif"
    bad.write_text("not an image")
    page.set_input_files("#files", [bad, write_image(tmp_path / "a.png")])
    page.wait_for_selector("#message[role=alert] >> text=notes.tif")
    page.wait_for_selector("#queue >> text=a.png")
    assert "Traceback" not in page.inner_text("body")
    page.click("#find:enabled")
    wait_for_count(page, 3)
    assert page.locator("#message[role=alert]:visible").count() == 0
    assert [each for each in opened.problems if "400" not in each] == []
