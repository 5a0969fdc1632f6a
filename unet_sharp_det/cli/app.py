"""Open a web page on which trained models find and measure the objects of images.

unet-sharp-det app
unet-sharp-det app --weights output/model_best.pth

The page is served on this computer only, and nothing leaves it. Ctrl+C ends it. An image that takes
too long or too much memory is given up; it holds up no other.
"""

import argparse
import contextlib
import functools
import logging
import re
import signal
import threading
import warnings
from pathlib import Path

from .. import app, checkpoints, model_zoo, prediction
from ..errors import UserError, interrupt
from ..prediction.options import AUTO, LOWEST_SCORE, PredictionOptions
from . import add_trust_argument, command_parser

_END_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


def parse_args(argv=None) -> argparse.Namespace:
    parser = command_parser("app", __doc__)
    add = parser.add_argument
    help_ = (
        "trained model that the page offers first, .pth or .safetensors, or a name of the model "
        "zoo (default: nuclei); it offers the models of the zoo, too"
    )
    add("--weights", default="nuclei", metavar="F", help=help_)
    add("--config-file", metavar="F.yaml", help="of its training; default: beside the weights")
    add("--device", help="e.g. cpu or cuda:1; default: the first GPU, or the CPU")
    add("--host", default="127.0.0.1", help="address to serve at (default: this computer only)")
    add("--port", type=int, default=7860, help="default: 7860")
    add("--max-upload-mb", type=float, default=200, help="size of a file (default: 200)")
    help_ = "height x width of an image (default: %(default)s)"
    add("--max-pixels", type=int, default=100_000_000, help=help_)
    add_trust_argument(parser)
    return parser.parse_args(argv)


def check_args(args: argparse.Namespace) -> None:
    checks = {
        "--port": (0 <= args.port <= 65535, "from 0 (any that is free) to 65535"),
        "--max-upload-mb": (args.max_upload_mb > 0, "above 0"),
        "--max-pixels": (args.max_pixels > 0, "above 0"),
    }
    for name, (is_valid, range_) in checks.items():
        if not is_valid:
            value = getattr(args, name.strip("-").replace("-", "_"))
            raise UserError(f"{name} is {value}, but it must be {range_}.")


def offered_models(args: argparse.Namespace) -> dict[str, tuple]:
    """Return the weights and config file of each model by its name, that of ``--weights`` first."""
    zoo, own = model_zoo.names(), (args.weights, args.config_file)
    name = args.weights
    if name not in zoo:
        stem = re.sub(r"[^\w.-]+", "_", Path(name).stem).strip(".-") or "model"
        name = f"{stem}_own" if stem in zoo else stem
    return {name: own} | {each: (each, None) for each in zoo if each != name}


def describe_model(weights: str, config_file) -> "app.Model":
    cfg = checkpoints.config_of(weights, config_file)
    return app.Model(app.read_card(cfg), cfg.TEST.INSTANCES.SCORE_THRESHOLD)


def load_predictor(weights, config_file, device, trust_pickle: bool, options: PredictionOptions):
    configure_messages()
    return prediction.Predictor.from_checkpoint(
        weights,
        config_file=config_file,
        device=device,
        trust_pickle=trust_pickle,
        options=options,
    )


def configure_messages() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    warnings.filterwarnings("ignore", "torch.meshgrid: in an upcoming release", UserWarning)


def main(argv=None) -> int:
    args = parse_args(argv)
    check_args(args)
    configure_messages()
    options = PredictionOptions(score_threshold=LOWEST_SCORE, scale=AUTO)
    offered = offered_models(args)
    models = {name: describe_model(*files) for name, files in offered.items()}
    load = {
        name: functools.partial(load_predictor, *files, args.device, args.trust_pickle, options)
        for name, files in offered.items()
    }
    analyser = app.IsolatedAnalyser(app.Analyser(load, args.max_pixels))
    for number in _END_SIGNALS:  # as Ctrl+C does, so that the app's files vanish
        signal.signal(number, interrupt)
    page = app.serving(
        analyser,
        models,
        host=args.host,
        port=args.port,
        max_upload_mb=args.max_upload_mb,
    )
    with contextlib.suppress(KeyboardInterrupt), page as address, contextlib.closing(analyser):
        try:
            analyser.load(next(iter(models)))
            print(f"Open {address} in a browser. Ctrl+C ends the app.", flush=True)
            threading.Event().wait()
        finally:  # A second signal would interrupt the end.
            for number in (signal.SIGINT, *_END_SIGNALS):
                signal.signal(number, signal.SIG_IGN)
    return 0
