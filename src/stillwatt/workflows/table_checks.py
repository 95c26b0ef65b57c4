"""What a table as a whole must be: one boundary, one quality on one scale, labels that differ in seeds alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from stillwatt.analysis.quality import is_training_loss
from stillwatt.errors import ConfigError
from stillwatt.records.comparison import Observation

MOST_SHARE, LEAST_PERCENT = 1.5, 20.0
"""Qualities up to the one look like shares, above the other like per cent."""
NO_SCORE = (
    "a loss that was trained on is another quantity for each objective and ranks no students; give scores of an "
    "evaluation, the same for all"
)


def check_definitions(path: str, found: Mapping[str, int]) -> None:
    """Refuse qualities of unlike definitions, and losses that were trained on.

    Args:
        path: The table.
        found: Definitions with the first line of each.

    Raises:
        ConfigError: There are several, or one is no score.
    """
    for definition, line in found.items():
        if is_training_loss(definition):
            raise ConfigError(path, f"quality is {definition!r}: {NO_SCORE}", line=line)
    _check_one(
        path, "quality", found, "qualities of unlike definitions cannot stand on one axis; give each its own table"
    )


def check_boundaries(path: str, found: Mapping[str, int]) -> None:
    """Refuse energies of unlike boundaries.

    Args:
        path: The table.
        found: Boundaries with the first line of each.

    Raises:
        ConfigError: There are several.
    """
    _check_one(path, "boundary", found, "energies of unlike boundaries are never compared; give each its own table")


def _check_one(path: str, what: str, found: Mapping[str, int], why: str) -> None:
    if len(found) > 1:
        (one, first), (two, second), *_ = found.items()
        said = f"{what} is {two or 'not named'!r} here and {one or 'not named'!r} on line {first}: {why}"
        raise ConfigError(path, said, line=second)


@dataclass(slots=True)
class Scale:
    """Whether some qualities look like shares and others like per cent."""

    shares: list[tuple[int, float]] = field(default_factory=list)
    percents: list[tuple[int, float]] = field(default_factory=list)

    def note(self, quality: float, line: int) -> None:
        """Keep the first of each."""
        if 0.0 < abs(quality) <= MOST_SHARE and not self.shares:
            self.shares.append((line, quality))
        elif abs(quality) > LEAST_PERCENT and not self.percents:
            self.percents.append((line, quality))

    def check(self, path: str) -> None:
        """Refuse a table that has both."""
        if self.shares and self.percents:
            (line, quality), (other_line, other) = self.shares[0], self.percents[0]
            raise ConfigError(
                path,
                f"quality {other:g} here and {quality:g} on line {line} look like two definitions (per cent and "
                "share?); bring them to one, or name it in a column quality_definition if they are one",
                line=other_line,
            )


def are_seeds(rows: Sequence[Observation]) -> bool:
    """Whether rows of one label differ in their seed alone."""
    held: dict[str, Observation] = {}
    for row in rows:
        first = held.setdefault(row.label, row)
        if (first.method, first.student, first.settings) != (row.method, row.student, row.settings):
            return False
    return len({(row.label, row.seed) for row in rows}) == len(rows)
