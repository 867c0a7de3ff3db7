"""Micro-batches that fit the memory, and what a run will need."""

import json

import pytest
import torch
from accelerate import Accelerator
from test_trial import SIZES, Probe, config, networks_of

from selftrain import fitting, memory, trial
from selftrain.errors import ConfigError, ResourceError
from selftrain.preflight import check_processes
from selftrain.rundir import RunDir

EACH = 100  # bytes that an image of a Probe takes, in these tests


class Small(Probe):
    """Finds no memory for steps of more than `most` images."""

    def __init__(self, most):
        super().__init__()
        self.most = most

    def forward(self, images):
        if self.training and len(images) > self.most:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.")
        return super().forward(images)


@pytest.fixture
def fit(monkeypatch, tmp_path):
    """Fits a Small of generation 0; returns the micro-batches that are taken. `free`: bytes beside what is kept."""

    def fit(most, free, batch=8):
        cfg, run, network = config(), RunDir(tmp_path), Small(most)
        cfg.train.labelled_batch = batch
        networks, kept = networks_of(cfg), trial.KEPT * trial.FLOAT * 8

        def taken(device, work):
            work()
            return memory.Taken(EACH * network.seen[-1][0][0], 0)

        monkeypatch.setattr(memory, "taken", taken)
        monkeypatch.setattr(memory, "free", lambda device: kept + free)

        def tried(cfg):
            trial.check(cfg, networks, [(networks.plans[0], network)], SIZES, Accelerator(cpu=True))

        fitting.fit(cfg, run, tried, lambda cfg: check_processes(cfg, networks.plans, 1))
        found = json.loads(run.memory.read_text()) if run.memory.exists() else {}
        return found, [seen[0][0] for seen in network.seen if seen[1]]

    return fit


def test_a_step_with_much_room_is_tried_with_two_images_only(fit):
    assert fit(8, 8 * EACH * trial.MARGIN + 1) == ({}, [2])


def test_a_step_with_little_room_is_tried_in_full(fit):
    assert fit(8, 8 * EACH) == ({}, [2, 4, 8])


def test_micro_batches_are_halved_until_a_step_is_possible(fit):
    found, tried = fit(2, 5 * EACH)  # 4 images do not fit, 2 do
    assert (found["asked"], found["taken"]) == (1, 4) and "train.accumulate=4" in found["note"]
    assert tried == [2, 2, 2]


def test_what_would_need_more_than_is_free_is_not_tried_on_a_cpu(fit):
    found, tried = fit(8, 5 * EACH)
    assert found["taken"] == 2 and tried == [2, 4, 2, 4, 4]


def test_a_step_without_room_for_one_image_is_7_with_the_first_reason(fit):
    with pytest.raises(
        ResourceError, match=r"no memory for images of 64x64 \(train.crop\); lower train.crop"
    ):
        fit(0, 9 * EACH, batch=3)


def test_the_command_of_a_run_keeps_its_micro_batches_and_others_stay_a_change(tmp_path):
    run, cfg = RunDir(tmp_path), config()
    assert fitting.kept(cfg, run) is cfg and not fitting.note(run)
    run.memory.write_text(json.dumps({"asked": 1, "taken": 4, "note": "smaller"}))
    assert fitting.kept(cfg, run).train.accumulate == 4 and fitting.note(run) == "smaller"
    cfg.train.accumulate = 2
    assert fitting.kept(cfg, run).train.accumulate == 2


def test_a_run_that_has_begun_keeps_its_micro_batches(tmp_path):
    run = RunDir(tmp_path)
    run.config.write_text("generations: []\n")

    def tried(cfg):
        raise trial.TooLargeError("no memory")

    with pytest.raises(trial.TooLargeError):
        fitting.fit(config(), run, tried, lambda cfg: None)
    assert not run.memory.exists()


def test_other_errors_of_a_trial_are_its_own(tmp_path):
    def tried(cfg):
        raise ConfigError("another encoder")

    with pytest.raises(ConfigError, match="another encoder"):
        fitting.fit(config(), RunDir(tmp_path), tried, lambda cfg: None)


def test_the_memory_that_work_takes_is_measured_also_if_it_is_given_back():
    device = torch.device("cpu")
    for _ in range(2):
        found = memory.taken(device, lambda: torch.ones(20_000_000).sum())
        assert 79e6 < found.growth < 120e6 and found.peak > found.growth
    assert 0 < memory.free(device) <= memory.limit()
    assert [memory.told(size) for size in (45e6, 0.3e9, 12.4e9)] == ["45 MB", "0.3 GB", "12 GB"]


def test_the_limit_of_a_control_group_counts_without_cached_files(tmp_path, monkeypatch):
    group = tmp_path / "own"
    group.mkdir()
    rows = {"memory.max": 300, "memory.current": 250, "memory.stat": "anon 50\ninactive_file 150"}
    for name, value in rows.items():
        (group / name).write_text(f"{value}\n")
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "cgroup").write_text("0::/own\n")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    monkeypatch.setattr(memory, "GROUPS", tmp_path / "cgroup")
    assert memory.limit() == 300 and memory.free(torch.device("cpu")) == 200
