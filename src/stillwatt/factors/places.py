"""Where is that? A country, US state, province, bidding zone, cloud region or provider, by any usual name.

Names come from the project's own tables; what they do not know is asked of `pycountry`, where that is installed: every
ISO 3166 code, and the names of countries in many languages.
"""

from __future__ import annotations

import gettext
import importlib
import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from stillwatt.errors import AmbiguousNameError, UnknownNameError, suggest
from stillwatt.factors.tables import rows
from stillwatt.records.factor import Place

_NOT_A_NAME = re.compile(r"[\W_]+")
_IN_BRACKETS = re.compile(r"\(([^()]*)\)|:\s*(.*)$")
_WHAT_IS_KNOWN = (
    "a cloud region as in aws/us-east-1",
    "a code as in FRA or US-TX",
    "a country's or US state's name",
    "a provider as in gcp",
)


def find_place(name: str) -> Place:
    """The place that a name means.

    A code of two letters is a country's where ISO has one; what else it could be is said in the place's caution.

    Raises:
        AmbiguousNameError: the name means several places, as `Georgia` does.
        UnknownNameError: nothing is called that; the nearest name is in the message.

    >>> find_place("Deutschland").code, find_place("us-east-1").within
    ('DEU', ('US-VA', 'USA'))
    """
    wanted = plain(name)
    found = _index().get(wanted, ()) or _run_together().get(wanted.replace(" ", ""), ())
    if not found and wanted:
        asked = _ask_pycountry(name.strip())
        found = (asked,) if asked else ()
    if not found:
        raise UnknownNameError("place", name, _names() if suggest(name, _names()) else _WHAT_IS_KNOWN)
    if len(found) == 1:
        return found[0]
    return _one_of(name, found)


def plain(name: str) -> str:
    """A name without case, accents and punctuation, as names are compared.

    >>> plain("  Côte d'Ivoire ")
    'cote d ivoire'
    """
    letters = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", name).casefold())
    return _NOT_A_NAME.sub(" ", "".join(mark for mark in letters if not unicodedata.combining(mark))).strip()


@cache
def all_places() -> tuple[Place, ...]:
    """Every place of the shipped tables."""
    return tuple(place for place, _ in _places())


def _places() -> Iterator[tuple[Place, tuple[str, ...]]]:
    """Places with all their names."""
    providers: dict[str, tuple[str, ...]] = {}
    within: dict[str, tuple[str, ...]] = {}
    for row in rows("places"):
        aliases = tuple(filter(None, row["aliases"].split("|")))
        outer = (row["within"],) if row["within"] else ()
        within[row["code"]] = outer
        is_provider = row["kind"] == "provider"
        if is_provider:
            providers[row["code"]] = (row["code"], row["name"], *aliases)
        place = Place(
            code=row["code"],
            kind=row["kind"],
            name=row["name"],
            within=outer,
            provider=row["code"] if is_provider else "",
        )
        yield place, (row["code"], row["name"], *aliases)
    for row in rows("cloud_regions"):
        grid = row["grid"]
        place = Place(
            code=row["code"],
            kind="cloud region",
            name=f"{row['provider']} {row['region']} ({row['name']})",
            within=(grid, *within.get(grid, ())),
            provider=row["provider"],
        )
        called = (row["region"], row["name"], *_towns(row["name"]))
        names = (f"{provider} {label}" for provider in providers[row["provider"]] for label in called if label)
        yield place, (row["code"], row["region"], *names)


def _towns(label: str) -> Iterator[str]:
    """What a provider's label says besides itself: `Frankfurt` of `Europe (Frankfurt)`."""
    for groups in _IN_BRACKETS.findall(label):
        yield from filter(None, groups)


@cache
def _run_together() -> dict[str, tuple[Place, ...]]:
    """The index without spaces, for `West Europe` where a provider writes `westeurope`."""
    index: dict[str, dict[str, Place]] = {}
    for name, places in _index().items():
        index.setdefault(name.replace(" ", ""), {}).update((place.code, place) for place in places)
    return {name: tuple(places.values()) for name, places in index.items()}


@cache
def _index() -> dict[str, tuple[Place, ...]]:
    index: dict[str, list[Place]] = {}
    for place, names in _places():
        for name in dict.fromkeys(plain(name) for name in names):
            index.setdefault(name, []).append(place)
    return {name: tuple(places) for name, places in index.items()}


@cache
def _names() -> tuple[str, ...]:
    return tuple(sorted({name for _, names in _places() for name in names}))


def _one_of(name: str, found: tuple[Place, ...]) -> Place:
    countries = [place for place in found if place.kind == "country"]
    if len(plain(name)) == 2 and len(countries) == 1:
        country = countries[0]
        others = ", ".join(f"{place.code} for {place.name}" for place in found if place is not country)
        return Place(
            code=country.code,
            kind=country.kind,
            name=country.name,
            within=country.within,
            caution=f"{name!r} is read as {country.name}; write {others}",
        )
    raise AmbiguousNameError("place", name, [f"{place.code} ({place.name})" for place in found])


def _ask_pycountry(name: str) -> Place | None:
    """A country or province that the shipped tables do not name; None where pycountry is missing or knows none."""
    try:
        pycountry: Any = importlib.import_module("pycountry")
    except ImportError:
        return None
    code = name.upper().replace("_", "-")
    province = pycountry.subdivisions.get(code=code) if "-" in code else None
    if province is not None:
        country = pycountry.countries.get(alpha_2=province.country_code)
        return Place(code=province.code, kind="state", name=province.name, within=(country.alpha_3,))
    country = _iso_country(pycountry, name) or _translated(pycountry, name)
    return None if country is None else Place(code=country.alpha_3, kind="country", name=country.name)


def _iso_country(pycountry: Any, name: str) -> Any:
    try:
        return pycountry.countries.lookup(name)
    except LookupError:
        return None


def _translated(pycountry: Any, name: str) -> Any:
    """The country with that name in any language that pycountry has."""
    wanted = plain(name)
    for language in sorted(path.name for path in Path(pycountry.LOCALES_DIR).iterdir() if path.is_dir()):
        if (spoken := _language(pycountry.LOCALES_DIR, language)) is None:
            continue
        for country in pycountry.countries:
            if plain(spoken.gettext(country.name)) == wanted:
                return country
    return None


def _language(folder: str, language: str) -> gettext.NullTranslations | None:
    try:
        return gettext.translation("iso3166-1", folder, languages=[language])
    except (OSError, UnicodeDecodeError):
        return None
