"""What the server of a review answers, and to whom."""

import argparse
import gzip
import http.client
import json
import sys

import numpy as np
import pytest
from reviewing import CLASSES, EDGES, HEIGHT, IMAGES, SQUARE, TOKEN, WIDTH, Drawn, drawn, ground, served

from selftrain.commands import review
from selftrain.data.sample import Sample
from selftrain.errors import ConfigError
from selftrain.review.refine import refined

SHAPE = (HEIGHT, WIDTH)


@pytest.fixture(scope="module")
def at(tmp_path_factory):
    """at(path, …) -> (status, headers, content) of a request to the server."""
    reviewing = drawn(tmp_path_factory.mktemp("server") / "review")
    with served(reviewing) as (_, port):

        def ask(path, *, body=None, host=f"127.0.0.1:{port}", token=TOKEN):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            connection.request("POST" if body is not None else "GET", f"/{token}{path}", body, {"Host": host})
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return (
                answer.status,
                headers,
                gzip.decompress(content) if "content-encoding" in headers else content,
            )

        yield ask


def packed(ids, known):
    return gzip.compress(ids.astype(np.uint8).tobytes() + known.astype(np.uint8).tobytes())


def test_only_this_machine_with_the_token_is_answered_and_all_answers_are_guarded(at):
    for path in ("/", "/app.js", "/api/state", "/api/images/0/picture"):
        assert at(path)[0] == 200, path
        assert at(path, token="guess")[0] == 404 and at(path, token="")[0] == 404
        assert at(path, host="evil.example")[0] == 400
        assert at(path, host="localhost")[0] == 200
    for answer in (at("/"), at("/nothing"), at("/", token="guess"), at("/", host="evil.example")):
        policy = answer[1]["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "*" not in policy
        assert answer[1]["referrer-policy"] == "no-referrer"  # the token is in the address
    assert at("/../store.py")[0] == 404


def test_planes_come_as_the_pseudo_label_with_what_was_painted(at):
    ids, known = np.zeros(SHAPE), np.zeros(SHAPE)
    ids[2:5], known[2:5] = 2, 1
    status, _, content = at("/api/images/1/save?version=0&verdict=correct&key=k", body=packed(ids, known))
    assert status == 200 and json.loads(content) == {
        "id": IMAGES[1],
        "version": 1,
        "verdict": "correct",
        "partial": True,
    }
    _, headers, content = at("/api/images/1/planes")
    label, found, painted = np.frombuffer(content, np.uint8).reshape(3, *SHAPE)
    assert not label.any() and (found == ids).all() and (painted == known).all()
    assert json.loads(headers["x-about"])["version"] == 1
    state = json.loads(at("/api/state")[2])
    assert [one["name"] for one in state["classes"]] == CLASSES
    assert [one["verdict"] for one in state["images"]] == ["open", "correct", "open"]


def test_a_stale_version_is_a_conflict_and_wrong_requests_are_named(at):
    save, whole = "/api/images/2/save", packed(np.zeros(SHAPE), np.ones(SHAPE))
    assert at(f"{save}?version=0&verdict=accept&key=a", body=whole)[0] == 200
    status, _, content = at(f"{save}?version=0&verdict=reject&key=b", body=b"")
    assert status == 409 and json.loads(content)["verdict"] == "accept"
    for path, body in [
        (f"{save}?version=1&verdict=accept&key=c", packed(np.zeros(3), np.ones(3))),
        (f"{save}?version=1&verdict=accept&key=c", gzip.compress(bytes(3 * HEIGHT * WIDTH))),
        (f"{save}?version=1&verdict=accept&key=c", b"not gzip"),
        (f"{save}?version=one&verdict=accept&key=c", whole),
        (f"{save}?verdict=accept&key=c", whole),
        ("/api/images/2/refine?top=5&left=5&bottom=5&right=9", whole),
    ]:
        assert at(path, body=body)[0] == 400, path
    assert at("/api/images/3/planes")[0] == 404
    assert json.loads(at("/api/state")[2])["images"][2]["version"] == 1


@pytest.mark.parametrize("name", ["uvicorn", "starlette"])
def test_a_missing_package_is_named_with_its_extra(monkeypatch, tmp_path, name):
    for module in [
        one for one in sys.modules if one.split(".")[0] == name or one == "selftrain.review.server"
    ]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=r"pip install 'selftrain\[review\]'.*" + name):
        review.review(argparse.Namespace(run_directory=tmp_path, count=1, port=0, open=False))


def test_the_address_stays_private_and_the_same(tmp_path):
    first, token = review._listening(tmp_path, 0)
    port = first.getsockname()[1]
    assert (tmp_path / review.ADDRESS).stat().st_mode & 0o777 == 0o600 and first.getsockname()[
        0
    ] == "127.0.0.1"
    first.close()
    again, same = review._listening(tmp_path, 0)
    assert (again.getsockname()[1], same) == (port, token) and len(token) >= 32
    again.listen()
    with pytest.raises(ConfigError, match=f"--port {port}"):
        review._listening(tmp_path, port)
    again.close()


def test_refinement_moves_a_sketch_to_the_edges_within_the_box():
    image, sample = Drawn().read(), Sample("a", Drawn(), None)
    ids, known = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, bool)
    sketch = (slice(10, 24), slice(10, 26))  # off by two pixels, both ways
    ids[sketch], known[sketch] = 1, True
    soft = ground(sample, image).soft(3)
    found, told = refined(image, (ids, known), soft, (4, 6, 28, 34), EDGES)
    square = np.zeros(SHAPE, np.uint8)
    square[SQUARE] = 1
    assert (found != square).sum() < (ids != square).sum() / 4
    assert (told == (known | (found != ids))).all()
    outside, _ = refined(image, (ids, known), soft, (0, 0, 6, 40), EDGES)
    assert (outside == ids).all()
    ignored, _ = refined(
        image, (np.where(known, 255, ids).astype(np.uint8), known), soft, (4, 6, 28, 34), EDGES
    )
    assert (ignored[sketch] == 255).all()
    with pytest.raises(ValueError, match="takes grey images and RGB"):
        refined(image[..., :2], (ids, known), soft, (4, 6, 28, 34), EDGES)
