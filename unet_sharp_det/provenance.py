"""What a result was made with: the state of the code, and the versions of the packages."""

import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path

from . import __version__

_REPOSITORY = Path(__file__).parents[1]
_PACKAGES = (
    *("torch", "torchvision", "timm", "numpy", "scipy", "pycocotools", "faster-coco-eval"),
    *("opencv-python-headless", "scikit-image", "tifffile", "SimpleITK"),
)


def git_state(folder=_REPOSITORY) -> dict:
    """The commit of a checkout, by default this package's, and whether tracked files differed.

    Returns:
        dict: ``{"revision": 40 digits, "dirty": bool}``, both None where neither is known; of a
        copy of a checkout what the environment variable GIT_STATE says, as JSON.
    """
    if "GIT_STATE" in os.environ:
        return json.loads(os.environ["GIT_STATE"])
    if not (Path(folder) / ".git").exists():  # installed, perhaps below another checkout
        return {"revision": None, "dirty": None}
    revision = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"revision": revision, "dirty": None if changes is None else bool(changes)}


def _git(folder, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def versions() -> dict[str, str]:
    """Return the versions of this package, Python, the platform, and what numbers depend on."""
    import detectron2

    found = {
        "unet_sharp_det": __version__,
        "detectron2": detectron2.__version__,
        "Python": platform.python_version(),
        "platform": f"{platform.system()} {platform.release()}, {platform.machine()}",
    }
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
