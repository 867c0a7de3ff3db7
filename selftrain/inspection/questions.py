"""Questions about a data set that names and pixels leave open."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from selftrain.errors import ConfigError
from selftrain.log import say

IGNORED = "-"  # instead of the name of a class


@dataclass
class Questions:
    """Asks on a terminal. With `first`, takes the first choice and says so; otherwise collects questions.

    `answers` are the numbers of choices, from 1, for the first questions in their order.
    """

    first: bool = False
    answers: list[int] = field(default_factory=list)
    terminal: bool = field(default_factory=lambda: sys.stdin.isatty() and sys.stdout.isatty())
    open: list[str] = field(default_factory=list)

    def choose(self, question: str, choices: Sequence[str]) -> int:
        """The number of the choice, from 0. A single choice is no question."""
        if len(choices) < 2:
            return 0
        if self.answers:
            return self._answered(question, choices, self.answers.pop(0))
        lines = [question, *(f"  {number}  {choice}" for number, choice in enumerate(choices, start=1))]
        if self.first:
            say(f"{question} {choices[0]} (--yes: the first of {len(choices)} choices)")
            for choice in choices[1:]:
                say(f"  not chosen: {choice}")
            return 0
        if not self.terminal:
            self.open.append("\n".join(lines))
            return 0
        say("\n".join(lines))
        while True:
            answer = _line(f"1 to {len(choices)} [1]: ") or "1"
            if answer.isdigit() and 1 <= int(answer) <= len(choices):
                return int(answer) - 1

    def _answered(self, question: str, choices: Sequence[str], number: int) -> int:
        """The choice of an answer given beforehand. Raises ConfigError if there is no such choice."""
        if not 1 <= number <= len(choices):
            raise ConfigError(f"--answer {number}: {question} has {len(choices)} choices")
        say(f"{question} {choices[number - 1]} (--answer {number})")
        return number - 1

    def confirm(self, question: str, yes: str, no: str) -> bool:
        """Whether the first of two choices is taken."""
        return self.choose(question, [yes, no]) == 0

    def names(self, question: str, shown: Sequence[str], default: Sequence[str]) -> list[str]:
        """Different names from the terminal, IGNORED for some; the default names without a terminal.

        Numbers as names contradict nothing, so they are no open question.
        """
        if self.first or not self.terminal:
            return list(default)
        say("\n".join([question, *shown]))
        say(f"{len(default)} names in this order, with commas between them; {IGNORED} ignores the pixels")
        while True:
            answer = _line(f"[{','.join(default)}]: ")
            given = [name.strip() for name in answer.split(",")] if answer else list(default)
            classes = [name for name in given if name != IGNORED]
            if len(given) == len(default) and len(set(classes)) == len(classes) >= 2 and all(given):
                return given
            say(f"{len(default)} different names are needed, at least two of them classes")

    @property
    def source_of_names(self) -> str:
        """Where names came from, if no file gives them."""
        asked = self.terminal and not self.first
        return "as answered" if asked else "no file names the classes; edit data.classes"

    def refuse_open(self) -> None:
        """Raises ConfigError that contains the questions, if there was nobody to answer them.

        Also if answers are left over.
        """
        if self.answers:
            left = " ".join(map(str, self.answers))
            raise ConfigError(f"--answer {left}: there are no more questions, so nothing is written")
        if self.open:
            listed = "\n".join(self.open)
            raise ConfigError(
                f"{len(self.open)} open question{'s' if len(self.open) > 1 else ''}, nothing is written; "
                f"answer on a terminal, by --answer with the numbers of your choices, or let --yes take the "
                f"first choices:\n{listed}"
            )


def _line(prompt: str) -> str:
    try:
        return input(prompt).strip()
    except EOFError:
        raise ConfigError("the input ended before all questions were answered; nothing is written") from None
