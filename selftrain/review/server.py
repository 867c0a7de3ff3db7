"""The web server of a review: a page for one person or several at this machine, and what its scripts ask.

It listens on the loopback address. Every address begins with a secret token. The page loads nothing from
elsewhere, which its Content-Security-Policy enforces.
"""

import gzip
import io
import json
import secrets
import threading
import zlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from selftrain.data.sample import Sample
from selftrain.errors import SelftrainError, storage_error
from selftrain.labels.crf import CRF
from selftrain.labels.record import Label
from selftrain.report.palette import palette
from selftrain.review.refine import refined
from selftrain.review.store import Change, ConflictError, RefusedError, Store, blank
from selftrain.verdicts import OPEN, Planes

STATIC = Path(__file__).parent / "static"
HOSTS = ["127.0.0.1", "localhost"]
KEPT = 8  # images and labels in memory
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
Answer = Callable[[Request], Awaitable[Response]]


@dataclass
class Reviewing:
    """The images that are reviewed, in their order, and everything that the page asks about them."""

    title: str
    samples: Sequence[Sample]
    classes: Sequence[str]
    store: Store
    label: Callable[[Sample, np.ndarray], Label]  # the pseudo-label of a sample, whose image is (H, W, C)
    crf: CRF
    turn: threading.Lock = field(default_factory=threading.Lock)  # networks label one image at a time

    def __post_init__(self) -> None:
        self.image = lru_cache(KEPT)(lambda place: self.samples[place].read_image())
        self._labelled = lru_cache(KEPT)(lambda place: self.label(self.samples[place], self.image(place)))

    def labelled(self, place: int) -> Label:
        """The pseudo-label of an image."""
        with self.turn:
            return self._labelled(place)

    def planes(self, place: int) -> Planes:
        """The saved mask of an image over its pseudo-label, and where it is known."""
        hard = self.labelled(place).hard
        saved = self.store.planes(self.samples[place].id)
        if saved is None or saved[0].shape != hard.shape:
            return blank(hard)
        ids, known = saved
        return np.where(known, ids, hard), known

    def state(self) -> dict:
        """What the page shows before any image is loaded."""
        colours = palette(len(self.classes))[: len(self.classes)].tolist()
        return {
            "title": self.title,
            "classes": [
                {"name": name, "colour": colour} for name, colour in zip(self.classes, colours, strict=True)
            ],
            "images": [self.row(place) for place in range(len(self.samples))],
        }

    def row(self, place: int) -> dict:
        """The state of one image."""
        row = self.store.rows.get(self.samples[place].id)
        found = {"version": 0, "verdict": OPEN, "partial": False} if row is None else asdict(row)
        return {
            "id": self.samples[place].id,
            **{key: found[key] for key in ("version", "verdict", "partial")},
        }


def application(reviewing: Reviewing, token: str) -> Starlette:
    """The server. It refuses addresses without the token, and Host headers that do not name this machine."""
    api = [
        Route("/api/state", _plain(lambda request: JSONResponse(reviewing.state()))),
        Route("/api/images/{place:int}/picture", _plain(lambda request: _picture(reviewing, request))),
        Route("/api/images/{place:int}/planes", _plain(lambda request: _planes(reviewing, request))),
        Route("/api/images/{place:int}/save", _posted(reviewing, _save), methods=["POST"]),
        Route("/api/images/{place:int}/refine", _posted(reviewing, _refine), methods=["POST"]),
    ]
    page = Mount("/", app=StaticFiles(directory=STATIC, html=True))
    middleware = [
        Middleware(_Guard, token=token),
        Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS),
    ]
    return Starlette(routes=[Mount("/{token:str}", routes=[*api, page])], middleware=middleware)


@dataclass
class _Guard:
    """Lets requests with the token in their path through, and adds the headers of HEADERS to all answers."""

    app: ASGIApp
    token: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *own]
            await send(message)

        given = str(scope.get("path", "")).split("/")
        if scope["type"] != "http":
            await self.app(scope, receive, send)  # the start and the end of the server
        elif len(given) < 3 or not secrets.compare_digest(given[1].encode(), self.token.encode()):
            answer = PlainTextResponse("Open the whole address that selftrain review printed.\n", 404)
            await answer(scope, receive, with_headers)
        else:
            await self.app(scope, receive, with_headers)


