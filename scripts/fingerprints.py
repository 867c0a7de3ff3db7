"""Do the recipes still compute the same bits? Runs each at smoke size (fp32, one thread).

    python scripts/fingerprints.py [RECIPE ...]                    compare with this kind of machine's known bits
    python scripts/fingerprints.py --against COMMIT [RECIPE ...]   compare with another version, run here
    python scripts/fingerprints.py --write                         record them for this kind of machine

Exits with 1 if they differ. A commit that changes them on purpose says why and records the new ones.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
import runs  # noqa: E402 (of tests/)

RECIPES = sorted(path.stem for path in (ROOT / "recipes" / "recipe").glob("*.yaml") if path.stem != "smoke")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipes", nargs="*", default=RECIPES)
    parser.add_argument("--against", metavar="COMMIT")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    ours = {recipe: fingerprint(ROOT, recipe) for recipe in arguments.recipes}
    if arguments.write:
        return write(ours)
    theirs = (
        of_commit(arguments.against, arguments.recipes) if arguments.against else runs.known_fingerprints()
    )
    if not theirs:
        sys.exit(
            f"nothing is known of this kind of machine ({runs.machine()}): compare with a version, --against COMMIT"
        )
    differing = [recipe for recipe in ours if recipe in theirs and ours[recipe] != theirs[recipe]]
    print(f"{len(ours) - len(differing)} of {len(ours)} recipes compute the same bits")
    if differing:
        sys.exit(f"other bits: {', '.join(differing)}")


def fingerprint(tree: Path, recipe: str) -> str:
    """runs.bits of a recipe, run with the code of `tree`."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "selftrain.run",
            *runs.SMALL,
            f"recipe={recipe}",
            f"out={folder}/run",
        ]
        ended = subprocess.run(
            command, cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)}, capture_output=True, text=True
        )
        if ended.returncode:
            sys.exit(f"{recipe} failed in {tree}: {ended.stderr.strip().splitlines()[-1]}")
        found = runs.bits(Path(folder) / "run")
    print(f"{recipe:16} {found[:16]}", flush=True)
    return found


def of_commit(commit: str, recipes: list[str]) -> dict[str, str]:
    """The fingerprints of another version, in a separate worktree."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        subprocess.run(
            ["git", "worktree", "add", "--quiet", "--detach", str(tree), commit], cwd=ROOT, check=True
        )
        try:
            library = ROOT / "selftrain" / "labels" / "_mean_field.so"  # compiled when selftrain is installed
            (tree / library.relative_to(ROOT)).write_bytes(library.read_bytes())
            print(f"{commit}:")
            return {
                recipe: fingerprint(tree, recipe)
                for recipe in recipes
                if (tree / f"recipes/recipe/{recipe}.yaml").exists()
            }
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=True)


def write(fingerprints: dict[str, str]) -> None:
    known = json.loads(runs.FINGERPRINTS.read_text()) if runs.FINGERPRINTS.exists() else {}
    known[runs.machine()] = (
        runs.known_fingerprints() | fingerprints if runs.FINGERPRINTS.exists() else fingerprints
    )
    runs.FINGERPRINTS.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
