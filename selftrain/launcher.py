"""Settings of this process's launcher: precision and processes of `accelerate launch` and torchrun."""

import os
import socket
import struct
from argparse import Namespace
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selftrain.errors import ResourceError

COMMANDS = (
    "accelerate",
    "accelerate-launch",
    "accelerate.commands.launch",
    "accelerate.commands.accelerate_cli",
)
PROCESSES = Path("/proc")  # contains the command lines of processes on Linux
LOOPBACK, SIOCGIFADDR = "lo", 0x8915  # the latter asks for an interface's address: netdevice(7)
UNSAID = "no"  # the precision that accelerate passes on if none was given


@dataclass(frozen=True)
class Told:
    """A setting of the launcher and where it comes from, for messages."""

    value: str
    place: str


def precision() -> Told | None:
    """The precision given to the launcher, in accelerate's terms (no, bf16, fp16, ...), or None.

    accelerate passes on `no` either way, so its command line and config file are read. Without an accelerate
    process above this one, `no` was set in the environment. Without /proc, `no` counts as not given.
    """
    handed = os.environ.get("ACCELERATE_MIXED_PRECISION")
    if handed is None or (handed == UNSAID and not PROCESSES.is_dir()):
        return None
    command = _command()
    if command is None:
        return Told(handed, "ACCELERATE_MIXED_PRECISION")
    if command.mixed_precision:
        return Told(command.mixed_precision, "accelerate launch --mixed_precision")
    file, settings = _config(command)
    if getattr(settings, "mixed_precision", None):
        return Told(settings.mixed_precision, f"mixed_precision of {file}")
    return None if handed == UNSAID else Told(handed, "ACCELERATE_MIXED_PRECISION")


def check_processes(running: int) -> None:
    """Raises ResourceError if fewer processes work together than the launcher was asked to start.

    Each process would do the whole run alone, in the same directory.
    """
    world = Told(os.environ.get("WORLD_SIZE", "1"), "torchrun or WORLD_SIZE")
    for told in (_processes_of_accelerate(), world):
        if told and told.value.isdigit() and int(told.value) > running:
            each = os.environ.get("LOCAL_WORLD_SIZE", told.value)
            raise ResourceError(
                f"{told.value} processes were requested ({told.place}) and {running} runs; on CPUs use: "
                f"ACCELERATE_USE_CPU=true torchrun --nproc_per_node {each} -m selftrain.run …"
            )


def processes() -> int:
    """The number of processes that torchrun or `accelerate launch` started to work together."""
    world = os.environ.get("WORLD_SIZE", "1")
    return int(world) if world.isdigit() else 1


def find_interface() -> None:
    """Tell gloo which network interface leads to the other hosts, unless GLOO_SOCKET_IFNAME does.

    gloo takes the address of this host's name, which many systems set to 127.0.1.1.
    """
    address, here = os.environ.get("MASTER_ADDR"), os.environ.get("LOCAL_WORLD_SIZE", "")
    if not address or here == os.environ.get("WORLD_SIZE", "1") or "GLOO_SOCKET_IFNAME" in os.environ:
        return
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        asked.connect((address, 9))  # sends nothing
        name = _interface_of(asked.getsockname()[0])
        if name and name != LOOPBACK:
            os.environ["GLOO_SOCKET_IFNAME"] = name


def _interface_of(address: str) -> str | None:
    """The network interface with an IPv4 address."""
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # has none
                found = fcntl.ioctl(asked, SIOCGIFADDR, struct.pack("256s", name.encode()))
                if socket.inet_ntoa(found[20:24]) == address:
                    return name
    return None


def _processes_of_accelerate() -> Told | None:
    command = _command()
    if command is None:
        return None
    if command.num_processes:
        return Told(str(command.num_processes), "accelerate launch --num_processes")
    file, settings = _config(command)
    number = str(getattr(settings, "num_processes", ""))
    return Told(number, f"num_processes of {file}; --num_processes 1 overrides it")


def _command() -> Namespace | None:
    """The arguments of the `accelerate launch` that this process descends from, if it does."""
    for words in _ancestors():
        names = [Path(word).name for word in words[:3]]
        own = next((i for i, name in enumerate(names) if name in COMMANDS), None)
        if own is None:
            continue
        from accelerate.commands.launch import launch_command_parser

        own += words[own + 1 : own + 2] == ["launch"]
        try:
            return launch_command_parser().parse_args(words[own + 1 :])
        except SystemExit:  # raised by argparse for any other command
            continue
    return None


def _config(command: Namespace) -> tuple[str, Any]:
    """The config file that accelerate read, and its settings; with --cpu it skips its default file."""
    from accelerate.commands.config.config_args import default_config_file, load_config_from_file

    file = command.config_file or ("" if command.cpu else default_config_file)
    try:
        return (file, load_config_from_file(file)) if file and os.path.isfile(file) else ("", None)
    except (OSError, ValueError, TypeError):  # no longer readable: accelerate itself would have refused it
        return "", None


def _ancestors() -> Iterator[list[str]]:
    """The command lines of this process's ancestors, nearest first."""
    number = os.getppid()
    while number > 1:
        try:
            words = (PROCESSES / str(number) / "cmdline").read_text(errors="surrogateescape").split("\0")
            status = (PROCESSES / str(number) / "stat").read_text(errors="replace")
        except OSError:
            return
        yield words[:-1]
        number = int(status.rpartition(")")[2].split()[1])  # the name before it may contain anything
