"""What of a student was trained, where it was not its weights."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSize:
    """How much of a student was trained, where that was adapters of low rank (LoRA) beside its weights."""

    trained_parameters: int
    """Weights of the adapters."""
    parameters: int
    """Weights of the student, which stayed as they were until the adapters were merged into them."""
