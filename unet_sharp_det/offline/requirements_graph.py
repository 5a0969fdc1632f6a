"""Which pinned packages a machine needs, given what it has.

The graph is that of ``requirements/lock.txt``: uv writes beneath each pin by whom it is needed.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from unet_sharp_det.errors import UserError, look_up_option

OLDEST_PYTHON = (3, 10)


@dataclass(frozen=True)
class Pin:
    """A package of the lock file.

    Attributes:
        name: normalised (lower case, hyphens).
        version: the pinned one.
        marker: where the pin holds (PEP 508); "" everywhere.
        hashes: as pip takes them, ``sha256:...``, one per file of the package.
        needed_by: the normalised names of the packages that need it, without requirement files.
    """

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]
    needed_by: tuple[str, ...]

    @property
    def requirement(self) -> str:
        """The line of a requirements file that holds it, without a marker."""
        return " ".join([f"{self.name}=={self.version}", *(f"--hash={h}" for h in self.hashes)])


def marker_environment(python: str) -> dict[str, str]:
    """Return the values of PEP 508's markers for CPython on 64-bit Linux (x86-64).

    Args:
        python: "3.12", without a patch level.

    Raises:
        UserError: it is no such number, or older than the project runs on.
    """
    match = re.fullmatch(r"(\d+)\.(\d+)", python)
    if not match or tuple(map(int, match.groups())) < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        raise UserError(
            f"--python: '{python}' is no Python that the project runs on. Give the target's major "
            f"and minor number, {oldest} or newer, as 'python3 --version' prints them there: 3.12."
        )
    return {
        "implementation_name": "cpython",
        "implementation_version": f"{python}.0",
        "os_name": "posix",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux",
        "extra": "",
    }


def read_lock(path, environment: dict[str, str]) -> dict[str, Pin]:
    """Return the pins of a lock file of ``uv pip compile --generate-hashes`` that hold there.

    Args:
        path: the lock file.
        environment: of :func:`marker_environment`.

    Returns:
        by normalised name.

    Raises:
        UserError: the file cannot be read, or holds no pin.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}). Run this from a checkout."
        ) from error
    blocks = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)
    pins = [_read_pin(block) for block in blocks if "==" in block.split("\n")[0]]
    if not pins:
        raise UserError(f"{path}: holds no pinned package. Make it anew: make lock.")
    return {
        pin.name: pin for pin in pins if not pin.marker or Marker(pin.marker).evaluate(environment)
    }


def _read_pin(block: str) -> Pin:
    line = block.split("\n")[0].rstrip("\\ ")
    pinned, _, marker = (part.strip() for part in line.partition(";"))
    name, version = pinned.split("==")
    comments = re.findall(r"^    #(?: via| ) +(\S.*)$", block, flags=re.MULTILINE)
    return Pin(
        name=canonicalize_name(name),
        version=version,
        marker=marker,
        hashes=tuple(re.findall(r"--hash=(\S+)", block)),
        needed_by=tuple(canonicalize_name(c) for c in comments if not c.startswith("-r ")),
    )


def needed(pins: dict[str, Pin], roots: Iterable[str], left_out: Collection[str]) -> set[str]:
    """Return the packages that the roots need, without some and what only those need.

    Args:
        pins: of :func:`read_lock`.
        roots: normalised names; those without a pin hold nowhere in this environment.
        left_out: normalised names that the search does not pass.
    """
    needs = defaultdict(list)
    for pin in pins.values():
        for name in pin.needed_by:
            needs[name].append(pin.name)
    found, waiting = set(), list(roots)
    while waiting:
        name = waiting.pop()
        if name not in found and name not in left_out and name in pins:
            found.add(name)
            waiting += needs[name]
    return found


def boundary(pins: dict[str, Pin], roots: Iterable[str], found: set[str]) -> set[str]:
    """Return what ``found`` or the roots need directly, of what :func:`needed` left out."""
    reached = {pin.name for pin in pins.values() if found.intersection(pin.needed_by)}
    return (reached | set(roots).intersection(pins)) - found


def project_requirements(setup_file) -> tuple[list[Requirement], dict[str, list[Requirement]]]:
    """Return what setup.py states, read without running it.

    Args:
        setup_file: whose call of ``setup`` gives ``install_requires`` and ``extras_require`` as
            literals.

    Returns:
        the requirements, and those of each extra.
    """
    tree = ast.parse(Path(setup_file).read_text(encoding="utf-8"))
    stated = {
        node.arg: ast.literal_eval(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg in ("install_requires", "extras_require")
    }
    extras = {
        extra: [Requirement(text) for text in texts]
        for extra, texts in stated["extras_require"].items()
    }
    return [Requirement(text) for text in stated["install_requires"]], extras


def read_names(text: str, known: Collection[str]) -> set[str]:
    """Return the packages that ``--have`` names.

    Args:
        text: names separated by commas; ``@FILE`` stands for the packages of a file that holds
            the output of ``pip list`` or ``pip freeze``, of which unknown ones do not matter.
        known: the normalised names that can be meant.

    Raises:
        UserError: a name is not known, or a file cannot be read.
    """
    names = set()
    for part in filter(None, (part.strip() for part in text.split(","))):
        if part.startswith("@"):
            names |= _listed_names(part[1:]).intersection(known)
        else:
            names.add(look_up_option(canonicalize_name(part), sorted(known), "--have"))
    return names


def _listed_names(path: str) -> set[str]:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(
            f"--have @{path}: cannot be read ({error.strerror}). Write it on the target: "
            "python3 -m pip list --format=freeze > FILE"
        ) from error
    matches = (re.match(r"[A-Za-z0-9][\w.-]*", line) for line in lines)
    return {canonicalize_name(match.group()) for match in matches if match}
