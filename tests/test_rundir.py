import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from selftrain import claim
from selftrain.errors import ConfigError, DataError, IntegrityError, LockedError
from selftrain.rundir import RunDir


def test_a_changed_setting_is_refused_with_the_difference(tmp_path):
    run = RunDir(tmp_path)
    config = {"seed": 0, "train": {"lr": 0.1, "workers": 0}, "generations": [{"steps": 5}]}
    run.settle(config, {})
    run.settle({**config, "train": {"lr": 0.1, "workers": 2}}, {})  # workers change nothing
    with pytest.raises(ConfigError, match=r"train\.lr: 0\.1 -> 0\.2"):
        run.settle({**config, "train": {"lr": 0.2, "workers": 0}}, {})
    with pytest.raises(ConfigError, match=r"generations\.0\.steps: 5 -> 9"):
        run.settle({**config, "generations": [{"steps": 9}, {"steps": 9}]}, {})


def test_more_generations_may_be_asked_for_and_then_the_run_is_not_finished(tmp_path):
    run = RunDir(tmp_path)
    config = {"train": {"lr": 0.1}, "generations": [{"steps": 5}]}
    longer = {**config, "generations": [{"steps": 5}, {"steps": 9}]}
    run.settle(config, {})
    run.report.write_text("{}")
    run.settle(longer, {})
    assert not run.report.exists()
    with pytest.raises(ConfigError, match=r"generations\.1\.steps: 9 -> absent"):
        run.settle(config, {})
    with pytest.raises(ConfigError, match=r"\(train\.lr: 0\.1 -> 0\.2\)"):  # a further generation is no fault
        run.settle(
            {**longer, "train": {"lr": 0.2}, "generations": [*longer["generations"], {"steps": 1}]}, {}
        )


def test_changed_data_is_refused_with_the_difference(tmp_path):
    run = RunDir(tmp_path)
    before = {"val": [{"id": "a", "image": "1"}, {"id": "b", "image": "2"}], "classes": ["x"]}
    config = {"generations": [{"steps": 5}]}
    run.settle(config, before)
    with pytest.raises(
        DataError, match=r"val: 1 missing, e\.g\. b, 1 new, e\.g\. c, 1 other content, e\.g\. a"
    ):
        run.settle(config, {**before, "val": [{"id": "a", "image": "9"}, {"id": "c", "image": "2"}]})
    with pytest.raises(DataError, match="classes"):
        run.settle(config, {**before, "classes": ["y"]})


def test_a_refused_command_leaves_a_finished_run_finished(tmp_path):
    run = RunDir(tmp_path)
    config, data = {"generations": [{"steps": 5, "online": ""}]}, {"val": [{"id": "a"}]}
    run.settle(config, data)
    run.report.write_text("{}")
    before = run.config.read_bytes()
    with pytest.raises(DataError, match=r"val: 1 new, e\.g\. b"):
        run.settle(
            {"generations": [*config["generations"], {"steps": 9, "online": ""}]},
            {"val": [{"id": "a"}, {"id": "b"}]},
        )
    assert run.report.exists() and run.config.read_bytes() == before
    run.settle(config, data)


def test_another_choice_is_taken_until_a_student_of_stored_labels_has_begun(tmp_path):
    run = RunDir(tmp_path)
    rows = [{"online": ""}, {"online": "unimatch_v2"}, {"online": ""}, {"online": ""}]
    run.settle({"select": {"keep": 0.5}, "generations": rows}, {})
    run.generation(1).path.mkdir()
    run.generation(1).selection.write_text("{}")
    run.settle({"select": {"keep": 0.6}, "generations": rows}, {})
    assert not run.generation(1).selection.exists()
    run.generation(2).path.mkdir()
    with pytest.raises(ConfigError, match=r"select\.keep: 0\.6 -> 0\.7"):
        run.settle({"select": {"keep": 0.7}, "generations": rows}, {})


