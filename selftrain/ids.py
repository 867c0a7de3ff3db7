"""Class ids of pixels."""

IGNORE = 255  # a pixel without a class: it is neither learnt from nor counted
