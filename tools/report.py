#!/usr/bin/env python
import _start  # noqa: F401

from unet_sharp_det.cli import main

if __name__ == "__main__":
    main("report")
