"""The command ``unet-sharp-det``: a module per subcommand, imported when it is asked for."""

import argparse
import keyword
import sys
from importlib import import_module

from .. import __version__
from ..errors import UserError, look_up_option, run_cli

COMMANDS = {
    "predict": "find the objects of images and write them to files",
    "app": "do so on a web page, for this computer only",
    "import": "make annotated images, or volumes, a data set",
    "fit": "train a model that fits such a data set",
    "train": "train a model by a config, or evaluate it",
    "evaluate": "judge the predictions of any tool",
    "report": "compare evaluated runs in one HTML file",
    "export": "write a trained model for other programs",
}
_EXTRAS = {
    **dict.fromkeys(("fastapi", "uvicorn", "markdown"), "app"),
    **dict.fromkeys(("onnx", "onnxruntime", "onnxscript"), "export"),
    **dict.fromkeys(("monai", "SimpleITK"), "volumes"),
    **dict.fromkeys(("segmentation_models_pytorch",), "rivals"),
    **dict.fromkeys(("distributed", "dask_jobqueue"), "dask"),
    **dict.fromkeys(("submitit",), "slurm"),
}


def main(command: str | None = None) -> None:
    """Run a subcommand, by default the first argument, and exit with its status."""
    arguments = sys.argv[1:]
    if command is None:
        command, *arguments = arguments or ["--help"]
    run_cli(lambda: _run(command, arguments))


def _run(command: str, arguments: list[str]) -> int:
    if command in ("-h", "--help"):
        print("usage: unet-sharp-det COMMAND ...\n")
        for name, meaning in COMMANDS.items():
            print(f"  {name:<10}{meaning}")
        print("\nunet-sharp-det COMMAND --help tells a command's options.")
        return 0
    if command == "--version":
        print(__version__)
        return 0
    look_up_option(command, COMMANDS, "Command")
    try:
        module = f"{command}_" if keyword.iskeyword(command) else command
        return import_module(f".{module}", __name__).main(arguments)
    except ModuleNotFoundError as error:
        raise UserError(_how_to_install(error.name or str(error))) from error


def _how_to_install(module: str) -> str:
    package = module.partition(".")[0]
    if package == "detectron2":
        how = "By its INSTALL.md, or from a checkout: bash tools/setup_env.sh --detectron2-only "
        return f"The package detectron2 is missing. {how}{sys.executable}"
    extra = _EXTRAS.get(package)
    what = f"'unet_sharp_det[{extra}]'" if extra else package
    return f"The package {package} is missing. Run: {sys.executable} -m pip install {what}"


def command_parser(name: str, description: str, **options) -> argparse.ArgumentParser:
    """Return the parser of a subcommand, whose description is its module's docstring."""
    return argparse.ArgumentParser(
        prog=f"unet-sharp-det {name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        **options,
    )


def add_trust_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--trust-pickle``: a flag and no key of the config, which may be a stranger's."""
    help_ = "run what the file of weights asks for when it is read: for files of your own only"
    parser.add_argument("--trust-pickle", action="store_true", help=help_)
