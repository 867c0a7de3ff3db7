"""The help of every command, and what a shell offers while a command is typed."""

import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from selftrain import cli, run
from selftrain.commands.completion import SCRIPTS, candidates
from selftrain.settings import compose
from selftrain.settings.compose import given_of
from selftrain.settings.shown import OF_A_RESUME, OF_A_RUN, OF_DATA

PARSER = cli._parser()
COMMANDS = PARSER._subparsers._group_actions[0]


def examples(parser):
    """The command lines of a help text, as words without the program's name."""
    lines = [line.strip() for line in (parser.epilog or "").split("\n\n")[0].splitlines()[1:]]
    return [shlex.split(line)[1:] for line in lines]


@pytest.mark.parametrize("name", COMMANDS.choices)
def test_the_help_of_every_command_has_examples_that_parse(name):
    """A new command passes its examples to `commands.command`."""
    child = COMMANDS.choices[name]
    found = examples(child)
    assert found and all(words[0] == name for words in found), child.format_help()
    for words in found:
        arguments = cli._arguments(words)
        assert arguments.run.__name__.replace("_", "-") == name
        settings = [text for text in getattr(arguments, "overrides", []) if "=" in text]
        if name == "sweep":  # several values, and ranges
            settings = [re.sub(r"=(?:log:)?(.+?)(?:,|\.\.).*", r"=\1", text) for text in settings]
        given_of([text for text in settings if not text.startswith(("recipe=", "data=", "k="))])
        if groups := [text for text in settings if text.startswith(("recipe=", "data="))]:
            compose(groups)
    takes_settings = any(action.dest == "overrides" for action in child._actions)
    assert takes_settings == ("settings that matter" in child.epilog)


def test_the_help_of_the_program_and_of_runs_has_examples_that_parse():
    for words in examples(PARSER):
        assert cli._arguments(words).run
    for words in examples(run._parser()):
        assert run._parser().parse_intermixed_args(words[words.index("selftrain.run") + 1 :])


@pytest.mark.parametrize("names", [OF_A_RUN, OF_A_RESUME, OF_DATA])
def test_ten_settings_are_shown_with_their_meanings(names):
    shown = next(child.epilog for child in COMMANDS.choices.values() if f"  {names[-1]} " in child.epilog)
    rows = [line for line in shown.splitlines() if line.startswith("  ") and line.split()[0] in names]
    assert [row.split()[0] for row in rows] == list(names) and len(names) == 10
    assert all(len(row.split()) > 2 for row in rows)


def offered(line):
    """The words that are offered at the end of a line after the program's name."""
    return [word for word, _ in candidates(COMMANDS, line.split(" "))]


def test_commands_options_recipes_and_settings_are_completed():
    assert offered("tra") == ["train"] and "--version" in offered("--") and offered("gone x") == []
    assert offered("train --sh") == ["--show"] and offered("convert x --to coco-r") == ["coco-rle"]
    assert offered("completion f") == ["fish"]
    assert offered("train recipe=noisy") == ["recipe=noisy_student"] and "data=camvid" in offered(
        "train data="
    )
    assert offered("train dat") == ["data.", "data="] and offered("train train.lr") == ["train.lr="]
    assert offered("train data.splits.va") == ["data.splits.val=", "data.splits.val_fraction="]
    assert offered("train generations.2.ste") == ["generations.2.steps="]
    assert offered("resume runs/x train.plan=") == ["train.plan=none", "train.plan=auto"]
    assert offered("folds debug=t") == ["debug=true"]
    assert offered("train x data.root=/da") == [] and offered("status ru") == []  # files


def test_bash_completes_by_the_script(tmp_path):
    own = tmp_path / "bin"
    own.mkdir()
    (own / "selftrain").write_text(f'#!/bin/sh\nexec {sys.executable} -m selftrain.cli "$@"\n')
    (own / "selftrain").chmod(0o755)
    lines = [
        "selftrain tra",
        "selftrain train recipe=noisy",
        "selftrain train train.schedul",
        "selftrain init /us",
    ]
    asked = "".join(
        f'COMP_LINE={line!r} COMP_POINT={len(line)}; _selftrain; echo "${{COMPREPLY[*]}}"\n' for line in lines
    )
    script = f'compopt() {{ echo "$@"; }}\neval "$(selftrain completion bash)"\n{asked}'
    path = f"{own}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, env={**os.environ, "PATH": path}
    )
    said = [
        "train",
        "noisy_student",
        "-o nospace",
        "train.schedule=",
        "",
    ]  # bash itself offers files for the last
    assert done.stdout.splitlines() == said, done.stderr


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_scripts_are_read_by_their_shells(shell, tmp_path):
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "script").write_text(SCRIPTS[shell])
    done = subprocess.run([shell, "-n", str(tmp_path / "script")], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr
