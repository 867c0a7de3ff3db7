"""Faults brought about inside of a run: at its commits (fsync, rename, replace), when it opens files, in its losses.

A fault is a dict that JSON can carry: `{"do": "kill", "at": ["rename", "gen0/model"]}`. `sitecustomize.py` beside this
file applies the one in SELFTRAIN_FAULT to real commands; the zygote applies it to what it forks.
"""

import builtins
import ctypes
import errno
import fcntl
import itertools
import json
import os
import signal
import stat
import time

COMMITS = ("fsync", "rename", "replace")
LIBC = ctypes.CDLL(None, use_errno=True)
real = {name: getattr(os, name) for name in COMMITS}


def apply(fault: dict | None) -> None:
    """Bring `fault` about in this process; None: nothing."""
    if fault:
        FAULTS[fault["do"]](**{name: value for name, value in fault.items() if name != "do"})


def described(name: str, target: object) -> list[str]:
    """A commit's name, the same in every run: the call, and its path from the run directory on."""
    path = os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else os.fspath(target)
    root = os.environ["SELFTRAIN_FAULT_ROOT"]
    return [name, os.path.relpath(path, root)]


def at_commit(act, when: str = "before") -> None:
    """Call act([call, path]) before (or after) each commit."""

    def wrapped(name):
        def call(target, *args, **kwargs):
            commit = described(name, target)
            if when == "before":
                act(commit)
            result = real[name](target, *args, **kwargs)
            if when == "after":
                act(commit)
            return result

        return call

    for name in COMMITS:
        setattr(os, name, wrapped(name))


def trace(to: str, when: str = "before") -> None:
    """Write each commit down, a line of JSON each."""

    def note(commit):
        with open(to, "a") as file:
            file.write(json.dumps(commit) + "\n")

    at_commit(note, when)


def kill(at: list[str], when: str = "before", number: int = signal.SIGKILL) -> None:
    """Send this process a signal before (after) the commit `at`."""
    at_commit(lambda commit: os.kill(os.getpid(), number) if commit == at else None, when)


def kill_below(folder: str, call: str = "replace") -> None:
    """Kill this process before its first commit `call` in the folder `folder`."""

    def act(commit):
        if commit[0] == call and commit[1].startswith(f"{folder}/"):
            os.kill(os.getpid(), signal.SIGKILL)

    at_commit(act)


def kill_once(seen: str, when: str = "before") -> None:
    """Kill this process before (after) the first commit at which no process was killed yet, by the file `seen`."""
    known = set()
    if os.path.exists(seen):
        with open(seen) as file:
            known = {tuple(json.loads(line)) for line in file}

    def act(commit):
        if tuple(commit) not in known:
            with open(seen, "a") as file:
                file.write(json.dumps(commit) + "\n")
            os.kill(os.getpid(), signal.SIGKILL)

    at_commit(act, when)


def fail(at: list[str], error: str) -> None:
    """The commit `at` fails with the errno of that name."""
    number = getattr(errno, error)

    def act(commit):
        if commit == at:
            raise OSError(number, os.strerror(number), commit[1])

    at_commit(act)


def fail_open(path: str, error: str) -> None:
    """Opening a file whose name ends in `path` for writing fails with the errno of that name."""
    number, genuine = getattr(errno, error), builtins.open

    def guarded(file, mode="r", *args, **kwargs):
        if str(file).endswith(path) and mode[0] in "wax":
            raise OSError(number, os.strerror(number), str(file))
        return genuine(file, mode, *args, **kwargs)

    builtins.open = guarded


def no_locks(error: str) -> None:
    """Locks fail with the errno of that name, as on file systems that have none."""
    number = getattr(errno, error)

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    fcntl.lockf = refuse


def no_directory_sync(error: str) -> None:
    """fsync of a directory fails with the errno of that name; that of a file succeeds."""
    number = getattr(errno, error)

    def fsync(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(number, os.strerror(number))
        return real["fsync"](handle)

    os.fsync = fsync


def small_shared_memory(kilobytes: int, look: bool) -> None:
    """/dev/shm of this process and its children has so much room. Without `look`, the run does not look at it first."""
    from selftrain.data import loading

    private, recursive = 1 << 18, 1 << 14
    if LIBC.unshare(0x20000) or LIBC.mount(b"none", b"/", None, private | recursive, None):  # CLONE_NEWNS
        raise OSError(ctypes.get_errno(), "no mount namespace may be made here")
    if LIBC.mount(b"tmpfs", b"/dev/shm", b"tmpfs", 0, f"size={kilobytes}k".encode()):
        raise OSError(ctypes.get_errno(), "no mount namespace may be made here: no tmpfs")
    if not look:
        loading.check_shared = lambda needed: None


def open_files(limit: int, workers: bool) -> None:
    """This process may have `limit` files open from its first step on; `workers`: the limit is that of its loaders alone."""
    import resource

    from selftrain.data import loading

    def lower():
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

    if not workers:
        return on_step(lambda n, result: (lower(), result)[1])
    genuine = loading._prepare_worker
    loading._prepare_worker = lambda worker: (genuine(worker), lower())


def memory_for_labels(megabytes: int) -> None:
    """While it labels, this process may have so much memory beyond what it has."""
    import resource

    from selftrain.stages import pseudo_label

    genuine = pseudo_label.Labeller._fill

    def fill(*args, **kwargs):
        with open("/proc/self/statm") as file:
            limit = int(file.read().split()[0]) * resource.getpagesize() + megabytes * 2**20
        before = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
        genuine(*args, **kwargs)
        resource.setrlimit(resource.RLIMIT_AS, before)

    pseudo_label.Labeller._fill = fill


def memory_for_trial(megabytes: int) -> None:
    """While it tries its networks, this process may have so much memory beyond what it has."""
    import resource

    from selftrain import trial

    genuine = trial.check

    def check(*args, **kwargs):
        with open("/proc/self/statm") as file:
            limit = int(file.read().split()[0]) * resource.getpagesize() + megabytes * 2**20
        before = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
        try:
            genuine(*args, **kwargs)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)

    trial.check = check


