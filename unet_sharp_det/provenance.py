"""Which state of the code a run was made with."""

import json
import subprocess
from pathlib import Path

_REPOSITORY = Path(__file__).parents[1]

#: In a bundle for hosts without network, beside the project's folder.
MANIFEST_FILE = "manifest.json"


def git_state(folder=_REPOSITORY) -> dict:
    """The commit of a checkout, and whether tracked files differed from it; within a bundle those
    of the checkout that it was made from.

    Args:
        folder: of the checkout; default: this package's.

    Returns:
        dict: ``{"revision": 40 digits, "dirty": bool}``; both None where neither is known.
    """
    bundled = _bundled_state(Path(folder).parent / MANIFEST_FILE)
    if bundled is not None:
        return bundled
    revision = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"revision": revision, "dirty": None if changes is None else bool(changes)}


def _bundled_state(manifest: Path) -> dict | None:
    try:
        return dict(json.loads(manifest.read_text(encoding="utf-8"))["git"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _git(folder, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
