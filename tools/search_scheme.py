#!/usr/bin/env python
import _start  # noqa: F401

from benchmarks.search.command import main
from unet_sharp_det.errors import run_cli

if __name__ == "__main__":
    run_cli(main)
