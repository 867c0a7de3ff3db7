"""`debug=true`: the whole path of a run in minutes, on a small part of the data and of the steps."""

SHARE = 0.05  # of the images of each split, and of the steps
IMAGES = {"labelled": 2, "unlabelled": 4, "val": 2, "test": 2}  # at least, if there are so many
STEPS = 3  # at least, if there are so many; select.reliability needs them
NOTE = f"debug=true: {SHARE:.0%} of the data and of the steps, so the numbers mean nothing"


def images(split: str, count: int) -> int:
    """The number of images of a split with `count` images that a debug run uses."""
    return min(count, max(IMAGES[split], round(SHARE * count)))


def steps(count: int) -> int:
    """The number of steps that a debug run takes instead of `count`: SHARE of them, at least STEPS."""
    return min(count, max(STEPS, int(SHARE * count)))
