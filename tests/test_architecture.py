"""Arrows between rooms go down, as ARCHITECTURE.md draws them; nothing imports in a circle."""

import ast
import graphlib
import re

import pytest

PACKAGE = "unet_sharp_det"
# Called with a config, it makes detectron2 know what the config names.
ALLOWED_UP = {("config", "registration")}


@pytest.fixture(scope="module")
def imports(repository):
    """{module: the modules of the package that it imports}, imports within functions included."""
    files = {}
    for path in (repository / PACKAGE).rglob("*.py"):
        parts = path.relative_to(repository).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return {name: set(imported(name, path, files)) for name, path in files.items()}


def imported(name, path, files):
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = ".".join(
                package[: len(package) - node.level + 1] + (node.module or "").split(".")
            )
            base = base.rstrip(".")
            for alias in node.names:
                target = f"{base}.{alias.name}"
                yield target if target in files else base
        elif isinstance(node, ast.ImportFrom):
            assert not node.module.startswith(PACKAGE), f"{path}: write the import relative"


def room(module):
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def test_arrows_between_rooms_go_down(imports, repository):
    text = (repository / "ARCHITECTURE.md").read_text()
    rows = re.search(r"## The rooms.*?```\n(.*?)```", text, re.DOTALL).group(1).split("\n")
    height = {name: -row for row, line in enumerate(rows) for name in line.split()}
    up = {
        (source, target)
        for source, targets in imports.items()
        for target in targets
        if room(source) != room(target)
        and (room(source), room(target)) not in ALLOWED_UP
        and room(source) not in ("__init__", "__main__", "registration")
        and room(target) != "__init__"
        and height[room(source)] <= height[room(target)] != height["errors"]
    }
    assert up == set()


def test_nothing_imports_in_a_circle(imports):
    graph = {
        source: {
            target
            for target in targets
            if target != source and (room(source), room(target)) not in ALLOWED_UP
        }
        for source, targets in imports.items()
    }
    graphlib.TopologicalSorter(graph).prepare()
