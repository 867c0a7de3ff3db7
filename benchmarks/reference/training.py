"""A student's training as one writes it with albumentations and a DataLoader: fp32, contiguous, npz."""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import cv2
import numpy as np
import torch
import torch.nn.functional as F
from albumentations.pytorch import ToTensorV2
from torch import nn
from torch.utils.data import DataLoader, Dataset


def transforms(crop, strong):
    shift = 150 / 331
    rand_augment = [
        A.NoOp(),
        A.Affine(shear={"x": (-9, 9)}, p=1),
        A.Affine(shear={"y": (-9, 9)}, p=1),
        A.Affine(translate_percent={"x": (-shift, shift)}, p=1),
        A.Affine(translate_percent={"y": (-shift, shift)}, p=1),
        A.Affine(rotate=(-15, 15), p=1),
        A.ColorJitter(brightness=(0.5, 1.5), contrast=(1, 1), saturation=(1, 1), hue=(0, 0), p=1),
        A.ColorJitter(brightness=(1, 1), contrast=(1, 1), saturation=(0.5, 1.5), hue=(0, 0), p=1),
        A.ColorJitter(brightness=(1, 1), contrast=(0.5, 1.5), saturation=(1, 1), hue=(0, 0), p=1),
        A.Sharpen(p=1),
        A.Posterize(num_bits=6, p=1),
        A.Solarize(threshold_range=(0.5, 0.5), p=1),
        A.AutoContrast(p=1),
        A.Equalize(p=1),
    ]
    return A.Compose(
        [
            A.RandomScale((-0.25, 0.5), p=1),
            A.PadIfNeeded(*crop, fill=128, fill_mask=0),
            A.RandomCrop(*crop),
            A.HorizontalFlip(p=0.5),
            A.ColorJitter(0.3, 0.3, 0.3, 0, p=1),
            *([A.SomeOf(rand_augment, n=2, replace=True, p=1)] if strong else []),
            A.Normalize(),
            ToTensorV2(transpose_mask=True),
        ]
    )


class Labelled(Dataset):
    def __init__(self, images, masks, crop):
        self.images, self.masks = images, masks
        self.transform = transforms(crop, strong=False)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        image = cv2.cvtColor(cv2.imread(str(self.images[i])), cv2.COLOR_BGR2RGB)
        mask = cv2.imread(str(self.masks[i]), cv2.IMREAD_GRAYSCALE)
        out = self.transform(image=image, mask=mask)
        return out["image"], out["mask"].long()


class PseudoLabelled(Dataset):
    """`labels[i]` is an npz of `probs` (C, H, W) float16; `thresholds` (C,)."""

    def __init__(self, images, labels, crop, thresholds):
        self.images, self.labels = images, labels
        self.thresholds = torch.as_tensor(thresholds, dtype=torch.float32)
        self.transform = transforms(crop, strong=True)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        image = cv2.cvtColor(cv2.imread(str(self.images[i])), cv2.COLOR_BGR2RGB)
        probs = np.load(self.labels[i])["probs"].astype(np.float32).transpose(1, 2, 0)
        out = self.transform(image=image, mask=probs)
        soft = out["mask"]
        confidence, hard = soft.max(dim=0)
        return out["image"], hard, soft, (confidence >= self.thresholds[hard]).float()


def cutmix(batch, probability):
    mixed = [tensor.clone() for tensor in batch]
    count, height, width = batch[1].shape
    for i in range(count):
        if np.random.rand() < probability:
            side = np.sqrt(np.random.rand())
            tall, wide = int(side * height), int(side * width)
            top, left = np.random.randint(height - tall + 1), np.random.randint(width - wide + 1)
            for tensor, source in zip(mixed, batch, strict=True):
                tensor[i, ..., top : top + tall, left : left + wide] = source[
                    (i + 1) % count, ..., top : top + tall, left : left + wide
                ]
    return mixed


def loaders(labelled, pseudo, sizes, workers):
    def loader(dataset, size):
        return DataLoader(dataset, batch_size=size, shuffle=True, drop_last=True, num_workers=workers)

    return loader(labelled, sizes[0]), loader(pseudo, sizes[1])


def forever(loader):
    while True:
        yield from loader


class Loop:
    def __init__(self, model, lr=1e-3, ema=0.99):
        self.model = model
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
        self.ema = torch.optim.swa_utils.AveragedModel(
            model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(ema), use_buffers=True
        )

    def step(self, known, guessed):
        images, masks = known
        pseudo_images, _, soft, weight = guessed
        self.model.train()
        logits = self.model(torch.cat([images, pseudo_images]))
        supervised = F.cross_entropy(logits[: len(images)], masks, ignore_index=255, label_smoothing=0.1)
        log_probs = F.log_softmax(logits[len(images) :], dim=1)
        kl = nn.functional.kl_div(log_probs, soft, reduction="none").sum(dim=1)
        loss = supervised + (kl * weight).sum() / weight.sum().clamp_min(1)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.ema.update_parameters(self.model)
        return loss.item()
