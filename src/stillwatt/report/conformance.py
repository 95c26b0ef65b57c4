"""The protocol as data, and how far a life-cycle report keeps it: the level reached, and what stands before the next.

`requirements.toml` holds the requirements; docs/protocol.md is written from it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import Any, Protocol

from stillwatt.report.conformance_rules import CHECKS

_MOST_PLACES = 3
"""Places of one rule that are shown to people; programs get all."""
SCHEMA_RULE = "schema"
VALIDATE_RULES = frozenset(
    {SCHEMA_RULE, "cells-whole", "cell-value", "interval-ordered", "unit", "boundary-named", "not-applicable"}
    | {"water-kind", "factor-named", "factor-hash", "factor-possible", "total-sum", "total-gaps"}
    | {"market-by-contract", "quality-class", "coverage-score", "functional-unit"}
)
"""Rules of `stillwatt validate` that requirements stand on; their faults are handed in."""


class Keyword(StrEnum):
    """How binding a requirement is, in the sense of RFC 2119."""

    MUST = "MUST"
    SHOULD = "SHOULD"
    MAY = "MAY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A level of conformance; a report that reaches one reaches those below it."""

    number: int
    name: str
    means: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """One numbered requirement."""

    id: str
    part: str
    level: int
    keyword: Keyword
    text: str
    why: str
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TheProtocol:
    """The protocol of one version."""

    version: str
    changes: tuple[tuple[str, str], ...]
    """Each version with what is asked since then, the latest first."""
    levels: tuple[Level, ...]
    requirements: tuple[Requirement, ...]


