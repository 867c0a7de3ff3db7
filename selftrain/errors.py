"""The errors of the program, and their exit codes (docs/files.md)."""

import errno
import os
import re
import select
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

STORAGE_ERRNOS = {
    errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EFBIG, errno.EIO,
    errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST,
}  # fmt: skip
OPEN_FILES_ERRNOS = {errno.EMFILE, errno.ENFILE}
FORCED = 130
UNEXPECTED = 1
PACKAGE = Path(__file__).parent
LIBRARIES = ("site-packages", "dist-packages")  # the latter on Debian
STANDARD_LIBRARY = Path(os.__file__).parent
ORIGINAL = "Original Traceback"  # torch puts the traceback of a loader process into the message
FRAME = re.compile(r'File "(.+)", line (\d+), in (.+)')  # of a traceback as text
# How torch, oneDNN, CUDA, OpenCV, C++ and the system report failed allocations. Few have their own type.
MEMORY_SIGNS = (
    "can't allocate memory", "not enough memory", "out of memory", "Cannot allocate memory",
    "Insufficient memory", "could not create a primitive", "could not execute a primitive",
    "could not create a memory", "ALLOC_FAILED",
    "bad_alloc", "MemoryError", "Unable to allocate",  # the last two: NumPy in a loader process
)  # fmt: skip
OPEN_FILES_SIGNS = ("Too many open files", "ancdata")  # the latter when receiving a file handle
SHARED_MEMORY_SIGNS = ("shared memory", "/dev/shm", "</torch_")
PROCESSES_SIGNS = ("can't start new thread", "Resource temporarily unavailable")
OUT_OF_MEMORY = "out of memory; lower data.cache_mb or train.workers and run the same command again"
OPEN_FILES = (
    "too many open files; raise the limit (ulimit -n 4096) or set train.workers=0, then run the same command"
)
MORE_SHARED_MEMORY = (
    "give the container more (docker run --shm-size=2g; `df /dev/shm` shows it) or set train.workers=0, "
    "then run the same command"
)
SHARED_MEMORY = f"the loader processes (train.workers) have no shared memory left; {MORE_SHARED_MEMORY}"
PROCESSES = (
    "the system refuses another process or thread (ulimit -u); "
    "raise the limit or lower train.workers and train.threads"
)
LOADER_ENDINGS = {  # exit codes of loader processes that reached a limit
    errno.ENOSPC: SHARED_MEMORY,
    errno.EMFILE: OPEN_FILES,
    errno.ENOMEM: OUT_OF_MEMORY,
}


@dataclass(frozen=True)
class Savings:
    """How to reduce the memory of a stage: settings that a resume may lower, and other ways."""

    batch: str  # lowers memory use on any device
    host: str  # lowers memory use on a CPU
    otherwise: str


ANOTHER = "change results, so lower them with another out= only"
SAVINGS = {
    "training": Savings(
        "",
        "data.cache_mb or train.workers",
        f"train.labelled_batch, train.unlabelled_batch and train.crop {ANOTHER}",
    ),
    "evaluating": Savings("train.eval_batch", "data.cache_mb", f"data.size and labels.window {ANOTHER}"),
    "labelling": Savings(
        "labels.batch", "labels.crf.workers or data.cache_mb", f"data.size and labels.window {ANOTHER}"
    ),
    "loading images": Savings("", "data.cache_mb or train.workers", f"data.size {ANOTHER}"),
    "predicting": Savings("", "", "label smaller images, or take a machine with more memory"),
}


class SelftrainError(Exception):
    """A failure that a user can act on: the message names what, where and the fix."""

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
    """Turn an OSError of the disk into a StorageError that names the path and the fix."""
    where = error.filename or path or "the run directory"
    return StorageError(
        f"cannot write {where}: {error.strerror}{_free(where)}; free space or fix the disk, "
        "then run the same command"
    )


def _free(where: object) -> str:
    """Free space such as " (1234 bytes free there)", or "" if it is unknown."""
    folder = Path(str(where)).absolute()
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    try:
        return f" ({shutil.disk_usage(folder).free} bytes free there)"
    except OSError:
        return ""


def exit_code_of(main: Callable[[], None]) -> int:
    """Run `main`, print a failure as the last line of stderr, and return the process exit code.

    A user's mistake prints one line. A traceback is printed for unexpected errors only.
    """
    try:
        _check_system()
        main()
        return 0
    except (Exception, KeyboardInterrupt) as error:
        _end_workers()
        message, code = _told(error)
        if code == UNEXPECTED:
            traceback.print_exception(error)
        print(f"selftrain: error: {message}", file=sys.stderr, flush=True)
        return code


def _check_system() -> None:
    """Raises ConfigError on macOS and Windows, which lack system calls that a run needs."""
    if not hasattr(os, "sched_getaffinity"):
        raise ConfigError("selftrain runs on Linux only; take a Linux machine, a container or WSL")


def _told(error: BaseException) -> tuple[str, int]:
    """The message and exit code of a failure."""
    if isinstance(error, SelftrainError):
        return _own_words(str(error)), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; the same command resumes", FORCED
    if isinstance(error, BrokenPipeError) and _nobody_reads():
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python reports the pipe at exit
        return (
            "standard output was closed; redirect it to a file",
            StorageError.exit_code,
        )
    if isinstance(error, OSError) and error.errno in STORAGE_ERRNOS:
        return str(storage_error(error)), StorageError.exit_code
    resource = resource_error(error)
    if resource:
        return str(resource), ResourceError.exit_code
    lost = _lost_process(error)
    if lost:
        return lost, ResourceError.exit_code
    return f"{_kind_and_words(error)} ({_whose(error)})", UNEXPECTED


