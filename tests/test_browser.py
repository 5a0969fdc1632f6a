"""Tests of browser.py itself: what is wrong with a page, or with the machine, must show."""

import pytest
from browser import find_chromium, launch_chromium

PAGE = """<!DOCTYPE html><title>t</title><link rel="icon" href="data:,">
<style>p {{ color: black }} @media (max-width: 500px) {{ p {{ color: red }} }}</style><p>x</p>
<script src="local.js"></script><script>{script}</script>"""


@pytest.fixture
def open_script(browser_page, tmp_path):
    """A function that opens a page with the given script in it, and a second one beside it."""

    def open_script(script, **options):
        (tmp_path / "local.js").write_text("window.fromFile = 1")
        path = tmp_path / "page of #1.html"
        path.write_text(PAGE.format(script=script))
        return browser_page(path, **options)

    return open_script


def colour(opened):
    return opened.page.evaluate("getComputedStyle(document.querySelector('p')).color")


def test_a_sound_page_has_no_problems_and_loads_what_lies_beside_it(open_script):
    opened = open_script("console.log('fine'); console.warn('well')")
    assert opened.problems == []
    assert opened.page.evaluate("fromFile") == 1


def test_the_width_is_that_of_the_page(open_script):
    wide, narrow = (open_script("", width=width) for width in (1280, 400))
    assert [opened.page.evaluate("innerWidth") for opened in (wide, narrow)] == [1280, 400]
    assert (colour(wide), colour(narrow)) == ("rgb(0, 0, 0)", "rgb(255, 0, 0)")


def test_a_console_error_is_found(open_script):
    opened = open_script("console.error('wrong', 3)")
    assert (opened.console_errors, opened.page_errors) == (["wrong 3"], [])


def test_an_uncaught_exception_is_found(open_script):
    opened = open_script("noSuchFunction()")
    assert opened.page_errors == ["noSuchFunction is not defined"]


@pytest.mark.parametrize(
    "script, address",
    [
        ("document.write('<img src=\"http://127.0.0.1:9/a.png\">')", "http://127.0.0.1:9/a.png"),
        ("fetch('https://example.org/a.json').catch(() => 0)", "https://example.org/a.json"),
        ("new WebSocket('ws://127.0.0.1:9/s')", "ws://127.0.0.1:9/s"),
    ],
)
def test_a_request_to_the_outside_is_found_and_refused(open_script, script, address):
    opened = open_script(script)
    opened.page.wait_for_timeout(50)
    assert opened.outside_requests == [address]
    assert not opened.page.evaluate("document.images.length && document.images[0].naturalWidth")


def test_without_a_browser_tests_are_skipped_with_the_fix(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("REQUIRE_BROWSER", raising=False)
    with pytest.raises(pytest.skip.Exception, match="sudo apt-get install chromium"):
        find_chromium()


def test_without_a_browser_tests_fail_where_one_is_required(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("REQUIRE_BROWSER", "1")
    with pytest.raises(pytest.fail.Exception, match="No Chromium on PATH"):
        launch_chromium().__enter__()
