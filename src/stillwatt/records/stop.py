"""What ends a training before its text does."""

from __future__ import annotations

from dataclasses import dataclass

UNREAD = "unread energy: "
"""Begins what is said of a training that ended since its budget could not be held to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """What ended an arm's training before its share of the token budget was used up."""

    is_own: bool
    """Whether it was the arm's own budget; else the run's."""
    said: str
    """The budget, as the recipe writes it: `4 J`."""
    unit: str
    """`J`, `s` or `tokens`; empty where nobody says."""
    unread: str = ""
    """Which energy was not read any more, where that ended the training: the budget of joules could not be kept."""

    @property
    def words(self) -> str:
        """Which budget, or what it lacked.

        >>> Stop(is_own=False, said="832 tokens", unit="tokens").words
        "the run's budget of 832 tokens"
        """
        if self.unread:
            return f"{UNREAD}{self.unread}"
        whose = "its" if self.is_own else "the run's"
        return f"{whose} budget of {self.said}"

    def is_as_dear_as(self, other: Stop | None) -> bool:
        """Whether both arms were trained until their own joules reached one budget: equal-joule arms."""
        return self.is_own and self.unit == "J" and self == other
