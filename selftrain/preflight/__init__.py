"""Checks before a run starts, and what a run records about itself."""

from selftrain.preflight.data import (
    Examined,
    check_data,
    check_review,
    examine,
    recorded_data,
    review_of,
    say_untrained_generations,
    settle,
)
from selftrain.preflight.machine import (
    accelerator_of,
    bf16_is_faster,
    precision_of,
    settle_conditions,
    team_of,
)
from selftrain.preflight.resources import Space, check_processes, check_shared_memory, check_space, space_of
from selftrain.preflight.settings import check, say_other_pixel_scales, say_where_students_shrink

__all__ = [
    "Examined",
    "Space",
    "accelerator_of",
    "bf16_is_faster",
    "check",
    "check_data",
    "check_processes",
    "check_review",
    "check_shared_memory",
    "check_space",
    "examine",
    "precision_of",
    "recorded_data",
    "review_of",
    "say_other_pixel_scales",
    "say_untrained_generations",
    "say_where_students_shrink",
    "settle",
    "settle_conditions",
    "space_of",
    "team_of",
]
