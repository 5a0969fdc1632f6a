"""Find the nuclei, or other objects, in microscopy images with a trained model.

  unet-sharp-det predict images/ --output results
  unet-sharp-det predict --weights my.safetensors 'plate*/**/*.tif' --output results --outputs all
  unet-sharp-det predict --weights output/model_best.pth stack.tif --output results --planes max \\
      --channels 0 --pixel-size 0.325

INPUT is an image, a folder of images, or a pattern in quotes, in which * stands for any part of a
name and ** for any folders. Images of 8, 16 and 32 bits, gray or RGB, are read; of stacks and time
series each plane is an image of its own unless --planes says otherwise. An OME-Zarr is an image, or
a plate of them; it may be an address such as s3://bucket/a.zarr.

DIR gets, for an image a.tif, those of these files that --outputs names:
{outputs}
and of all images together summary.csv (objects and areas per image), coco.json with the output
coco, predict.json (settings and versions) and predict.log.

A model of volumes (VolumeSegmentor) takes scans as INPUTs: NIfTI, MetaImage, NRRD, folders of one
DICOM series each, or one slice of a series; where it has several channels, these in turn. It writes
a_labels.nii.gz, or with the ending of the scan, in its geometry, and a picture a_planes.png. Of the
options, those of the model, --output, --overwrite and --object-distance apply.

A bad image does not stop the others; it is named at the end, and the exit status is 1. After
Ctrl-C or a crash, give the same command again, without --overwrite: it goes on with the images that
are not done.
"""

import argparse
import contextlib
import functools
import logging
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import fields

from tqdm.contrib.logging import logging_redirect_tqdm

from .. import batch, checkpoints, prediction
from ..batch.linking import LINK_IOU
from ..batch.records import ImageRecord
from ..batch.run import RunSummary, predict_files
from ..batch.units import run_here
from ..errors import (
    INTERRUPTED,
    PrintableFormatter,
    UserError,
    counted,
    interrupt,
    look_up_option,
    printable,
)
from ..images.formats import count_not_read
from ..images.source import ReadOptions
from ..outputs import DEFAULT_OUTPUTS, OUTPUTS
from ..prediction.options import AUTO, PredictionOptions
from . import add_trust_argument, command_parser

_MOST_NAMED = 50


def parse_args(argv=None) -> argparse.Namespace:
    lines = [
        f"  {name:<8} a{output.ending:<18} {output.meaning}" for name, output in OUTPUTS.items()
    ]
    parser = command_parser(
        "predict",
        __doc__.format(outputs="\n".join(lines)),
        usage="%(prog)s [--weights FILE] INPUT [INPUT ...] --output DIR [options]",
    )
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="image, folder or 'pattern'")
    add = parser.add_argument
    help_ = "trained model, .pth or .safetensors, or a name of the model zoo (default: nuclei)"
    add("--weights", default="nuclei", metavar="FILE", help=help_)
    add("--output", required=True, metavar="DIR", help="folder for the results")
    _add_what(parser.add_argument_group("what is written"))
    _add_found(parser.add_argument_group("what is found"))
    _add_reading(parser.add_argument_group("how images are read"))
    _add_running(parser.add_argument_group("model and speed"))
    return parser.parse_args(argv)


def _add_what(group) -> None:
    add = group.add_argument
    add(
        "--outputs",
        nargs="+",
        default=list(DEFAULT_OUTPUTS),
        metavar="NAME",
        help=f"of {', '.join(OUTPUTS)}; or all whose packages are installed (default: "
        f"{' '.join(DEFAULT_OUTPUTS)})",
    )
    add(
        "--pixel-size",
        nargs="+",
        metavar="UM",
        help="width and height of a pixel in micrometres, one number if they are equal, for sizes "
        "in micrometres, and for the scale of a model that knows its own (default: what the file "
        "says)",
    )
    help_ = "of scans: also write objects, those that touch parted where their middles are at "
    help_ += "least MM apart"
    add("--object-distance", type=float, metavar="MM", help=help_)
    help_ = "of stacks of images: also write a_linked.tif, a label stack in which objects of "
    help_ += "neighbouring slices are one if their IoU is this or more (default: 0.25)"
    add("--link", nargs="?", type=float, const=LINK_IOU, metavar="IOU", help=help_)
    help_ = "predict all anew; results of another model or of other options in DIR are deleted"
    add("--overwrite", action="store_true", help=help_)


def _add_found(group) -> None:
    add, defaults = group.add_argument, PredictionOptions()
    help_ = "least score of an object, from 0 to 1 (default: the model's, mostly 0.5)"
    add("--score-threshold", type=float, metavar="S", help=help_)
    help_ = "least pixels of an object (default: the model's)"
    add("--min-area", type=int, metavar="N", help=help_)
    help_ = "leave holes in objects, and pieces beside the largest"
    add("--raw-masks", dest="clean", action="store_false", help=help_)
    help_ = "largest share of an object that better ones may cover; above it, it is left out as a "
    help_ += "second detection (default: %(default)s)"
    add("--max-covered", type=float, default=defaults.max_covered, metavar="SHARE", help=help_)
    help_ = "resize images by this factor, if their objects are larger or smaller than those of "
    help_ += (
        "the training: 0.5 for objects of twice the size; or auto, by the size of what is found "
    )
    help_ += "(default: pixel size of the image / that of the model, where both are known, else 1)"
    add("--scale", type=_scale, metavar="F", help=help_)


