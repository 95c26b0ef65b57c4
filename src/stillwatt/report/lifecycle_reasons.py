"""Reasons of a life-cycle report as people read them: quantities in words with their unit, alike reasons told once.

A report's reasons are sentences, one for each cell, that name a factor as it is typed (`embodied_water`) and end in how
to give it. Five cells that lack five factors of one device say the same five times. Here what differs in the quantity
alone becomes one sentence with all quantities in it. Nothing is dropped, and the report itself stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from dataclasses import dataclass, field

from stillwatt.factors.quantities import QUANTITIES
from stillwatt.records.impact import Impact
from stillwatt.report.lifecycle_words import impact_title, names_text, quantity_title

_IMPACTS = frozenset(impact.value for impact in Impact)
_PLAIN = frozenset({"lifetime", "utilisation"})
"""Words already."""
_NAMES = sorted({*QUANTITIES, *_IMPACTS, "eol_water"} - _PLAIN, key=lambda name: (-len(name), name))
_NAME = re.compile(rf"(?<![\w/@=.'-])({'|'.join(_NAMES)})(?![\w/@=-])")
"""A quantity or an impact in a sentence; in a command, a factor's id or a longer name it is left as it is."""
_CURE = re.compile(r"give one with --factor (?P<quote>'?)(?P<name>\w+)@(?P<where>.+)=VALUE(?P<unit>\S*?)(?P=quote)")
_BETWEEN = "; "
_PLACE = "\0"


@dataclass(frozen=True, slots=True)
class _Part:
    """One reason, with what it lacks apart."""

    words: str
    """With a mark in the place of the quantity."""
    name: str = ""
    where: str = ""
    """What a factor would have to be given for; empty where the reason does not say how."""
    unit: str = ""
    quote: str = ""


@dataclass(slots=True)
class _Group:
    names: dict[str, _Part] = field(default_factory=dict)
    owners: dict[str, None] = field(default_factory=dict)


def plain_words(text: str) -> str:
    """A sentence with quantities and impacts in words; commands and ids as they are typed.

    >>> plain_words("no wue for France; give one with --factor wue@FRA=VALUEL/kWh")
    'no WUE for France; give one with --factor wue@FRA=VALUEL/kWh'
    >>> plain_words("grid_adpe of world stands in for FRA; ecologits/grid_adpe/FRA is old")
    'grid ADPe of world stands in for FRA; ecologits/grid_adpe/FRA is old'
    """
    return _NAME.sub(lambda found: _title(found[1]), text)


def _title(name: str) -> str:
    return impact_title(name) if name in _IMPACTS else quantity_title(name)


def told_once(reasons: Iterable[str], *, elsewhere: Container[str] = ()) -> str:
    """Reasons on one line, those that differ in the quantity alone as one.

    Args:
        reasons: as the report has them.
        elsewhere: reasons of which another table says how to give what they lack.

    >>> told_once(["building: nobody gives its adpe", "building: nobody gives its primary_energy"])
    'building: nobody gives its depletion of elements (ADPe) and primary energy'
    """
    shown = [part for reason in reasons for part in _parts(reason, has_cure=reason not in elsewhere)]
    return _BETWEEN.join(words for words, _ in _grouped((part, "") for part in shown))


def grouped(reasons: Iterable[tuple[str, str]]) -> list[tuple[str, tuple[str, ...]]]:
    """Reasons with whatever has them, each told once; those of the same ones stand together.

    Args:
        reasons: each with, say, the impact that it keeps from being counted.
    """
    return _grouped((part, owner) for reason, owner in reasons for part in _parts(reason))


def _grouped(parts: Iterable[tuple[_Part, str]]) -> list[tuple[str, tuple[str, ...]]]:
    groups: dict[tuple[str, str, str], _Group] = {}
    for part, owner in parts:
        group = groups.setdefault((part.words, part.where, part.quote), _Group())
        group.names.setdefault(part.name, part)
        group.owners[owner] = None
    lines: dict[tuple[str, ...], list[str]] = {}
    for (words, _, _), group in groups.items():
        lines.setdefault(tuple(group.owners), []).append(_sentence(words, [*group.names.values()]))
    return [(_BETWEEN.join(said), owners) for owners, said in lines.items()]


def _parts(reason: str, *, has_cure: bool = True) -> list[_Part]:
    """The reasons that a sentence strings together; how to give a factor belongs to what stands before it."""
    found: list[_Part] = []
    for text in reason.split(_BETWEEN):
        cure, before = _CURE.fullmatch(text), found[-1] if found else None
        if cure and before and before.name == cure["name"] and not before.where:
            if has_cure:
                found[-1] = _Part(before.words, before.name, cure["where"], cure["unit"], cure["quote"])
            continue
        names = list(dict.fromkeys(_NAME.findall(text)))
        name = names[0] if len(names) == 1 else ""
        found.append(_Part(_NAME.sub(_PLACE, text), name) if name else _Part(text))
    return found


def _sentence(words: str, parts: list[_Part]) -> str:
    first = parts[0]
    if not first.name:
        return plain_words(words)
    said = words.replace(_PLACE, names_text(_with_unit(part.name) for part in parts))
    if not first.where:
        return said
    if len(parts) == 1:
        given = f"{first.name}@{first.where}=VALUE{first.unit}"
        return f"{said}{_BETWEEN}give one with --factor {first.quote}{given}{first.quote}"
    *most, last = [f"{part.name} in {part.unit}" for part in parts]
    return (
        f"{said}{_BETWEEN}give each with --factor {first.quote}NAME@{first.where}=VALUEUNIT{first.quote}: "
        f"{', '.join(most)} and {last}"
    )


def _with_unit(name: str) -> str:
    """A quantity in words with its unit, where it has one."""
    unit = QUANTITIES[name].unit if name in QUANTITIES else "1"
    return _title(name) if unit == "1" else f"{_title(name)} ({unit})"
