"""Mistakes on the command line: what was probably meant, told at once."""

import subprocess
import sys

import pytest

from selftrain import cli

MISSING = (
    "train data=camvid data.root=nowhere out=run",
    "plan data=camvid data.root=nowhere",
    "folds data=camvid data.root=nowhere out=folds",
    "sweep data=camvid data.root=nowhere train.lr=0.1,0.2 out=sweep",
    "next data=camvid data.root=nowhere",
    "show-augment data=camvid data.root=nowhere",
    "verify data=camvid data.root=nowhere",
    "evaluate export data=camvid data.root=nowhere",
    "train nowhere.yaml out=run",
    "train recipe=nowhere out=run",
    "predict nowhere images -o masks",
    "predict export nowhere -o masks",
    "init nowhere", "resume nowhere", "status nowhere", "export nowhere -o out", "clean nowhere", "next nowhere",
    "report nowhere", "review nowhere", "convert nowhere -o out --to coco", "compare nowhere elsewhere",
    "import-weights nowhere -o ours.safetensors --encoder tu-resnet18",
)  # fmt: skip
SEVERAL = ("predict several images -o masks", "evaluate several data=shapes")  # runs that have no export
LIGHT = """
import sys
from selftrain import cli
for line in sys.argv[1:]:
    sys.argv = line.split()
    try:
        cli.main()
    except SystemExit as end:
        assert end.code in (2, 3), (line, end.code)
    assert "torch" not in sys.modules, line
"""


def test_a_path_that_leads_nowhere_is_named_before_torch_is_imported(tmp_path):
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "card.json").touch()
    (tmp_path / "several" / "one").mkdir(parents=True)
    for file in ("runs.json", "one/config.yaml"):
        (tmp_path / "several" / file).touch()
    lines = [f"selftrain {line}" for line in (*MISSING, *SEVERAL)]
    done = subprocess.run([sys.executable, "-c", LIGHT, *lines], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    errors = done.stderr.splitlines()
    assert len(errors) == len(lines) and all("nowhere" in line for line in errors[: len(MISSING)]), errors
    named = "several holds several runs; name one of them, for example several/one"
    assert all(line.endswith(named) for line in errors[len(MISSING) :]), errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export", "several"]


@pytest.mark.parametrize("given", [("status", "a", "b"), ("verify", "data=shapes", "--wrokers", "1")])
def test_arguments_that_no_command_knows_are_refused(selftrain, given):
    code, said, err = selftrain(*given)
    assert code == 2 and not said and f"unrecognized arguments: {' '.join(given[2:])}" in err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("trian mine.yaml", "trian: no such command; did you mean train?"),
        ("xyzzy", "xyzzy: no such command; selftrain --help lists all"),
        ("verify data=shapes --wrokers=1", "--wrokers=1; did you mean --workers?"),
        ("status run --wtach", "--wtach; did you mean --watch?"),
        ("--versoin status run", "unrecognized arguments: --versoin"),
    ],
)
def test_a_misspelt_command_or_option_is_answered_with_the_one_that_was_meant(line, said, capsys):
    with pytest.raises(SystemExit) as ended:
        cli._arguments(line.split())
    assert ended.value.code == 2 and capsys.readouterr().err.strip().endswith(said)


@pytest.mark.parametrize(
    ("given", "as_setting"), [(["--train.steps", "9"], "train.steps=VALUE"), (["--budget=9"], "budget=9")]
)
def test_a_setting_written_as_an_option_is_answered_with_the_setting(selftrain, given, as_setting):
    code, _, err = selftrain("verify", "data=shapes", *given)
    assert code == 2 and f"settings are written as {as_setting}, without dashes" in err