class Fault(Protocol):
    """What `stillwatt validate` finds: which rule is broken, and where."""

    @property
    def rule(self) -> str:
        """The rule's name."""
        ...

    @property
    def path(self) -> str:
        """JSON path."""
        ...

    @property
    def message(self) -> str:
        """What is wrong there."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """One place where a report does not meet a requirement."""

    requirement: Requirement
    rule: str
    path: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Conformance:
    """How far a report keeps the protocol."""

    version: str
    reached: Level | None
    """None where not even the first level is."""
    following: Level | None
    """None where the last is reached."""
    before_next: tuple[Gap, ...]
    """What stands between the report and the next level."""
    advice: tuple[Gap, ...]
    """What SHOULD be and is not, up to the next level."""


@cache
def protocol() -> TheProtocol:
    """The protocol that comes with Stillwatt."""
    text = (resources.files("stillwatt.report") / "requirements.toml").read_text(encoding="utf-8")
    said = tomllib.loads(text)
    return TheProtocol(
        version=said["version"],
        changes=tuple((row["version"], row["said"]) for row in said["change"]),
        levels=tuple(Level(**row) for row in said["level"]),
        requirements=tuple(
            Requirement(**{**row, "keyword": Keyword(row["keyword"]), "rules": tuple(row["rules"])})
            for row in said["requirement"]
        ),
    )


def conformance(report: Mapping[str, Any], faults: Iterable[Fault] = ()) -> Conformance:
    """How far a report keeps the protocol.

    Args:
        report: its JSON values.
        faults: what `stillwatt validate` found; where the schema is broken, nothing else is looked at.
    """
    known = protocol()
    by_rule: dict[str, list[tuple[str, str]]] = {}
    for fault in faults:
        by_rule.setdefault(fault.rule, []).append((fault.path, fault.message))
    gaps = [gap for requirement in known.requirements for gap in _gaps(requirement, report, by_rule)]
    must = [gap for gap in gaps if gap.requirement.keyword is Keyword.MUST]
    lowest = min((gap.requirement.level for gap in must), default=len(known.levels) + 1)
    reached = max((level for level in known.levels if level.number < lowest), key=_number, default=None)
    following = next((level for level in known.levels if level.number == lowest), None)
    up_to = following.number if following else len(known.levels)
    should = [gap for gap in gaps if gap.requirement.keyword is Keyword.SHOULD]
    return Conformance(
        version=known.version,
        reached=reached,
        following=following,
        before_next=tuple(gap for gap in must if gap.requirement.level == lowest),
        advice=tuple(gap for gap in should if gap.requirement.level <= up_to),
    )


def _number(level: Level) -> int:
    return level.number


def _gaps(
    requirement: Requirement, report: Mapping[str, Any], by_rule: Mapping[str, list[tuple[str, str]]]
) -> Iterator[Gap]:
    for rule in requirement.rules:
        found = by_rule.get(rule, [])
        if rule in CHECKS and SCHEMA_RULE not in by_rule:
            found = list(CHECKS[rule](report))
        for path, message in found:
            yield Gap(requirement=requirement, rule=rule, path=path, message=message)


def conformance_dict(found: Conformance) -> dict[str, Any]:
    """For programs; `level` is 0 where none is reached."""
    return {
        "protocol": found.version,
        "level": found.reached.number if found.reached else 0,
        "name": found.reached.name if found.reached else None,
        "next": found.following.number if found.following else None,
        "before_next": [_gap_dict(gap) for gap in found.before_next],
        "advice": [_gap_dict(gap) for gap in found.advice],
    }


def _gap_dict(gap: Gap) -> dict[str, str]:
    return {"requirement": gap.requirement.id, "rule": gap.rule, "path": gap.path, "message": gap.message}


def conformance_lines(found: Conformance) -> Iterator[str]:
    """For people: the level, then what stands before the next, then what should be."""
    reached = f"level {found.reached.number} ({found.reached.name})" if found.reached else "no level"
    yield f"protocol {found.version}: {reached} is reached"
    if found.following:
        yield f"before level {found.following.number} ({found.following.name}):"
        yield from _lines(found.before_next)
    if found.advice:
        yield "and it should:"
        yield from _lines(found.advice)


def _lines(gaps: Iterable[Gap]) -> Iterator[str]:
    """The first few places of each rule, and how many more there are."""
    by_rule: dict[tuple[str, str], list[Gap]] = {}
    for gap in gaps:
        by_rule.setdefault((gap.requirement.id, gap.rule), []).append(gap)
    for (name, rule), found in by_rule.items():
        yield from (f"  {name} {gap.path}: {gap.message} ({rule})" for gap in found[:_MOST_PLACES])
        if len(found) > _MOST_PLACES:
            yield f"  {name} and {len(found) - _MOST_PLACES} more places ({rule})"


def protocol_markdown() -> str:
    """The protocol as a document, generated."""
    known = protocol()
    lines = [
        f"# The Stillwatt protocol, version {known.version}",
        "",
        "How to account for the footprint of making and serving a language model so that others can check the account",
        "and set it beside theirs. Written from `src/stillwatt/report/requirements.toml` by `make golden`: do not edit",
        "this page.",
        "",
        "MUST, SHOULD and MAY are meant as in RFC 2119. A report is a JSON document of the schema",
        "`stillwatt.lifecycle/1`, whoever wrote it and with what. **Review** is *From Cradle to Cloud* (Lambert and",
        "Luccioni, arXiv 2605.05416), of which the abstract was to hand; **the paper on distillation** is *Towards",
        "Resource-Efficient LLMs* (arXiv 2605.13981), through secondary accounts. The requirements are this project's,",
        "not the papers'. Counts of works are those of [the corpus](reference/literature.md).",
        "",
        *_version_lines(known),
        "",
        "## Levels",
        "",
        "A report reaches a level when it meets every MUST of that level and of those below it. A level says that what",
        "is counted is sound; how much is counted, the coverage score says. At level 2 a stage whose energy is left",
        "out is spared what is asked of that energy, and costs the report score.",
        "",
        "| level | name | means | MUST | SHOULD |",
        "|---|---|---|---:|---:|",
    ]
    for level in known.levels:
        of_it = [one.keyword for one in known.requirements if one.level == level.number]
        must, should = of_it.count(Keyword.MUST), of_it.count(Keyword.SHOULD)
        lines.append(f"| {level.number} | {level.name} | {level.means} | {must} | {should} |")
    for part in dict.fromkeys(one.part for one in known.requirements):
        lines += ["", f"## {part}"]
        for one in known.requirements:
            if one.part == part:
                lines += ["", *_requirement_lines(one)]
    return "\n".join(lines) + "\n"


def _version_lines(known: TheProtocol) -> Iterator[str]:
    yield "## Versions"
    yield ""
    yield "A version is two numbers. The second rises where a requirement is added, or where one asks more than before:"
    yield "a report that kept the older version may not keep the newer. The first rises where a requirement is"
    yield "withdrawn, asks less, or changes its level. Wording that changes nothing asked changes no version, and a"
    yield "requirement's number is never given again. A level is said with the version that it was reached under."
    yield ""
    yield from (f"- **{number}**: {said}" for number, said in known.changes)


def _requirement_lines(one: Requirement) -> Iterator[str]:
    rules = ", ".join(f"`{rule}`" for rule in one.rules) or "none, it permits"
    yield f"**{one.id}** (level {one.level}, **{one.keyword.value}**) {one.text}"
    yield ""
    yield f"> {one.why}"
    yield ""
    yield f"Checked by: {rules}."
