"""selftrain: semi-supervised self-training for semantic segmentation."""

__version__ = "0.1.0"
