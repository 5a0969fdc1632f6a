"""The command unet-sharp-det: what it knows, and that asking for help costs nothing."""

import subprocess
import sys

import pytest

from unet_sharp_det import __version__
from unet_sharp_det.cli import COMMANDS

HEAVY = ("torch", "detectron2", "scipy", "skimage", "matplotlib", "fastapi", "timm")


def run(*arguments):
    command = [sys.executable, "-m", "unet_sharp_det", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_help_names_the_commands():
    done = run("--help")
    assert done.returncode == 0
    assert all(f"  {name} " in done.stdout for name in COMMANDS)
    assert run().stdout == done.stdout


def test_version():
    assert run("--version").stdout.strip() == __version__


def test_an_unknown_command_names_the_nearest():
    done = run("predcit")
    assert done.returncode == 2
    assert "Did you mean 'predict'" in done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_imports_nothing_heavy(name):
    code = f"""
import sys
from unet_sharp_det.cli import main
sys.argv = ["unet-sharp-det", {name!r}, "--help"]
try:
    main()
except SystemExit as stop:
    assert stop.code == 0
print("HEAVY", *[module for module in {HEAVY!r} if module in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"usage: unet-sharp-det {name}" in done.stdout
    assert done.stdout.splitlines()[-1] == "HEAVY"


def test_images_need_no_package_of_volumes():
    code = """
import sys
sys.modules["SimpleITK"] = sys.modules["monai"] = None
from unet_sharp_det import batch, cli, evaluation, export, prediction, report, training
found = (batch.predict_files, evaluation.SemanticEvaluator, export.export_model,
         prediction.Predictor, report.write_report, training.NucleiTrainer)
from unet_sharp_det.cli import predict
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_missing_package_is_named_with_what_installs_it():
    code = """
import sys
sys.modules["detectron2"] = None
sys.argv = ["unet-sharp-det", "train", "--config-file", "none.yaml"]
from unet_sharp_det.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "The package detectron2 is missing" in done.stderr
    assert "tools/setup_env.sh --detectron2-only" in done.stderr
