"""A headless Chromium without network, for tests of HTML pages that the package writes or serves.

The browser is the machine's own. Without one such tests are skipped, or fail where the environment
variable REQUIRE_BROWSER is set, as .ci/run does.
"""

import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass
class OpenedPage:
    """A page and what went wrong on it since it was opened; `page` is playwright's."""

    page: object
    server: str | None = None  # the only address that requests may go to beside files
    console_errors: list[str] = field(default_factory=list)
    page_errors: list[str] = field(default_factory=list)  # exceptions that no script caught
    outside_requests: list[str] = field(default_factory=list)  # refused; a page must need none

    @property
    def problems(self) -> list[str]:
        return self.console_errors + self.page_errors + self.outside_requests

    def _note_message(self, message):
        if message.type == "error":
            self.console_errors.append(message.text)

    def _answer_request(self, route):
        url = route.request.url
        if url.startswith("file:") or self.server and url.startswith(self.server):
            route.continue_()
        else:
            self.outside_requests.append(url)
            route.abort()

    def watch(self, context):
        context.set_offline(self.server is None)
        context.route("**/*", self._answer_request)
        # A socket that is routed and not connected stays without a server.
        context.route_web_socket("**", lambda socket: self.outside_requests.append(socket.url))
        self.page.on("console", self._note_message)
        self.page.on("pageerror", lambda error: self.page_errors.append(str(error)))


def give_up(reason: str):
    """Skips the test, or fails it where a browser is required."""
    if os.environ.get("REQUIRE_BROWSER"):
        pytest.fail(f"{reason} REQUIRE_BROWSER forbids to skip this test.", pytrace=False)
    pytest.skip(reason)


def find_chromium() -> str:
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        give_up(
            f"No Chromium on PATH (looked for {', '.join(NAMES)}). "
            "On Debian or Ubuntu: sudo apt-get install chromium."
        )
    return found


@contextmanager
def launch_chromium():
    """A playwright browser; it ends with the context, and until then asyncio.run raises."""
    executable = find_chromium()
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        give_up("playwright is not installed. Run: pip install playwright")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, headless=True, chromium_sandbox=False, args=list(FLAGS)
        )
        yield browser
        browser.close()


@contextmanager
def page_opener(browser):
    """A function (path, width=1280, height=800, **options) -> OpenedPage, of a loaded HTML file.

    Instead of a path it takes the address of a server, http://...:PORT/, which may then be reached.
    The options are those of playwright's `Browser.new_context`, e.g. color_scheme="dark". The
    pages are closed with the context.
    """
    contexts = []

    def open_page(path, width=1280, height=800, **options) -> OpenedPage:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        server = path if str(path).startswith("http://") else None
        opened = OpenedPage(context.new_page(), server)
        opened.watch(context)
        opened.page.goto(server or Path(path).resolve().as_uri(), wait_until="load")
        return opened

    yield open_page
    for context in contexts:
        context.close()
