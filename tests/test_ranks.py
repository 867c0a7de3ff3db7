"""Two processes on one CPU (gloo)."""

import json
import shutil
import socket
import sys

from runs import SMOKE, run


def launcher():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(port)]


def two_ranks(*settings):
    return run(*settings, launcher=launcher(), ACCELERATE_USE_CPU="true", OMP_NUM_THREADS="1")


def test_two_ranks_write_the_labels_of_one_and_say_that_a_change_of_ranks_is_not_exact(tmp_path):
    alone, together = tmp_path / "alone", tmp_path / "together"
    code, _, err = run(*SMOKE, f"out={alone}")
    assert code == 0, err
    shutil.copytree(alone, together)
    (together / "report.json").unlink()
    shutil.rmtree(together / "gen0" / "labels")
    shutil.rmtree(together / "gen1")
    code, said, err = two_ranks(*SMOKE, f"out={together}")
    assert code == 0, err
    assert said.count("test mIoU") == 1  # one process speaks
    for path in (alone / "gen0" / "labels").iterdir():
        assert path.read_bytes() == (together / "gen0" / "labels" / path.name).read_bytes()
    assert (alone / "gen0" / "selection.json").read_bytes() == (together / "gen0" / "selection.json").read_bytes()

    shutil.rmtree(together / "gen1" / "model")
    (together / "gen1" / "report.json").unlink()
    (together / "report.json").unlink()
    code, _, err = run(*SMOKE, f"out={together}")  # takes up the checkpoint of two ranks
    assert code == 0, err
    assert json.loads((together / "gen1" / "report.json").read_text())["exact"] is False
