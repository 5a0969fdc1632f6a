"""Import annotated images or volumes, to train on them.

unet-sharp-det import SOURCE [--name NAME] [--format FORMAT]

The data set is written to $DETECTRON2_DATASETS/NAME (datasets/NAME if the variable is not set), and
is known to every command as NAME_train, NAME_val and perhaps NAME_test by being there. What cannot
be used is left out and named, and the exit status is 1. Call again to go on, or after a change.

Images stay where they are, unless you give --copy. Their format is seen from the files. Folders
train/ and val/ in SOURCE are the splits; else a hash of the names puts 20 % into NAME_val.
Of volumes give --format; 70, 10 and 20 % of the patients become train, val and test.
"""

import argparse
import inspect
from importlib import import_module
from pathlib import Path

from ..errors import UserError, look_up_option
from ..importers import VOLUMES
from ..importers.images import FORMATS
from . import command_parser


def parse_args(argv=None) -> argparse.Namespace:
    # Options that are not given are left to the defaults of the formats.
    known = [f"  {name:<13}{meaning}\n" for name, meaning in {**FORMATS, **VOLUMES}.items()]
    description = f"{__doc__}\nFORMAT is one of\n\n{''.join(known)}"
    parser = command_parser("import", description, argument_default=argparse.SUPPRESS)
    add = parser.add_argument
    add("source", metavar="SOURCE", help="folder of the data, or a COCO json or .npz file")
    add("--name", help="of the data set; default: the name of SOURCE")
    add("--format", help="default, of images: what the files look like")
    images = parser.add_argument_group("images").add_argument
    images("--classes", nargs="+", metavar="NAME", help="names of the classes 1, 2, ...")
    images("--val", metavar="FOLDER", help="images of validation, in the same format")
    group = "images with equal matches of this regular expression go to one split, or equal groups "
    group += "in a CSV file of names and groups"
    images("--group", metavar="PATTERN", help=group)
    images("--copy", action="store_true", help="copy the images")
    images("--strict", action="store_true", help="write nothing if anything is odd")
    volumes = parser.add_argument_group("volumes").add_argument
    volumes("--labels", nargs="+", metavar="NAME", help="of volumes: names of labels 1, 2, ...")
    volumes("--lidc-xml", metavar="DIR", help="of luna16: LIDC's XML files; default: spheres")
    volumes("--agreement", type=float, metavar="SHARE", help="of readers, lidc and luna16: 0.5")
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = vars(parse_args(argv))
    source, format_ = args.pop("source"), args.pop("format", None)
    name = args.pop("name", Path(source).resolve().stem)
    if format_ is not None:
        look_up_option(format_, [*FORMATS, *VOLUMES], "--format")
    if format_ in VOLUMES:
        convert = import_module(f"..importers.{format_}", __package__).convert
        known = set(inspect.signature(convert).parameters)
    else:
        from ..importers.images.run import import_images as convert  # Slow to import.

        args["format"] = format_
        known = {"format", "classes", "val", "group", "copy", "strict"}
    if unknown := args.keys() - known:
        option = min(unknown).replace("_", "-")
        raise UserError(f"--{option} is no option of {format_ or 'images'}. Leave it out.")
    from ..data.catalog import datasets_root  # Slow to import.

    summary = convert(source, datasets_root() / name, **args)
    print(summary)
    return 1 if summary.skipped else 0
