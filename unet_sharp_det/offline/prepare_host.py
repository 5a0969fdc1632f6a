"""On the machine without network: checks it, and unpacks the bundle's packages and data once.

    python prepare_host.py BUNDLE STATE

It runs before there is any package, so it imports the standard library only, until the bundle's
wheels are unpacked to STATE/site. What is done is marked, so the next run begins at once.
"""

import contextlib
import fcntl
import hashlib
import importlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import sys
import zipfile
from pathlib import Path

_NOT_MODULES = {"benchmarks", "docs", "examples", "setup", "test", "tests"}


class HostError(Exception):
    """This machine or the bundle is not what it should be; the message says what and the fix."""


def main() -> int:
    bundle, state = Path(sys.argv[1]), Path(sys.argv[2])
    try:
        prepare(bundle, state)
    except HostError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f"error: {error.filename or state}: {error.strerror}. Let BUNDLE_STATE name a folder "
            "that can be written to and has room.",
            file=sys.stderr,
        )
        return 2
    return 0


def prepare(bundle: Path, state: Path) -> None:
    """Make ``state/site`` and ``state/data`` of a bundle, or leave them if they are its already.

    Raises:
        HostError: the wrong Python or platform, a package that should be there is not, is too old
            or cannot be imported, or a file of the bundle is damaged.
    """
    manifest = read_manifest(bundle / "manifest.json")
    check_python(manifest["python"])
    versions = installed_versions(manifest["have"])
    state.mkdir(parents=True, exist_ok=True)
    with _locked(state / "lock"):
        site, data = state / "site", state / "data" / "dsb2018"
        _once("site", site, manifest["wheels"], lambda: unpack_wheels(bundle, manifest, state))
        sys.path[:0] = [str(bundle / "project"), str(site)]
        check_versions(manifest["have"], versions)
        _once("imports", site, [manifest, sys.executable, versions], lambda: _import(versions))
        if manifest["data"]:
            _once("data", data, manifest["data"], lambda: _unpack_data(bundle, manifest, data))


def read_manifest(path: Path) -> dict:
    """Read ``manifest.json``, or raise if it is missing or cut off."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError) as error:
        state = "missing" if isinstance(error, FileNotFoundError) else "damaged"
        raise HostError(f"{path}: is {state}. Copy the bundle again, or make it anew.") from error


def check_python(wanted: str) -> None:
    """Raise unless this is the Python and the platform that the wheels were chosen for."""
    here = "{}.{}".format(*sys.version_info)
    if here != wanted:
        raise HostError(
            f"{sys.executable} is Python {here}, the bundle was made for {wanted}. Name another "
            f"(PYTHON=/path/to/python{wanted}), or make a bundle with --python {here}."
        )
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise HostError(
            f"the bundle is for Linux on x86_64, this is {platform.system()} on "
            f"{platform.machine()}, for which there are no bundles."
        )


def installed_versions(have: dict[str, list[str]]) -> dict[str, str]:
    """Return the versions of the packages that ``--have`` named, or raise if one is not there."""
    versions = {}
    for name in have:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            raise HostError(
                f"{name}: not installed for {sys.executable}, but the bundle was made with --have "
                f"{name} and so does not hold it. Name a Python that has it (PYTHON=...), or make "
                "the bundle without that name."
            ) from None
    return versions


def unpack_wheels(bundle: Path, manifest: dict, state: Path) -> None:
    """Unpack the bundle's wheels to ``state/site``, each checked against its SHA-256."""
    incoming = state / ".incoming-site"
    shutil.rmtree(incoming, ignore_errors=True)
    incoming.mkdir()
    for name, digest in manifest["wheels"].items():
        wheel = bundle / "wheels" / name
        _check_file(wheel, digest)
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(incoming)
    for data in incoming.glob("*.data"):
        for part in ("purelib", "platlib"):
            if (data / part).is_dir():
                shutil.copytree(data / part, incoming, dirs_exist_ok=True)
        shutil.rmtree(data)
    shutil.rmtree(state / "site", ignore_errors=True)
    os.rename(incoming, state / "site")


def check_versions(have: dict[str, list[str]], versions: dict[str, str]) -> None:
    """Raise if a package of the host is outside of what the project or a wheel asks for."""
    from packaging.specifiers import SpecifierSet

    for name, specifiers in have.items():
        for specifier in specifiers:
            if not SpecifierSet(specifier).contains(versions[name], prereleases=True):
                raise HostError(
                    f"{name}: version {versions[name]} of {sys.executable} does not do, "
                    f"{specifier} is needed. Update it there, name another Python (PYTHON=...), "
                    f"or make the bundle without {name} in --have."
                )


def _import(versions: dict[str, str]) -> None:
    modules = importlib.metadata.packages_distributions()
    for module, owners in modules.items():
        names = {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners}
        found = names.intersection(versions)
        if found and module.isidentifier() and not module.startswith("_"):
            if module not in _NOT_MODULES:
                _import_module(module, min(found))


def _import_module(module: str, name: str) -> None:
    try:
        importlib.import_module(module)
    except Exception as error:  # Whatever a broken package raises.
        raise HostError(
            f"{name}: is installed for {sys.executable}, but 'import {module}' fails "
            f"({type(error).__name__}: {error}). Mend it, name another Python (PYTHON=...), or "
            f"make the bundle without {name} in --have."
        ) from error


def _unpack_data(bundle: Path, manifest: dict, folder: Path) -> None:
    packed = bundle / "data" / manifest["data"]["file"]
    _check_file(packed, manifest["data"]["sha256"])
    try:
        from unet_sharp_det.errors import UserError
        from unet_sharp_det.offline.packed_data import unpack_dsb2018
    except ImportError as error:
        raise HostError(
            f"the project cannot be imported ({error}). Make the bundle anew; if a package of the "
            "target is at fault, without its name in --have."
        ) from error
    print(f"unpacking {packed.name}", flush=True)
    try:
        unpack_dsb2018(packed, folder)
    except UserError as error:
        raise HostError(str(error)) from error


def _check_file(path: Path, digest: str) -> None:
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
        state = "damaged" if path.is_file() else "missing"
        raise HostError(f"{path}: is {state}. Copy the bundle again, or make it anew.")


def _once(name: str, product: Path, content, work) -> None:
    """Do ``work`` unless a mark beside ``product`` says that it was done for this content."""
    mark = product.with_name(f".{name}.done")
    mark.parent.mkdir(exist_ok=True)
    wanted = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    if product.exists() and mark.exists() and mark.read_text() == wanted:
        return
    mark.unlink(missing_ok=True)
    work()
    mark.write_text(wanted)


@contextlib.contextmanager
def _locked(path: Path):
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    sys.exit(main())
