#!/usr/bin/env python
"""Cut the images of a COCO data set into square tiles: huge images, or some without any object.

tools/make_tiles.py datasets/dsb2018/annotations/dsb2018_train.json --output datasets/tiles/dsb2018
    cuts 64 x 64 tiles of the images that lie below datasets/dsb2018
tools/make_tiles.py slides.json --image-root slides --output tiles --size 512 --empty-share 0.2
    keeps as many tiles without objects as make a fifth of all

The output has the layout of prepare_dsb2018.py's: the first example and the same with
dsb2018_val.json, followed by DETECTRON2_DATASETS=datasets/tiles tools/train_net.py ..., trains on
tiles. The configs of the U-Nets stretch contrast, which has to be done before the cut: give
--stretch-contrast here and INPUT.STRETCH_CONTRAST False there. Those of other data sets are
registered by register_coco_nuclei, as GETTING_STARTED.md says.
"""

if __name__ == "__main__":
    import _start  # noqa: F401

import argparse
from pathlib import Path

from benchmarks.tiles import Tiling, make_tiles
from unet_sharp_det.errors import run_cli


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("json_file", type=Path, metavar="JSON", help="COCO annotations with masks")
    parser.add_argument(
        "--image-root",
        type=Path,
        help="folder that the json's file names start from (default: the parent of its folder)",
    )
    parser.add_argument(
        "--sem-seg-root",
        type=Path,
        help="folder of the label maps (default: semantic/ in the image root, if there is one)",
    )
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--size", type=int, default=64, help="side in pixels (default: 64)")
    parser.add_argument("--stride", type=int, help="of the grid, in pixels (default: the size)")
    parser.add_argument(
        "--empty-share",
        type=float,
        metavar="S",
        help="share of tiles without any annotated pixel; of the kind that is too frequent, tiles "
        "are left out at random (default: keep all)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of that draw (default: 0)")
    parser.add_argument(
        "--stretch-contrast",
        action="store_true",
        help="bring each image's percentiles 1 and 99.8 to 0 and 255 before it is cut; then train "
        "with INPUT.STRETCH_CONTRAST False, which would stretch each tile",
    )
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = parse_args(argv)
    image_root = args.image_root or args.json_file.parent.parent
    semantic = image_root / "semantic"
    tiling = make_tiles(
        args.json_file,
        image_root,
        args.output,
        sem_seg_root=args.sem_seg_root or (semantic if semantic.is_dir() else None),
        size=args.size,
        stride=args.stride,
        empty_share=args.empty_share,
        seed=args.seed,
        stretch_contrast=args.stretch_contrast,
    )
    print_counts(tiling)
    print(f"written to {args.output}")
    return 0


def print_counts(tiling: Tiling) -> None:
    print(f"{'images':>8}{'':>8}{'tiles':>8}{'empty':>8}")
    print(f"{tiling.images:>8}{'cut':>8}{tiling.tiles:>8}{tiling.empty:>8}")
    print(f"{'':>8}{'kept':>8}{tiling.kept:>8}{tiling.kept_empty:>8}")


if __name__ == "__main__":
    run_cli(main)
