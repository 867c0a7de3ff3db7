import errno
import subprocess
import sys

import pytest
import torch

from selftrain import errors
from selftrain.errors import exit_code_of

CODES = {
    "ConfigError": 2, "DataError": 3, "StorageError": 5, "IntegrityError": 6, "ResourceError": 7, "LearningError": 8,
    "LockedError": 73, "StoppedError": 75,
}  # fmt: skip


def raising(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(("name", "code"), CODES.items())
def test_each_failure_has_its_code_and_one_line(name, code, capsys):
    assert exit_code_of(raising(getattr(errors, name)("what, where; the way out"))) == code
    assert capsys.readouterr().err == "selftrain: error: what, where; the way out\n"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EFBIG])
def test_a_failing_disk_is_named_with_its_path(number, capsys):
    assert exit_code_of(raising(OSError(number, "said by the system", "/runs/x"))) == 5
    err = capsys.readouterr().err
    assert "/runs/x" in err and "said by the system" in err and "Traceback" not in err


def test_success_is_0_a_forced_end_130_and_memory_7():
    assert exit_code_of(lambda: None) == 0
    assert exit_code_of(raising(KeyboardInterrupt())) == 130
    assert exit_code_of(raising(MemoryError())) == 7


def test_an_output_that_nobody_reads_is_said_in_one_line():
    script = "from selftrain.errors import exit_code_of as e; import sys; sys.exit(e(lambda: print('x' * 100_000, flush=True)))"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == (
            "selftrain: error: nobody reads the standard output any more; give it a reader or a file\n"
        )
        assert process.wait() == 5


def test_our_own_faults_show_their_traceback(capsys):
    assert exit_code_of(raising(RuntimeError("oops"))) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "who"),
    [
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "a DataLoader worker is gone"),  # its pipe
        (EOFError(), "a DataLoader worker is gone (EOFError)"),  # killed while it handed a batch over
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), "DataLoader worker (pid 7)"),
        (torch.distributed.DistNetworkError("Broken pipe"), "another process of this run is lost (Broken pipe)"),
        (RuntimeError("[gloo/transport/tcp/pair.cc:7] Connection reset by peer"), "another process of this run is lost"),
    ],
)
def test_a_process_that_is_no_more_is_named(error, who, capsys):
    assert exit_code_of(raising(error)) == 7
    assert who in capsys.readouterr().err
