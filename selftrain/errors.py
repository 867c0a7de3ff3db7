"""What can go wrong, and the exit code of each (docs/design.md, "Exit codes")."""

import errno
import sys
import traceback
from collections.abc import Callable

STORAGE_ERRNOS = {errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE, errno.ENFILE}
FORCED = 130
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
    return StorageError(f"cannot write {where}: {error.strerror}; free space or mend the disk, then run the same command")


def exit_code_of(main: Callable[[], None]) -> int:
    """Run `main`, print a failure as the last line of stderr, and return the process exit code.

    A user's mistake gives one line; a traceback is printed for our own faults only.
    """
    try:
        main()
    except SelftrainError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted; the same command resumes", FORCED)
    except OSError as error:
        if error.errno not in STORAGE_ERRNOS:
            traceback.print_exc()
            return _fail(f"{type(error).__name__}: {error}", 1)
        mended = storage_error(error)
        return _fail(str(mended), mended.exit_code)
    except MemoryError:
        return _fail(OUT_OF_MEMORY, ResourceError.exit_code)
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":  # torch's; torch is not imported here
            return _fail(OUT_OF_MEMORY, ResourceError.exit_code)
        traceback.print_exc()
        return _fail(f"{type(error).__name__}: {error} (this is a fault of selftrain: please report it)", 1)
    return 0


def _fail(message: str, code: int) -> int:
    print(f"selftrain: error: {message}", file=sys.stderr, flush=True)
    return code
