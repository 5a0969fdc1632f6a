"""Measure speed, memory and quality: alternatives take turns in one run, medians are printed.

python -m benchmarks necks     [--config-file C] [--size 512] [--batch 2]   each neck against FPN
python -m benchmarks detectors [--config-file C] [--size 512] [--batch 2]   the whole detector
python -m benchmarks unets     [--sizes 256 512]   UNet# against its literal form
python -m benchmarks counts                        parameters beside the papers'
python -m benchmarks memory    [--config-file C]   peak memory of a training on volumes
python -m benchmarks pruning   --config-file C --weights W [--output DIR]   L_1 .. L_D of a training
python -m benchmarks anchors   [--config-file C]   anchor shapes against the nuclei
python -m benchmarks hold_back --data D            a third of the training images, to choose by
python -m benchmarks stardist  --data D --output O   a StarDist, trained for a comparison
python -m benchmarks finders   --data D --stardist M --stardist-python P   it beside our models
python -m benchmarks dask      IMAGE [--kills N]   predictions by Dask's workers: scaling, deaths
python -m benchmarks nnunet    export|number ...   data for nnU-Net, and its predictions

To be run in the root of the repository. NAME --help tells the options.
"""

import sys
from importlib import import_module

MODULES = {
    **{"necks": "models", "detectors": "models", "unets": "unets", "counts": "unets"},
    **{"memory": "memory", "pruning": "pruning", "anchors": "anchors", "hold_back": "hold_back"},
    **{"stardist": "stardist", "finders": "finders", "nnunet": "nnunet", "dask": "dask_workers"},
}


def main(argv=None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] not in MODULES:
        print(__doc__, file=sys.stdout if argv[:1] in (["-h"], ["--help"]) else sys.stderr)
        return 0 if argv[:1] in (["-h"], ["--help"]) else 2
    # Only its own module: StarDist has an environment without the others' packages.
    module = import_module(f"benchmarks.{MODULES[argv[0]]}")
    return module.main(argv) or 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["stardist"]:
        sys.exit(main())
    from unet_sharp_det.errors import run_cli

    run_cli(main)
