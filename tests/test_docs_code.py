"""Every code block of the documentation runs in a test or says why not; every command in it is one that selftrain takes."""

import re
import shlex

import pytest

from runs import ROOT
from selftrain import cli, run
from selftrain.settings.compose import GROUPS, given_of

DOCS = sorted(str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md"))
PAGES = ["../README.md", *DOCS]
RUN_IN = {"tutorial.md": "test_tutorial.py", "extending.md": "test_extending.py", "start.md": "test_start.py"}
TOLD = {"lab-notes.md", "changelog.md"}  # they tell what was
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:(?<=\n\n)|\A)((?:    \S.*\n(?:\n(?=    ))?(?:     .*\n)*)+)")
OWN = (
    *GROUPS,
    "k",
)  # words that are no settings of a run: names of files, and the number of `selftrain folds`
REASON = re.compile(r"<!-- no-run: (.+?) -->")
LAUNCHER = re.compile(r"^(?:python|accelerate launch|torchrun)\b.* -m selftrain\.run\b")


def text_of(page):
    return (ROOT / "docs" / page).read_text()


def blocks(page):
    """The code of a page: its language, the code, and what stands before it."""
    text = text_of(page)
    found = [(one[1] or "text", one[2], text[: one.start()]) for one in FENCED.finditer(text)]
    bare = FENCED.sub("", text)
    return found + [("", one[1], bare[: one.start()]) for one in INDENTED.finditer(bare)]


def commands(page):
    """The words of each command of selftrain on a page, from its own first argument on."""
    for kind, code, _ in blocks(page):
        if kind in ("sh", ""):
            for line in code.replace("\\\n", " ").splitlines():
                line = re.sub(r"^(?:\$ |[A-Z_]+=\S+ )+", "", line.strip())
                if line.startswith("selftrain ") or LAUNCHER.match(line):
                    words = shlex.split(line, comments=True)
                    yield line, words[1:] if words[0] == "selftrain" else words[words.index("-m") + 2 :]


COMMANDS = [(page, line, words) for page in PAGES if page not in TOLD for line, words in commands(page)]


@pytest.mark.parametrize("page", sorted({page for page, _, _ in COMMANDS}))
def test_every_command_of_a_page_is_one_that_selftrain_takes(page):
    for line, words in [(line, words) for place, line, words in COMMANDS if place == page]:
        words = [word for word in words if "…" not in word]
        parser = run._parser() if LAUNCHER.match(line) else cli._parser()
        try:
            arguments, rest = parser.parse_known_args(words)
        except SystemExit as error:
            assert error.code == 0, (page, line)  # --version and --help
            continue
        assert not [word for word in rest if "=" not in word or word.startswith("-")], (page, line)
        settings = [word for word in [*getattr(arguments, "overrides", []), *rest] if "=" in word]
        if words[0] == "sweep":  # takes several values of a setting
            settings = [re.sub(r"=(?:log:)?([^,\[{]+?)(?:\.\.|,).*", r"=\1", word) for word in settings]
        given_of([word for word in settings if word.partition("=")[0] not in OWN])  # raises ConfigError


@pytest.mark.parametrize("page", PAGES)
def test_every_code_block_runs_in_a_test_or_says_why_not(page):
    if page in TOLD or (page in RUN_IN and (ROOT / "tests" / RUN_IN[page]).is_file()):
        return
    head = text_of(page).split("\n## ")[0]
    silent = [
        code
        for kind, code, before in blocks(page)
        if kind in ("sh", "python", "")
        and not REASON.search(before.rstrip("\n").rpartition("\n")[2])
        and not REASON.search(head)
    ]
    assert not silent