@pytest.mark.parametrize("text", ["project: mine", "", "generations: 3", "generations: [3]"])
def test_settings_of_something_else_are_damaged(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(IntegrityError, match=r"config\.yaml is damaged"):
        RunDir(tmp_path).settle({"generations": [{"steps": 5}]}, {})
    assert (tmp_path / "config.yaml").read_text() == text


def test_a_manifest_without_ids_is_other_data(tmp_path):
    run, config = RunDir(tmp_path), {"generations": [{"steps": 5}]}
    run.settle(config, {"val": [{"file": "a"}]})
    with pytest.raises(DataError, match="val: 1 missing"):
        run.settle(config, {"val": [{"id": "a"}]})


def test_a_second_process_is_locked_out_and_a_dead_one_blocks_nobody(tmp_path):
    code = "import sys; from pathlib import Path; from selftrain.rundir import RunDir; RunDir(Path(sys.argv[1])).lock()"
    script = [sys.executable, "-c", code + "; print('held', flush=True); sys.stdin.read()", str(tmp_path)]
    with subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(LockedError):
            RunDir(tmp_path).lock()
        holder.kill()
        holder.wait()
    os.close(RunDir(tmp_path).lock())


def test_a_held_directory_is_known_without_taking_its_lock(tmp_path):
    code = "import sys; from pathlib import Path; from selftrain.rundir import RunDir; RunDir(Path(sys.argv[1])).lock()"
    script = [sys.executable, "-c", code + "; print('held', flush=True); sys.stdin.read()", str(tmp_path)]
    RunDir(tmp_path / "nothing here").refuse_locked()
    with subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(LockedError):
            RunDir(tmp_path).refuse_locked()
        holder.kill()
        holder.wait()
    RunDir(tmp_path).refuse_locked()


def test_a_lock_whose_file_was_removed_meanwhile_is_taken_anew(tmp_path, monkeypatch):
    run, genuine = RunDir(tmp_path), RunDir._take

    def take(self, handle):  # a refused start removes the file between our opening and our locking it
        monkeypatch.setattr(RunDir, "_take", genuine)
        genuine(self, handle)
        self.lock_file.unlink()

    monkeypatch.setattr(RunDir, "_take", take)
    handle = run.lock()
    assert os.path.samestat(os.fstat(handle), os.stat(run.lock_file))
    os.close(handle)


def test_a_lock_that_another_machine_refuses_is_given_back(tmp_path, monkeypatch):
    def refuse(folder):
        raise LockedError("another machine")

    monkeypatch.setattr(claim, "hold", refuse)
    with pytest.raises(LockedError, match="another machine"):
        RunDir(tmp_path).lock()
    code = "import sys; from pathlib import Path; from selftrain.rundir import RunDir; RunDir(Path(sys.argv[1])).lock()"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


def test_a_start_on_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with (
        pytest.raises(OSError, match=r"No space left on device: '.*/run/\.writer'"),
        RunDir(tmp_path / "run").writing(),
    ):
        pass
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["config.yaml", "data.json", "report.json", "results.csv", "gen0"])
def test_a_folder_of_somebody_else_is_refused_and_left_alone(tmp_path, name):
    (tmp_path / name).write_text('{"mine": 1}')
    with pytest.raises(
        ConfigError, match=rf"contains files that do not belong to a run \({name}\); choose another folder"
    ):
        RunDir(tmp_path).refuse_files_of_others()
    assert [path.name for path in tmp_path.iterdir()] == [name] and (
        tmp_path / name
    ).read_text() == '{"mine": 1}'


def test_a_folder_of_runs_is_no_run(tmp_path):
    for name in "abcd":
        (tmp_path / name).mkdir()
    with pytest.raises(ConfigError, match=r"\(a, b, c, …\)"):
        RunDir(tmp_path).refuse_files_of_others()


