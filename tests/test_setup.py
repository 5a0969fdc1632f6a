"""The setup script, the Makefile, and what CI runs."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SETUP_SCRIPT = ROOT / "tools" / "setup_env.sh"


def run_setup_script(*arguments, **environment):
    return subprocess.run(
        ["bash", str(SETUP_SCRIPT), *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_setup_script_is_valid_bash():
    done = subprocess.run(["bash", "-n", str(SETUP_SCRIPT)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_setup_script_leaves_an_interpreter_that_has_detectron2_alone():
    if importlib.util.find_spec("detectron2") is None:
        pytest.skip("this interpreter has no detectron2")
    done = run_setup_script("--detectron2-only", sys.executable)
    assert done.returncode == 0, done.stderr
    assert "already installed" in done.stdout


def test_setup_script_says_what_to_do_without_python(tmp_path):
    done = run_setup_script(tmp_path / "venv", PYTHON=str(tmp_path / "no-python"))
    assert done.returncode == 1
    assert "Install Python 3.10 or newer, or name one: PYTHON=" in done.stderr
    assert not (tmp_path / "venv").exists()


def write_fake_python(folder, *, lacking):
    """An interpreter in which code that holds the text `lacking` fails."""
    fake = folder / "python"
    fake.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *"{lacking}"*) exit 1 ;; --version) echo Python 3.9.2; exit ;; esac\n'
        f'exec "{sys.executable}" "$@"\n'
    )
    fake.chmod(0o755)
    return str(fake)


def test_setup_script_refuses_an_old_python(tmp_path):
    fake = write_fake_python(tmp_path, lacking="sys.version_info")
    done = run_setup_script(tmp_path / "venv", PYTHON=fake)
    assert done.returncode == 1
    assert f"Python 3.10 or newer is needed; {fake} is Python 3.9.2." in done.stderr


def test_setup_script_says_what_to_do_without_ensurepip(tmp_path):
    fake = write_fake_python(tmp_path, lacking="import venv, ensurepip")
    done = run_setup_script(tmp_path / "venv", PYTHON=fake)
    assert done.returncode == 1
    assert "sudo apt-get install python3-venv" in done.stderr


def test_setup_script_does_not_touch_a_folder_that_is_no_environment(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    done = run_setup_script(tmp_path)
    assert done.returncode == 1
    assert "is no virtual environment and not empty" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def make(*arguments):
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        ["make", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )


def test_make_alone_lists_every_target():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE).group(1).split()
    done = make()
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^  make (\w+) ", done.stdout, re.MULTILINE) == targets
    assert {"setup", "test", "demo", "lint", "lock", "clean"} <= set(targets)


def test_the_demo_runs_files_that_exist():
    done = make("--dry-run", "demo", "VENV=.venv")
    assert done.returncode == 0, done.stderr
    commands = [line for line in done.stdout.splitlines() if ".venv/bin/python" in line]
    assert len(commands) == 7
    for command in commands:
        files = re.findall(r"(?<=\s)(?:datasets|tools|configs|unet_sharp_det)/\S+", command)
        has_program = any(name.endswith(".py") for name in files)
        assert has_program or " -m unet_sharp_det report " in command, command
        missing = [name for name in files if not (ROOT / name).exists()]
        assert not missing, f"{command}\nneeds {missing}"


def test_the_demo_keeps_out_of_a_folder_it_did_not_make(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    # Without `make setup`: the recipe itself must stop at a folder that lacks the demo's mark.
    done = make("demo", f"DEMO={tmp_path}", "--assume-old=setup")
    assert done.returncode != 0
    assert "was not made by 'make demo'" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_ci_runs_make_test():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert re.search(r'^make test VENV="\$venv"', script.read_text("utf-8"), re.MULTILINE)


def run_ci(folder, *, user="0", programs=(), mirror="works"):
    """Runs .ci/run with every command on PATH a fake that writes itself to a log; the log's lines.

    A mirror that is "stale" gives nothing before an update, a "dead" one never.
    """
    log, commands = folder / "log", folder / "bin"
    commands.mkdir()
    for name in ("bash", "dirname", "mkdir", "grep"):
        (commands / name).symlink_to(shutil.which(name))
    succeeds = {"works": "true", "stale": f"grep -q update {log}", "dead": "false"}[mirror]
    fakes = {
        "id": f"echo {user}",
        "make": f'echo "make $1, browser required: $REQUIRE_BROWSER" >> {log}',
        "apt-get": f'echo "apt-get $1" >> {log}\n{succeeds}',
    }
    fakes |= dict.fromkeys(programs, "")
    for name, body in fakes.items():
        (commands / name).write_text(f"#!/bin/sh\n{body}\n")
        (commands / name).chmod(0o755)
    environment = {
        "PATH": str(commands),
        "HOME": str(folder),
        "PYTHON": sys.executable,
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    command = [str(ROOT / ".ci" / "run")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return log.read_text().splitlines()


TESTS = "make test, browser required: 1"


@pytest.mark.parametrize(
    "machine, calls",
    [
        ({"programs": ["google-chrome", "Xvfb"]}, [TESTS]),
        ({"programs": ["google-chrome"]}, ["apt-get install", TESTS]),
        ({}, ["apt-get install", TESTS]),
        ({"mirror": "stale"}, ["apt-get install", "apt-get update", "apt-get install", TESTS]),
        ({"mirror": "dead"}, ["apt-get install", "apt-get update", TESTS]),
        ({"user": "1000"}, [TESTS]),
    ],
    ids=["has both", "has one", "root", "old list of packages", "no network", "not root"],
)
def test_ci_installs_programs_where_it_can_and_requires_a_browser_everywhere(
    tmp_path, machine, calls
):
    assert run_ci(tmp_path, **machine) == calls
