"""Stillwatt: where the joules of a distillation went, teacher side included, and whether it was worth it."""

from __future__ import annotations

__version__ = "0.1.0"
