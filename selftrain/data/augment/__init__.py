"""Augmentation of one image and its labels: tables of functions, and the order in which they act."""

import os

import cv2

# Must be set before albumentations is imported: it would ask a server for updates.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
cv2.setNumThreads(0)  # loader processes already share the cores
