"""Import a data set of volumes as it is distributed, to train on it.

unet-sharp-det import KIND SOURCE [--output DIR]

Files are copied as they are; what is no file of its own, as a DICOM series, becomes NIfTI. A case
that cannot be used is left out and named, and the exit status is 1. Call again to go on.

By default DIR is $DETECTRON2_DATASETS/KIND. Each folder DIR in $DETECTRON2_DATASETS is known to
configs as DIR_train, DIR_val and DIR_test: 70, 10 and 20 % of the patients, or the data's own
parts.
"""

import argparse
import inspect
from importlib import import_module

from ..errors import UserError
from ..importers import KINDS
from . import command_parser


def parse_args(argv=None) -> argparse.Namespace:
    # Options that are not given are left to the defaults of the kinds.
    kinds = "".join(f"  {kind:<10}{meaning}\n" for kind, meaning in KINDS.items())
    description = f"{__doc__}\nKIND is one of\n\n{kinds}"
    parser = command_parser("import", description, argument_default=argparse.SUPPRESS)
    add = parser.add_argument
    add("kind", choices=KINDS, metavar="KIND", help="of the data")
    add("source", metavar="SOURCE", help="folder of the data")
    add("--output", metavar="DIR", help="default: $DETECTRON2_DATASETS/KIND")
    add("--labels", nargs="+", metavar="NAME", help="of volumes: the names of labels 1, 2, ...")
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = vars(parse_args(argv))
    kind = args.pop("kind")
    convert = import_module(f"..importers.{kind}", __package__).convert
    from ..data.catalog import datasets_root  # Slow to import.

    args.setdefault("output", datasets_root() / kind)
    unknown = args.keys() - inspect.signature(convert).parameters.keys()
    if unknown:
        raise UserError(f"--{min(unknown)} is no option of {kind}. Leave it out.")
    summary = convert(**args)
    print(summary)
    return 1 if summary.skipped else 0
