"""What a program's environment says of the cards that it may use."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["UnclearError", "UsedParts", "shown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedParts:
    """The cards that a program may use."""

    parts: frozenset[str]
    reason: str
    """Why these: the variables that choose them, or why it cannot be told."""
    is_chosen: bool = True
    """Whether a variable chooses at all."""
    is_certain: bool = True
    """False where the choice could not be understood, and every card is taken for used."""

    def and_also(self, other: UsedParts) -> UsedParts:
        """These together with the cards of another maker."""
        return UsedParts(
            parts=self.parts | other.parts,
            reason=f"{self.reason}; {other.reason}",
            is_chosen=self.is_chosen or other.is_chosen,
            is_certain=self.is_certain and other.is_certain,
        )


class UnclearError(Exception):
    """The choice cannot be understood; says why."""


def shown(text: str) -> str:
    """A variable's value for a sentence; anybody may have put anything into it."""
    safe = "".join(letter if letter.isprintable() else "?" for letter in text)
    return f"'{safe[:77]}...'" if len(safe) > 80 else f"'{safe}'"
