"""The inputs of a life-cycle account as JSON values, and back: what a report holds is enough to redo it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from stillwatt.errors import ReportError
from stillwatt.impact.inputs import Inputs
from stillwatt.impact.site import Site
from stillwatt.records.channel import Basis, Boundary
from stillwatt.records.energy import NoTotal, Total
from stillwatt.records.factor import Choice, Distribution, Factor, NoFactor, Place, Water
from stillwatt.records.impact import Impact, LifeStage, Use
from stillwatt.records.lifecycle import Count, Found, Held, Kept, Lack, Moved, Role, TimeShare, Tried
from stillwatt.records.run import total_dict


def factor_dict(factor: Factor) -> dict[str, Any]:
    """A factor whole, with its content hash."""
    return {
        **asdict(factor),
        "distribution": factor.distribution.value,
        "water": factor.water.value if factor.water else None,
        "hash": factor.content_hash,
    }


def read_factor(data: Mapping[str, Any], path: str) -> Factor:
    """The factor of a report.

    Raises:
        ReportError: it is not what its hash names.
    """
    said = {key: value for key, value in data.items() if key != "hash"}
    factor = Factor(
        **{
            **said,
            **{key: float(said[key]) for key in ("value", "low", "high")},
            "distribution": Distribution(said["distribution"]),
            "water": Water(said["water"]) if said["water"] else None,
        }
    )
    if factor.content_hash != data["hash"]:
        raise ReportError(path, f"factor {factor.id} is not what its hash names: it was changed after the account")
    return factor


def scope_dict(inputs: Inputs) -> dict[str, Any]:
    """Where, and by which conventions."""
    return {
        "place": {**asdict(inputs.site.place), "within": list(inputs.site.place.within)},
        "site_factors": _found_dicts(inputs.site.found),
        "shared_factors": _found_dicts(inputs.shared),
        "conventions": {
            "time_share": inputs.time_share.value,
            "charge_idle": inputs.charge_idle,
            "charge_hydro": inputs.charge_hydro,
        },
        "uncertainty": {"interval": 0.9, "draws": inputs.draws, "seed": inputs.seed},
    }


def inventory_dict(inputs: Inputs) -> dict[str, Any]:
    """Energies, devices, bytes, what is missing and what impacts are divided by."""
    return {
        "uses": [
            {"run": use.run, "stage": use.stage.value, "meter": use.meter, "energy_j": total_dict(use.energy)}
            for use in inputs.uses
        ],
        "devices": [_held_dict(held) for held in inputs.held],
        "stored": [{**asdict(kept), "found": _found_dict(kept.found)} for kept in inputs.kept],
        "moved": [{**asdict(moved), "found": _found_dict(moved.found)} for moved in inputs.moved],
        "tried": asdict(inputs.tried) if inputs.tried else None,
        "lacks": [
            {
                "stage": lack.stage.value,
                "reason": lack.reason,
                "impacts": [impact.value for impact in lack.impacts],
            }
            for lack in inputs.lacks
        ],
        "counts": [{**asdict(count), "stages": [stage.value for stage in count.stages]} for count in inputs.counts],
    }


def read_inputs(data: Mapping[str, Any]) -> Inputs:
    """The inputs that a report holds.

    Raises:
        ReportError: a factor is missing or is not what its hash names.
    """
    factors = {
        row["id"]: read_factor(row, f"$.factors[{number}]") for number, row in enumerate(data.get("factors", ()))
    }
    scope, inventory = data["goal_and_scope"], data["inventory"]
    conventions, uncertainty = scope["conventions"], scope["uncertainty"]
    reader = _Reader(factors)
    return Inputs(
        uses=tuple(_use(row) for row in inventory["uses"]),
        site=Site(
            place=_place(scope["place"]), found=reader.all(scope["site_factors"], "$.goal_and_scope.site_factors")
        ),
        shared=reader.all(scope["shared_factors"], "$.goal_and_scope.shared_factors"),
        held=tuple(reader.held(row, number) for number, row in enumerate(inventory["devices"])),
        kept=tuple(reader.kept(row, number) for number, row in enumerate(inventory["stored"])),
        moved=tuple(reader.moved(row, number) for number, row in enumerate(inventory.get("moved", ()))),
        tried=Tried(**inventory["tried"]) if inventory.get("tried") else None,
        lacks=tuple(
            Lack(
                stage=LifeStage(row["stage"]),
                reason=row["reason"],
                impacts=tuple(Impact(name) for name in row["impacts"]),
            )
            for row in inventory["lacks"]
        ),
        counts=tuple(
            Count(**{**row, "stages": tuple(LifeStage(name) for name in row["stages"])}) for row in inventory["counts"]
        ),
        time_share=TimeShare(conventions["time_share"]),
        charge_idle=conventions["charge_idle"],
        charge_hydro=conventions["charge_hydro"],
        draws=uncertainty["draws"],
        seed=uncertainty["seed"],
        about=scope["about"],
    )


class _Reader:
    """Puts factors back in the place of their ids."""

    def __init__(self, factors: Mapping[str, Factor]) -> None:
        self._factors = factors

    def all(self, rows: Mapping[str, Mapping[str, Any]], path: str) -> dict[str, Found]:
        return {name: self.found(row, f"{path}.{name}") for name, row in rows.items()}

    def found(self, row: Mapping[str, Any], path: str) -> Found:
        if row["factor"] is None:
            return NoFactor(quantity=row["quantity"], where=row["where"], reason=row["reason"])
        if row["factor"] not in self._factors:
            raise ReportError(path, f"factor {row['factor']} is used and not listed under factors")
        return Choice(factor=self._factors[row["factor"]], cautions=tuple(row["cautions"]))

    def held(self, row: Mapping[str, Any], number: int) -> Held:
        found = self.all(row["found"], f"$.inventory.devices[{number}].found")
        return Held(**{**row, "role": Role(row["role"]), "found": found, "cautions": tuple(row["cautions"])})

    def kept(self, row: Mapping[str, Any], number: int) -> Kept:
        return Kept(**{**row, "found": self.found(row["found"], f"$.inventory.stored[{number}].found")})

    def moved(self, row: Mapping[str, Any], number: int) -> Moved:
        return Moved(**{**row, "found": self.found(row["found"], f"$.inventory.moved[{number}].found")})


def _held_dict(held: Held) -> dict[str, Any]:
    return {
        "run": held.run,
        "role": held.role.value,
        "name": held.name,
        "device": held.device,
        "count": held.count,
        "time_s": held.time_s,
        "found": _found_dicts(held.found),
        "cautions": list(held.cautions),
    }


def _found_dicts(found: Mapping[str, Found]) -> dict[str, Any]:
    return {name: _found_dict(one) for name, one in found.items()}


def _found_dict(found: Found) -> dict[str, Any]:
    if isinstance(found, NoFactor):
        return {"factor": None, "quantity": found.quantity, "where": found.where, "reason": found.reason}
    return {"factor": found.factor.id, "cautions": list(found.cautions)}


def _place(row: Mapping[str, Any]) -> Place:
    return Place(**{**row, "within": _texts(row["within"])})


def _texts(row: Sequence[str]) -> tuple[str, ...]:
    return tuple(row)


def _use(row: Mapping[str, Any]) -> Use:
    return Use(run=row["run"], stage=LifeStage(row["stage"]), energy=_energy(row["energy_j"]), meter=row["meter"])


def _energy(row: Mapping[str, Any]) -> Total | NoTotal:
    if "absent" in row:
        return NoTotal(reason=row["absent"])
    return Total(
        value_j=row["value_j"],
        low_j=row["low_j"],
        high_j=row["high_j"],
        basis=Basis(row["basis"]),
        complete=row["complete"],
        boundary=Boundary(row["boundary"]),
        absent=tuple(row["absent_channels"]),
        share_by_basis=tuple((Basis(name), share) for name, share in row["share_by_basis"].items()),
    )
