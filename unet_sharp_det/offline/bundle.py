"""The folder that is carried to a machine without network, and its size.

run.sh           runs an experiment there
manifest.json    the commit, for which Python, what the machine must have, hashes of what follows
project/         the package, tools and configs
wheels/          what the machine lacks
data/            DSB2018, packed
"""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Collection
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from unet_sharp_det.data.dsb2018_convert import convert_dsb2018
from unet_sharp_det.errors import DatasetError, UserError, look_up_option
from unet_sharp_det.files import atomic_folder, write_json
from unet_sharp_det.provenance import MANIFEST_FILE, git_state

from . import requirements_graph as graph
from .packed_data import pack_dsb2018
from .wheelhouse import fetch_detectron2, fetch_wheels, wheel_requirements

#: What neither training nor evaluating imports, by the extra that adds it.
OPTIONAL = {
    "figures": ("matplotlib",),
    "prediction": ("imagecodecs", "roifile", "scikit-image", "shapely", "tifffile"),
    "report": ("jinja2", "plotly"),
    "tensorboard-server": ("grpcio", "markdown", "tensorboard-data-server", "werkzeug"),
}
_PROJECT = ("unet_sharp_det", "tools", "configs", "datasets/*.py", "setup.py", "pyproject.toml")
_ARCHIVES = [f"stage1_train.{ending}" for ending in ("zip", "tar.xz", "tar.gz", "tar.bz2", "tar")]
# Of a bundle, and what run.sh unpacks there.
_ENTRIES = {"run.sh", MANIFEST_FILE, "project", "wheels", "data", "unpacked"}
MIB = 2**20


@dataclass(frozen=True)
class BundleRequest:
    """What to bundle.

    Attributes:
        output: the folder to make.
        python: the target's, "3.12".
        have: what the target has: names separated by commas, ``@FILE`` for a list of pip.
        data: where DSB2018 is, see :func:`find_data`; None: no data.
        extras: of setup.py or ``OPTIONAL``.
        overwrite: replace a bundle that exists and holds nothing else.
        max_mib: the largest size, in MiB; 0: any.
    """

    output: Path
    python: str
    have: str = "torch,torchvision,numpy"
    data: Path | None = None
    extras: tuple[str, ...] = ()
    overwrite: bool = False
    max_mib: float = 60


@dataclass(frozen=True)
class Selection:
    """The packages of a bundle.

    Attributes:
        pins: those to be carried; detectron2 is beside them.
        detectron2: whether it is to be carried.
        have: names of the target's packages that the carried ones or the project need.
        stated: what the project itself asks for.
    """

    pins: list[graph.Pin]
    detectron2: bool
    have: list[str]
    stated: list[Requirement]


def make_bundle(
    root, request: BundleRequest, say: Callable[[str], None] = lambda text: None
) -> dict[str, int]:
    """Make a bundle; the folder appears when it is complete.

    Args:
        root: the checkout.
        request: what to bundle.
        say: told what is being done.

    Returns:
        bytes per part: ``project``, each wheel by its file name, ``data``.

    Raises:
        UserError: an unknown Python, name or extra, no network, no wheel for the target, the
            folder exists and is not to be overwritten, or the bundle is too large.
        DatasetError: there is no DSB2018 at ``data``.
    """
    root, output = Path(root), Path(request.output)
    _check_output(output, request.overwrite)
    environment = graph.marker_environment(request.python)
    selection = select(root, request, environment)
    source = find_data(request.data) if request.data else None
    with atomic_folder(output) as folder:
        copy_project(root, folder / "project")
        shutil.copyfile(Path(__file__).with_name("run.sh"), folder / "run.sh")
        (folder / "wheels").mkdir()
        say(f"fetching {len(selection.pins) + selection.detectron2} packages")
        fetch_wheels(selection.pins, request.python, folder / "wheels")
        if selection.detectron2:
            fetch_detectron2(root / "requirements" / "detectron2.txt", folder / "wheels")
        if source:
            (folder / "data").mkdir()
            say(f"packing {source}")
            with _converted(source) as converted:
                pack_dsb2018(converted, folder / "data" / "dsb2018.zip")
        manifest = _manifest(root, folder, request.python, selection, environment)
        write_json(folder / MANIFEST_FILE, manifest, indent=1)
        sizes = _sizes(folder)
        _check_size(sizes, request.max_mib)
    return sizes


