"""Augmentation of one image and of all that is known about its pixels: tables of functions, their order."""

import os

import cv2

os.environ.setdefault(
    "NO_ALBUMENTATIONS_UPDATE", "1"
)  # before albumentations is imported: it asks a server for news
cv2.setNumThreads(0)  # loader processes share the cores already
