"""The versions that results were made with."""

import importlib.metadata
import platform
from collections.abc import Iterable

import detectron2

from unet_sharp_det import __version__


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of this package, detectron2, Python, the platform and ``packages``."""
    found = {
        "unet_sharp_det": __version__,
        "detectron2": detectron2.__version__,
        "Python": platform.python_version(),
        "platform": f"{platform.system()} {platform.release()}, {platform.machine()}",
    }
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