def _scale(text: str) -> float | str:
    try:
        return AUTO if text == AUTO else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number. Give one, or auto.") from None


def _add_reading(group) -> None:
    add, defaults = group.add_argument, ReadOptions()
    add("--recursive", "-r", action="store_true", help="search the folders below a folder too")
    help_ = (
        "which channels the model sees, by number from 0 or by name such as DAPI: one, or three "
    )
    help_ += "as red, green and blue; all are measured"
    add("--channels", nargs="+", metavar="C", help=help_)
    help_ = "which planes, from 0; all, each as an image; or max, their maximum (default: all)"
    add("--planes", nargs="+", default=["all"], metavar="Z", help=help_)
    help_ = "the axis that planes are along: a letter such as Z or T, or its number"
    add("--plane-axis", metavar="AXIS", help=help_)
    add("--channel-axis", metavar="AXIS", help="the same for channels")
    help_ = "which image of a file that has several, from 0 (default: %(default)s)"
    add("--series", type=int, default=defaults.series, metavar="N", help=help_)
    help_ = "refuse larger images that cannot be read by parts (default: %(default)s)"
    add("--max-pixels", type=int, default=defaults.max_pixels, metavar="N", help=help_)


def _add_running(group) -> None:
    add, defaults = group.add_argument, PredictionOptions()
    help_ = "config of the training (default: that in FILE, or config.yaml beside it)"
    add("--config-file", metavar="YAML", help=help_)
    help_ = "KEY VALUE pairs that change the config; stand last"
    add("--opts", nargs=argparse.REMAINDER, default=[], help=help_)
    help_ = "prune a network with a U-Net's decoder to its level L_K: 1 is fastest (default: whole)"
    add("--level", type=int, metavar="K", help=help_)
    add_trust_argument(group)
    help_ = "cpu, cuda, cuda:1, ... (default: the first GPU, or the CPU without one)"
    add("--device", help=help_)
    help_ = "fp32; or bf16 or int8, faster on some devices, with slightly other results (default: "
    help_ += "auto, bf16 on CPUs with AMX, else fp32)"
    add("--precision", default=defaults.precision, metavar="P", help=help_)
    help_ = "test-time augmentation: see each image flipped and turned, and take the mean; eight "
    help_ += "times as slow"
    add("--tta", action="store_true", help=help_)
    help_ = "images or tiles at once; more pay on a GPU only (default: %(default)s)"
    add("--batch-size", type=int, default=defaults.batch_size, metavar="N", help=help_)
    help_ = "larger images are cut into tiles of this side in pixels (default: %(default)s)"
    add("--tile-size", type=int, default=defaults.tile_size, metavar="N", help=help_)
    help_ = (
        "work on several processes or machines by Dask: local, local:4, slurm:4, or the address "
    )
    help_ += "of a scheduler such as tcp://10.0.0.1:8786 (default: in this process)"
    add("--dask", metavar="WHERE", help=help_)
    help_ = (
        "pixels that tiles share; no less than an object's size (default: by the model's scale, "
    )
    help_ += "128 with nuclei)"
    add("--tile-overlap", type=int, metavar="N", help=help_)


def main(argv=None) -> int:
    args = parse_args(argv)
    if args.level is not None:
        args.opts += ["TEST.PRUNE_TO_LEVEL", str(args.level)]
    console = logging.StreamHandler()
    console.setFormatter(PrintableFormatter("%(levelname)s: %(message)s"))
    logging.basicConfig(handlers=[console], level=logging.INFO)
    warnings.filterwarnings("ignore", "torch.meshgrid: in an upcoming release", UserWarning)
    logging.captureWarnings(True)
    former = signal.signal(signal.SIGTERM, interrupt)
    try:
        with logging_redirect_tqdm():
            return predict(args)
    except KeyboardInterrupt:
        without = ", without --overwrite," if args.overwrite else ""
        print(
            f"Stopped. Give the same command again{without} to go on: what is done stays.",
            file=sys.stderr,
        )
        return INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, former)
        logging.captureWarnings(False)


def predict(args: argparse.Namespace) -> int:
    cfg = checkpoints.config_of(args.weights, args.config_file, args.opts)
    if cfg.MODEL.META_ARCHITECTURE == "VolumeSegmentor":
        return predict_volumes(args, len(cfg.MODEL.PIXEL_MEAN))
    options = {
        "outputs": _outputs(args.outputs),
        "read_options": _read_options(args),
        "pixel_size": _pixel_size(args.pixel_size),
        "weights": checkpoints.identify_model(args.weights, args.config_file, args.opts),
    }
    looking = {field.name: getattr(args, field.name) for field in fields(PredictionOptions)}
    load = functools.partial(
        prediction.Predictor.from_checkpoint,
        _absolute(args.weights),
        **_opening(args),
        options=PredictionOptions(**looking),
    )
    with _units(args.dask, load) as run_units:
        result = predict_files(
            load(),
            args.inputs,
            args.output,
            link=args.link,
            recursive=args.recursive,
            overwrite=args.overwrite,
            progress=sys.stderr,
            run_units=run_units,
            **options,
        )
    return _report(result)


