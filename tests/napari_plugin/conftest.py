"""A display for viewers, which need OpenGL: an Xvfb of its own, if the machine has one."""

import os
import shutil
import subprocess

import pytest


@pytest.fixture(scope="session")
def display():
    """A virtual display, to which Qt is directed."""
    if shutil.which("Xvfb") is None:
        pytest.skip("viewers of napari need Xvfb")
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "1280x900x24", "-nolisten", "tcp"]
    server = subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    with open(read) as pipe:
        number = pipe.readline().strip()
    former = {name: os.environ.get(name) for name in ("DISPLAY", "QT_QPA_PLATFORM")}
    os.environ.update(DISPLAY=f":{number}", QT_QPA_PLATFORM="xcb")
    yield
    for name, value in former.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})
    server.terminate()
    server.wait()


@pytest.fixture(scope="session")
def qapp(display):
    widgets = pytest.importorskip("qtpy.QtWidgets", exc_type=ImportError)
    return widgets.QApplication.instance() or widgets.QApplication([])


@pytest.fixture
def qtbot(qapp):
    """What napari's make_napari_viewer asks of pytest-qt: an application."""
    return qapp
