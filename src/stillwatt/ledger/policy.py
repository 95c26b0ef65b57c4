"""A run under an accounting policy: gross, net or marginal, from its directory alone (method.md, eq. 18)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stillwatt.ledger.booking import DEFAULT_RULE, BookedRun, book_run, less_places_beside
from stillwatt.ledger.idle import LEAST_STANDING_S, NO_BASELINES, Baselines, standing_baselines
from stillwatt.ledger.machines import Device
from stillwatt.ledger.post import RunFacts, booked_record
from stillwatt.metering.account import Energies, Lengths
from stillwatt.metering.baseline import NO_IDLE_STAGE, IdlePower
from stillwatt.metering.idle import Baseline, RestPower
from stillwatt.metering.policies import Drawn, Policy, Split, nothing_off, split
from stillwatt.metering.totals import merge_parts, sum_part, summed_boundary
from stillwatt.records.channel import Boundary
from stillwatt.records.energy import Absent, Energy, NoTotal, Total
from stillwatt.records.run import RunRecord, total_dict
from stillwatt.records.usage import Rule

_NO_STANDING = f"the run has no {LEAST_STANDING_S:g} s between its stages, in pauses of a second and more"
_WHY = {Policy.NET: NO_IDLE_STAGE, Policy.MARGINAL: _NO_STANDING}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PolicyView:
    """One run under a policy.

    Attributes:
        record: the run as posted.
        policy: what was asked for.
        stages: by stage id, each with everything inside it.
        unallocated: while no stage ran.
        total: the run; `total.energy + total.baseline` is its gross total.
        baselines: by part (and machine, where several have one of that name), the power that was taken off, and what
            it was made from; empty for gross.
    """

    record: RunRecord
    policy: Policy
    stages: Mapping[str, Split]
    unallocated: Split
    total: Split
    baselines: Mapping[str, Baseline]

    @property
    def complete(self) -> bool:
        """Whether the run's energy is, and all of it is known under the policy."""
        energies = [self.total.energy, *(stage.energy for stage in self.stages.values())]
        return self.record.complete and all(isinstance(each, Total) and each.complete for each in energies)

    def to_dict(self) -> dict[str, Any]:
        """The contract `stillwatt.run/1` with its keys for a policy."""
        whole = self.record.to_dict()
        for stage in whole["stages"]:
            own = self.stages[stage["stage_id"]]
            stage["energy_j"], stage["baseline_j"] = total_dict(own.energy), total_dict(own.baseline)
        return whole | {
            "policy": {
                "name": self.policy.value,
                "energy_j": total_dict(self.total.energy),
                "baseline_j": total_dict(self.total.baseline),
                "unallocated_j": total_dict(self.unallocated.energy),
                "unallocated_baseline_j": total_dict(self.unallocated.baseline),
                "baselines": [baseline_dict(baseline) for baseline in self.baselines.values()],
            }
        }


def view_run(facts: RunFacts, policy: Policy, *, rule: Rule = DEFAULT_RULE) -> PolicyView:
    """Account for a run that was read, and divide every energy as the policy says (method.md, eq. 18)."""
    booked = book_run(facts.sessions, rule=rule)
    baselines = NO_BASELINES
    if policy is Policy.NET:
        baselines = booked.idle
    elif policy is Policy.MARGINAL:
        baselines = standing_baselines(booked.places)
    divide = _Divider(policy, baselines, tuple(place.boundary for place in booked.places))
    accounts = list(enumerate(place.account for place in booked.places))
    return PolicyView(
        record=booked_record(facts, booked),
        policy=policy,
        stages=dict(_stages(booked, divide)),
        unallocated=_run_wide(
            divide([(number, each.unallocated, each.unallocated_s) for number, each in accounts]), booked
        ),
        total=_run_wide(divide([(number, each.total, each.total_s) for number, each in accounts]), booked),
        baselines=baselines.found,
    )


