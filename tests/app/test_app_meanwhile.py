"""The page while something is on its way: a search, a view, what another tab does."""

import pytest
from app_helpers import find_in_example, wait_for_count, write_image

pytest.importorskip("fastapi")


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