@pytest.mark.parametrize("name", [".gitkeep", "lost+found", "slurm-12.out", "train.log", ".lock"])
def test_what_says_nothing_of_a_folder_may_be_there(tmp_path, name):
    (tmp_path / name).touch()
    RunDir(tmp_path).refuse_files_of_others()  # raises nothing
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("damaged", ["config.yaml", "data.json", None])
def test_a_run_stays_a_run_whatever_is_damaged_or_added(tmp_path, damaged):
    run = RunDir(tmp_path)
    run.settle({"train": {}, "data": {}, "generations": [{}]}, {"labelled": [], "val": [], "set_aside": []})
    (tmp_path / "notes.md").touch()
    if damaged:
        (tmp_path / damaged).write_text("\0")
    run.refuse_files_of_others()  # raises nothing
    assert ((tmp_path / "notes.md").exists() and not damaged) or (tmp_path / damaged).read_text() == "\0"


def test_a_start_that_was_killed_before_its_settings_were_written_is_a_run(tmp_path):
    run = RunDir(tmp_path)
    os.close(run.lock())
    (tmp_path / "launch.json").touch()
    run.refuse_files_of_others()  # raises nothing
    assert (tmp_path / "launch.json").exists() and not run.config.exists()


def test_checkpoints_are_dropped_and_what_others_put_there_stays(tmp_path):
    run = RunDir(tmp_path)
    gen = run.generation(0)
    for name in ("step-000003", "step-000006.corrupt"):
        (gen.checkpoints / name).mkdir(parents=True)
    gen.drop_checkpoints()
    assert [path.name for path in gen.checkpoints.iterdir()] == ["step-000006.corrupt"]
    (gen.checkpoints / "step-000006.corrupt").rmdir()
    gen.drop_checkpoints()
    assert not gen.checkpoints.exists()
    gen.report.write_text("{}")
    (tmp_path / "config.yaml").write_text("\0")
    run.refuse_files_of_others()  # damaged, and without checkpoints still a run


def test_a_file_is_no_folder_for_a_run(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="is a file; choose another folder"):
        RunDir(tmp_path / "file").refuse_files_of_others()


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert RunDir(Path("~/runs/a")).config == tmp_path / "runs" / "a" / "config.yaml"
    with pytest.raises(ConfigError, match="~nobody-of-that-name"):
        RunDir(Path("~nobody-of-that-name/a"))


def test_a_refused_start_removes_what_it_made_and_nothing_else(tmp_path):
    (tmp_path / "there").mkdir()
    for folder in ("there/new/run", "there"):
        with pytest.raises(ValueError, match="refused"), RunDir(tmp_path / folder).writing():
            raise ValueError("refused")
    assert list(tmp_path.iterdir()) == [tmp_path / "there"] and list((tmp_path / "there").iterdir()) == []


def test_a_run_that_has_settled_stays_when_its_start_fails(tmp_path):
    run = RunDir(tmp_path / "run")
    with pytest.raises(ValueError, match="later"), run.writing():
        run.settle({"generations": [{}]}, {})
        raise ValueError("later")
    assert run.config.exists() and run.lock_file.exists()


def test_weights_are_compared_by_their_content_not_by_their_path(tmp_path):
    run, first, moved = RunDir(tmp_path / "run"), tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    first.write_text("1")

    def settle(path):
        run.settle({"model": {"weights": str(path)}, "generations": [{"steps": 1}]}, {})

    settle(first)
    first.rename(moved)
    settle(moved)
    assert str(moved) in run.config.read_text()  # where a resume looks for it
    moved.write_text("2")
    with pytest.raises(ConfigError, match=r"model\.weights: \S+b.safetensors -> \S+b.safetensors with other"):
        settle(moved)
    other = tmp_path / "c.safetensors"
    other.write_text("3")
    with pytest.raises(ConfigError, match=r"model\.weights: \S+b.safetensors -> \S+c.safetensors"):
        settle(other)
    run.weights.unlink()  # a run of an earlier version
    settle(moved)
    with pytest.raises(ConfigError, match=r"model\.weights"):
        settle(other)
