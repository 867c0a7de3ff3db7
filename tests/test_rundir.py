import os
import subprocess
import sys

import pytest

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
        run.settle({**longer, "train": {"lr": 0.2}, "generations": [*longer["generations"], {"steps": 1}]}, {})


def test_changed_data_is_refused_with_the_difference(tmp_path):
    run = RunDir(tmp_path)
    before = {"val": [{"id": "a", "image": "1"}, {"id": "b", "image": "2"}], "classes": ["x"]}
    config = {"generations": [{"steps": 5}]}
    run.settle(config, before)
    with pytest.raises(DataError, match=r"val: 1 missing, e\.g\. b, 1 new, e\.g\. c, 1 other content, e\.g\. a"):
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
        run.settle({"generations": [*config["generations"], {"steps": 9, "online": ""}]}, {"val": [{"id": "a"}, {"id": "b"}]})
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
