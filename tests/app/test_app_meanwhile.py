"""The page while something is on its way: a search, a view, what another tab does."""

import numpy as np
import pytest
import tifffile
from app_helpers import SHAPE, find_in_example, wait_for_count, write_image

pytest.importorskip("fastapi")

FIRST_IS_SLOW = """(part) => {
  const {fetch} = window;
  let delay = 800;
  window.fetch = async (...request) => {
    if (request[0].includes(part)) {
      const own = delay;
      delay = 0;
      await new Promise((resolve) => setTimeout(resolve, own));
    }
    return fetch(...request);
  };
}"""


def test_the_page_can_be_used_during_a_search(open_page, held, tmp_path):
    opened = open_page()
    page = opened.page
    find_in_example(page)
    page.set_input_files("#files", [write_image(tmp_path / f"{n}.png") for n in range(2)])
    page.wait_for_selector("#queue li >> nth=2")
    page.uncheck("#all")
    with held:
        page.click("#find:enabled")
        page.wait_for_selector("#queue li >> nth=1 >> text=searching, 0 %")
        longer_than_a_look = 700
        page.click("#queue li:nth-child(1) .open .state", delay=longer_than_a_look)
        page.wait_for_selector("#queue li:nth-child(1) [aria-current=true]")
        page.locator("#low").press_sequentially("200", delay=200)
        page.wait_for_timeout(longer_than_a_look)
        assert page.input_value("#low") == "200"
        page.keyboard.press("Enter")
        wait_for_count(page, 2)
        page.click("#table [data-index='1']", delay=longer_than_a_look)
        page.wait_for_selector("#table [data-index='1'][aria-selected=true]")
        page.focus("#queue [aria-label='Remove 1.png']")
        page.wait_for_timeout(longer_than_a_look)
        page.keyboard.press("Enter")
        page.wait_for_selector("#queue li >> nth=2", state="detached")
    page.wait_for_selector("#cancel", state="hidden")
    assert opened.problems == []


def test_a_search_goes_on_being_shown_after_an_answer_that_failed(open_page, held, tmp_path):
    page = open_page().page
    page.set_input_files("#files", write_image(tmp_path / "a.png"))
    with held:
        page.click("#find:enabled")
        page.wait_for_selector("#queue li >> text=searching")
        page.context.set_offline(True)
        page.wait_for_selector("#message >> text=The app does not answer")
        page.context.set_offline(False)
        page.wait_for_selector("#message", state="hidden")
    wait_for_count(page, 3)


def test_an_image_is_removed_while_its_objects_are_fetched(open_page, tmp_path):
    page = open_page().page
    page.set_input_files("#files", [write_image(tmp_path / f"{n}.png") for n in range(3)])
    page.wait_for_selector("#queue li >> nth=2")
    page.evaluate(FIRST_IS_SLOW, "/objects/")
    page.click("#find:enabled")
    page.wait_for_timeout(500)
    page.click("#queue [aria-label='Remove 0.png']")
    page.wait_for_selector("#queue li >> nth=1 >> text=3 objects")
    assert page.locator("#queue >> text=3 objects").count() == 2
    assert page.is_hidden("#message")


@pytest.fixture
def stack(tmp_path):
    """A file of three planes, each of one value."""
    path = tmp_path / "s.tif"
    planes = np.full((3, *SHAPE), np.reshape([50, 90, 200], (3, 1, 1)), np.uint8)
    tifffile.imwrite(path, planes, imagej=True, metadata={"axes": "ZYX"})
    return path


def searched_value(predictor):
    return predictor.calls[-1].window(slice(0, 1), slice(0, 1)).item()


def test_a_search_is_in_the_plane_that_was_chosen_last(open_page, predictor, stack):
    page = open_page().page
    with page.expect_response("**/0_0.jpg"):
        page.set_input_files("#files", stack)
    page.evaluate(FIRST_IS_SLOW, "/view")
    page.focus("#plane")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.click("#find")
    wait_for_count(page, 3)
    assert searched_value(predictor) == 200
    page.wait_for_timeout(1000)
    wait_for_count(page, 3)
    assert page.inner_text("#plane-name") == "z=2"


def test_two_tabs_show_the_same_plane(open_page, address, predictor, stack):
    page = open_page().page
    page.set_input_files("#files", stack)
    page.wait_for_selector("#plane")
    other = page.context.new_page()
    other.goto(address)
    other.wait_for_selector("#plane")
    other.focus("#plane")
    with other.expect_response("**/view"):
        other.keyboard.press("End")
    with page.expect_response("**/0_0.jpg"):
        page.click("#find")
    wait_for_count(page, 3)
    assert searched_value(predictor) == 200
    assert page.inner_text("#plane-name") == "z=2"