def select(root: Path, request: BundleRequest, environment: dict[str, str]) -> Selection:
    """Return which packages a bundle holds and which the target must have.

    Args:
        root: the checkout, of which requirements/lock.txt and setup.py are read.
        request: of which ``have`` and ``extras`` count.
        environment: of :func:`requirements_graph.marker_environment`.
    """
    pins = graph.read_lock(root / "requirements" / "lock.txt", environment)
    stated, extras = graph.project_requirements(root / "setup.py")
    for extra in request.extras:
        look_up_option(extra, sorted({*extras, *OPTIONAL}), "--extras")
    stated = stated + [r for extra in ("fast-eval", *request.extras) for r in extras.get(extra, ())]
    roots = [canonicalize_name(requirement.name) for requirement in stated]
    have = graph.read_names(request.have, {*pins, "detectron2"})
    unused = {
        name for extra, names in OPTIONAL.items() if extra not in request.extras for name in names
    }
    found = graph.needed(pins, roots, have | unused)
    required = graph.boundary(pins, roots, found) - unused
    return Selection(
        pins=[pins[name] for name in sorted(found)],
        detectron2="detectron2" not in have,
        have=sorted(required & have | have & {"detectron2"}),
        stated=stated,
    )


def find_data(data) -> Path:
    """Return the folder or archive of DSB2018 that a path means.

    Args:
        data: a converted DSB2018, Kaggle's folder or archive, or a folder that holds one of them
            directly or as ``dsb2018``.

    Raises:
        DatasetError: there is none.
    """
    data = Path(data)
    if data.is_file():
        return data
    folders = (data, data / "dsb2018")
    for folder in folders:
        if _is_converted(folder):
            return folder
    for folder in folders:
        if any(folder.glob("*/masks")):
            return folder
        for name in ("stage1_train", *_ARCHIVES):
            if (folder / name).exists():
                return folder / name
    raise DatasetError(
        f"{data}: holds no DSB2018. Expected what datasets/prepare_dsb2018.py wrote, "
        f"stage1_train/ or one of {', '.join(_ARCHIVES)}, directly or below dsb2018/."
    )


def copy_project(root: Path, target: Path) -> None:
    """Copy what training needs of the checkout: the package without its models, tools, configs."""
    skipped = shutil.ignore_patterns("__pycache__", ".*", "*.safetensors")
    for pattern in _PROJECT:
        for path in root.glob(pattern):
            destination = target / path.relative_to(root)
            destination.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                shutil.copytree(path, destination, ignore=skipped)
            else:
                shutil.copyfile(path, destination)


def _check_output(output: Path, overwrite: bool) -> None:
    if not output.exists():
        return
    if not overwrite:
        raise UserError(f"{output}: exists. Give --overwrite, or another --output.")
    if not (output / MANIFEST_FILE).is_file():
        raise UserError(f"{output}: is no bundle, so it is not overwritten. Give another --output.")
    if others := sorted({path.name for path in output.iterdir()} - _ENTRIES):
        raise UserError(
            f"{output}: holds {', '.join(others)} beside the bundle, perhaps runs that were made "
            "in it, so it is not overwritten. Move them away, or give another --output."
        )


def _is_converted(folder: Path) -> bool:
    return (folder / "annotations" / "dsb2018_train.json").is_file()


@contextmanager
def _converted(source: Path):
    if _is_converted(source):
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="unet_sharp_det-") as temporary:
        convert_dsb2018(source, temporary)
        yield Path(temporary)


def _manifest(
    root: Path, folder: Path, python: str, selection: Selection, environment: dict[str, str]
) -> dict:
    wheels = sorted((folder / "wheels").iterdir())
    asked = list(selection.stated)
    for wheel in wheels:
        asked += wheel_requirements(wheel, environment)
    packed = folder / "data" / "dsb2018.zip"
    return {
        "git": git_state(root),
        "python": python,
        "have": {name: _specifiers(name, asked) for name in selection.have},
        "wheels": {wheel.name: _sha256(wheel) for wheel in wheels},
        "data": {"file": packed.name, "sha256": _sha256(packed)} if packed.exists() else None,
    }


def _specifiers(name: str, asked: Collection[Requirement]) -> list[str]:
    found = {str(r.specifier) for r in asked if canonicalize_name(r.name) == name}
    return sorted(found - {""})


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _sizes(folder: Path) -> dict[str, int]:
    def total(path: Path) -> int:
        return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())

    wheels = {wheel.name: wheel.stat().st_size for wheel in sorted((folder / "wheels").iterdir())}
    return {"project": total(folder / "project"), **wheels, "data": total(folder / "data")}


def _check_size(sizes: dict[str, int], max_mib: float) -> None:
    total = sum(sizes.values()) / MIB
    if not max_mib or total <= max_mib:
        return
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:6]
    raise UserError(
        f"the bundle would take {total:.1f} MiB, more than --max-mib {max_mib:g}. The largest "
        f"parts: {', '.join(f'{name} {size / MIB:.1f}' for name, size in largest)} MiB. Name what "
        "the target has in --have (@FILE takes a list of pip), or give --max-mib 0."
    )
