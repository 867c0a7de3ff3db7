"""The contact sheet: images with their masks in class colours, as PNG and as a self-contained HTML page."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from selftrain.data.dataset import DataSet
from selftrain.data.images import resize_image
from selftrain.data.masks import resize_mask
from selftrain.data.sample import Sample
from selftrain.errors import DataError
from selftrain.files import write_bytes
from selftrain.ids import IGNORE
from selftrain.inspection.pictures import some
from selftrain.report.palette import palette

MASKED, BARE = 12, 4  # most labelled and unlabelled images that are shown
SIDE = 240  # pixels
OPACITY = 0.55  # of the mask
STRIPE = 8  # pixels between the stripes that mark ignored pixels
MARGIN, LINE = 8, 18  # pixels between cells, and of a line of text
COLUMNS = 2
LETTER = 7  # pixels, about
NOTE = "Left: the image. Right: its mask in class colours; ignored pixels are striped."
STYLE = """body{font:15px/1.4 system-ui,sans-serif;margin:2rem auto;max-width:1100px;padding:0 1rem}
table{border-collapse:collapse}td{padding:.15rem .8rem .15rem 0;vertical-align:top}
figure{display:inline-block;margin:0 .6rem 1rem 0}figcaption{font-size:12px;color:#555;max-width:490px;
overflow-wrap:anywhere}img{display:inline-block;image-rendering:auto}
.swatch{display:inline-block;width:1em;height:1em;margin-right:.4em;vertical-align:-.1em}li{list-style:none}
ul{padding:0;columns:3}"""


@dataclass(frozen=True)
class Cell:
    """An image beside the same image with its mask (H, 2 W + gap, 3) uint8, or a single image."""

    title: str
    pixels: np.ndarray


def cells(data: DataSet) -> list[Cell]:
    """Pictures of images of all splits with their masks, and of some unlabelled images."""
    splits = {"train": data.labelled, "val": data.val, "test": data.test}
    share = max(1, MASKED // max(1, sum(bool(samples) for samples in splits.values())))
    chosen = [(split, sample) for split, samples in splits.items() for sample in some(samples, share)]
    chosen += [("unlabelled", sample) for sample in some(data.unlabelled, BARE)]
    colours = palette(len(data.classes))
    return [cell for split, sample in chosen for cell in [_cell(split, sample, colours)] if cell]


def _cell(split: str, sample: Sample, colours: np.ndarray) -> Cell | None:
    """The cell of a sample; None if it cannot be read (verify says why)."""
    try:
        image = sample.read_image()
        mask = sample.read_mask() if split != "unlabelled" else None
    except DataError:
        return None
    return pair(f"{split}: {sample.id}", image, mask, colours)


def pair(
    title: str,
    image: np.ndarray,
    mask: np.ndarray | None,
    colours: np.ndarray,
    soft: np.ndarray | None = None,
) -> Cell:
    """The cell of an image (H, W, C), beside its `mask` (H, W) if there is one.

    With `soft` labels (C, H, W), colours are averaged by them.
    """
    small = fitted(image)
    size = small.shape[:2]
    if mask is None:
        return Cell(title, small)
    mask = resize_mask(mask, size)
    painted = colours[mask]
    if soft is not None:
        planes = [resize_image(_bytes(plane)[..., None], size)[..., 0] / 255 for plane in soft]
        painted = np.stack(planes, axis=-1) @ colours[: len(soft)]
    return Cell(title, beside([small, _painted(small, mask, painted)]))


def beside(panels: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures (H, W, 3) of one height in a row, with a gap between them."""
    gap = np.full((panels[0].shape[0], MARGIN // 2, 3), 255, np.uint8)
    return np.concatenate([part for panel in panels for part in (panel, gap)][:-1], axis=1)


def fitted(image: np.ndarray) -> np.ndarray:
    """An image (H, W, C) as RGB (h, w, 3) of at most SIDE pixels; of other channels, the first is shown."""
    height, width = image.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    small = resize_image(image, (max(1, round(height * scale)), max(1, round(width * scale))))[..., :3]
    return small if small.shape[2] == 3 else np.repeat(small[..., :1], 3, axis=2)


def _bytes(share: np.ndarray) -> np.ndarray:
    return (255 * share).round().astype(np.uint8)


def overlay(image: np.ndarray, mask: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """The image (H, W, 3) with the mask's classes (H, W) in colour; ignored pixels are striped black."""
    return _painted(image, mask, colours[mask])


def _painted(image: np.ndarray, mask: np.ndarray, painted: np.ndarray) -> np.ndarray:
    """The image (H, W, 3) under the colours `painted` (H, W, 3), except where `mask` (H, W) is ignored."""
    mixed = (1 - OPACITY) * image + OPACITY * painted
    rows, columns = np.indices(mask.shape)
    striped = (mask == IGNORE) & ((rows + columns) % STRIPE < STRIPE // 2)
    mixed[mask == IGNORE] = image[mask == IGNORE]
    mixed[striped] = 0
    return mixed.round().astype(np.uint8)


def write_sheet(stem: Path, title: str, rows: Sequence[tuple[str, str]], data: DataSet) -> list[Path]:
    """Write the contact sheet as <stem>.png and <stem>.html. `rows` are facts to show above the pictures."""
    return write_cells(stem, title, rows, cells(data), data.classes, (COLUMNS, NOTE))


def write_cells(
    stem: Path,
    title: str,
    rows: Sequence[tuple[str, str]],
    drawn: Sequence[Cell],
    classes: Sequence[str],
    layout: tuple[int, str],
) -> list[Path]:
    """Write cells as <stem>.png and <stem>.html; `layout`: the columns, and a note on what a cell shows."""
    colours = palette(len(classes))
    legend = [(name, tuple(colours[k].tolist())) for k, name in enumerate(classes)]
    columns, note = layout
    picture, page = stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.html")
    write_bytes(picture, _png(Image.fromarray(_sheet(drawn, legend, columns))))
    write_bytes(page, _page(title, rows, drawn, legend, note).encode())
    return [picture, page]


def _sheet(drawn: Sequence[Cell], legend: Sequence[tuple[str, tuple[int, ...]]], columns: int) -> np.ndarray:
    """All cells and the legend as one picture (H, W, 3)."""
    font = ImageFont.load_default(12)
    width = max((cell.pixels.shape[1] for cell in drawn), default=2 * SIDE)
    columns = max(1, min(columns, len(drawn)))
    across = MARGIN + columns * (width + MARGIN)
    per_row = max(1, across // 150)
    lines = -(-len(legend) // per_row)
    rows = [drawn[start : start + columns] for start in range(0, len(drawn), columns)]
    heights = [LINE + max(cell.pixels.shape[0] for cell in row) + MARGIN for row in rows]
    sheet = Image.new("RGB", (across, MARGIN + lines * LINE + MARGIN + sum(heights)), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (name, colour) in enumerate(legend):
        x, y = MARGIN + place % per_row * 150, MARGIN + place // per_row * LINE
        draw.rectangle((x, y, x + 12, y + 12), fill=colour, outline="black")
        draw.text((x + 18, y), _short(name, 20), fill="black", font=font)
    y = MARGIN + lines * LINE + MARGIN
    for row, height in zip(rows, heights, strict=True):
        for place, cell in enumerate(row):
            x = MARGIN + place * (width + MARGIN)
            draw.text((x, y), _short(cell.title, width // LETTER), fill="black", font=font)
            sheet.paste(Image.fromarray(cell.pixels), (x, y + LINE))
        y += height
    return np.asarray(sheet)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"...{text[3 - most :]}"


def _page(
    title: str,
    rows: Sequence[tuple[str, str]],
    drawn: Sequence[Cell],
    legend: Sequence[tuple[str, tuple[int, ...]]],
    note: str,
) -> str:
    facts = "".join(f"<tr><td>{escape(name)}</td><td>{escape(text)}</td></tr>" for name, text in rows)
    names = "".join(
        f'<li><span class="swatch" style="background:rgb{colour}"></span>{escape(name)}</li>'
        for name, colour in legend
    )
    figures = "".join(
        f'<figure><img src="{_embedded(cell.pixels)}" alt="">'
        f"<figcaption>{escape(cell.title)}</figcaption></figure>"
        for cell in drawn
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style><h1>{escape(title)}</h1><table>{facts}</table><ul>{names}</ul>"
        f"<p>{escape(note)}</p>"
        f"{figures}</html>"
    )


def _embedded(pixels: np.ndarray) -> str:
    return "data:image/png;base64," + base64.b64encode(_png(Image.fromarray(pixels))).decode()


def _png(picture: Image.Image) -> bytes:
    content = io.BytesIO()
    picture.save(content, format="PNG", optimize=True)
    return content.getvalue()
