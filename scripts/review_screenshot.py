"""Make docs/images/review.png, the page of `selftrain review` on drawn images. Needs chromium.

    python scripts/review_screenshot.py docs/images/review.png

A supervised run on drawn scenes takes about a minute on two cores.
"""

import argparse
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = [
    "recipe=supervised", "model.encoder=tu-resnet10t", "model.weights=null", "model.decoder_channels=[64,32,16,16]",
    "data.size=[128,128]", "train.crop=[128,128]", "data.shapes.unlabelled=12", "data.shapes.val=8", "data.shapes.test=2",
    "train.steps=120", "train.lr=0.003", "train.warmup=5", "export.onnx=false",
]  # fmt: skip
SIZES = {"": (1200, 800), "-phone": (390, 800)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path)
    parser.add_argument("--run", type=Path, help="a finished run (default: one that is trained now)")
    parser.add_argument("--all", action="store_true", help="also dark, and as wide as a phone")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "first"
        if arguments.run:  # a copy: the picture must not change a review
            shutil.copytree(arguments.run, run, ignore=shutil.ignore_patterns("review"))
        else:
            subprocess.run(
                [sys.executable, "-m", "selftrain.run", *SETTINGS, f"out={run}"], cwd=ROOT, check=True
            )
        command = [sys.executable, "-m", "selftrain.cli", "review", str(run)]
        server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert server.stdout
        try:
            address = next(found[0] for line in server.stdout if (found := re.search(r"http://\S+", line)))
            take(address, arguments.output, everything=arguments.all)
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(timeout=60)
        print(json.dumps({"written": str(arguments.output)}))


def take(address: str, output: Path, *, everything: bool) -> None:
    """Take the picture in the light colours, or all of them."""
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for suffix, (width, height) in SIZES.items():
            for scheme in ("light", "dark"):
                dark = "-dark" if scheme == "dark" else ""
                if (suffix or dark) and not everything:
                    continue
                page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
                page.goto(address)
                expect(page.locator("#status")).to_have_text("saved", timeout=60_000)
                paint(page)
                page.screenshot(path=output.with_stem(f"{output.stem}{suffix}{dark}"))
                page.keyboard.press("u")
                expect(page.locator("#status")).to_have_text("saved")
                page.close()
        browser.close()


def paint(page: Page) -> None:
    """Draw a stroke of the second class."""
    box = page.locator("#stage").bounding_box()
    assert box
    page.keyboard.press("2")
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 30, y)
    page.mouse.down()
    page.mouse.move(x + 40, y + 60, steps=8)
    page.mouse.up()
    expect(page.locator("#verdict")).to_have_text("corrected in part")
    expect(page.locator("#status")).to_have_text("saved")


if __name__ == "__main__":
    main()
