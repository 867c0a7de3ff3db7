"""Imports go down only, and siblings of floor 1 do not import one another."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "selftrain"
FLOORS = {"run": 5, "cli": 5, "generations": 4, "preflight": 4, "networks": 4, "trial": 4, "choices": 4}
FLOORS |= {"stages": 3, "methods": 2.5, "inference": 2}
FLOORS |= {"augmentation": 4, "datasets": 4, "plan": 4, "material": 4}
FLOORS |= dict.fromkeys(("data", "models", "labels", "objectives", "optim", "report"), 1)


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


def test_imports_go_down_only():
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        here = FLOORS.get(room(path), 0)
        for other in imported(path) - {room(path), "__version__"}:
            there = FLOORS.get(other, 0)
            allowed = there < here or here == there in (0, 4, 5)
            if not allowed:
                wrong.append(f"{path.relative_to(PACKAGE)} imports {other}")
    assert not wrong


def test_nothing_on_the_data_floor_sees_the_settings():
    seeing = [path.name for path in (PACKAGE / "data").rglob("*.py") if imported(path) & {"config", "settings"}]
    assert not seeing


def test_the_main_process_is_asked_for_above_floor_1_only():
    asking = {room(path) for path in PACKAGE.rglob("*.py") if "is_main_process" in path.read_text()}
    assert asking <= {"generations", "preflight", "stages"}


def test_albumentations_is_used_in_one_place():
    users = {path.parent for path in PACKAGE.rglob("*.py") if "import albumentations" in path.read_text()}
    assert users == {PACKAGE / "data" / "augment"}
