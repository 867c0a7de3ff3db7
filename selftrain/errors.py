"""What can go wrong, and the exit code of each (docs/design.md, "Exit codes")."""

import errno
import os
import select
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

STORAGE_ERRNOS = {
    errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE, errno.ENFILE,
    errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST,
}  # fmt: skip
FORCED = 130
OUR_FAULT = 1
OUT_OF_MEMORY = "out of memory; lower train.labelled_batch, train.unlabelled_batch, labels.batch or data.size"


class SelftrainError(Exception):
    """A failure that a user can act on: the message says what, where and the way out."""

    exit_code = 1


class ConfigError(SelftrainError):
    exit_code = 2


class DataError(SelftrainError):
    exit_code = 3


class StorageError(SelftrainError):
    exit_code = 5


class IntegrityError(SelftrainError):
    exit_code = 6


class ResourceError(SelftrainError):
    exit_code = 7


class LearningError(SelftrainError):
    exit_code = 8


class LockedError(SelftrainError):
    exit_code = 73


class StoppedError(SelftrainError):
    """Stopped by a signal after saving; the same command resumes."""

    exit_code = 75


def storage_error(error: OSError, path: object = None) -> StorageError:
    """An OSError of the disk as a StorageError that names the path and the way out."""
    where = error.filename or path or "the run directory"
    return StorageError(
        f"cannot write {where}: {error.strerror}{_free(where)}; free space or mend the disk, then run the same command"
    )


def _free(where: object) -> str:
    """ " (1234 bytes free there)" for a path, where that can be told."""
    folder = Path(str(where)).absolute()
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    try:
        return f" ({shutil.disk_usage(folder).free} bytes free there)"
    except OSError:
        return ""


def exit_code_of(main: Callable[[], None]) -> int:
    """Run `main`, print a failure as the last line of stderr, and return the process exit code.

    A user's mistake gives one line; a traceback is printed for our own faults only.
    """
    try:
        _check_system()
        main()
        return 0
    except (Exception, KeyboardInterrupt) as error:
        _end_workers()
        message, code = _told(error)
        if code == OUR_FAULT:
            traceback.print_exception(error)
        print(f"selftrain: error: {message}", file=sys.stderr, flush=True)
        return code


def _check_system() -> None:
    """Raises ConfigError on macOS and Windows, which lack what a run asks of its system."""
    if not hasattr(os, "sched_getaffinity"):
        raise ConfigError("selftrain runs on Linux only; take a Linux machine, a container or WSL")


def _told(error: BaseException) -> tuple[str, int]:
    """The message and exit code of a failure."""
    if isinstance(error, SelftrainError):
        return _own_words(str(error)), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; the same command resumes", FORCED
    if isinstance(error, BrokenPipeError) and _nobody_reads():
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more at its end
        return "nobody reads the standard output any more; give it a reader or a file", StorageError.exit_code
    if isinstance(error, OSError) and error.errno in STORAGE_ERRNOS:
        return str(storage_error(error)), StorageError.exit_code
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's; torch is not imported here
        return OUT_OF_MEMORY, ResourceError.exit_code
    lost = _lost_process(error)
    if lost:
        return lost, ResourceError.exit_code
    return f"{type(error).__name__}: {error} (this is a fault of selftrain: please report it)", OUR_FAULT


def _nobody_reads() -> bool:
    """Whether the standard output is a pipe whose reader is gone."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    except (OSError, ValueError):  # no file behind it, or closed
        return False


def _end_workers() -> None:
    """Loader processes would be waited for, and torch raises in whatever code runs when one of them dies."""
    multiprocessing = sys.modules.get("multiprocessing")
    if multiprocessing:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for child in multiprocessing.active_children():
            child.kill()


def _own_words(message: str) -> str:
    """The message itself of an error that a loader process raised: torch wraps it into a traceback."""
    last = message.strip().splitlines()[-1] if message.strip() else message
    return last.partition(": ")[2] if "Original Traceback" in message else message


def _lost_process(error: BaseException) -> str:
    """What happened, if the error is torch's word for a process that is no more: a loader worker or another rank.

    A worker may be named, or the pipe to it breaks or ends first; ranks speak through gloo and NCCL, which raise RuntimeError.
    """
    message = str(error)
    first = message.strip().splitlines()[0] if message.strip() else ""
    broken = isinstance(error, ConnectionError | EOFError)
    if broken:
        first = f"a DataLoader worker is gone ({first or type(error).__name__})"
    if "DataLoader worker" in message or broken:
        return f"{first}; if memory ran out, lower train.workers or data.cache_mb, then run the same command"
    signs = ("Connection closed by peer", "Connection reset by peer", "gloo", "NCCL")
    if type(error).__name__.startswith("Dist") or any(sign in message for sign in signs):  # torch's DistNetworkError and others
        return f"another process of this run is lost ({first}); its own message says why; the same command resumes"
    return ""
