"""Brings the fault of SELFTRAIN_FAULT about in a real command that has this folder on its PYTHONPATH."""

import json
import os

if "SELFTRAIN_FAULT" in os.environ:
    import inject

    inject.apply(json.loads(os.environ["SELFTRAIN_FAULT"]))
