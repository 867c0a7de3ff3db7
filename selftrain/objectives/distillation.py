"""Knowledge distillation from stored soft labels."""

import torch
from torch.nn import functional as F

LEAST = 1e-4  # below the store's resolution of 1/255; keeps log(p) finite where a class was stored as 0


def kl_sum(logits: torch.Tensor, soft: torch.Tensor, weight: torch.Tensor, *, temperature: float = 1.0) -> torch.Tensor:
    """T^2 * sum of weight * KL(teacher || student), both softened by T (Hinton, Vinyals, Dean 2015, section 2).

    logits (N, C, H, W) of the student, soft (N, C, H, W) probabilities of the teacher, weight (N, H, W), 0 where rejected.
    The teacher's logits are not stored: log(soft) stands for them, which softmax cannot tell apart.
    """
    log_teacher = soft.clamp_min(LEAST).log()
    teacher = soft
    if temperature != 1:
        log_teacher = (log_teacher / temperature).log_softmax(dim=1)
        teacher, logits = log_teacher.exp(), logits / temperature
    divergence = (teacher * (log_teacher - F.log_softmax(logits, dim=1))).sum(dim=1)  # (N, H, W)
    return temperature**2 * (divergence * weight).sum()
