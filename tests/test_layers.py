"""Imports go down only, and every room has its floor."""

import ast
import graphlib
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "selftrain"
FLOORS = (  # from the ground up; a room imports rooms of lower floors only
    "agreement debugging errors ids process rng sizes targets values",
    "anatomy files launcher memory scores signals strata tables watchdog",
    "columns quality regions times verdicts",
    "diagnosis manifests",
    "config members runlog",
    "log",
    "claim labels report settings",
    "data objectives rundir",
    "augmentation checkpoint conditions datasets hosts",
    "base",
    "inspection models optim stage",
    "inference methods",
    "tuning",
    "plan prediction stages suspects",
    "predictors",
    "cards choices conversion forecast material networks pretraining proposals review tracking variants",
    "preflight trial",
    "autoplan fitting",
    "session",
    "corrections labelling needs",
    "training",
    "shown",
    "live",
    "distilling",
    "results",
    "generations",
    "run",
    "several",
    "fold_settings sweep",
    "folds",
    "commands",
    "api",
    "cli",
)
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names.split()}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(path: Path) -> set[str]:
    """Rooms of selftrain that a file imports at module level or within functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "selftrain":
            parts = node.module.split(".")[1:]
            names |= {parts[0]} if parts else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("selftrain.")}
    return names


def test_every_room_has_its_floor():
    assert {room(path) for path in PACKAGE.rglob("*.py")} == {*FLOOR, "__init__"}


def test_imports_go_down_only():
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        for other in imported(path) - {room(path), "__init__", "__version__"}:
            if other != "api" if room(path) == "__init__" else FLOOR[other] >= FLOOR[room(path)]:
                wrong.append(f"{path.relative_to(PACKAGE)} imports {other}")
    assert not wrong


def modules_imported(path: Path, known: set[str]) -> set[str]:
    """Modules of selftrain that a file imports by name, at module level or within functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= (inner & known) or ({node.module} & known)
    return names


def test_no_modules_import_each_other_in_a_circle():
    of = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path
        for path in PACKAGE.rglob("*.py")
    }
    graph = {name: modules_imported(path, set(of)) for name, path in of.items()}
    try:
        circle = []
        list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        circle = error.args[1]
    assert len(graph) > 300 and not circle


def test_parts_do_not_import_one_another():
    parts = {"data", "labels", "models", "objectives", "optim", "report"}
    wrong = [
        str(path)
        for part in parts
        for path in (PACKAGE / part).rglob("*.py")
        if imported(path) & (parts - {part})
    ]
    assert not wrong


def test_stages_do_not_import_one_another():
    wrong = [
        path.name for path in (PACKAGE / "stages").glob("*.py") if "selftrain.stages" in path.read_text()
    ]
    assert not wrong


def test_nothing_on_the_data_floor_sees_the_settings():
    seeing = [
        path.name for path in (PACKAGE / "data").rglob("*.py") if imported(path) & {"config", "settings"}
    ]
    assert not seeing


def test_the_main_process_is_asked_for_above_floor_1_only():
    asking = {room(path) for path in PACKAGE.rglob("*.py") if "is_main_process" in path.read_text()}
    sessions = {
        "corrections",
        "distilling",
        "generations",
        "labelling",
        "live",
        "results",
        "session",
        "training",
    }
    assert asking <= {*sessions, "autoplan", "preflight", "stage", "stages"}


def test_albumentations_is_used_in_one_place():
    users = {path.parent for path in PACKAGE.rglob("*.py") if "import albumentations" in path.read_text()}
    assert users == {PACKAGE / "data" / "augment"}
