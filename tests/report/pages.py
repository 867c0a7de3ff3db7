"""Pages as tests read them: their words, their tags, and what a browser makes of them."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))),
    None,
)


def words(html: str) -> str:
    """What a reader sees, in one line."""
    text = re.sub(r"<style>.*?</style>|<svg.*?</svg>", "", html, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", text).split())


def browser(path: Path) -> tuple[str, str]:
    """The document as headless Chromium shows it, and what the browser says."""
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-component-update",
        "--disable-sync",
    ]
    flags += [
        "--disable-background-networking",
        "--enable-logging=stderr",
        f"--user-data-dir={path.parent / 'profile'}",
    ]
    shown = subprocess.run(
        [str(CHROMIUM), *flags, "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return shown.stdout, shown.stderr


class Tags(HTMLParser):
    """Every tag with its attributes."""

    def __init__(self, html: str):
        super().__init__()
        self.all: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.all.append((tag, dict(attrs)))
