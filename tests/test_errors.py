import errno
import json
import mmap
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from selftrain import errors
from selftrain.config import Config
from selftrain.errors import exit_code_of
from selftrain.settings.changes import HARMLESS, ROUNDING, flat
from selftrain.tables import Must, parameters_of

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
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == (
            "selftrain: error: standard output was closed; redirect it to a file\n"
        )
        assert process.wait() == 5


def torch_on_a_cpu():
    torch.empty(1 << 50)


def numpy():
    np.empty(1 << 50)


def opencv():
    cv2.copyMakeBorder(np.zeros((1, 1), np.uint8), 0, 1 << 30, 0, 1 << 16, cv2.BORDER_CONSTANT)


def system():
    mmap.mmap(-1, 1 << 50)


def torch_on_a_gpu():
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def one_dnn():
    raise RuntimeError("could not create a primitive")


def cpp():
    raise RuntimeError("std::bad_alloc")


@pytest.mark.parametrize("refused", [torch_on_a_cpu, numpy, opencv, system, torch_on_a_gpu, one_dnn, cpp])
def test_memory_that_is_refused_is_7_whoever_says_it(refused, capsys):
    assert exit_code_of(refused) == 7
    err = capsys.readouterr().err
    assert err.startswith("selftrain: error: out of memory; lower data.cache_mb") and err.count("\n") == 1


@pytest.mark.parametrize("stage", [name for name in errors.SAVINGS if name != "predicting"])
def test_a_stage_names_first_what_a_resume_may_lower(stage):
    with (
        pytest.raises(errors.ResourceError, match=f"out of memory while {stage}; lower ") as raised,
        errors.naming_savings(stage),
    ):
        numpy()
    accepted, refused = (
        re.findall(r"[a-z]+\.[a-z_.]*[a-z_]", part) for part in str(raised.value).split(" again; ")
    )
    allowed = HARMLESS | ROUNDING
    assert accepted and set(accepted) <= allowed and refused and not set(refused) & allowed
    assert set(accepted + refused) <= set(flat(Config())) and "another out=" in str(raised.value)


def test_the_memory_of_a_gpu_is_not_saved_by_a_smaller_cache():
    with pytest.raises(errors.ResourceError) as raised, errors.naming_savings("evaluating"):
        torch_on_a_gpu()
    assert "lower train.eval_batch and run" in str(raised.value) and "cache" not in str(raised.value)


def test_the_innermost_stage_is_the_one_that_ran_out_of_memory_and_other_faults_pass():
    outer, inner = errors.naming_savings("training"), errors.naming_savings("evaluating")
    with pytest.raises(errors.ResourceError, match="while evaluating"), outer, inner:
        torch_on_a_cpu()
    with pytest.raises(RuntimeError, match="shapes do not fit"), errors.naming_savings("training"):
        raise RuntimeError("shapes do not fit")


@pytest.mark.parametrize(
    ("error", "way_out"),
    [
        (OSError(errno.EMFILE, "Too many open files", "/runs/x"), "ulimit -n"),
        (RuntimeError("received 0 items of ancdata"), "ulimit -n"),
        (
            RuntimeError(
                "unable to allocate shared memory(shm) for file </torch_1_2_3>: No space left on device (28)"
            ),
            "--shm-size",
        ),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. … out of shared memory."),
            "--shm-size",
        ),
        (
            RuntimeError(
                "DataLoader worker (pid 7) exited unexpectedly with exit code 24. Details are lost."
            ),
            "ulimit -n",
        ),
        (RuntimeError("can't start new thread"), "ulimit -u"),
    ],
)
def test_a_limit_of_the_system_is_7_with_the_way_out(error, way_out, capsys):
    assert exit_code_of(raising(error)) == 7
    err = capsys.readouterr().err
    assert way_out in err and err.count("\n") == 1


@pytest.mark.parametrize(("module", "words"), [("run", ["out=x"]), ("cli", ["status", "x"])])
def test_another_system_than_linux_is_told_at_the_doors(module, words):
    lacking = "import os, sys; del os.sched_getaffinity; sys.modules['fcntl'] = None; import runpy"
    script = f"{lacking}; runpy.run_module('selftrain.{module}', run_name='__main__')"
    ended = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True)
    assert ended.returncode == 2 and "runs on Linux only" in ended.stderr and "Traceback" not in ended.stderr


@pytest.mark.parametrize("broken", [errors.storage_error, parameters_of])  # the latter in a library
def test_our_own_faults_show_their_traceback_and_ask_for_a_report(broken, capsys):
    assert exit_code_of(lambda: broken(None)) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err and err.endswith(" (this is a fault of selftrain: please report it)\n")


def entry(*_):
    return {}["gama"]


def entry_that_breaks_a_library(*_):
    return np.linalg.inv(np.zeros((2, 2)))


def entry_that_breaks_pythons_library(*_):
    return json.loads("{")


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (entry, "KeyError: 'gama'"),
        (entry_that_breaks_a_library, "LinAlgError: Singular matrix"),
        (entry_that_breaks_pythons_library, "JSONDecodeError: Expecting property name"),
    ],
)
def test_an_error_in_a_function_of_a_user_names_it_and_its_file(function, said, capsys):
    """The function is called by selftrain, as entries of tables are."""
    where = f"{__file__}:{function.__code__.co_firstlineno + 1}"
    assert exit_code_of(lambda: Must("", function).fault(1)) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err and err.splitlines()[-1].startswith(f"selftrain: error: {said}")
    assert err.endswith(
        f" (raised outside of selftrain, by {function.__name__} in {where}: correct it there)\n"
    )


def test_an_error_in_a_function_of_a_user_is_named_from_a_loader_process_too(capsys):
    images = type("Images", (), {"__getitem__": entry, "__len__": lambda self: 1})()
    assert exit_code_of(lambda: list(DataLoader(images, num_workers=1))) == 1
    where = f"{__file__}:{entry.__code__.co_firstlineno + 1}"
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"selftrain: error: KeyError: 'gama' (raised outside of selftrain, by entry in {where}: correct it there)"
    )


@pytest.mark.parametrize(
    ("error", "who"),
    [
        (
            ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
            "a DataLoader worker is gone",
        ),  # its pipe
        (EOFError(), "a DataLoader worker is gone (EOFError)"),  # killed while it handed a batch over
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), "DataLoader worker (pid 7)"),
        (
            torch.distributed.DistNetworkError("Broken pipe"),
            "another process of this run is lost (Broken pipe)",
        ),
        (
            RuntimeError("[gloo/transport/tcp/pair.cc:7] Connection reset by peer"),
            "another process of this run is lost",
        ),
    ],
)
def test_a_process_that_is_no_more_is_named(error, who, capsys):
    assert exit_code_of(raising(error)) == 7
    assert who in capsys.readouterr().err
