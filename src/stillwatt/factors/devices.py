"""Which board is that? From the name that a driver or a person gives to the name that the tables use."""

from __future__ import annotations

import re
from functools import cache

from stillwatt.factors.places import plain
from stillwatt.factors.quantities import QUANTITIES
from stillwatt.factors.tables import rows, shipped_factors

SERVER = "server-without-gpus"
"""What installed packages' figures of a server without its cards are called here."""
_MAKERS = re.compile(r"^(?:nvidia|amd|intel|google|tesla)\s+")


def device_code(name: str) -> str:
    """The code of a board, by a driver's name (`NVIDIA H100 80GB HBM3`) or a usual one.

    A device that a shipped factor is of has the code that the factor names. Any other is called by its name without its
    maker, in small letters; so are boards of installed packages.

    >>> device_code("NVIDIA H100 80GB HBM3"), device_code("NVIDIA H100 PCIe"), device_code("NVIDIA GeForce RTX 4090")
    ('h100-sxm', 'h100-pcie', 'geforce rtx 4090')
    >>> device_code("dell-r640"), device_code("Dell R640")
    ('dell-r640', 'dell-r640')
    """
    return _index().get(_bare(name), _bare(name))


def device_names() -> tuple[str, ...]:
    """Every name of a board that the project's own table has."""
    return tuple(name for row in rows("devices") for name in (row["code"], *row["aliases"].split("|")) if name)


def _bare(name: str) -> str:
    bare = plain(name)
    while (shorter := _MAKERS.sub("", bare)) != bare:
        bare = shorter
    return re.sub(r"(\d)\s+gb\b", r"\1gb", bare)


@cache
def _index() -> dict[str, str]:
    """The code of each name that is known, without its maker; a name of the table of boards is that board's."""
    of_factors = {factor.where for factor in shipped_factors() if QUANTITIES[factor.quantity].of == "device"}
    boards = {
        _bare(name): row["code"]
        for row in rows("devices")
        for name in (row["code"], *row["aliases"].split("|"))
        if name
    }
    return {_bare(code): code for code in sorted({SERVER, *of_factors})} | boards
