"""Make torchvision importable in the environment that runs this, if its build does not match torch's.

    .venv/bin/python scripts/mend_torchvision.py

Changes nothing if torchvision can be imported. Exits with 1 if it fails for another reason, or still fails.
"""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

FAULT = "operator torchvision::nms does not exist"
HOOK = Path(__file__).with_name("torchvision_schemas.py")


def import_error() -> str:
    """The error of `import torchvision` in a fresh interpreter; empty if it succeeds."""
    result = subprocess.run(
        [sys.executable, "-c", "import torchvision"], capture_output=True, text=True, check=False
    )
    return result.stderr if result.returncode else ""


def install_hook(site_packages: Path) -> Path:
    """Copy the import hook there, with the .pth file that loads it at interpreter start-up."""
    installed = Path(shutil.copyfile(HOOK, site_packages / HOOK.name))
    installed.with_suffix(".pth").write_text(f"import {HOOK.stem}\n")
    return installed


def main() -> int:
    error = import_error()
    if not error:
        print("torchvision imports: nothing to mend")
        return 0
    if FAULT in error and sys.prefix != sys.base_prefix:  # never into the system's Python
        installed = install_hook(Path(sysconfig.get_path("purelib")))
        error = import_error()
        if not error:
            print(f"torchvision is built for another torch ({FAULT}): mended by the import hook {installed}")
            return 0
    print(f"error: torchvision cannot be imported:\n{error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
