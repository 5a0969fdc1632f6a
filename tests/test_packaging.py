"""What an installation relies on: setup.py, the locked versions, the wheel."""

import ast
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements" / "lock.txt"
SETUP_SCRIPT = ROOT / "tools" / "setup_env.sh"

# Run first in a fresh interpreter: importing any of the names then fails as if it were missing.
BLOCK_IMPORTS = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocker())
"""


def run_python(code, *, blocked=()):
    code = BLOCK_IMPORTS.format(names=tuple(blocked)) + code
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


def run_setup_py(code):
    """Run code after `import setuptools`, with torch, detectron2 and the package itself absent."""
    blocked = ("torch", "torchvision", "detectron2", "unet_sharp_det")
    done = run_python("import json, runpy, setuptools\n" + code, blocked=blocked)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def setup_arguments():
    code = """
kept = {}
setuptools.setup = kept.update
runpy.run_path("setup.py")
del kept["cmdclass"]
print(json.dumps(kept))
"""
    return json.loads(run_setup_py(code))


def read_requirements(path):
    """The requirements of a file, each with its hashes."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for line in text.replace("\\\n", " ").splitlines():
        requirement, *hashes = line.split(" --hash=")
        if requirement.strip():
            yield Requirement(requirement.strip()), [text.strip() for text in hashes]


def locked_versions():
    """Name -> versions; a package can have one for each of several Python versions."""
    versions = {}
    for requirement, _ in read_requirements(LOCK):
        (pin,) = requirement.specifier
        versions.setdefault(canonicalize_name(requirement.name), set()).add(pin.version)
    return versions


def third_party_imports(path):
    """Names of packages that a file imports, of its own project's too."""
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            imported.add(node.module.partition(".")[0])
    return imported - set(sys.stdlib_module_names)


def distribution_names(requirements):
    return {canonicalize_name(Requirement(line).name) for line in requirements}


@pytest.fixture(scope="module")
def stated(setup_arguments):
    """The requirements of setup.py, those of its extras too."""
    return sum(setup_arguments["extras_require"].values(), setup_arguments["install_requires"])


def test_setup_py_imports_only_the_standard_library_and_setuptools():
    assert third_party_imports(ROOT / "setup.py") == {"setuptools"}


@pytest.mark.parametrize("folder", ["unet_sharp_det", "benchmarks", "tests"])
def test_setup_py_states_what_is_imported(stated, folder):
    owners = importlib.metadata.packages_distributions()
    names = distribution_names(stated)
    imported = set().union(*map(third_party_imports, (ROOT / folder).rglob("*.py")))
    others = imported & owners.keys() - {"detectron2", "unet_sharp_det"}
    assert [n for n in others if names.isdisjoint(map(canonicalize_name, owners[n]))] == []


def test_setup_py_tells_the_version_without_torch():
    code = 'sys.argv = ["setup.py", "--version"]\nrunpy.run_path("setup.py", run_name="__main__")'
    init = (ROOT / "unet_sharp_det" / "__init__.py").read_text(encoding="utf-8")
    assert f'__version__ = "{run_setup_py(code).split()[-1]}"' in init


def test_setup_py_packages_every_folder_of_the_package_and_nothing_else(setup_arguments):
    found = {
        ".".join(init.parent.relative_to(ROOT).parts)
        for init in (ROOT / "unet_sharp_det").rglob("__init__.py")
    }
    assert set(setup_arguments["packages"]) == found


def test_setup_py_packages_every_file_that_is_not_python(setup_arguments):
    packaged = {
        path
        for package, patterns in setup_arguments["package_data"].items()
        for pattern in patterns
        for path in (ROOT / package.replace(".", "/")).glob(pattern)
    }
    files = {path for path in (ROOT / "unet_sharp_det").rglob("*") if path.is_file()}
    assert packaged == {path for path in files if path.suffix not in (".py", ".pyc")}
    assert packaged


def test_python_requires_excludes_39_and_admits_310_to_313(setup_arguments):
    allowed = SpecifierSet(setup_arguments["python_requires"])
    versions = ["3.9.18", "3.10.0", "3.11.7", "3.12.1", "3.13.0"]
    assert list(allowed.filter(versions)) == versions[1:]


def test_setup_py_has_ranges_that_admit_the_locked_versions(stated):
    locked = locked_versions()
    for requirement in map(Requirement, stated):
        operators = {spec.operator for spec in requirement.specifier}
        assert operators.isdisjoint({"==", "==="}), requirement
        versions = locked[canonicalize_name(requirement.name)]
        refused = [version for version in versions if version not in requirement.specifier]
        assert not refused, f"setup.py says {requirement}, lock.txt has {refused}"


def test_setup_py_states_what_the_lock_is_made_from(stated):
    """base.in and dev.in name the same packages as setup.py, beside what builds the source ones."""
    listed = [
        line
        for name in ("base.in", "dev.in")
        for line in (ROOT / "requirements" / name).read_text(encoding="utf-8").splitlines()
        if line and not line.startswith(("#", "-r"))
    ]
    assert distribution_names(listed) - {"pip", "setuptools"} == distribution_names(stated)


