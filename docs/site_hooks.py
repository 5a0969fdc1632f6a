"""What the site has beside the pages in docs/: documents of other folders, notebooks, the API.

mkdocs calls the functions ``on_...``. Links are written for readers of the repository, and become
links of the site here.
"""

import ast
import posixpath
import re
from pathlib import Path

import nbformat
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
#: The documents of other folders, and where they are in the site.
INCLUDED = {
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "MODEL_ZOO.md": "model-zoo.md",
    "configs/README.md": "reference/configs.md",
    "datasets/README.md": "reference/datasets.md",
    "unet_sharp_det/model_zoo/nuclei.md": "models/nuclei.md",
    "unet_sharp_det/model_zoo/nuclei-fast.md": "models/nuclei-fast.md",
}
API = "reference/api"
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def on_config(config):
    """Name the pages of the API in the navigation."""
    (reference,) = (part["Reference"] for part in config.nav if "Reference" in part)
    reference[-1] = {"Python API": [f"{API}/{room}.md" for room in public_names()]}


def on_files(files, config):
    """Add the pages that do not lie in docs/."""
    for source, page in INCLUDED.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    for notebook in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        page = f"notebooks/{notebook.stem}.md"
        files.append(File.generated(config, page, content=notebook_page(notebook)))
    for room, names in public_names().items():
        files.append(File.generated(config, f"{API}/{room}.md", content=api_page(room, names)))


def on_page_content(html, page, config, files):
    """Take Sphinx's marks, roles and double colons, off the docstrings."""
    html = re.sub(r":(?:attr|class|data|func|meth|mod):(?=<code>)", "", html)
    return html.replace("::</p>", ":</p>")


def on_page_markdown(markdown, page, config, files):
    """Turn links of the repository into links of the site."""
    uri = page.file.src_uri
    place = {page: source for source, page in INCLUDED.items()}.get(uri, f"docs/{uri}")
    return _LINK.sub(lambda match: site_link(match, place, uri), markdown)


def site_link(match: re.Match, place: str, uri: str) -> str:
    """Return a link as the site has it; what has no page there is named.

    Args:
        match: of a Markdown link.
        place: of its document in the repository.
        uri: of its page in the site.
    """
    mark, text, target = match.groups()
    path, _, anchor = target.partition("#")
    if not path or "://" in path or path.startswith("mailto:"):
        return match[0]
    file = posixpath.normpath(posixpath.join(posixpath.dirname(place), path))
    if file in INCLUDED:
        target = INCLUDED[file]
    elif file.startswith("docs/"):
        target = re.sub(r"\.ipynb$", ".md", file.removeprefix("docs/"))
    elif (ROOT / file).exists():
        return f"`{file}`" if text.strip("`") == file else f"{text} (`{file}` in the repository)"
    else:
        return match[0]  # mkdocs names it as wrong
    target = posixpath.relpath(target, posixpath.dirname(uri) or ".")
    return f"{mark}[{text}]({target}{'#' * bool(anchor)}{anchor})"


def api_page(room: str, names: list[str]) -> str:
    """Return the page of a room: its docstring, and those of ``room.module.name``, as Markdown."""
    hidden = "      show_root_heading: false\n      show_root_toc_entry: false\n"
    parts = [f"# {room}", f"::: unet_sharp_det.{room}\n    options:\n      members: []\n{hidden}"]
    if names:
        parts.append(f"Import these from `unet_sharp_det.{room}`.")
    for name in names:
        short = name.rpartition(".")[2]
        heading = f"      heading: {short}\n      toc_label: {short}"
        parts.append(f"::: unet_sharp_det.{name}\n    options:\n{heading}\n")
    return "\n\n".join(parts)


def public_names() -> dict[str, list[str]]:
    """Return by room what its ``__init__`` makes public, as ``room.module.name``.

    griffe reads the code without running it, and so does not see what lazy_loader attaches.
    """
    rooms = {}
    for init in sorted((ROOT / "unet_sharp_det").glob("*/__init__.py")):
        room = init.parent.name
        for call in ast.walk(ast.parse(init.read_text())):
            if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "attach":
                (names,) = (word.value for word in call.keywords if word.arg == "submod_attrs")
                attached = eval(compile(ast.Expression(names), str(init), "eval"), {})
                rooms[room] = [
                    f"{room}.{module}.{name}" for module in attached for name in attached[module]
                ]
    names = ["Edge", "build_table", "register_scheme", "scheme_names", "prune"]
    rooms["skip_schemes"] = [f"skip_schemes.{name}" for name in names]
    rooms["errors"] = ["errors.UserError"]
    return rooms


def notebook_page(path: Path) -> str:
    """Return a notebook with its outputs as Markdown."""
    cells = nbformat.read(path, as_version=4).cells
    parts = [cell.source if cell.cell_type == "markdown" else _code(cell) for cell in cells]
    link = f'This page is a notebook: <a href="{path.name}" download>download it</a>.'
    return "\n\n".join([parts[0], link, *parts[1:]]) + "\n"


def _code(cell) -> str:
    return "\n\n".join([f"```python\n{cell.source}\n```", *map(_output, cell.outputs)])


def _output(output) -> str:
    data = output.get("data", {"text/plain": output.get("text", "")})
    picture = next((kind for kind in data if kind in ("image/jpeg", "image/png")), None)
    if picture:
        content = f'<img alt="" src="data:{picture};base64,{data[picture].strip()}">'
    elif "text/html" in data:
        content = re.sub(r"<style.*?</style>", "", data["text/html"], flags=re.DOTALL)
    else:
        return f"```text\n{data['text/plain'].rstrip()}\n```"
    return f'<div class="notebook-output">{content}</div>'
