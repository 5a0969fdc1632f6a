#!/usr/bin/env python
"""Write docs/CONFIG.md, the keys that this package adds, from the comments in config/keys.py.

python docs/write_config.py
"""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "unet_sharp_det" / "config" / "keys.py"
TARGET = ROOT / "docs" / "CONFIG.md"
HEAD = """# Config keys

This package adds these keys to [those of detectron2][stock]. Set them in a YAML file, or as
`KEY VALUE` pairs at the end of a command. `--config-file` takes a path, or the name of a file below
`configs/`, which is part of the package. `docs/write_config.py` writes this page from the
comments in `unet_sharp_det/config/keys.py`.

[stock]: https://detectron2.readthedocs.io/en/latest/modules/config.html#yaml-config-references
"""
LAZY_HEAD = """
## LazyConfigs

A LazyConfig (`.py`) builds its model, data and optimizer itself. Its `train` holds these keys:

| key | of a LazyConfig |
|---|---|
"""

_SECTION = re.compile(r"^    # == (.*)\n", re.MULTILINE)
_KEY = re.compile(r"((?:^    # .*\n)+)    cfg\.([\w.]+) = (.*)\n", re.MULTILINE)


def document(source: str, lazy_keys: dict[str, str]) -> str:
    """Return the page in Markdown. ``lazy_keys``: where a LazyConfig's ``train`` has a key."""
    _, *parts = _SECTION.split(source)
    text = HEAD
    for title, body in zip(parts[::2], parts[1::2], strict=True):
        text += f"\n## {title}\n\n| key | default | meaning |\n|---|---|---|\n"
        for comment, key, default in _KEY.findall(body):
            meaning = " ".join(line.strip().removeprefix("# ") for line in comment.splitlines())
            text += f"| `{key}` | `{default}` | {meaning.replace('|', '&#124;')} |\n"
    rows = [f"| `{key}` | `train.{place}` |\n" for key, place in lazy_keys.items()]
    return text + LAZY_HEAD + "".join(rows)


if __name__ == "__main__":
    from unet_sharp_det.training.lazy import LAZY_KEYS

    TARGET.write_text(document(SOURCE.read_text(), LAZY_KEYS))
