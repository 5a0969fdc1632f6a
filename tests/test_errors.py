"""What a tool tells of errors, of Ctrl-C and of missing packages: a line, without a traceback."""

import errno
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from torch.utils.data import DataLoader

from unet_sharp_det.errors import DatasetError, UserError, look_up_option, printable, run_cli


def start(*command, **options):
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    return subprocess.Popen([sys.executable, *map(str, command)], **options)


@pytest.mark.usefixtures("foreground")
@pytest.mark.parametrize("again", [False, True])
def test_ctrl_c_and_ctrl_c_again(tmp_path, again):
    def main():
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)
        finally:
            if again:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(60)

    def child():
        sys.stderr = open(tmp_path / "told", "w")
        run_cli(main)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(20)
    assert process.exitcode == 130
    assert (tmp_path / "told").read_text() == ("" if again else "Stopped.\n")


@pytest.mark.usefixtures("foreground")
def test_ctrl_c_while_a_tool_loads(repository, environment):
    environment = environment | {"PYTHONVERBOSE": "1"}  # which tells when an import has begun
    with start(repository / "tools" / "visualize_data.py", "--help", env=environment) as process:
        for line in process.stderr:
            if "import 'numpy'" in line or "import 'torch'" in line:
                break
        process.send_signal(signal.SIGINT)
        told = process.stderr.read()
        assert process.wait(20) == 130
        assert process.stdout.read() == ""
    assert "Stopped.\n" in told
    assert "Traceback" not in told


@pytest.mark.parametrize("script", ["tools/train_net.py", "datasets/prepare_dsb2018.py"])
def test_outside_of_the_environment_the_command_is_named(repository, script):
    with start("-S", "-E", script, "--help", cwd=repository) as process:  # no site-packages
        out, err = process.communicate()
    assert (process.returncode, out) == (1, "")
    assert err.count("\n") == 1
    assert f"Run  .venv/bin/python {script}  ('make setup' makes it)" in err


def test_every_tool_begins_so(repository):
    tools = [path for path in (repository / "tools").glob("*.py") if path.name != "_start.py"]
    for path in [*tools, repository / "datasets" / "prepare_dsb2018.py"]:
        code = path.read_text()
        others = re.search(r"^(import (?!_start)|from )", code, re.MULTILINE)
        assert "import _start" in code[: others.start()], path.name


def test_a_full_disk_is_a_line(capsys):
    def main():
        raise OSError(errno.ENOSPC, "No space left on device", "a/b.json")

    with pytest.raises(SystemExit) as stop:
        run_cli(main)
    assert stop.value.code == 2
    expected = "error: a/b.json: cannot be written (No space left on device). Make room and try"
    assert capsys.readouterr().err == f"{expected} again.\n"


def test_names_cannot_steer_the_terminal(capsys):
    def main():
        raise UserError(
            "\x1b]0;title\x07\x1b[2Ja\nb\r\u202e\x9b1m\udcff.png: is corrupt. Größe µm é"
        )

    with pytest.raises(SystemExit):
        run_cli(main)
    told = capsys.readouterr().err
    escaped = r"\x1b]0;title\x07\x1b[2Ja b \u202e\x9b1m\udcff.png: is corrupt. Größe µm é"
    assert told == f"error: {escaped}\n"
    assert printable("a b\tc") == "a b\\tc"


def test_of_many_options_the_nearest_are_named_or_else_the_first():
    options = [f"segm/AP{number}" for number in range(64)]
    for name, shown in (("segm/AP7x", "segm/AP7, "), ("foo", "segm/AP0, segm/AP1, ")):
        with pytest.raises(UserError, match=rf"Available: {shown}.*\(64 in all\)"):
            look_up_option(name, options, "TEST.BEST_METRIC")


def test_details_have_lines_of_their_own(capsys):
    def main():
        error = UserError("a: is no format. Give one of")
        error.details = ("  coco", "  mas\nks")
        raise error

    with pytest.raises(SystemExit):
        run_cli(main)
    assert capsys.readouterr().err == "error: a: is no format. Give one of\n  coco\n  mas ks\n"


def test_the_handler_of_ctrl_c_is_put_back():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit):
        run_cli(lambda: 0)
    assert signal.getsignal(signal.SIGINT) is before


class _Damaged:
    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise DatasetError("a.png: KeyError: is damaged. Take another.")


def test_an_error_of_a_loading_process_comes_without_its_traceback():
    with pytest.raises(DatasetError) as raised:
        next(iter(DataLoader(_Damaged(), num_workers=1)))
    assert str(raised.value) == "a.png: KeyError: is damaged. Take another."
