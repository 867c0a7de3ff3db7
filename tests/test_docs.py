"""What the documents name exists, and they have the form that CONTRIBUTING asks for."""

import re

import pytest
import yaml

from runs import ROOT
from selftrain import __version__
from selftrain.settings.changes import RENAMED

PAGES = sorted(str(path.relative_to(ROOT)) for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
TESTS = {path.name: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
NAMED = re.compile(r"\b(test_\w+\.py)|::(test_\w+)")  # `test_a.py::test_b`, `::test_c` of the file before it


@pytest.mark.parametrize("page", PAGES)
def test_every_test_that_a_page_names_is_in_the_file_that_it_names(page):
    if page in ("docs/lab-notes.md", "CHANGELOG.md"):  # they tell what was
        return
    missing = []
    for line in (ROOT / page).read_text().splitlines():
        content = ""
        for file, name in NAMED.findall(line):
            content = TESTS.get(file, "") if file else content
            if not content or (name and f"def {name}(" not in content):
                missing.append(file or name)
    assert not missing


@pytest.mark.parametrize("page", PAGES)
def test_every_file_and_section_that_a_page_links_to_exists(page):
    links = re.findall(r"\]\(([^)#:]*)(?:#([^)]+))?\)", (ROOT / page).read_text())
    missing = []
    for file, section in links:
        target = (ROOT / page).parent / file if file else ROOT / page
        if not target.exists() or (section and section not in sections(target.read_text())):
            missing.append(f"{file}#{section}")
    assert not missing


def test_pictures_are_small_and_described():
    assert not [path.name for path in (ROOT / "docs" / "images").iterdir() if path.stat().st_size > 200_000]
    text = "".join((ROOT / page).read_text() for page in PAGES)
    silent = re.findall(r"!\[\s*\]\(\S+|<img (?![^>]*alt=\"[^\"]+\")[^>]*>", text)
    assert not silent and all(f"images/{path.name}" in text for path in (ROOT / "docs" / "images").iterdir())


def sections(text):
    """The anchors that GitHub gives to the headings of a page."""
    heads = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES)
def test_prose_is_wrapped_at_100_columns(page):
    if page == "docs/faults.md":  # written by `make faults`
        return
    text = re.sub(r"```.*?```|`[^`]*`|\[[^]]*\]\([^)]*\)", "", (ROOT / page).read_text(), flags=re.DOTALL)
    prose = [line for line in text.splitlines() if not line.startswith(("|", "    ", "#", "!"))]
    assert not [line for line in prose if len(line) > 100]


def test_the_readme_has_at_most_120_lines():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def test_the_citation_and_the_forms_for_issues_are_valid_yaml():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0" and citation["license"] == "Apache-2.0"
    for name in ("message", "title", "authors"):  # what the schema of CFF 1.2.0 requires
        assert citation[name]
    for form in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("[bf]*.yml"):
        parts = yaml.safe_load(form.read_text())
        assert parts["name"] and parts["description"]
        assert all(part["type"] == "textarea" and part["attributes"]["label"] for part in parts["body"])


def test_the_version_is_the_same_wherever_it_stands():
    notes, citation = ((ROOT / name).read_text() for name in ("CHANGELOG.md", "CITATION.cff"))
    newest, date = re.findall(r"^## \[(\d[^]]*)\] - (\S+)$", notes, flags=re.MULTILINE)[0]
    cited = yaml.safe_load(citation)
    assert (newest, date) == (__version__, cited["date-released"]) and cited["version"] == __version__


def test_the_release_notes_name_every_renamed_setting():
    notes = (ROOT / "CHANGELOG.md").read_text()
    table = notes.partition("Renamed settings")[2].partition("How runs")[0]
    missing = [old for old, new in RENAMED.items() if f"`{old}" not in table or new.name not in table]
    assert RENAMED and not missing
