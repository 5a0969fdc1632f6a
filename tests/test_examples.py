"""The examples in the docstrings."""

import doctest
import importlib
import re
from pathlib import Path

import pytest

import unet_sharp_det

ROOT = Path(unet_sharp_det.__file__).parent
EXAMPLES = sorted(
    str(path.relative_to(ROOT).with_suffix("")).replace("/", ".")
    for path in ROOT.rglob("*.py")
    if re.search(r">>> (?!.*\+SKIP)", path.read_text(encoding="utf-8"))
)


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples(name):
    failed, tried = doctest.testmod(importlib.import_module(f"unet_sharp_det.{name}"))
    assert (failed, tried > 0) == (0, True)