@dataclass(frozen=True, slots=True)
class _Divider:
    policy: Policy
    baselines: Baselines
    boundaries: tuple[Boundary | None, ...]
    """At what each place is summed."""

    def __call__(self, drawn: Sequence[tuple[int, Energies, Lengths]]) -> Split:
        """Divide what one stage, or several places, drew; each with its place's number and its seconds by part."""
        known = {boundary for number, _, _ in drawn if (boundary := self.boundaries[number]) is not None}
        boundary = summed_boundary(known)
        try:
            if self.policy is Policy.GROSS:
                parts = merge_parts([energies for _, energies, _ in drawn], [lengths_s for _, _, lengths_s in drawn])
                return nothing_off(list(parts.values()), boundary)
            if not self.baselines.found:
                return Split(energy=NoTotal(reason=_WHY[self.policy]), baseline=NoTotal(reason=_WHY[self.policy]))
            return split([self._drawn(entries) for entries in self._by_device(drawn)], boundary)
        except ValueError as err:  # the same part with another boundary in another place cannot be added up
            return Split(energy=NoTotal(reason=str(err)), baseline=NoTotal(reason=str(err)))

    def _by_device(
        self, drawn: Sequence[tuple[int, Energies, Lengths]]
    ) -> list[list[tuple[int, Energy | Absent, float]]]:
        """What each device drew in all places of its machine: the error of its baseline power is common to them."""
        found: dict[Device, list[tuple[int, Energy | Absent, float]]] = defaultdict(list)
        for number, energies, lengths_s in drawn:
            for part, energy in energies.items():
                found[self.baselines.devices[number][part]].append((number, energy, lengths_s[part]))
        return list(found.values())

    def _drawn(self, entries: Sequence[tuple[int, Energy | Absent, float]]) -> Drawn:
        lengths_s = [length_s for _, _, length_s in entries]
        number, first, _ = entries[0]
        return Drawn(
            energy=first if len(entries) == 1 else sum_part([energy for _, energy, _ in entries], lengths_s),
            power=self.baselines.powers[number].get(first.part),
            length_s=math.fsum(lengths_s),
        )


def _run_wide(found: Split, booked: BookedRun) -> Split:
    return Split(
        energy=less_places_beside(found.energy, booked.places),
        baseline=less_places_beside(found.baseline, booked.places),
    )


def _stages(booked: BookedRun, divide: _Divider) -> list[tuple[str, Split]]:
    return [
        (stage_id, divide([(number, account.gross, account.gross_s)]))
        for number, place in enumerate(booked.places)
        for stage_id, account in place.account.stages.items()
    ]


def baseline_dict(baseline: Baseline) -> dict[str, Any]:
    """A part's baseline power with the rests it was made from."""
    return {
        "channel": baseline.part,
        **({"where": baseline.where} if baseline.where else {}),
        "power_w": power_dict(baseline.power),
        "agrees": baseline.agrees,
        **(
            {} if baseline.drift_w is None else {"drift_w": baseline.drift_w, "drift_random_w": baseline.drift_random_w}
        ),
        "rests": [_rest_dict(rest) for rest in baseline.rests],
        "notes": list(baseline.notes),
    }


def power_dict(power: IdlePower | Absent) -> dict[str, Any]:
    """A power with its interval and the half-widths that make it, or the reason there is none."""
    if isinstance(power, Absent):
        return {"absent": power.reason}
    return {
        "value_w": power.value_w,
        "low_w": power.low_w,
        "high_w": power.high_w,
        "basis": power.basis.value,
        "driver": power.driver,
        "random_w": power.random_w,
        "systematic_low_w": power.systematic_low_w,
        "systematic_high_w": power.systematic_high_w,
    }


def _rest_dict(rest: RestPower) -> dict[str, Any]:
    return {
        "when": rest.when.value,
        "power_w": power_dict(rest.power),
        "length_s": rest.length_s,
        **({} if rest.spread_w is None else {"spread_w": rest.spread_w}),
        "pieces": rest.pieces,
        "clean_pieces": rest.clean,
        "problems": list(rest.problems),
    }
