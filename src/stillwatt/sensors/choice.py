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
    chosen_by: tuple[str, ...] = ()
    """The variables that were set."""
    unclear: tuple[str, ...] = ()
    """Those of them whose choice could not be understood, so that every card is taken for used."""

    @property
    def is_certain(self) -> bool:
        """Whether the choice was understood."""
        return not self.unclear

    def and_also(self, other: UsedParts) -> UsedParts:
        """These together with the cards of another maker."""
        return UsedParts(
            parts=self.parts | other.parts,
            reason=f"{self.reason}; {other.reason}",
            chosen_by=tuple(dict.fromkeys([*self.chosen_by, *other.chosen_by])),
            unclear=tuple(dict.fromkeys([*self.unclear, *other.unclear])),
        )


class UnclearError(Exception):
    """The choice cannot be understood; says why."""


def shown(text: str) -> str:
    """A variable's value for a sentence; anybody may have put anything into it."""
    safe = "".join(letter if letter.isprintable() else "?" for letter in text)
    return f"'{safe[:77]}...'" if len(safe) > 80 else f"'{safe}'"
