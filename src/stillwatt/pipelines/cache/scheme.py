"""What a coded cache keeps of each distribution, as named schemes with their parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from stillwatt.errors import UnknownNameError, UsageError
from stillwatt.pipelines.cache.grid import Grid

__all__ = ["SCHEMES", "Scheme"]

SCHEMES = ("topk", "topp", "head_draws", "rs_kd")
_MOST_KEPT = 4096
_MOST_DRAWN = 1024


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """One way of cutting a distribution down.

    `topk`: the most probable tokens and the mass of all others. `topp`: as many of them as it takes to reach a mass, up
    to a cap. `head_draws`: the most probable ones and draws from all others, unbiased. `rs_kd`: draws from the whole
    distribution, unbiased.
    """

    name: str
    top_k: int = 0
    """Kept tokens; the cap for `topp`, 0 for `rs_kd`."""
    mass: float = 1.0
    """`topp`: what the kept tokens reach."""
    draws: int = 0
    step: float = 0.5
    """Width of a value's levels, in nats."""
    seed: int = 0
    """Of the draws, and of the rounding by chance."""
    prior: str = "bigram"
    """`bigram`, or `unigram`: no lists by preceding token."""
    prior_least: int = 2
    """Times a token must have been kept after another to get into its list."""

    def __post_init__(self) -> None:
        if self.name not in SCHEMES:
            raise UnknownNameError("cache scheme", self.name, SCHEMES)
        for problem in self._problems():
            raise UsageError(f"cache scheme {self.name}: {problem}")

    def _problems(self) -> list[str]:
        wants_head, wants_draws = self.name != "rs_kd", self.name in ("head_draws", "rs_kd")
        found = {
            f"top_k {self.top_k} must lie between 1 and {_MOST_KEPT}": wants_head and not 1 <= self.top_k <= _MOST_KEPT,
            f"top_k {self.top_k} has no meaning without a head; leave it out": not wants_head and self.top_k != 0,
            f"draws {self.draws} must lie between 1 and {_MOST_DRAWN}": wants_draws
            and not 1 <= self.draws <= _MOST_DRAWN,
            f"draws {self.draws} has no meaning here; leave it out": not wants_draws and self.draws != 0,
            f"mass {self.mass} must be above 0 and below 1; topk keeps top_k tokens whatever they reach": (
                self.name == "topp" and not 0.0 < self.mass < 1.0
            ),
            f"mass {self.mass} has no meaning here; leave it out": self.name != "topp" and self.mass != 1.0,
            f"step {self.step} must lie between 1/64 and 2 nats": not 1 / 64 <= self.step <= 2.0,
            f"prior {self.prior!r} must be bigram or unigram": self.prior not in ("bigram", "unigram"),
            f"prior_least {self.prior_least} must be at least 1": self.prior_least < 1,
        }
        return [message for message, is_wrong in found.items() if is_wrong]

    @cached_property
    def grid(self) -> Grid:
        """Levels of the kept values."""
        return Grid(self.step)

    @property
    def has_head(self) -> bool:
        """Whether the most probable tokens are kept as such."""
        return self.name != "rs_kd"

    @property
    def is_variable(self) -> bool:
        """Whether rows keep different numbers of tokens."""
        return self.name == "topp"

    @property
    def is_unbiased(self) -> bool:
        """Whether the expected gradient is the exact one."""
        return self.draws > 0

    @property
    def is_bigram(self) -> bool:
        """Whether the prior has lists by preceding token."""
        return self.prior == "bigram"

    @property
    def listed(self) -> int:
        """How many of the most probable tokens count towards the prior's lists."""
        return max(self.top_k, 32)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Scheme:
        """The reverse of `to_json`.

        Raises:
            UsageError: There is no such scheme.
            TypeError: They are not a scheme's parameters.
        """
        known = dict(values)
        if known.get("name") != "topp":
            known.pop("mass", None)  # once taken by every scheme, and without meaning then too
        return cls(**known)
