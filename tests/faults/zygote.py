"""Starts runs quickly: imports everything once, then forks a process for each request.

A forked run differs from one of `python -m selftrain.run` in nothing that it does between its imports and the end of its
interpreter, which does not take the modules apart. tests/test_resume.py, test_packaging.py and test_processes.py start
the real command. Requests and answers are lines of JSON:

    {"start": {"argv": [...], "cwd": "...", "env": {...}, "fault": {...}, "stdout": path, "stderr": path}}  ->  {"pid": 1234}
    {"wait": 1234, "timeout": 60}  ->  {"code": -9, "seconds": 1.2, "rss_mb": 310}
"""

import atexit
import gc
import importlib
import json
import os
import resource
import runpy
import signal
import sys
import threading
import time
from functools import partial

sys.path.insert(0, os.path.dirname(__file__))
import inject

PARTS = (
    "selftrain.cli", "selftrain.run", "selftrain.generations", "selftrain.prediction.predict", "hydra", "tensorboard",
    "torch.utils.tensorboard", "torch.utils.data", "matplotlib.pyplot", "matplotlib.backends.backend_svg",
)  # fmt: skip


def serve() -> None:
    for name in PARTS:
        importlib.import_module(name)
    gc.freeze()  # a fork that looks through all of this copies its pages: a second for each run
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    began = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "start" in request:
            pid = os.fork()
            if not pid:
                work(**request["start"])
            began[pid] = time.monotonic()
            answer = {"pid": pid}
        else:
            answer = wait(request["wait"], request["timeout"], began)
        print(json.dumps(answer), file=answers, flush=True)


def work(argv: list[str], cwd: str, env: dict, fault: dict | None, stdout: str, stderr: str) -> None:
    """The forked run."""
    from selftrain import cli, run
    from selftrain.errors import exit_code_of

    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, path in ((1, stdout), (2, stderr)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    os.chdir(cwd)
    os.environ |= env
    inject.apply(fault)
    sys.argv = ["selftrain", *argv[1:]]
    if argv[0].endswith(".py"):  # a script, of which Python would search the folder as well
        sys.path.insert(0, os.path.dirname(os.path.abspath(argv[0])))
        main = partial(runpy.run_path, argv[0], run_name="__main__")
    else:
        main = {"run": run, "cli": cli}[argv[0]].main
    try:
        code = exit_code_of(main)
    except SystemExit as ended:  # the arguments were wrong, or --help
        code = ended.code or 0
    end(code)


def end(code: int) -> None:
    """End as the interpreter does, but for its modules: to free all of them copies their pages, a quarter of a second."""
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def wait(pid: int, timeout: float, began: dict) -> dict:
    deadline = time.monotonic() + timeout
    done, status, usage = os.wait4(pid, os.WNOHANG)
    while not done and time.monotonic() < deadline:
        time.sleep(0.003)
        done, status, usage = os.wait4(pid, os.WNOHANG)
    if not done:
        os.killpg(pid, signal.SIGKILL)
        os.wait4(pid, 0)
        return {"code": None, "seconds": timeout, "rss_mb": 0}
    seconds = time.monotonic() - began.pop(pid)
    return {"code": os.waitstatus_to_exitcode(status), "seconds": seconds, "rss_mb": usage.ru_maxrss / 1024}


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    serve()