def _plain(answer: Callable[[Request], Response]) -> Callable[[Request], Response]:
    """An endpoint for a function that may fail; Starlette runs it in a thread."""

    def answered(request: Request) -> Response:
        return _told(lambda: answer(request))

    return answered


def _posted(
    reviewing: Reviewing, answer: Callable[[Reviewing, Request, bytes], Response]
) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint for a function that also gets the two planes of the request, as bytes."""

    async def answered(request: Request) -> Response:
        body = await request.body()
        return await run_in_threadpool(_told, lambda: answer(reviewing, request, body))

    return answered


def _told(answer: Callable[[], Response]) -> Response:
    """The answer, or what went wrong, in words that the page shows."""
    try:
        return answer()
    except IndexError:
        return _problem("there is no such image", 404)
    except ConflictError as error:
        return JSONResponse({"problem": "another reviewer changed this image", **asdict(error.row)}, 409)
    except (RefusedError, ValueError, KeyError, zlib.error) as error:
        return _problem(str(error), 400)
    except SelftrainError as error:
        return _problem(str(error), 500)
    except OSError as error:
        return _problem(str(storage_error(error)), 507)


def _problem(text: str, status: int) -> Response:
    return JSONResponse({"problem": text}, status)


def _place(reviewing: Reviewing, request: Request) -> int:
    place = int(request.path_params["place"])
    reviewing.samples[place]  # raises IndexError
    return place


def _picture(reviewing: Reviewing, request: Request) -> Response:
    """The image as PNG; of more than three channels, the first ones."""
    image = reviewing.image(_place(reviewing, request))
    shown = image[..., :3] if image.shape[2] >= 3 else image[..., 0]
    content = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(shown)).save(content, format="PNG", compress_level=1)
    return Response(content.getvalue(), media_type="image/png")


def _planes(reviewing: Reviewing, request: Request) -> Response:
    """Pseudo-label, class ids, and where they are known: three planes (H, W) of bytes in a row."""
    place = _place(reviewing, request)
    row = reviewing.row(place)  # before the planes: a change in between is a conflict, not an overwrite
    ids, known = reviewing.planes(place)
    return _packed(row, reviewing.labelled(place).hard, ids, known)


def _packed(row: dict, *planes: np.ndarray) -> Response:
    content = b"".join(plane.astype(np.uint8).tobytes() for plane in planes)
    height, width = planes[0].shape
    about = json.dumps({**row, "height": height, "width": width})
    headers = {"content-encoding": "gzip", "x-about": about}
    return Response(gzip.compress(content, 1), media_type="application/octet-stream", headers=headers)


def _unpacked(reviewing: Reviewing, place: int, body: bytes) -> Planes:
    """The two planes of a request. Raises ValueError for other bytes."""
    shape = reviewing.labelled(place).hard.shape
    count = shape[0] * shape[1]
    unpacker = zlib.decompressobj(wbits=31)
    content = unpacker.decompress(body, 2 * count + 1)
    if len(content) != 2 * count or not unpacker.eof:
        raise ValueError(f"the request has {len(content)} bytes, not two planes of {shape[0]} x {shape[1]}")
    ids, known = np.frombuffer(content, np.uint8).reshape(2, *shape)
    return ids, known > 0


def _save(reviewing: Reviewing, request: Request, body: bytes) -> Response:
    """Save a verdict, with the planes if it has any; answers with the new state of the image."""
    place, asked = _place(reviewing, request), request.query_params
    planes = _unpacked(reviewing, place, body) if body else None
    change = Change(
        reviewing.samples[place].id, int(asked["version"]), asked["verdict"], asked["key"], planes
    )
    reviewing.store.save(change)
    return JSONResponse(reviewing.row(place))


def _refine(reviewing: Reviewing, request: Request, body: bytes) -> Response:
    """The planes of an image after the CRF has moved the borders within a box. Nothing is saved."""
    place, asked = _place(reviewing, request), request.query_params
    top, left, bottom, right = (int(asked[name]) for name in ("top", "left", "bottom", "right"))
    soft = reviewing.labelled(place).soft(len(reviewing.classes))
    planes = _unpacked(reviewing, place, body)
    found = refined(reviewing.image(place), planes, soft, (top, left, bottom, right), reviewing.crf)
    return _packed(reviewing.row(place), *found)
