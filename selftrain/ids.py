"""Class ids of pixels."""

IGNORE = 255  # a pixel without a class: neither trained on nor counted
