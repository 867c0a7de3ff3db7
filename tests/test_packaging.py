"""The wheel holds the package and its recipes, nothing else, and runs from anywhere."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from runs import ROOT, SMOKE
from selftrain import __version__


def pip(*arguments: str | Path) -> None:
    offline = ["--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    subprocess.run([sys.executable, "-m", "pip", arguments[0], *offline, *arguments[1:]], check=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-build-isolation", "--wheel-dir", directory, ROOT)
    (built,) = directory.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    pip("install", "--target", target, wheel)
    return target


@pytest.fixture
def run_installed(installed: Path, tmp_path: Path):
    """Run Python with the installed wheel, before any other selftrain, in an empty directory."""

    def run(*arguments: str) -> str:
        result = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(installed)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sdist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", directory], cwd=ROOT, check=True
    )
    (built,) = directory.glob("*.tar.gz")
    return built


def members(wheel: Path) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


def test_wheel_holds_every_module_and_recipe(wheel: Path) -> None:
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "selftrain").rglob("*.py")}
    recipes = {str(Path("selftrain", path.relative_to(ROOT))) for path in (ROOT / "recipes").rglob("*.yaml")}
    assert "selftrain/recipes/config.yaml" in recipes
    assert modules | recipes | {"selftrain/labels/_mean_field.so", "selftrain/py.typed"} <= members(wheel)
    assert "py3-none-linux" in wheel.name


def test_wheel_holds_nothing_but_the_package(wheel: Path) -> None:
    # neither tests nor scripts: the torchvision mend belongs to one environment, not to everybody's
    assert {name.split("/")[0] for name in members(wheel)} == {
        "selftrain",
        f"selftrain-{__version__}.dist-info",
    }
    assert not [name for name in members(wheel) if "torchvision" in name or "__pycache__" in name]


def test_wheel_and_sdist_have_what_an_index_of_packages_asks_for(wheel: Path, sdist: Path) -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", wheel, sdist], capture_output=True, text=True
    )
    assert checked.returncode == 0 and checked.stdout.count("PASSED") == 2, checked.stdout


def test_the_sdist_holds_what_git_holds(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "CHANGELOG.md", "docs/index.md", "tests/test_packaging.py"} <= names
    assert not [
        name for name in names if name.startswith((".venv", "build/", "runs/")) or name.endswith(".so")
    ]


@pytest.mark.slow
def test_the_sdist_builds_the_same_wheel(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    pip("wheel", "--no-build-isolation", "--wheel-dir", tmp_path, sdist)
    (built,) = tmp_path.glob("*.whl")
    assert members(built) == members(wheel)


def test_installed_wheel_runs_from_another_directory(run_installed, installed: Path, tmp_path: Path) -> None:
    assert run_installed("-c", "import selftrain; print(selftrain.__file__)").startswith(str(installed))
    run_installed("-m", "selftrain.run", *SMOKE, "generations=[{}]", "train.steps=2", "out=runs/smoke")
    assert (tmp_path / "runs/smoke/report.json").is_file()
    assert (tmp_path / "runs/smoke/export/model.safetensors").is_file()
    assert os.listdir(tmp_path) == ["runs"]


def test_installed_command_lists_its_subcommands(installed: Path, run_installed) -> None:
    help_text = run_installed(str(installed / "bin" / "selftrain"), "--help")
    assert all(command in help_text for command in ("verify", "status", "predict", "export", "report"))
