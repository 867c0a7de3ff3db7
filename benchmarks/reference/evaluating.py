"""mIoU as one writes it with torchmetrics: a loop at batch 1."""

import cv2
import numpy as np
import torch
from torchmetrics.classification import MulticlassJaccardIndex

from reference.labelling import MEAN, STD, Padded


@torch.no_grad()
def miou(model, pairs, classes, ignore=255):
    padded = Padded(model).eval()
    metric = MulticlassJaccardIndex(classes, ignore_index=ignore)
    for image_path, mask_path in pairs:
        image = cv2.cvtColor(cv2.imread(str(image_path)), cv2.COLOR_BGR2RGB)
        mask = cv2.imread(str(mask_path), cv2.IMREAD_GRAYSCALE)
        pixels = torch.from_numpy(((image / 255.0 - MEAN) / STD).astype(np.float32).transpose(2, 0, 1))[None]
        metric.update(padded(pixels).argmax(dim=1), torch.from_numpy(mask)[None].long())
    return float(metric.compute())
