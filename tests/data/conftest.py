from pathlib import Path

import pytest
from drawn_folders import pairs


@pytest.fixture
def by_folders(tmp_path: Path) -> Path:
    pairs(tmp_path, ["a_1", "a_2", "b_1", "b_2"], "train")
    pairs(tmp_path, ["c_1"], "val")
    pairs(tmp_path, ["d_1", "d_2"], "test")
    return tmp_path
