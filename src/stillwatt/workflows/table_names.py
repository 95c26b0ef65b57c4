"""What the columns of a table of trainings are called."""

from __future__ import annotations

from stillwatt.workflows.sites import SITE_COLUMNS, TEACHER_PREFIX

COLUMNS = (
    "label",
    "method",
    "student",
    "seed",
    "quality",
    "quality_se",
    "teacher_kwh",
    "student_kwh",
    "other_kwh",
    "throughput",
)
"""What a table must have; an empty cell is unknown."""
CARDS = ("teacher_gpu_kwh", "student_gpu_kwh", "other_gpu_kwh")
HALF_WIDTHS = ("teacher_kwh_half_width", "student_kwh_half_width", "other_kwh_half_width")
SETTINGS = (
    "alpha",
    "temperature",
    "max_new_tokens",
    "prompts",
    "top_k",
    "train_tokens",
    "sequence_tokens",
    "epochs",
    "learning_rate",
    "batch_size",
    "student_parameters",
)
"""What a training may have been made with; design rules are tested and mined over them."""
BOUNDARIES = ("gpu", "node", "facility")
OPTIONAL = (
    "total_kwh",
    *HALF_WIDTHS,
    *CARDS,
    "boundary",
    *SITE_COLUMNS,
    *(f"{TEACHER_PREFIX}{name}" for name in SITE_COLUMNS),
    "teacher_tokens",
    "serving_teacher_j_per_token",
    "serving_student_j_per_token",
    "j_per_token",
    "quality_definition",
    "published_n_star",
    "student_seconds",
    "device",
    "teacher_device",
    "gain_rel",
    *SETTINGS,
)
"""What a table may have beside it."""
WORDS = (
    "label",
    "method",
    "student",
    "seed",
    "quality",
    "boundary",
    "quality_definition",
    "published_n_star",
    "device",
    "teacher_device",
)
NUMBERS = tuple(name for name in (*COLUMNS, *OPTIONAL) if name not in WORDS)
PLAIN = (
    *COLUMNS,
    *SETTINGS,
    "student_seconds",
    "teacher_tokens",
    "serving_teacher_j_per_token",
    "serving_student_j_per_token",
)
"""Columns that are read as columns in a large table; one with others is read cell by cell."""
SITES = (*SITE_COLUMNS, *(f"{TEACHER_PREFIX}{name}" for name in SITE_COLUMNS))
CONSTANT = ("boundary", "quality_definition", *SITES)
"""Columns that may stand in such a table too where all of their cells say the same."""
