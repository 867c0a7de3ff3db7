"""Frames of videos, decoded by OpenCV."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from selftrain.data.bands import GREY, RGB
from selftrain.data.faults import Fault
from selftrain.errors import DataError
from selftrain.files import write_json

SUFFIXES = {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg"}
DONE = "frames.json"  # in the folder of a video's masks, once all of them are there


def is_video(path: Path) -> bool:
    """Whether a path has the suffix of a video."""
    return path.suffix.lower() in SUFFIXES


def frames(path: Path, channels: int) -> Iterator[np.ndarray]:
    """The frames (H, W, channels) uint8 of a video in order. Raises DataError if there is none."""
    if channels not in (RGB, GREY):
        what = f"is a video, but the network takes images of {channels} channels"
        raise DataError(Fault(str(path), what, "give images of these channels"))
    video, count = cv2.VideoCapture(str(path)), 0
    try:
        while True:
            read, frame = video.read()
            if not read:
                break
            count += 1
            if channels == GREY:
                yield cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)[..., None]
            else:
                yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    finally:
        video.release()
    if not count:
        raise DataError(Fault(str(path), "has no frame that OpenCV decodes", "convert it to H.264 in MP4"))


def note(folder: Path, count: int) -> None:
    """Write that all frames of a video are labelled."""
    write_json(folder / DONE, {"frames": count})


def done(folder: Path, video: Path, since: float) -> bool:
    """Whether all frames of a video are labelled, by a file that is newer than the video and than `since`."""
    file = folder / DONE
    return file.is_file() and file.stat().st_mtime >= max(since, video.stat().st_mtime)
