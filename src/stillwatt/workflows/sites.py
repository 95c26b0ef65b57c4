"""What a kilowatt-hour costs the world where work ran: from a table's columns, or asked for on the command line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace

from stillwatt.records.comparison import Observation, Site

SITE_COLUMNS = tuple(entry.name for entry in fields(Site))
"""`pue`, `kgco2e_per_kwh`, `water_l_per_kwh`, `price_per_kwh`."""
TEACHER_PREFIX = "teacher_"
_ALL_COLUMNS = (*SITE_COLUMNS, *(f"{TEACHER_PREFIX}{name}" for name in SITE_COLUMNS))
_NOWHERE = Site()


def read_sites(numbers: Mapping[str, float | None]) -> tuple[Site, Site]:
    """The student's site and the teacher's; what is not said of the teacher's is taken from the student's.

    >>> own, teacher = read_sites({"pue": 1.2, "teacher_kgco2e_per_kwh": 0.4, "kgco2e_per_kwh": 0.1})
    >>> (own.kgco2e_per_kwh, teacher.kgco2e_per_kwh, teacher.pue)
    (0.1, 0.4, 1.2)
    """
    if all(numbers.get(name) is None for name in _ALL_COLUMNS):
        return _NOWHERE, _NOWHERE
    own = {name: numbers.get(name) for name in SITE_COLUMNS}
    teacher = {name: numbers.get(f"{TEACHER_PREFIX}{name}") for name in SITE_COLUMNS}
    return _site(own), _site({name: own[name] if value is None else value for name, value in teacher.items()})


def fill_sites(rows: Iterable[Observation], asked: Site) -> tuple[Observation, ...]:
    """Put what was asked for wherever a row does not say otherwise."""
    if asked == Site():
        return tuple(rows)
    known = tuple(rows)
    # rows of a table share their sites
    filled = {
        id(site): _filled(site, asked) for site in {id(s): s for r in known for s in (r.site, r.teacher_site)}.values()
    }
    return tuple(replace(row, site=filled[id(row.site)], teacher_site=filled[id(row.teacher_site)]) for row in known)


def _filled(site: Site, asked: Site) -> Site:
    return _site(
        {name: getattr(asked, name) if getattr(site, name) is None else getattr(site, name) for name in SITE_COLUMNS}
    )


def _site(values: Mapping[str, float | None]) -> Site:
    return Site(**values)
