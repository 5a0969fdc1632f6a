"""Errors a user can act on: messages say what is wrong, where, the fix, and what exists."""

import difflib
import sys
from collections.abc import Callable, Iterable


class UserError(ValueError):
    """Something in the user's input (config, data, files, command line) is wrong.

    The command line tools print the message alone and exit with status 2; any other exception
    is a defect of this package and keeps its traceback.
    """


class SchemeError(UserError):
    """A skip scheme or its table is unknown or malformed."""


class ConfigError(UserError):
    """A config value is unusable."""


class DatasetError(UserError):
    """A data set is missing, empty or inconsistent."""


class CheckpointError(UserError):
    """A checkpoint does not belong to the model that it is loaded into."""


class TrainingError(UserError):
    """A training cannot go on."""


def look_up_option(name, options: Iterable[str], what: str, error=UserError):
    """Return ``name`` if it is one of ``options``, else raise ``error`` with the nearest ones.

    Args:
        name: the value that the user gave.
        options: the values that exist.
        what: what the value stands for, with its place, e.g. ``"MODEL.FPN.SKIP_SCHEME"``.
        error: the class of :class:`UserError` to raise.
    """
    options = list(options)
    if name in options:
        return name
    nearest = difflib.get_close_matches(str(name), options, n=5, cutoff=0.5)
    hint = f" Did you mean '{nearest[0]}'?" if nearest else ""
    shown = options if len(options) <= 30 else [*nearest, f"... ({len(options)} in all)"]
    raise error(f"{what}: '{name}' is not known.{hint} Available: {', '.join(shown)}.")


def first_line(error: Exception) -> str:
    """What an error of another library says, as part of a sentence."""
    return str(error).strip().partition("\n")[0][:200].rstrip(".")


def run_cli(main: Callable[[], int]) -> None:
    """Run a tool's ``main`` and exit with its status; a :class:`UserError` becomes one line."""
    try:
        status = main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2
    sys.exit(status)