def stop_workers(n: int, idle: float = 300) -> None:
    """In step `n`, stop the processes that load data; they count as stuck after `idle` seconds."""
    import multiprocessing

    from selftrain.data import loading

    loading.IDLE = idle

    def act(step, result):
        if step == n:
            for child in multiprocessing.active_children():
                os.kill(child.pid, signal.SIGSTOP)
        return result

    on_step(act)


def deaf_feeders(error: str) -> None:
    """The thread that sends the batches of a loader process fails, as where it finds no file handle."""
    from multiprocessing import reduction

    from selftrain.data import loading

    number, genuine = getattr(errno, error), loading._prepare_worker

    def prepare(worker):
        def dumps(*_):
            raise OSError(number, os.strerror(number))

        genuine(worker)
        reduction.ForkingPickler.dumps = dumps

    loading._prepare_worker = prepare


def on_step(act) -> None:
    """Call act(n, result) with the n-th step of training of this process, and use what it returns."""
    from selftrain.methods.self_training import SelfTraining

    genuine, calls = SelfTraining.loss, iter(range(1 << 60))
    SelfTraining.loss = lambda self, *seen: act(next(calls), genuine(self, *seen))


def not_a_number(first: int, last: int) -> None:
    """The losses of this process's steps `first` to `last` are NaN."""
    from dataclasses import replace

    on_step(
        lambda n, result: replace(result, loss=result.loss * float("nan")) if first <= n <= last else result
    )


def at_step(n: int, rank: str, number: int = 0) -> None:
    """In step `n` of this process, if it is `rank`: send it a signal, or, without one, raise."""

    def act(step, result):
        if step == n:
            if not number:
                raise RuntimeError("a fault of this rank alone")
            os.kill(os.getpid(), number)
        return result

    if os.environ.get("RANK", "0") == rank:
        on_step(act)


def kill_worker(n: int) -> None:
    """In step `n`, kill a process that loads data."""
    import multiprocessing

    def act(step, result):
        if step == n:
            os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
        return result

    on_step(act)


def starve_worker(n: int, group: str) -> None:
    """In step `n`, put a process that loads data into the control group `group`, whose memory is limited."""
    import multiprocessing

    def act(step, result):
        if step == n:
            with open(f"{group}/cgroup.procs", "w") as file:
                file.write(str(multiprocessing.active_children()[0].pid))
        return result

    on_step(act)


def offline() -> None:
    """This process and its children have no network."""
    if LIBC.unshare(0x40000000):  # CLONE_NEWNET
        raise OSError(ctypes.get_errno(), "no network namespace may be made here")


def on_host(pid: int, then: dict | None = None) -> None:
    """This process runs on the host that the process `pid` keeps (tests/distributed), with a further fault."""
    for handle in [os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY) for kind in ("net", "uts", "mnt")]:
        if LIBC.setns(handle, 0):
            raise OSError(ctypes.get_errno(), "cannot enter the host")
    apply(then)


def another_machine(name: str, stall: float, then: dict | None = None) -> None:
    """This process is on the machine `name`, where locks are granted whoever else has them; with a further fault."""
    from selftrain import claim, process

    fcntl.lockf = lambda *_: None
    process.machine = lambda: name
    claim.BEAT, claim.STALL = stall / 5, stall
    apply(then)


def crf_without_memory() -> None:
    """The CRF finds no memory at its third call."""
    from selftrain.labels import crf

    genuine, calls = crf.compiled(), itertools.count(1)

    class Starved:
        @staticmethod
        def mean_field(*args):
            return next(calls) == 3 or genuine.mean_field(*args)

    crf.compiled = lambda: Starved


def no_training() -> None:
    """The run ends where training would begin."""
    from selftrain.stages import train

    def refuse(*args, **kwargs):
        raise RuntimeError("training was reached")

    train.train = refuse


def one_class() -> None:
    """The teacher says the same of every pixel."""
    from selftrain.inference import tta

    genuine = tta.predict

    def predict(*args, **kwargs):
        probs = genuine(*args, **kwargs).clone().zero_()
        probs[:, 0] = 1
        return probs

    tta.predict = predict


def slow_steps(seconds: float) -> None:
    """Each step of training takes so much longer."""

    def act(step, result):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(0.01)
        return result

    on_step(act)


def clock(seconds: float) -> None:
    """A wall clock that is `seconds` ahead."""
    genuine = time.time
    time.time = lambda: genuine() + seconds


def blind_to_space() -> None:
    """The run does not look at the free space before it begins."""
    from selftrain import preflight

    preflight.check_space = lambda *_, **__: None


def limit_files(size: int) -> None:
    """No file of this process may grow beyond `size` bytes."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


KINDS = (
    trace, kill, kill_below, kill_once, fail, fail_open, not_a_number, at_step, kill_worker, starve_worker, crf_without_memory, one_class,
    no_training, offline, slow_steps, clock, blind_to_space, limit_files, no_locks, no_directory_sync, small_shared_memory,
    open_files, memory_for_labels, memory_for_trial, stop_workers, deaf_feeders, on_host, another_machine,
)  # fmt: skip
FAULTS = {function.__name__: function for function in KINDS}
