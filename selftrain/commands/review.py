"""`selftrain review RUN`: correct pseudo-labels in the browser."""

import argparse
import json
import os
import secrets
import socket
import webbrowser
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from selftrain.commands import Commands, begun, command, path, propose
from selftrain.errors import ConfigError, IntegrityError
from selftrain.files import digest_of, read_json, write_json
from selftrain.log import say
from selftrain.rundir import WEIGHTS, RunDir

if TYPE_CHECKING:
    from selftrain.commands.asked import Question
    from selftrain.review.server import Reviewing

COUNT = 100
ORDER, ADDRESS = "order.json", "address.json"
HOST, PORTS = "127.0.0.1", 65536
MISSING = "selftrain review needs starlette and uvicorn: pip install 'selftrain[review]'"


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    child = command(commands, review, "runs/first --open")
    child.add_argument("run_directory", type=path, help="a run with a finished generation")
    text = "images that are put in the order of selftrain next; the others follow by name"
    child.add_argument("-n", "--count", type=int, default=COUNT, help=f"{text} (default: {COUNT})")
    text = "port of this machine (default: the last one, or a free one)"
    child.add_argument("--port", type=int, default=0, help=text)
    child.add_argument("--open", action="store_true", help="open the page in the browser")


def review(arguments: argparse.Namespace) -> None:
    """Accept, reject or correct the pseudo-labels of a run on a page in the browser."""
    try:
        import uvicorn

        from selftrain.review.server import application
    except ModuleNotFoundError as error:
        raise ConfigError(f"{MISSING} ({error.name} is missing)") from None
    run = begun(arguments.run_directory)
    if arguments.count < 1:
        raise ConfigError(f"-n {arguments.count}: order at least one image")
    if not 0 <= arguments.port < PORTS:
        raise ConfigError(f"--port {arguments.port}: give a number from 1 to {PORTS - 1}")
    reviewing = _reviewing(run, arguments.count)
    listening, token = _listening(run.review, arguments.port)
    address = f"http://{HOST}:{listening.getsockname()[1]}/{token}/"
    config = uvicorn.Config(
        application(reviewing, token), log_level="warning", access_log=False, lifespan="off", ws="none"
    )
    say(f"{len(reviewing.samples)} images to review, at this machine only: {address}")
    say(f"Ctrl-C ends the review. The next generation uses it with data.reviewed={run.review}")
    if arguments.open:
        webbrowser.open(address)
    with suppress(KeyboardInterrupt):  # every change is on disk already
        uvicorn.Server(config).run(sockets=[listening])
    say(f"the review is in {run.review}")


def _reviewing(run: RunDir, count: int) -> "Reviewing":
    """Everything that the page shows. Raises LockedError while another process reviews the run."""
    from selftrain.base import leader_of
    from selftrain.commands import asked
    from selftrain.labels.crf import crf_of
    from selftrain.review.server import Reviewing
    from selftrain.review.store import Store
    from selftrain.settings import stored

    number = leader_of(run)
    question = asked.of_run(run, [], [])
    propose.refuse_nothing(question)
    data, teacher = question.data, digest_of(run.generation(number).model / WEIGHTS)
    store = Store(run.review, data.classes, [one.id for one in data.unlabelled], teacher)
    names = _order(run, question, count, teacher)
    known = {one.id: one for one in data.unlabelled}
    samples = [known.pop(name) for name in names if name in known] + list(known.values())
    title = f"Review of {run.path.name}, generation {number}"
    label = asked.labels_of(run, number, question)
    crf = crf_of(stored(run.config, []).labels.crf)
    return Reviewing(title, samples, data.classes, store, label, crf)


def _order(run: RunDir, question: "Question", count: int, teacher: str) -> list[str]:
    """The ids of `count` images in the order of `selftrain next`; the same as before for the same leader."""
    file = run.review / ORDER
    if file.exists():
        before = read_json(file, "teacher", "images")
        if before["teacher"] == teacher and len(before["images"]) == min(
            count, len(question.data.unlabelled)
        ):
            return list(before["images"])
    found = [one.sample.id for one in propose.proposals(question, count)]
    write_json(file, {"teacher": teacher, "images": found})
    return found


def _listening(folder: Path, port: int) -> tuple[socket.socket, str]:
    """A socket of the loopback address, and the token of the page.

    The last address is used again if possible, so that an open page continues after a restart. Raises
    ConfigError if `port` is taken.
    """
    file = folder / ADDRESS
    before: dict = {}
    with suppress(IntegrityError):
        before = read_json(file, "port", "token")
    token = str(before.get("token") or secrets.token_urlsafe(24))
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port or int(before.get("port", 0))))
    except OSError as error:
        if port:
            raise ConfigError(f"--port {port}: {error.strerror}; choose another one") from None
        listening.bind((HOST, 0))
    with open(
        os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w"
    ) as stream:  # nobody else reads it
        json.dump({"port": listening.getsockname()[1], "token": token}, stream)
    return listening, token
