"""The wheels of pinned packages for another machine, fetched or built by pip."""

import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from email.parser import Parser
from pathlib import Path
from tempfile import TemporaryDirectory

from packaging.requirements import Requirement

from unet_sharp_det.errors import UserError

from .requirements_graph import Pin

#: Packages that come as source, without compiled parts: what tools/setup_env.sh builds, too.
SOURCE_PACKAGES = ("antlr4-python3-runtime", "fvcore", "iopath")
#: The oldest glibc of a target is that of RHEL 8, Debian 10 and Ubuntu 18.10. pip takes no platform
#: for an older one, so each is named.
_PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in range(28, 4, -1)] + [
    "manylinux2014_x86_64",
    "manylinux2010_x86_64",
    "manylinux1_x86_64",
    "linux_x86_64",
]
_DETECTRON2_PYTHON = "3.10"
#: What tools/setup_env.sh deletes of detectron2's wheel: a part compiled for another torch, and a
#: package "tools" that is not detectron2's.
_STRAY = re.compile(r"^(tools/|detectron2/_C[^/]*\.so$)")
_EPOCH = (1980, 1, 1, 0, 0, 0)


def fetch_wheels(pins: Iterable[Pin], python: str, folder) -> None:
    """Put the wheels of the pins into a folder, each checked against its hashes.

    Args:
        pins: packages of one version each.
        python: the target's, "3.12"; its platform is Linux on x86-64 with glibc 2.28 or newer.
        folder: an existing one.

    Raises:
        UserError: pip fails: no network, no wheel for the target, or another hash.
    """
    pins = list(pins)
    source = [pin for pin in pins if pin.name in SOURCE_PACKAGES]
    binary = [pin for pin in pins if pin.name not in SOURCE_PACKAGES]
    target = ["--python-version", python, "--implementation", "cp"]
    for platform in _PLATFORMS:
        target += ["--platform", platform]
    if binary:
        _download([pin.requirement for pin in binary], target, folder)
    if source:
        _build([pin.requirement for pin in source], folder)


def fetch_detectron2(requirement_file, folder) -> None:
    """Put detectron2's pure Python part into a folder, as a wheel for any Python 3.

    Args:
        requirement_file: requirements/detectron2.txt, which says why it's changed.
        folder: an existing one.

    Raises:
        UserError: pip fails.
    """
    with TemporaryDirectory(prefix="unet_sharp_det-") as temporary:
        requirements = Path(requirement_file).read_text(encoding="utf-8").splitlines()
        _download(requirements, ["--python-version", _DETECTRON2_PYTHON], temporary)
        for wheel in Path(temporary).glob("*.whl"):
            name, version = wheel.name.split("-")[:2]
            repack_pure(wheel, Path(folder) / f"{name}-{version}-py3-none-any.whl")


def repack_pure(source, target) -> None:
    """Write detectron2's wheel anew, for any Python 3.

    Its compiled part and its strays are left out, and its dependencies, which exclude numpy 2:
    setup.py states what it needs.

    Args:
        source: the wheel.
        target: the wheel to write; the same source gives the same bytes.
    """
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in sorted(old.namelist()):
            if not _STRAY.match(name) and not name.endswith("/"):
                member = zipfile.ZipInfo(name, _EPOCH)
                content = _mended(name, old.read(name))
                new.writestr(member, content, zipfile.ZIP_DEFLATED, compresslevel=9)


def _mended(name: str, content: bytes) -> bytes:
    if name.endswith(".dist-info/WHEEL"):
        return re.sub(rb"(?m)^Tag: .*$", b"Tag: py3-none-any", content)
    if name.endswith(".dist-info/METADATA"):
        return re.sub(rb"(?m)^Requires-Dist: .*\r?\n", b"", content)
    if name.endswith(".dist-info/RECORD"):
        lines = content.decode().splitlines(keepends=True)
        kept = "".join(line for line in lines if not _STRAY.match(line.split(",")[0]))
        # A RECORD may leave hash and size open, as it must for the two files changed above.
        return re.sub(r"(\.dist-info/(?:WHEEL|METADATA)),[^\r\n]*", r"\1,,", kept).encode()
    return content


def wheel_requirements(wheel, environment: dict[str, str]) -> list[Requirement]:
    """Return what a wheel's metadata says that it needs in an environment, extras not counted."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode("utf-8"), headersonly=True)
    stated = [Requirement(text) for text in metadata.get_all("Requires-Dist") or []]
    return [r for r in stated if not r.marker or r.marker.evaluate(environment)]


def _download(requirements: list[str], target: list[str], folder) -> None:
    options = ["--no-deps", "--only-binary=:all:", *target]
    _run_pip("download", requirements, [*options, "--dest", str(folder)])


def _build(requirements: list[str], folder) -> None:
    with TemporaryDirectory(prefix="unet_sharp_det-") as temporary:
        names = ",".join(SOURCE_PACKAGES)
        options = ["--no-deps", "--no-build-isolation", f"--no-binary={names}"]
        _run_pip("wheel", requirements, [*options, "--wheel-dir", temporary])
        for wheel in Path(temporary).glob("*.whl"):
            if not wheel.name.endswith("-none-any.whl"):
                raise UserError(
                    f"{wheel.name}: is not pure Python, so it would not run on the target. Take it "
                    "out of SOURCE_PACKAGES in unet_sharp_det/offline/wheelhouse.py."
                )
            wheel.replace(Path(folder) / wheel.name)


def _run_pip(command: str, requirements: list[str], options: list[str]) -> None:
    with TemporaryDirectory(prefix="unet_sharp_det-") as temporary:
        listed = Path(temporary) / "requirements.txt"
        listed.write_text("\n".join(requirements) + "\n", encoding="utf-8")
        pip = [sys.executable, "-m", "pip", command, "--quiet", "--disable-pip-version-check"]
        arguments = [*pip, "--require-hashes", *options, "-r", str(listed)]
        result = subprocess.run(arguments, capture_output=True, text=True)
    if result.returncode:
        lines = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
        raise UserError(
            f"pip {command} failed: {' '.join(lines[-3:]) or result.stderr.strip()[-500:]} Is the "
            "package index reachable, and are there wheels for that Python (--python)? Packages "
            "that the target has already can be left out by --have."
        )
