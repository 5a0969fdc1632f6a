"""Which state of the code a run was made with."""

import json
import os
import subprocess
from pathlib import Path

_REPOSITORY = Path(__file__).parents[1]

#: Environment variable that says it where there is no checkout, only a copy: JSON of what
#: :func:`git_state` returns.
GIT_STATE = "GIT_STATE"


def git_state(folder=_REPOSITORY) -> dict:
    """The commit of a checkout, and whether tracked files differed from it.

    Args:
        folder: of the checkout; default: this package's.

    Returns:
        dict: ``{"revision": 40 digits, "dirty": bool}``; both None where neither is known.
    """
    if GIT_STATE in os.environ:
        return json.loads(os.environ[GIT_STATE])
    revision = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"revision": revision, "dirty": None if changes is None else bool(changes)}


def _git(folder, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
