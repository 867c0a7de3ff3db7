"""What the documents name exists, and they have the form that CONTRIBUTING asks for."""

import re

import pytest

from runs import ROOT

PAGES = sorted(str(path.relative_to(ROOT)) for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
TESTS = {path: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}


def test_every_test_that_a_document_names_exists():
    missing, files = [], {path.name for path in TESTS}
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        if page.name in ("lab-notes.md", "CHANGELOG.md"):  # they tell what was
            continue
        text = page.read_text()
        missing += [f"{page.name}: {name}" for name in re.findall(r"\btest_\w+\.py", text) if name not in files]
        for name in re.findall(r"::(test_\w+)", text):
            if not any(f"def {name}(" in content for content in TESTS.values()):
                missing.append(f"{page.name}: {name}")
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
