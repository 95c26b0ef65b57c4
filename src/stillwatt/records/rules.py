"""Design rules: what is claimed of distilling in general, what tests it, and what a set of trainings says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Expected(StrEnum):
    """Where a rule expects an effect to lie."""

    ABOVE = "above"
    BELOW = "below"
    NEAR = "near"
    """Within `margin` of the bound, on either side."""


class Status(StrEnum):
    """What the trainings at hand say of a rule."""

    HOLDS = "holds"
    """Every repeated case lies on the expected side, beyond its error."""
    FAILS = "fails"
    """Some repeated case lies on the other side, beyond its error and beyond the chance that many cases give."""
    UNDETERMINED = "undetermined"
    """There are cases, and they do not say: within their errors, or on one seed."""
    UNTESTED = "untested here"
    """No two trainings here make the comparison."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleTest:
    """One comparison that tests a rule, or a part of it."""

    comparison: str
    """Its name in `stillwatt.analysis.rule_cases`."""
    says: str
    """What is compared, in words."""
    expected: Expected
    bound: float
    """What the effect is held against: 1 for ratios, 0 for differences."""
    margin: float
    """`near` alone: how far from the bound still counts as near it."""
    methods: tuple[str, ...]
    """Beginnings of the methods in scope; empty for all that are distilled."""
    options: Mapping[str, str] = field(default_factory=dict)
    """What the comparison needs to know beside it: `setting`, `other`, `outcome`, `students`."""
    needs: str
    """What has to be run where nothing here tests it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DesignRule:
    """A claim about distilling, as a hypothesis."""

    name: str
    statement: str
    scope: str
    source: str
    section: str
    tests: tuple[RuleTest, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What one pair or group of labels says of a test."""

    about: str
    labels: tuple[str, ...]
    effect: float | None
    """None where it has no number, as an N* where nothing is saved."""
    low: float | None
    """95 %; None beside an effect where nothing is known of its error."""
    high: float | None
    """None beside a `low`: no upper end."""
    unit: str
    seeds: int
    """The fewest seeds of a label in it."""
    leans: bool | None
    """Whether the effect itself lies where it is expected; None where that cannot be said."""
    p_for: float
    """Chance of an effect so far on the expected side, were it at the bound; one-sided."""
    p_against: float
    """The same of the other side."""

    @property
    def is_repeated(self) -> bool:
        """Whether all of its labels have several seeds; nothing is claimed otherwise."""
        return self.seeds > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Unused:
    """A label in a test's scope that no case of it rests on."""

    label: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TestFinding:
    """What a set of trainings says of one test."""

    __test__ = False  # not one of pytest's

    test: RuleTest
    status: Status
    reason: str
    cases: tuple[Case, ...]
    gaps: tuple[str, ...]
    """Comparisons that could not be made, with the reason."""
    unused: tuple[Unused, ...] = ()
    """Labels that none of the cases rests on, with the reason."""
    next_run: str
    """What would test or settle it; empty where it is settled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleFinding:
    """What a set of trainings says of a rule."""

    rule: DesignRule
    status: Status
    tests: tuple[TestFinding, ...]

    @property
    def supporting(self) -> tuple[str, ...]:
        """Labels of the cases that lie where they are expected, surely or not."""
        return self._labels(leans=True)

    @property
    def contradicting(self) -> tuple[str, ...]:
        """Labels of the cases that do not."""
        return self._labels(leans=False)

    def _labels(self, *, leans: bool) -> tuple[str, ...]:
        cases = [case for test in self.tests for case in test.cases if case.leans is leans]
        return tuple(dict.fromkeys(label for case in cases for label in case.labels))


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesTested:
    """All rules on one set of trainings."""

    source: str
    baseline: str
    rules: tuple[RuleFinding, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MinedRule:
    """A statement that a set of trainings supports beyond chance, all statements that were tried considered."""

    kind: str
    """`method`, `matched`, `setting` or `monotone`."""
    statement: str
    """With `{effect}` where the effect goes."""
    scope: str
    effect: float | None
    """Of the least sure of its comparisons."""
    low: float | None
    high: float | None
    unit: str
    """`times`, `quality` or `J`."""
    quality_change: float | None
    """What the same change does to the quality, for statements on a setting's energy."""
    quality_change_half_width: float | None
    supporting: tuple[str, ...]
    contradicting: tuple[str, ...]
    """Labels in its scope whose own effect points the other way."""
    seeds: int
    p: float
    """One-sided, before the correction for many statements."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesMined:
    """All statements that were found, and how many were tried."""

    source: str
    baseline: str
    rate: float
    """Expected share of false ones among those found, at most (method.md, eq. 109)."""
    tried: int
    """Statements tried, both directions counted."""
    largest_p: float | None
    """The bound that the correction put on p; None where nothing was found."""
    untried: tuple[str, ...]
    """What could not be tried, with the reason."""
    found: tuple[MinedRule, ...]
    warnings: tuple[str, ...]
