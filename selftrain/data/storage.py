"""The only way to open data files: it opens regular files only."""

import hashlib
import os
import stat
from io import BufferedReader
from pathlib import Path

from selftrain.data.faults import Fault
from selftrain.errors import DataError


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file that is not empty.

    Raises DataError(Fault) for anything else: a FIFO would hang, a device might act.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise DataError(Fault(str(path), "is not a regular file", "remove it"))
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        what = f"cannot be opened ({error.strerror})"
        raise DataError(Fault(str(path), what, "restore it or its permissions")) from error
    file = os.fdopen(descriptor, "rb")
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_size > 0:
        return file
    file.close()
    what = "is empty (0 bytes)" if stat.S_ISREG(status.st_mode) else "is not a regular file"
    raise DataError(Fault(str(path), what, "replace or remove it"))


def fingerprint(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal. Raises DataError(Fault) like `open_regular`."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