@pytest.mark.parametrize("name", ["lock.txt", "detectron2.txt"])
def test_every_pinned_requirement_has_a_hash(name):
    requirements = list(read_requirements(ROOT / "requirements" / name))
    assert requirements
    for requirement, hashes in requirements:
        assert [spec.operator for spec in requirement.specifier] == ["=="], requirement
        assert hashes, f"{requirement} has no hash"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", text) for text in hashes), requirement


def test_the_lock_names_no_index():
    assert "://" not in LOCK.read_text(encoding="utf-8")


def test_the_lock_pins_torch_and_torchvision_as_the_stated_pair():
    locked = locked_versions()
    assert (locked["torch"], locked["torchvision"]) == ({"2.11.0"}, {"0.26.0"})


def test_the_lock_has_what_builds_the_source_packages():
    locked = locked_versions()
    assert {"pip", "setuptools", "fvcore", "iopath", "antlr4-python3-runtime"} <= set(locked)


def test_the_lock_has_one_opencv_and_it_needs_no_display():
    assert [name for name in locked_versions() if name.startswith("opencv")] == [
        "opencv-python-headless"
    ]


def test_import_without_detectron2_names_the_command_that_installs_it():
    code = """
try:
    from unet_sharp_det import add_unet_sharp_config
except ImportError as error:
    print(error)
"""
    message = run_python(code, blocked=["detectron2"]).stdout
    assert 'bash tools/setup_env.sh --detectron2-only "$(command -v python)"' in message
    assert SETUP_SCRIPT.is_file()
    assert re.search(r"^ *--detectron2-only\)", SETUP_SCRIPT.read_text("utf-8"), re.MULTILINE)


def run(command, **options):
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=300, **options
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def pip(*arguments, **options):
    return run([sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments], **options)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of what git tracks or would add, so that no build touches the repository."""
    folder = tmp_path_factory.mktemp("checkout")
    names = run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT)
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file() and not name.startswith(("datasets/", "tests/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def sdist(checkout):
    run([sys.executable, "setup.py", "--quiet", "sdist"], cwd=checkout)
    (path,) = (checkout / "dist").glob("*.tar.gz")
    return path


@pytest.fixture(scope="module")
def wheels(checkout, sdist, tmp_path_factory):
    """The wheel of the checkout and that of the sdist."""
    built = []
    for source in (checkout, sdist):
        folder = tmp_path_factory.mktemp("wheel")
        pip("wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, source)
        built += folder.glob("*.whl")
    return built


def test_the_sdist_gives_the_same_wheel_as_the_checkout(wheels):
    of_checkout, of_sdist = (set(zipfile.ZipFile(wheel).namelist()) for wheel in wheels)
    assert of_checkout == of_sdist
    configs = {
        f"unet_sharp_det/model_zoo/{path.relative_to(ROOT)}"
        for path in (ROOT / "configs").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert configs <= of_checkout
    assert {"unet_sharp_det/report/templates/report.html.j2"} - of_checkout == set()
    assert any(name.endswith("/LICENSE") for name in of_checkout)
    assert not any(name.startswith(("tests/", "tools/", "benchmarks/")) for name in of_checkout)


def test_the_wheel_tells_napari_where_its_plugin_is(wheels):
    with zipfile.ZipFile(wheels[0]) as wheel:
        [name] = (each for each in wheel.namelist() if each.endswith("/entry_points.txt"))
        entries = wheel.read(name).decode()
        package, file = re.search(
            r"\[napari.manifest\]\nunet_sharp_det = (\S+):(\S+)", entries
        ).groups()
        folder = package.replace(".", "/")
        sample = "unet_sharp_det/model_zoo/sample.png"
        assert {f"{folder}/{file}", sample} <= set(wheel.namelist())


def test_only_the_plugin_needs_napari():
    folder = ROOT / "unet_sharp_det"
    users = {
        path.parent.name
        for path in folder.rglob("*.py")
        if {"napari", "magicgui", "qtpy"} & third_party_imports(path)
    }
    assert users == {"napari_plugin"}


def test_an_installed_wheel_predicts_and_finds_its_configs(wheels, sample_folder, tmp_path):
    site = tmp_path / "site"
    pip("install", "--quiet", "--no-deps", "--target", site, wheels[0])
    environment = {**os.environ, "PYTHONPATH": str(site)}
    code = """
import unet_sharp_det
print(unet_sharp_det.__file__)
print(unet_sharp_det.model_zoo.get_config_file("quick_schedules/unetsharp_cgm_instant_test.yaml"))
"""
    inside = run([sys.executable, "-c", code], env=environment, cwd=tmp_path).split()
    assert all(path.startswith(str(site)) for path in inside)
    image = next(sample_folder.rglob("images/*.png"))
    command = [site / "bin" / "unet-sharp-det", "predict", image, "--output", "found"]
    out = run([sys.executable, *command], env=environment, cwd=tmp_path)
    assert re.match(r"1 image with \d+ objects", out)
    assert (tmp_path / "found" / f"{image.stem}_labels.tif").is_file()


def test_links_of_the_readme_hold_on_an_index_page(setup_arguments):
    text = setup_arguments["long_description"]
    links = re.findall(r"\]\(([^)]*)\)", text)
    assert links
    assert [link for link in links if not link.startswith("https://")] == []
