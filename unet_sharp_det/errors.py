"""Errors a user can act on: messages say what is wrong, where, the fix, and what exists."""

import contextlib
import difflib
import errno
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator

#: Exit status after Ctrl-C, as a shell has it.
INTERRUPTED = 130

# Of these no other file can be written either: full, over a quota or a limit, or read-only.
_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


class UserError(ValueError):
    """Something in the user's input (config, data, files, command line) is wrong.

    The command line tools print the message alone and exit with status 2; any other exception
    is a defect of this package and keeps its traceback.

    Attributes:
        details: lines that are printed below the message.
    """

    details: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The message, without the traceback that torch puts before it in a loading process."""
        text = super().__str__()
        is_of_loader = text.startswith(f"Caught {type(self).__name__} in ")
        return text.rpartition(f".{type(self).__name__}: ")[2].strip() if is_of_loader else text


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
    """Return ``name`` if it is one of ``options``, else raise ``error`` with the nearest ones, or
    else the first.

    Args:
        what: what the value stands for, with its place, e.g. ``"MODEL.FPN.SKIP_SCHEME"``.
        error: a class of :class:`UserError`.
    """
    options = list(options)
    if name in options:
        return name
    few = difflib.get_close_matches(str(name), options, n=5, cutoff=0.5) or options[:30]
    shown = options if len(options) <= 30 else [*few, f"... ({len(options)} in all)"]
    hint = did_you_mean(name, options)
    raise error(f"{what}: '{name}' is not known.{hint} Available: {', '.join(shown)}.")


def did_you_mean(name, options: Iterable[str]) -> str:
    """The option nearest to ``name`` as a question, with a space before it; "" if none is near."""
    nearest = difflib.get_close_matches(str(name), list(options), n=1, cutoff=0.5)
    return f" Did you mean '{nearest[0]}'?" if nearest else ""


def counted(count: int, noun: str) -> str:
    """A number and what it counts: "1 image", "2 images"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def first_line(error: Exception | str) -> str:
    """What an error of another library says, as part of a sentence."""
    return str(error).strip().partition("\n")[0][:200].rstrip(".")


def one_line(error: Exception) -> str:
    """The kind of an error of another library and all that it says, on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


@contextlib.contextmanager
def library_errors(what: str, remedy: str = "") -> Iterator[None]:
    """Turn what a library raises, of any kind, into a DatasetError: ``what`` is wrong, and why."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise DatasetError(f"{what} ({one_line(error)}). {remedy}".rstrip()) from error


def missing_package(what: str, package: str, extra: str) -> UserError:
    """Return the error of ``what`` takes a package that an extra of this one installs."""
    return UserError(f"{what} takes {package}. Run: pip install 'unet_sharp_det[{extra}]'")


def disk_error(error: BaseException | None) -> OSError | None:
    """Return the error of a full disk, or the like, that is behind another error."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
            return error
        error = error.__cause__ or error.__context__
    return None


def printable(text: str) -> str:
    """Return text as a line that cannot steer a terminal: control characters are escaped."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode()
        for each in " ".join(text.splitlines())
    )


class PrintableFormatter(logging.Formatter):
    """Makes messages :func:`printable`; tracebacks keep their lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))


def interrupt(signum, frame) -> None:
    """Handle a signal like Ctrl-C: raise KeyboardInterrupt, and end at once when it comes again."""
    signal.signal(signum, lambda *_: os._exit(INTERRUPTED))
    raise KeyboardInterrupt


def run_cli(main: Callable[[], int]) -> None:
    """Run a tool's ``main`` and exit with its status; a user's error becomes one line."""
    logging.raiseExceptions = False  # A log on a full disk: the files tell it.
    former = signal.getsignal(signal.SIGINT)
    if former is not signal.SIG_IGN:  # as in the background of a script
        signal.signal(signal.SIGINT, interrupt)
    try:
        status = main()
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        status = INTERRUPTED
    except Exception as error:
        full = disk_error(error)
        if isinstance(error, UserError):
            message = str(error)
        elif full:
            place = full.filename or "A file"
            message = f"{place}: cannot be written ({full.strerror}). Make room and try again."
        else:
            raise
        for line in (f"error: {message}", *getattr(error, "details", ())):
            print(printable(line), file=sys.stderr)
        status = 2
    finally:
        signal.signal(signal.SIGINT, former)
    if status == INTERRUPTED:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Python's own end takes a while.
    sys.exit(status)
