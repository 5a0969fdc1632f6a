"""The page of stub models, in a browser."""

import threading

import pytest
from app_helpers import PlainAnalyser, StubPredictor, write_image

TIMEOUT = 20_000


@pytest.fixture(scope="module")
def predictor():
    return StubPredictor()


@pytest.fixture(scope="module")
def held():
    """Searches wait as long as the test holds it."""
    return threading.Lock()


@pytest.fixture(scope="module")
def address(predictor, held, tmp_path_factory):
    """Where the page is served, with files up to 0.1 MB and an example."""
    from unet_sharp_det.app import Model, serving

    folder = tmp_path_factory.mktemp("app")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(folder))
        other = StubPredictor(("nucleus", "mitosis"), missing=(2,))
        load = {"first": lambda: predictor, "other": lambda: other}
        analyser = PlainAnalyser(load)
        analyser.held = held
        models = {name: Model(f"# {name}\n\nA model of a test.") for name in load}
        example = write_image(folder / "e.png")
        options = {"port": 0, "max_upload_mb": 0.1, "example": example}
        with serving(analyser, models, **options) as address:
            yield address
        assert sorted(path.name for path in folder.iterdir()) == ["e.png"]


@pytest.fixture
def open_page(address, browser_page):
    def open_page(**options):
        opened = browser_page(address, **{"width": 1400, "height": 900, **options})
        opened.page.set_default_timeout(TIMEOUT)
        opened.page.wait_for_selector("main:not([inert])")
        return opened

    return open_page
