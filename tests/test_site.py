"""The documentation as a site: it builds without a warning, and its pages load nothing from elsewhere."""

import os
import re
import subprocess
import sys

import pytest

from runs import ROOT

LOADS = re.compile(r"""<(?:script|img|iframe|link)\b[^>]*?(?:src|href)=["']?(https?:)?//[^>]*>""")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", out],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    return out


def test_pages_load_nothing_from_other_servers(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    assert not [(page.name, found[0]) for page in pages for found in LOADS.finditer(page.read_text())]
    styles = "".join(path.read_text() for path in site.rglob("*.css"))
    assert "url(http" not in styles and "@import" not in styles


def test_generated_pages_have_every_command_and_recipe(site):
    commands, recipes = ((site / name).read_text() for name in ("commands.html", "recipes.html"))
    assert all(f"selftrain {name}" in commands for name in ("init", "train", "predict", "folds"))
    assert all(
        f"selftrain.{name}" in (site / "api.html").read_text() for name in ("load", "fit", "Model", "Run")
    )
    assert all(f'id="{path.stem}"' in recipes for path in (ROOT / "recipes" / "recipe").glob("*.yaml"))


def test_links_between_pages_and_out_of_docs_lead_to_pages(site):
    read = {
        name: (site / name).read_text()
        for name in ("guide/tags.html", "pretrained.html", "guide/python.html")
    }
    assert re.search(r'<p>.*href="\.\./data\.html', read["guide/tags.html"], flags=re.DOTALL)
    assert 'href="recipes.html#dinov2"' in read["pretrained.html"]
    assert "examples/quickstart.ipynb" in read["guide/python.html"]
    assert 'quickstart.ipynb"' not in read["guide/python.html"]
