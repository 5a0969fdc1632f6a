#!/usr/bin/env python
"""Pack the project, the packages that a machine lacks, and DSB2018 into one folder for it.

    tools/make_offline_bundle.py --python 3.12 --have torch,torchvision,numpy --data DIR
    bash bundle/run.sh EXPERIMENT --minutes 9      there, without network

Only what training and evaluating import is packed; tools that predict, draw or report need
--extras: prediction, report, figures (matplotlib), tensorboard-server, or those of setup.py.
opencv (58 MiB) and scipy (34 MiB) are imported: a small bundle is one for a machine that has them.
"""

if __name__ == "__main__":
    import _start  # noqa: F401

import argparse
from pathlib import Path

from unet_sharp_det.errors import run_cli
from unet_sharp_det.offline.bundle import MIB, BundleRequest, make_bundle


def main() -> int:
    args = parse_args()
    request = BundleRequest(
        output=args.output,
        python=args.python,
        have=args.have,
        data=args.data,
        extras=tuple(filter(None, args.extras.split(","))),
        overwrite=args.overwrite,
        max_mib=args.max_mib,
    )
    sizes = make_bundle(Path(__file__).resolve().parents[1], request, say=print)
    print_sizes(sizes)
    print(f"written to {args.output}; there: bash {args.output.name}/run.sh EXPERIMENT")
    return 0


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", required=True, metavar="X.Y", help="the target's Python: 3.12")
    parser.add_argument(
        "--have",
        default=BundleRequest.have,
        metavar="NAMES",
        help="packages that the target has, by commas; they are left out with what only they need. "
        "@FILE: those of 'pip list --format=freeze' there. Default: %(default)s",
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="DSB2018, converted or as Kaggle's folder, archive"
    )
    parser.add_argument("--extras", default="", metavar="NAMES", help="see above, by commas")
    parser.add_argument("--output", type=Path, default=Path("bundle"), help="default: bundle")
    parser.add_argument("--overwrite", action="store_true", help="replace a bundle that exists")
    parser.add_argument(
        "--max-mib", type=float, default=BundleRequest.max_mib, help="default: %(default)s; 0: any"
    )
    return parser.parse_args()


def print_sizes(sizes: dict[str, int]) -> None:
    small = {name: size for name, size in sizes.items() if size < MIB and name.endswith(".whl")}
    for name, size in sizes.items():
        if name not in small:
            print(f"{size / MIB:7.1f} MiB  {name}")
    print(f"{sum(small.values()) / MIB:7.1f} MiB  {len(small)} wheels of less than 1 MiB")
    print(f"{sum(sizes.values()) / MIB:7.1f} MiB  in all")


if __name__ == "__main__":
    run_cli(main)
