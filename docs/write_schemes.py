#!/usr/bin/env python
"""Draw docs/images/schemes/NAME.svg, a grid of four levels of each scheme, from its table.

python -m docs.write_schemes
"""

from pathlib import Path

from benchmarks.search.scheme_drawing import draw_grid
from unet_sharp_det.skip_schemes import build_table, scheme_names

TARGET = Path(__file__).parent / "images" / "schemes"
DEPTH = 4

if __name__ == "__main__":
    TARGET.mkdir(parents=True, exist_ok=True)
    for name in scheme_names():
        draw_grid(TARGET / f"{name}.svg", build_table(name, DEPTH), DEPTH)
