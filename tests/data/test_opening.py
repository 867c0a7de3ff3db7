import os
from pathlib import Path

import pytest
from picture_files import fault_of

from selftrain.data.images import read_image
from selftrain.data.storage import fingerprint

pytestmark = pytest.mark.promise(
    "images and masks of every kind (16-bit, CMYK, alpha, palettes, EXIF, bombs, torn): one convention, or a named fault"
)


def test_fifos_devices_and_folders_are_not_opened(tmp_path: Path):
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("/dev/zero")
    (tmp_path / "c.png").mkdir()
    for name in "abc":
        assert "not a regular file" in fault_of(read_image, tmp_path / f"{name}.png").what


def test_the_fingerprint_of_a_file_is_the_sha256_of_its_bytes(tmp_path: Path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert fingerprint(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert "cannot be opened" in fault_of(fingerprint, tmp_path / "none").what
