#!/usr/bin/env python
"""Pack what a GPU host without network lacks for this checkout into one file: packages and DSB2018.

    python benchmarks/gpu/build.py --data /data/dsb2018         here, in the project's environment
    python3 benchmarks/gpu/run.py bundle.zip --minutes 9        there, in a copy of the checkout

Packages are those of requirements/lock.txt that the host lacks, for its Python on Linux x86-64; the
ImageNet weights of EfficientNet-Lite0 are one of them. --have names what the host has; what these
packages need counts as there, too. Images become lossless WebP.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import cv2
import numpy as np
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from unet_sharp_det.data.dsb2018_convert import convert_dsb2018
from unet_sharp_det.errors import UserError, run_cli
from unet_sharp_det.files import atomic_path
from unet_sharp_det.images.decoding import read_image
from unet_sharp_det.provenance import git_state

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "requirements"
HAVE = "torch,torchvision,timm,opencv-python-headless,scipy,scikit-image,tensorboard,tifffile"
HAVE += ",matplotlib,pytest,setuptools,pip"
#: What neither training, evaluation nor prediction imports, but for some TIFFs.
WITHOUT = "imagecodecs"
#: Without compiled parts, but on the index as source only.
SOURCE = {"antlr4-python3-runtime", "fvcore", "iopath"}
#: glibc 2.28 (RHEL 8, Debian 10) or newer. pip takes no wheel for an older one unless it is named.
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in range(28, 4, -1)]
PLATFORMS += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"]
#: Of detectron2's wheel: compiled for another torch, and not its own (tools/setup_env.sh).
STRAY = ("detectron2/_C*.so", "tools", "bin")


def main() -> int:
    args = parse_args()
    with TemporaryDirectory() as folder:
        site = Path(folder, "site")
        names = missing_packages(args.python, read_names(args.have), read_names(args.without))
        install(site, names, args.python)
        data = converted(args.data, Path(folder, "dsb2018"))
        with atomic_path(args.output) as path, ZipFile(path, "w", ZIP_DEFLATED) as archive:
            archive.writestr("git.json", json.dumps(git_state(ROOT)))
            add_folder(archive, site, "site")
            add_folder(archive, data / "annotations", "data/dsb2018/annotations")
            add_images(archive, data / "images")
        print_sizes(args.output)
    return 0


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, help="DSB2018: converted, Kaggle's folder or archive")
    add("--python", default="3.12", metavar="X.Y", help="the host's (default: %(default)s)")
    have = "what it has: names by commas, or a file of 'pip list --format=freeze' there"
    add("--have", default=HAVE, metavar="NAMES", help=f"{have} (default: %(default)s)")
    add("--without", default=WITHOUT, metavar="NAMES", help="left out (default: %(default)s)")
    add("--output", type=Path, default=Path("bundle.zip"), help="default: %(default)s")
    return parser.parse_args()


def read_names(text: str) -> set[str]:
    """Names of packages: by commas, or a file of ``pip list --format=freeze``."""
    if Path(text).is_file():
        text = Path(text).read_text()
    return {canonicalize_name(name) for name in re.findall(r"(?m)(?:^|,)([\w.-]+)", text)}


def missing_packages(python: str, have: set[str], without: set[str]) -> set[str]:
    """The packages that the project needs and the host lacks."""
    environment = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}
    stated = needs_of("unet_sharp_det", environment) | {"pytest"}
    there = closure(have, environment)
    return closure(stated - without, environment, there | without)


def closure(names, environment: dict[str, str], ends=frozenset()) -> set[str]:
    """Some packages with all that they need, but for ``ends`` and what only these need."""
    found, waiting = set(), list(names)
    while waiting:
        name = waiting.pop()
        if name not in found and name not in ends:
            found.add(name)
            waiting += needs_of(name, environment)
    return found


def needs_of(name: str, environment: dict[str, str]) -> set[str]:
    """What a package needs, as far as it is installed here."""
    try:
        needs = [Requirement(text) for text in metadata.requires(name) or ()]
    except metadata.PackageNotFoundError:
        return set()
    return {
        canonicalize_name(need.name)
        for need in needs
        if not need.marker or need.marker.evaluate(environment)
    }


def install(site: Path, names: set[str], python: str) -> None:
    """Let pip install packages of the lock file, and detectron2, for another Python."""
    binary = ["--only-binary=:all:", "--implementation=cp", f"--python-version={python}"]
    binary += [f"--platform={platform}" for platform in PLATFORMS]
    pip_install(site, locked(names - SOURCE, python), binary)
    pip_install(site, locked(names & SOURCE, python), ["--no-build-isolation"])
    detectron2 = (REQUIREMENTS / "detectron2.txt").read_text()
    pip_install(site, detectron2, ["--only-binary=:all:", "--python-version=3.10"])
    for pattern in STRAY:
        for path in site.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def locked(names: set[str], python: str) -> str:
    """The entries of some packages in the lock file, with their hashes."""
    entries = re.findall(r"(?m)^\S+==.*(?:\n +--hash.*)*", (REQUIREMENTS / "lock.txt").read_text())
    environment = {"python_version": python, "python_full_version": f"{python}.0"}
    kept = {}
    for entry in entries:
        requirement = Requirement(entry.partition("\\")[0])
        name = canonicalize_name(requirement.name)
        if name in names and (not requirement.marker or requirement.marker.evaluate(environment)):
            kept[name] = f"{name}{requirement.specifier} \\\n" + entry.partition("\\\n")[2]
    if missing := sorted(names - set(kept)):
        raise UserError(f"requirements/lock.txt lacks {', '.join(missing)}. Run: make lock")
    return "\n".join(kept.values())


def pip_install(site: Path, requirements: str, options: list[str]) -> None:
    if not requirements:
        return
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
    command += ["--disable-pip-version-check", "--require-hashes", "--upgrade"]
    with TemporaryDirectory() as folder:
        listed = Path(folder, "requirements.txt")
        listed.write_text(requirements)
        command += [f"--target={site}", *options, "-r", str(listed)]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"pip failed: {done.stderr.strip()[-800:]}\nIs the index reachable?")


def converted(source: Path, folder: Path) -> Path:
    if (source / "annotations" / "dsb2018_train.json").is_file():
        return source
    convert_dsb2018(source, folder)
    return folder


def add_folder(archive: ZipFile, folder: Path, name: str) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            archive.write(path, f"{name}/{path.relative_to(folder)}")


def add_images(archive: ZipFile, folder: Path) -> None:
    paths = sorted(folder.iterdir())
    with ThreadPoolExecutor() as pool:
        for path, packed in zip(paths, pool.map(pack_image, paths), strict=True):
            name = f"data/dsb2018/images/{path.stem}.webp"
            archive.writestr(name, packed, ZIP_STORED)


def pack_image(path: Path) -> bytes:
    """What training reads of an image, as WebP.

    Raises:
        UserError: the WebP is not the same.
    """
    pixels = np.ascontiguousarray(read_image(str(path), "BGR"))
    packed = cv2.imencode(".webp", pixels, [cv2.IMWRITE_WEBP_QUALITY, 101])[1]
    if not np.array_equal(cv2.imdecode(packed, cv2.IMREAD_COLOR), pixels):
        raise UserError(f"{path}: is not the same as WebP. Leave it out of the data.")
    return packed.tobytes()


def print_sizes(path: Path) -> None:
    sizes = Counter({"in all": path.stat().st_size})
    with ZipFile(path) as archive:
        for entry in archive.infolist():
            sizes[entry.filename.split("/")[0]] += entry.compress_size
    for part, size in sizes.most_common():
        print(f"{size / 2**20:7.1f} MiB  {part}")
    print(f"written to {path}")


if __name__ == "__main__":
    run_cli(main)
