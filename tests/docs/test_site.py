"""The site builds without a warning, from this machine alone; its commands are those there are."""

import importlib
import os
import re
import shlex
import subprocess
import sys

import pytest

from unet_sharp_det.cli import COMMANDS


@pytest.fixture(scope="module")
def site(repository, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    done = subprocess.run(
        [*command, "--site-dir", str(folder)],
        cwd=repository,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(repository):
    """The text of the pages that are written by hand, by their path."""
    files = [repository / "README.md", *(repository / "docs").rglob("*.md")]
    return {str(path.relative_to(repository)): path.read_text() for path in files}


def test_nothing_is_loaded_from_other_hosts(site):
    loads = re.compile(r"<(?:script|img|iframe)\b[^>]*\ssrc=\"?(https?:)?//|<link\b[^>]*>")
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        for found in loads.finditer(page.read_text()):
            loaded = "//" in found[0] and not re.search(r"rel=\"?(canonical|prev|next)", found[0])
            assert not loaded, (page.name, found[0])


def test_the_site_opens_from_the_disk_and_its_search_works(site, browser_page):
    opened = browser_page(site / "index.html")
    page = opened.page
    assert "detectron2" in page.inner_text("main")
    page.fill("[data-md-component=search-query]", "micrometres")
    page.wait_for_selector(".md-search-result__item a[href*=faq]", timeout=10_000)
    assert opened.problems == []


def test_the_api_has_what_the_package_makes_public(site):
    import unet_sharp_det

    text = "".join(page.read_text() for page in (site / "reference" / "api").glob("*.html"))
    anchors = set(re.findall(r'id="unet_sharp_det\.([\w.]+)"', text))
    names = {anchor.rpartition(".")[2] for anchor in anchors}
    assert set(unet_sharp_det.__all__) - {"model_zoo"} <= names
    assert {"Predictor", "write_report", "predict_files", "InstanceMap"} <= names


def test_every_option_that_a_page_names_is_there(pages, capsys):
    """Each --option of a command line in a code block is one of the command's."""
    used = {}
    for path, text in pages.items():
        for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words[:1] == ["unet-sharp-det"] and words[1] in COMMANDS:
                    flags = [word for word in words if word.startswith("--")]
                    used.setdefault(words[1], []).extend((flag, path) for flag in flags)
    assert set(used) == set(COMMANDS)
    for command, flags in used.items():
        module = importlib.import_module(
            f"unet_sharp_det.cli.{command.replace('import', 'import_')}"
        )
        with pytest.raises(SystemExit):
            module.main(["--help"])
        known = set(re.findall(r"--[\w-]+", capsys.readouterr().out))
        assert [each for each in flags if each[0] not in known] == [], command


def test_python_in_the_pages_is_python(pages):
    for path, text in pages.items():
        for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
            compile(block, path, "exec")


def test_links_of_the_readme_lead_somewhere(repository, pages):
    links = re.findall(r"\]\((?!https?:)([^)#]+)(?:#([^)]*))?\)", pages["README.md"])
    assert links
    for path, anchor in links:
        target = repository / path
        assert target.exists(), path
        if anchor:
            titles = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
            assert anchor in slugs, (path, anchor)
