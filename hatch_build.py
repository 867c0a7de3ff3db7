"""Compiles the one part of selftrain that is not Python, when it is installed or packed."""

import os
import shlex
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE, LIBRARY = "selftrain/labels/mean_field.cpp", "selftrain/labels/_mean_field.so"
FLAGS = "-std=c++17 -O3 -fno-math-errno -fno-trapping-math -Wall -Wextra -Wno-psabi -Wno-ignored-attributes -shared -fPIC"


class Compiler(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        library = Path(self.root, LIBRARY)
        made = library.with_suffix(f".{os.getpid()}.so")
        compiler = shlex.split(os.environ.get("CXX") or "g++")
        subprocess.run([*compiler, *FLAGS.split(), "-o", made, Path(self.root, SOURCE)], check=True)
        os.replace(made, library)  # processes that have the old one open keep it
        build_data["artifacts"].append(LIBRARY)
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
