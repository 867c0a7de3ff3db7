"""What the documents name exists."""

import re

import pytest

from runs import ROOT

TESTS = {path.name: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}


def test_every_test_that_a_document_names_exists():
    missing = []
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        if page.name in ("lab-notes.md", "CHANGELOG.md"):  # they tell what was
            continue
        text = page.read_text()
        missing += [f"{page.name}: {name}" for name in re.findall(r"\btest_\w+\.py", text) if name not in TESTS]
        for name in re.findall(r"::(test_\w+)", text):
            if not any(f"def {name}(" in content for content in TESTS.values()):
                missing.append(f"{page.name}: {name}")
    assert not missing


@pytest.mark.parametrize("page", ["README.md", "docs/reliability.md", "docs/design.md", "docs/data.md"])
def test_every_file_that_a_page_links_to_exists(page):
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text())
    assert not [link for link in links if not ((ROOT / page).parent / link).exists()]
