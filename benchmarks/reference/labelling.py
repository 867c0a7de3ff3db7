"""Pseudo-labelling as one writes it with ttach and pydensecrf: image by image, view by view, npz files."""

import cv2
import numpy as np
import torch
import torch.nn.functional as F
import ttach
from pydensecrf.densecrf import DenseCRF2D
from torch import nn

MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)


class Padded(nn.Module):
    """Probabilities of images of any size: the network needs multiples of 32."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        height, width = images.shape[2:]
        padded = F.pad(images, (0, -width % 32, 0, -height % 32), mode="reflect")
        return self.model(padded)[:, :, :height, :width].softmax(dim=1)


def wrap(model, scales):
    transforms = ttach.Compose(
        [
            ttach.Scale(scales, interpolation="bilinear", align_corners=False),
            ttach.HorizontalFlip(),
            ttach.VerticalFlip(),
        ]
    )
    return ttach.SegmentationTTAWrapper(Padded(model).eval(), transforms, merge_mode="mean")


@torch.no_grad()
def label(wrapped, paths, folder, crf):
    folder.mkdir(exist_ok=True)
    for path in paths:
        image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        pixels = torch.from_numpy(((image / 255.0 - MEAN) / STD).astype(np.float32).transpose(2, 0, 1))[None]
        probs = wrapped(pixels)[0].numpy()
        probs = refine(image, probs, **crf)
        np.savez(
            folder / f"{path.stem}.npz",
            probs=probs.astype(np.float16),
            hard=probs.argmax(axis=0).astype(np.uint8),
        )


def refine(
    image, probs, iterations, gaussian_sxy, gaussian_compat, bilateral_sxy, bilateral_srgb, bilateral_compat
):
    classes, height, width = probs.shape
    field = DenseCRF2D(width, height, classes)
    field.setUnaryEnergy(
        np.ascontiguousarray(-np.log(np.maximum(probs, 1e-5)).reshape(classes, -1), np.float32)
    )
    field.addPairwiseGaussian(sxy=gaussian_sxy, compat=gaussian_compat)
    field.addPairwiseBilateral(
        sxy=bilateral_sxy, srgb=bilateral_srgb, rgbim=np.ascontiguousarray(image), compat=bilateral_compat
    )
    return np.array(field.inference(iterations), np.float32).reshape(classes, height, width)
