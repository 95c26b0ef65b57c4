"""Storage as a table: what each logit cache takes, how near it comes to the teacher, what a token of it costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stillwatt.report.format import MISSING, energy_text, significant
from stillwatt.report.tables import Row, Table, table_columns

_ENERGIES = {"made_j_per_token": "to make", "write_j_per_token": "to write", "read_j_per_token": "to read"}


def caches_table(data: Mapping[str, Any]) -> Table:
    """A row for each logit cache of the run (method.md, eqs. 46, 121 to 123); the note says why figures are missing."""
    rows, whys = [], []
    for cache in data["run"].get("caches", ()):
        kl = cache["kl_to_full"]
        is_known = not isinstance(kl, Mapping)
        size, mass = cache["bytes_per_token"], cache["kept_mass"]
        rows.append(
            Row(
                cells=(
                    cache["artifact"],
                    MISSING if size is None else significant(size, 3),
                    MISSING if mass is None else significant(mass, 4),
                    f"{significant(kl, 3)} over {_count(cache['kl_positions'])}" if is_known else MISSING,
                    *(_joules(cache[key]) for key in _ENERGIES),
                )
            )
        )
        whys += [] if is_known else [f"KL: {kl['absent']}"]
        whys += [f"{what}: {cache[key]['absent']}" for key, what in _ENERGIES.items() if "absent" in cache[key]]
    columns = (
        "logit cache",
        ">bytes/token",
        ">kept mass",
        ">KL to full, nats over positions",
        ">J/token to make",
        ">to write",
        ">to read",
    )
    return Table(title="Logit caches", columns=table_columns(*columns), rows=tuple(rows), note="; ".join(whys))


def _count(positions: int | None) -> str:
    return "?" if positions is None else f"{positions:,}"


def _joules(told: Mapping[str, Any]) -> str:
    if "absent" in told:
        return MISSING
    return f"{energy_text(told)} {told['basis']}"