def _kind_and_words(error: BaseException) -> str:
    """The last line of an error's traceback, such as "KeyError: 'gama'", also of one in a loader process."""
    told = str(error)
    return told.strip().splitlines()[-1] if ORIGINAL in told else f"{type(error).__name__}: {told}"


def _whose(error: BaseException) -> str:
    """Whose fault an unexpected error is, by the innermost frame of selftrain or of a user's own code.

    Libraries are skipped: they raise the errors of their callers.
    """
    told = str(error)
    trace = told if ORIGINAL in told else "".join(traceback.format_tb(error.__traceback__))
    callers = [frame for frame in FRAME.findall(trace) if not _is_library(frame[0])]
    if not callers or Path(callers[-1][0]).is_relative_to(PACKAGE):
        return "this is a fault of selftrain: please report it"
    file, line, name = callers[-1]
    return f"raised outside of selftrain, by {name} in {file}:{line}: correct it there"


def _is_library(file: str) -> bool:
    """Whether a frame belongs to Python, to an installed package other than selftrain, or to no file."""
    path = Path(file)
    if path.is_relative_to(PACKAGE):
        return False
    return (
        file.startswith("<")
        or path.is_relative_to(STANDARD_LIBRARY)
        or any(folder in path.parts for folder in LIBRARIES)
    )


@contextmanager
def naming_savings(stage: str) -> Iterator[None]:
    """Turn failed allocations in the block into a ResourceError that names what to lower.

    `stage`: a key of SAVINGS.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, SelftrainError) or not is_out_of_memory(error):
            raise
        raise ResourceError(f"out of memory while {stage}; {_remedy(SAVINGS[stage], error)}") from error


def _remedy(savings: Savings, error: Exception) -> str:
    on_device = type(error).__name__ == "OutOfMemoryError" or "CUDA" in str(error) or "CUBLAS" in str(error)
    accepted = ", ".join(filter(None, (savings.batch, "" if on_device else savings.host)))
    return (f"lower {accepted} and run the same command again; " if accepted else "") + savings.otherwise


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error reports a failed allocation.

    Compares text: torch, not imported here, raises RuntimeError on CPUs.
    """
    return (
        isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or type(error).__name__ == "OutOfMemoryError"
        or any(sign in str(error) for sign in MEMORY_SIGNS)
    )


def resource_error(error: BaseException) -> ResourceError | None:
    """The ResourceError for a system limit that caused `error`, or None."""
    message = str(error)
    ended = re.search(r"DataLoader worker .* exit code (\d+)", message)
    if ended and int(ended[1]) in LOADER_ENDINGS:
        return ResourceError(LOADER_ENDINGS[int(ended[1])])
    if (isinstance(error, OSError) and error.errno in OPEN_FILES_ERRNOS) or any(
        sign in message for sign in OPEN_FILES_SIGNS
    ):
        return ResourceError(OPEN_FILES)
    if isinstance(error, OSError | RuntimeError) and any(sign in message for sign in SHARED_MEMORY_SIGNS):
        return ResourceError(SHARED_MEMORY)
    if is_out_of_memory(error):
        return ResourceError(OUT_OF_MEMORY)
    if isinstance(error, OSError | RuntimeError) and any(sign in message for sign in PROCESSES_SIGNS):
        return ResourceError(PROCESSES)
    return None


def _nobody_reads() -> bool:
    """Whether the standard output is a pipe whose reader is gone."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    except (OSError, ValueError):  # no file behind it, or closed
        return False


def _end_workers() -> None:
    """Kill loader processes.

    Otherwise exit waits for them, and torch raises in any code when one of them dies.
    """
    multiprocessing = sys.modules.get("multiprocessing")
    if multiprocessing:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for child in multiprocessing.active_children():
            child.kill()


def _own_words(message: str) -> str:
    """Extract the message of an error raised in a loader process, which torch wraps in a traceback."""
    last = message.strip().splitlines()[-1] if message.strip() else message
    return last.partition(": ")[2] if ORIGINAL in message else message


def _lost_process(error: BaseException) -> str:
    """A message if the error means that a loader worker or another rank has died, else an empty string.

    Either torch names the worker, or its pipe breaks first. Ranks communicate by gloo and NCCL, which raise
    RuntimeError.
    """
    message = str(error)
    if ORIGINAL in message:  # the process is alive and reports an error of its own
        return ""
    first = message.strip().splitlines()[0] if message.strip() else ""
    broken = isinstance(error, ConnectionError | EOFError)
    if broken:
        first = f"a DataLoader worker is gone ({first or type(error).__name__})"
    if "DataLoader worker" in message or broken:
        first = first.partition(". Details are lost")[0]
        return f"{first}; if memory ran out, lower train.workers or data.cache_mb, then run the same command"
    signs = ("Connection closed by peer", "Connection reset by peer", "gloo", "NCCL")
    if type(error).__name__.startswith("Dist") or any(sign in message for sign in signs):
        return (
            f"another process of this run is lost ({first}); its own message gives the reason; "
            "the same command resumes"
        )
    return ""
