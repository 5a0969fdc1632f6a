#!/usr/bin/env python3
"""Convert DSB2018 (BBBC038) from the layout that Kaggle distributes to COCO json files.

Exit status: 0 everything converted; 1 rotten files were skipped; 2 usage.
"""

if __name__ == "__main__":
    import sys
    from pathlib import Path

    sys.path.append(str(Path(__file__).resolve().parents[1] / "tools"))
    import _start  # noqa: F401


import argparse
import os

from unet_sharp_det.data.catalog import default_root
from unet_sharp_det.data.dsb2018_convert import Conversion, convert_dsb2018
from unet_sharp_det.data.dsb2018_read import QUIRKS
from unet_sharp_det.errors import run_cli


def main() -> int:
    args = parse_args()
    root = args.output or default_root()
    conversion = convert_dsb2018(args.input, root)
    print_quirks(conversion)
    print_counts(conversion)
    print(f"written to {root}, details in {os.path.join(root, 'annotations', 'report.json')}")
    if conversion.skipped:
        print(f"finished with {conversion.skipped} files skipped")
    return 1 if conversion.skipped else 0


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("input", metavar="INPUT", help="folder, .zip or .tar archive to convert")
    parser.add_argument(
        "--output", metavar="ROOT", help="default: $DETECTRON2_DATASETS/dsb2018 (datasets/dsb2018)"
    )
    return parser.parse_args()


def print_quirks(conversion: Conversion) -> None:
    print(f"{'quirk':<22}{'count':>6}  what is done")
    for kind, affected in conversion.quirks.items():
        if not affected:
            continue
        print(f"{kind:<22}{len(affected):>6}  {QUIRKS[kind].effect}: {QUIRKS[kind].policy}")
        if QUIRKS[kind].effect == "skipped":
            print("".join(f"    {name}\n" for name in affected), end="")


def print_counts(conversion: Conversion) -> None:
    print(f"{'split':<8}{'images':>8}{'nuclei':>8}{'skipped':>9}")
    for split, count in conversion.counts.items():
        print(f"{split:<8}{count['images']:>8}{count['nuclei']:>8}{count['skipped']:>9}")
        if split != "none" and not count["images"]:
            print(f"        no image of the input belongs to {split}: its json file is empty")


if __name__ == "__main__":
    run_cli(main)
