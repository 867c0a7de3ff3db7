"""Import hook that lets a CUDA-built torchvision be imported beside a CPU-only torch.

In that case torchvision's compiled operators do not load, and its import stops at `operator torchvision::nms
does not exist` (pytorch/vision#9085). Declaring the two missing operators is enough; selftrain uses neither.
`mend_torchvision.py` copies this file into a virtual environment with this fault. Every interpreter of that
environment then runs it at start-up, so it imports neither torch nor torchvision until torchvision is
imported.
"""

import importlib.machinery
import sys

OPERATORS = ("nms", "qnms")
declared = []  # the torch.library.Library: its declarations live as long as it does


def declare_operators(package_path):
    """Declare the missing operator schemas, unless torchvision's own operators load after all."""
    import torch

    extension = importlib.machinery.PathFinder.find_spec("torchvision._C", package_path)
    try:
        torch.ops.load_library(extension.origin)
    except OSError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in OPERATORS:
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        declared.append(library)


class OperatorsFirst(importlib.machinery.SourceFileLoader):
    """Loads torchvision/__init__.py after its operators have been declared."""

    def exec_module(self, module):
        if not declared:
            declare_operators(module.__path__)
        super().exec_module(module)


class TorchvisionFinder:
    """Finds torchvision as usual and hands it to OperatorsFirst; leaves every other module alone."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != "torchvision":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and type(spec.loader) is importlib.machinery.SourceFileLoader:
            spec.loader = OperatorsFirst(spec.loader.name, spec.loader.path)
        return spec


sys.meta_path.insert(0, TorchvisionFinder)
