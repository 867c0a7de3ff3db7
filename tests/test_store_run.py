"""Runs whose images are on object storage, behind a proxy that injects faults."""

import io
import shutil
import signal

import pytest
from object_store import Fault, running
from PIL import Image
from test_own_images import OWN, folder, scene

from runs import fingerprint, kill_when, run_command

pytestmark = pytest.mark.promise(
    "object storage that fails, is slow or cuts connections: the same bits, or an error that says what to check"
)


def png(seed: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(scene(seed)[0]).save(stream, "PNG")
    return stream.getvalue()


def faulty() -> list[Fault]:
    return [Fault(500, ("list-type",)), Fault(503, ("unlabelled",)), Fault("cut", ("images",))]


def test_a_store_that_stays_down_ends_a_run_with_code_5(zygote, tmp_path):
    data = ["data=folder", "data.root=s3://bucket/set", "data.classes=[a,b]", "data.store.tries=1"]
    environment = {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
    }
    ended = zygote.start(*OWN, *data, f"out={tmp_path / 'run'}", **environment).wait()
    assert ended.code == 5, ended.err
    assert "s3://bucket/set cannot be read after 1 tr" in ended.last and "AWS_ENDPOINT_URL" in ended.last


def test_a_run_from_a_store_has_the_bits_of_the_run_from_the_folder(run, zygote, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    data = [*folder(tmp_path / "data", labelled=6, unlabelled=3), "train.steps=2"]
    code, _, err = run(*OWN, *data, f"out={here}")
    assert code == 0, err
    with running() as store:
        url = store.upload(tmp_path / "data", "set")
        store.faults += faulty()
        settings = [*OWN, *data, f"data.root={url}", "train.workers=1", f"out={there}"]
        environment = {**store.environment, "XDG_CACHE_HOME": str(tmp_path / "cache")}
        ended = zygote.start(*settings, **environment).wait()
        assert ended.code == 0, ended.err
        assert fingerprint(there) == fingerprint(here)
        assert not any(fault.times for fault in store.faults)
        objects = len(list((tmp_path / "data").rglob("*.png")))
        assert objects <= len({path for _, path, _ in store.reads()}) and len(store.reads()) <= objects + 8

        store.put("set/images/3.png", png(33))
        store.requests.clear()
        ended = zygote.start(*settings, **environment).wait()
        assert ended.code == 3, ended.err
        assert "1 other content, e.g. images/3" in ended.last
        assert not store.reads()  # its ETag tells


@pytest.mark.slow
@pytest.mark.parametrize("at", ["gen0/checkpoints/step-000003", "gen0/labels/index.json", "gen1/checkpoints"])
def test_a_killed_run_that_then_finds_its_store_down_resumes_to_the_same_bits(run, tmp_path, monkeypatch, at):
    whole, killed, cache = tmp_path / "whole", tmp_path / "killed", tmp_path / "cache"
    data = [*OWN, *folder(tmp_path / "data")]
    assert run(*data, f"out={whole}")[0] == 0
    with running() as store:
        for name, value in {**store.environment, "XDG_CACHE_HOME": str(cache)}.items():
            monkeypatch.setenv(name, value)
        data += [f"data.root={store.upload(tmp_path / 'data', 'set')}", "train.workers=2", f"out={killed}"]
        store.faults += faulty()
        assert kill_when(killed / at, *data) == -signal.SIGKILL
        shutil.rmtree(cache)
        down = Fault(503, (".png",), times=10**6)
        store.faults.append(down)
        code, _, err = run_command(*data, "data.store.tries=2")
        assert code == 5 and ".png cannot be read after 2 tries" in err.splitlines()[-1], err
        down.times = 0
        store.faults += faulty()
        code, _, err = run_command(*data)
    assert code == 0, err
    assert fingerprint(killed) == fingerprint(whole)
