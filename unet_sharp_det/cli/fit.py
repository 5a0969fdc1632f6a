"""Train a model that fits your images: settings follow from the data, and a model is fine-tuned.

unet-sharp-det import IMAGES --name mine
unet-sharp-det fit mine --output run

Writes to DIR: fit.yaml (each setting and its reason), model.safetensors (for predict --weights),
report.html (before and after, on the validation images). Call it again to go on after a stop.
"""

import argparse

from . import command_parser


def parse_args(argv=None) -> argparse.Namespace:
    parser = command_parser("fit", __doc__)
    add = parser.add_argument
    add("name", metavar="NAME", help="of the data set that import wrote")
    add("--output", required=True, metavar="DIR", help="folder for the results")
    help_ = "what the training starts from: nuclei (default), nuclei-fast, a checkpoint, imagenet "
    help_ += "(weights of a backbone that knows photographs), scratch, or the config of a model"
    add("--from", dest="start", default="nuclei", metavar="MODEL", help=help_)
    add("--num-gpus", type=int, default=1, metavar="N", help="default: 1; without a GPU, processes")
    help_ = "KEY VALUE pairs of the config that override the rules; stand last"
    add("--opts", nargs=argparse.REMAINDER, default=[], help=help_)
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = parse_args(argv)
    from ..fit import fit  # Slow to import.

    print(fit(**vars(args)))
    print(f"Look at {args.output}/report.html. Use the model by: unet-sharp-det predict IMAGES")
    print(f"--weights {args.output}/model.safetensors --output results")
    return 0
