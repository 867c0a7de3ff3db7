"""`selftrain completion`: what a shell offers when Tab is pressed.

The scripts ask this program for each word, so that commands, options, recipes and settings are always those
of the installed version.
"""

import argparse
from collections.abc import Iterable

from selftrain.commands import Commands, command
from selftrain.settings.compose import GROUPS, names_in_group
from selftrain.settings.names import OF_COMMANDS, all_names, meaning, rules_of, setting_of
from selftrain.tables import OneOf

Candidate = tuple[str, str]  # a word, and its meaning
OPEN = ("=", ".")  # after these endings, a word goes on

# Bash splits words at "=", so only the part after it is replaced.
BASH = """\
_selftrain() {
    local line="${COMP_LINE:0:COMP_POINT}" words word
    local current="${line##*[[:space:]]}"
    read -r -a words <<< "${line%"$current"}"
    COMPREPLY=()
    while IFS=$'\\t' read -r word _; do
        case "$word" in *[=.]) compopt -o nospace ;; esac
        [[ "$current" == *=* && "$COMP_WORDBREAKS" == *=* ]] && word="${word#"${current%=*}="}"
        COMPREPLY+=("$word")
    done < <(selftrain completion bash "${words[@]}" "$current" 2> /dev/null)
}
complete -o default -F _selftrain selftrain
"""
ZSH = """\
#compdef selftrain
_selftrain() {
    local line
    local -a open ended
    for line in "${(@f)$(selftrain completion zsh "${(@Q)words[1,CURRENT]}" 2> /dev/null)}"; do
        [[ -z $line ]] && continue
        line="${line%%$'\\t'*}"
        [[ $line == *[=.] ]] && open+=("$line") || ended+=("$line")
    done
    if (( $#open + $#ended )); then
        compadd -S '' -a open
        compadd -a ended
    else
        compset -P '*='
        _files
    fi
}
compdef _selftrain selftrain
"""
FISH = """\
function __selftrain_complete
    set -l token (commandline -ct)
    set -l found (selftrain completion fish (commandline -opc) "$token" 2> /dev/null)
    if test (count $found) -gt 0
        printf '%s\\n' $found
    else
        set -l name (string match -r '^[^=]*=' -- "$token"; or echo "")
        for place in (__fish_complete_path (string replace -r '^[^=]*=' '' -- "$token"))
            echo $name$place
        end
    end
end
complete -c selftrain -f -a '(__selftrain_complete)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
WHERE = """\
to keep it:
  bash   selftrain completion bash > ~/.local/share/bash-completion/completions/selftrain
  zsh    selftrain completion zsh > a file _selftrain in a folder of $fpath
  fish   selftrain completion fish > ~/.config/fish/completions/selftrain.fish"""


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    child = command(commands, completion, "bash", "zsh", "fish")
    child.epilog = f"{child.epilog}\n\n{WHERE}"
    child.add_argument("shell", choices=SCRIPTS, help="the shell that reads the script")
    text = "used by the script: the words of a command line, of which the last one is completed"
    child.add_argument("words", nargs=argparse.REMAINDER, metavar="WORD", help=text)


def completion(arguments: argparse.Namespace) -> None:
    """Print a script that completes commands, options, recipes, data sets and settings in a shell."""
    if not arguments.words:
        print(SCRIPTS[arguments.shell], end="")
        return
    for word, told in candidates(arguments.commands, arguments.words[1:]):
        print(f"{word}\t{told}" if told else word)


def candidates(commands: Commands, words: list[str]) -> list[Candidate]:
    """The candidates for the last of `words`, which follow the program's name.

    Empty where a path belongs: the shell then offers files.
    """
    *before, current = words or [""]
    if not before:
        rows = ((action.dest, action.help or "") for action in commands._choices_actions)
        return _beginning(current, [*rows, ("--help", ""), ("--version", "")])
    parser = commands.choices.get(before[0])
    if parser is None:
        return []
    option = _options(parser).get(before[-1])
    if option is not None and option.nargs != 0:
        return _beginning(current, [(str(choice), "") for choice in option.choices or ()])
    if current.startswith("-"):
        rows = ((name, one.help or "") for name, one in _options(parser).items() if name.startswith("--"))
        return _beginning(current, rows)
    return _positional(parser, current)


def _positional(parser: argparse.ArgumentParser, current: str) -> list[Candidate]:
    """The candidates for an argument: its choices, or settings where the command takes some."""
    arguments = [action for action in parser._actions if not action.option_strings]
    words = [(str(choice), "") for action in arguments for choice in action.choices or ()]
    if any(action.dest == "overrides" for action in arguments):
        words += _values(current) if "=" in current else _settings(current)
    return _beginning(current, words)


def _options(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """The options of a parser, by each of their names."""
    return {name: action for action in parser._actions for name in action.option_strings}


def _settings(current: str) -> list[Candidate]:
    """Names of settings up to their next part: `train.` for `tr`, `train.lr=` for `train.l`.

    The generations of a number that is written belong to this number.
    """
    number = current.split(".")[1] if current.startswith("generations.") else "0"
    names = [*all_names(f"generations.{number or 0}."), *OF_COMMANDS]
    found = dict[str, str]()
    for name in names:
        rest, dot, _ = name[len(current) :].partition(".")
        if name.startswith(current):
            found[current + rest + (dot or "=")] = "" if dot else meaning(name)
    return [*found.items()]


def _values(current: str) -> list[Candidate]:
    """Values of a setting as NAME=VALUE: recipes, data sets, and the words that a setting accepts."""
    name = current.partition("=")[0]
    if name in GROUPS:
        known = [(value, "") for value in names_in_group(name)]
    else:
        known = [row for rule in rules_of(name) if isinstance(rule, OneOf) for row in rule.meanings.items()]
        setting = setting_of(name)
        known += [("true", ""), ("false", "")] if setting and setting.kind is bool else []
    return [(f"{name}={value}", told) for value, told in known]


def _beginning(current: str, rows: Iterable[Candidate]) -> list[Candidate]:
    """The candidates that begin with `current`, with their meanings on one line."""
    return [(word, " ".join(told.split())) for word, told in rows if word.startswith(current)]
