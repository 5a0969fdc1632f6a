"""What a tool does before its imports, which take seconds: Ctrl-C and a missing package in a line.

Everything that is not in Python's own library is missing outside of the environment.
"""

import os
import signal
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.append(ROOT)  # For the repository's own package, benchmarks.
PYTHON = os.path.relpath(os.path.join(ROOT, ".venv", "bin", "python"))


def stop(signum, frame):
    """End at once: nothing has begun."""
    os.write(2, b"Stopped.\n")
    os._exit(130)


def explain_missing_package(kind, error, traceback):
    """Name the command that finds the package; all other tracebacks stay."""
    missing = error if isinstance(error, ModuleNotFoundError) else error.__cause__
    if not isinstance(missing, ModuleNotFoundError) or missing.name.startswith("unet_sharp_det."):
        sys.__excepthook__(kind, error, traceback)
        return
    script = os.path.relpath(sys.argv[0])
    reason = str(error).rstrip(".")
    print(f"error: {reason}. Run  {PYTHON} {script}  ('make setup' makes it).", file=sys.stderr)


if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
    signal.signal(signal.SIGINT, stop)
sys.excepthook = explain_missing_package
