"""`selftrain convert`: masks in the formats of annotation programs."""

import argparse

from selftrain.commands import Commands, command, path
from selftrain.conversion import TO, refuse_missing


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    child = command(commands, convert, "selftrain.yaml -o coco --to coco-rle")
    text = "a data YAML, a folder that selftrain init understands without questions, or the output of predict"
    child.add_argument("source", type=path, help=text)
    text = "a new folder for the images, their annotations and selftrain.yaml, which reads them again"
    child.add_argument("-o", "--output", type=path, required=True, metavar="DIR", help=text)
    child.add_argument("--to", required=True, choices=TO, help="the format (docs/data.md)")
    child.add_argument("--images", type=path, metavar="DIR", help="the images that were predicted")


def convert(arguments: argparse.Namespace) -> None:
    """Write the masks of a data set, or predicted masks, in the format of another program."""
    refuse_missing(arguments.source)
    from selftrain.conversion.convert import convert  # takes seconds to import

    convert(arguments.source, arguments.output, arguments.to, images=arguments.images)
