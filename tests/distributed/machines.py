"""Hosts on one machine: network namespaces with a cable between them, host names, and disks of their own."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from runs import ROOT

PORT = "29511"  # of a network that nobody else uses
CARD = "cable"
TINY = [
    "recipe=smoke",
    "model.encoder=tu-test_resnet",
    "train.threads=1",
    "train.precision=none",
    "labels.crf.workers=1",
    "export.onnx=false",
    "keep_checkpoints=true",
    "train.eval_every=0",
]
NEEDED = ("ip", "unshare", "nsenter", "mount")


@dataclass(frozen=True)
class Host:
    """A host, which lives as long as its process `pid`. `disk` is what it sees at the place of the run."""

    number: int
    pid: int
    disk: Path

    @property
    def name(self) -> str:
        return f"host{self.number}"

    @property
    def address(self) -> str:
        return f"192.0.2.{self.number + 1}"

    def do(self, *words: str) -> None:
        """Run a command of the system on this host."""
        subprocess.run([*self.entered, *words], check=True, capture_output=True)

    @property
    def entered(self) -> list[str]:
        return ["nsenter", "--target", str(self.pid), "--net", "--uts", "--mount"]

    def cut(self) -> None:
        """Pull the cable."""
        self.do("ip", "link", "set", CARD, "down")

    def start(self, *command: str, **environment: str) -> subprocess.Popen:
        """Start a command on this host, in a session of its own."""
        return subprocess.Popen(
            [*self.entered, *command],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", **environment},
        )


def why_not() -> str:
    """Why no hosts can be made here; empty if they can."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        return f"no command {missing[0]}"
    tried = subprocess.run(["unshare", "--net", "--uts", "--mount", "true"], capture_output=True, text=True)
    return tried.stderr.strip()


@contextmanager
def cabled(place: Path, disks: list[Path]):
    """Two hosts that see `disks` at the folder `place`; the same disk twice is a shared one."""
    processes = [
        subprocess.Popen(["unshare", "--net", "--uts", "--mount", "sleep", "infinity"]) for _ in disks
    ]
    try:
        hosts = [Host(n, one.pid, disk) for n, (one, disk) in enumerate(zip(processes, disks, strict=True))]
        for host in hosts:
            _await(host)
            host.do("hostname", host.name)
            host.do("mount", "--bind", str(host.disk), str(place))
            host.do("ip", "link", "set", "lo", "up")
        first, second = hosts
        first.do("ip", "link", "add", CARD, "type", "veth", "peer", "name", CARD, "netns", str(second.pid))
        for host in hosts:
            host.do("ip", "address", "add", f"{host.address}/24", "dev", CARD)
            host.do("ip", "link", "set", CARD, "up")
        yield hosts
    finally:
        for one in processes:
            one.kill()
            one.wait()


def _await(host: Host) -> None:
    """Wait until the process of a host has left this machine's network."""
    while os.readlink(f"/proc/{host.pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt"):
        time.sleep(0.005)


def ranks(addresses: list[str], each: int = 1) -> list[dict[str, str]]:
    """The environments of `each` ranks on each host, as Slurm sets them."""
    count = each * len(addresses)
    place = {"MASTER_ADDR": addresses[0], "MASTER_PORT": PORT, "WORLD_SIZE": str(count)}
    own = {"LOCAL_WORLD_SIZE": str(each), "ACCELERATE_USE_CPU": "true", **place}
    return [{"RANK": str(n), "LOCAL_RANK": str(n % each), **own} for n in range(count)]


def ended(process: subprocess.Popen, timeout: float = 240) -> tuple[int, str, str]:
    """Exit code and output of a command; its session is killed if it does not end in time."""
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, out, err


def torchrun(hosts: list[Host], host: Host) -> list[str]:
    """torchrun with one process on each host."""
    return [
        *(
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--nnodes",
            str(len(hosts)),
            "--nproc_per_node",
            "1",
        ),
        *("--node_rank", str(host.number), "--master_addr", hosts[0].address, "--master_port", PORT),
    ]


def accelerate(hosts: list[Host], host: Host) -> list[str]:
    """`accelerate launch` with one process on each host. On GPUs the same without ACCELERATE_USE_CPU."""
    return [
        *(sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"),
        *("--num_machines", str(len(hosts)), "--num_processes", str(len(hosts))),
        *("--machine_rank", str(host.number), "--main_process_ip", hosts[0].address),
        *("--main_process_port", PORT),
    ]
