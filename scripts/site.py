"""Hooks of mkdocs.yml: pages that are made from the code, and links that leave docs/.

mkdocs build --strict
"""

import argparse
import inspect
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
LINK = r"\[([^\]]*)\]\({up}\.\./([^)#\s]+)[^)]*\)"  # out of docs/, to which `up` leads
OUTSIDE = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
RECIPES = "recipes/recipe"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages: changes, contributing, commands, the Python interface and recipes."""
    pages = {
        "changelog.md": from_the_top("CHANGELOG.md"),
        "contributing.md": from_the_top("CONTRIBUTING.md"),
        "commands.md": "\n".join(commands()),
        "api.md": "\n".join(interface()),
        "recipes.md": "\n".join(recipes()),
    }
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links that leave docs/ to the page with the same content; without one, only their text stays."""
    up = "../" * page.file.src_uri.count("/")

    def mended(link: re.Match) -> str:
        target = inside(link[2])
        return f"[{link[1]}]({up}{target})" if target else link[1]

    return re.sub(LINK.replace("{up}", re.escape(up)), mended, markdown)


def inside(path: str) -> str | None:
    """The page of the site that shows a file of the repository, if there is one."""
    folder, name = posixpath.split(path.rstrip("/"))
    if folder == RECIPES:
        return f"recipes.md#{Path(name).stem}"
    return "recipes.md" if path.rstrip("/") == RECIPES else OUTSIDE.get(path)


def from_the_top(name: str) -> str:
    """A page of the repository's top folder, with its links as seen from docs/."""
    text = (ROOT / name).read_text()
    return re.sub(r"(?<=\]\()(?!https?:|#)([^)\s]+)", lambda link: from_docs(link[1]), text)


def from_docs(path: str) -> str:
    """A path of the repository as docs/ sees it."""
    return path.removeprefix("docs/") if path.startswith("docs/") else f"../{path}"


def commands() -> Iterator[str]:
    """What `selftrain COMMAND --help` prints, for every command."""
    from selftrain.cli import _parser

    yield "# Commands\n\n`selftrain COMMAND --help` prints the same.\n"
    whole = _parser()
    (choices,) = (
        action.choices for action in whole._actions if isinstance(action, argparse._SubParsersAction)
    )
    for name, child in choices.items():
        child.formatter_class = lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=96)
        yield f"## selftrain {name}\n\n```text\n{child.format_help().strip()}\n```\n"


def interface() -> Iterator[str]:
    """The functions and classes of `selftrain` with their signatures and docstrings."""
    import selftrain

    yield "# Python interface\n\n[From Python](guide/python.md) shows how to use it.\n"
    for name in sorted(selftrain.__all__, key=lambda name: (name != name.lower(), name)):
        one = getattr(selftrain, name)
        if callable(one):
            yield f"## selftrain.{name}\n\n{described(name, one)}"
            for part, method in vars(one).items() if inspect.isclass(one) else ():
                function = method.fget if isinstance(method, property) else getattr(method, "func", method)
                if not part.startswith("_") and callable(function) and function.__doc__:
                    yield f"### {name}.{part}\n\n{described(part, method, function)}"


def described(name: str, one: Any, function: Any = None) -> str:
    """A signature, unless it is an attribute or a class, and a docstring."""
    called = inspect.isfunction(one)
    head = f"{name}{inspect.signature(one)}" if called else f"{name}"
    return f"```text\n{head}\n\n{inspect.getdoc(function or one)}\n```\n"


def recipes() -> Iterator[str]:
    """The header of every recipe as text, and its settings."""
    yield "# Recipes\n\n`recipe=NAME` chooses one. Its settings can be changed on the command line.\n"
    for path in sorted((ROOT / RECIPES).glob("*.yaml")):
        lines = path.read_text().splitlines()
        head = [line for line in lines if line.startswith("#") and "@package" not in line]
        body = [line for line in lines if not line.startswith("#")]
        yield f"## {path.stem}\n"
        yield "```text\n" + "\n".join(line.removeprefix("#").removeprefix(" ") for line in head) + "\n```\n"
        yield "```yaml\n" + "\n".join(body) + "\n```\n"