@contextlib.contextmanager
def _units(where: str | None, load: Callable) -> Iterator[Callable]:
    """Yield who does the work."""
    if where is None:
        yield run_here
        return
    from ..batch.dask_units import DaskUnits, open_client

    with open_client(where) as client:
        yield DaskUnits(client, load)


def predict_volumes(args: argparse.Namespace, channels: int) -> int:
    """Label scans of so many channels, each an input; return the exit status."""
    predictor = prediction.VolumePredictor.from_checkpoint(args.weights, **_opening(args))
    result = batch.predict_scans(
        predictor,
        args.inputs,
        args.output,
        channels=channels,
        object_distance=args.object_distance,
        overwrite=args.overwrite,
        weights=checkpoints.identify_model(args.weights, args.config_file, args.opts),
        progress=sys.stderr,
    )
    return _report(result)


def _opening(args: argparse.Namespace) -> dict:
    """How the trained model is opened, see :func:`.open_trained_model`."""
    return {
        "config_file": _absolute(args.config_file),
        "config_opts": args.opts,
        "device": args.device,
        "trust_pickle": args.trust_pickle,
    }


def _absolute(path: str | None) -> str | None:
    """Return a path as a worker elsewhere finds it; a name of the model zoo stays."""
    return os.path.abspath(path) if path and os.path.exists(path) else path


def _report(result: RunSummary) -> int:
    """Print what a run did, and return the exit status."""
    text = f"{counted(result.predicted, 'image')} with {counted(result.objects, 'object')}"
    text += f" in {result.seconds:.0f} s"
    if result.skipped:
        text += f", {counted(result.skipped, 'file')} done before"
    print(f"{text}: {printable(str(result.output))}")
    if result.not_read:
        print(count_not_read(result.not_read), file=sys.stderr)
    if result.failed:
        print(f"{counted(len(result.failed), 'image')} failed:", file=sys.stderr)
        for record in result.failed[:_MOST_NAMED]:
            print(f"  {printable(_describe_failure(record))}", file=sys.stderr)
        if len(result.failed) > _MOST_NAMED:
            print(f"  and others, see {result.output / 'summary.csv'}", file=sys.stderr)
    return 1 if result.failed else 0


def _describe_failure(record: ImageRecord) -> str:
    """Return the image and its error, most of which begin with the path."""
    if re.match(re.escape(record.source) + r"(\[[^\]]*\])?: ", record.error):
        return record.error
    return f"{record.source}{record.plane}: {record.error}"


def _words(texts: list[str]) -> list[str]:
    """Take 0,1,2 and 0 1 2 for the same."""
    return [word for text in texts for word in text.split(",") if word]


def _outputs(texts: list[str]) -> list[str]:
    names = _words(texts)
    if "all" in names:
        return [name for name, output in OUTPUTS.items() if output.is_available]
    what = "--outputs (INPUTs stand before it)"
    return list(dict.fromkeys(look_up_option(name, [*OUTPUTS, "all"], what) for name in names))


def _read_options(args: argparse.Namespace) -> ReadOptions:
    planes = _words(args.planes)
    if planes in (["all"], ["max"]):
        (planes,) = planes
    else:
        planes = tuple(dict.fromkeys(_numbers("--planes", planes, int)))
    channels = None if args.channels is None else tuple(map(_axis, _words(args.channels)))
    for path in filter(os.path.exists, map(str, channels or ())):
        raise UserError(f"--channels takes numbers or names, not '{path}'. INPUTs stand before it.")
    return ReadOptions(
        channels=channels,
        channel_axis=_axis(args.channel_axis),
        plane_axis=_axis(args.plane_axis),
        planes=planes,
        series=args.series,
        max_pixels=args.max_pixels,
    )


def _pixel_size(texts: list[str] | None) -> tuple[float, float] | None:
    """Return (y, x)."""
    if texts is None:
        return None
    sizes = _numbers("--pixel-size", texts, float)
    if len(sizes) not in (1, 2):
        raise UserError(f"--pixel-size takes one or two numbers, width and height, not {sizes}.")
    return sizes[-1], sizes[0]


def _axis(text: str | None) -> int | str | None:
    return int(text) if text and text.lstrip("-").isdecimal() else text


def _numbers(option: str, texts: list[str], kind: type) -> tuple:
    try:
        return tuple(kind(word) for word in _words(texts))
    except ValueError:
        raise UserError(
            f"{option} takes numbers, not '{' '.join(texts)}'. INPUTs stand before it."
        ) from None
