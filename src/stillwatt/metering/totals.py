"""Sums of energies: one part over stages, and several parts (method.md, eqs. 10, 11 and 14)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from stillwatt.records.channel import Basis, Boundary, is_summed, worst_basis
from stillwatt.records.energy import Absent, Energy, NoTotal, Total, low_end, random_of_sum
from stillwatt.records.run import StageRecord

_AROUND = (Boundary.NODE, Boundary.WALL, Boundary.FACILITY)
"""Boundaries around the components, the narrowest first; each is a reading of its own, beside their sum."""


def sum_part(energies: Sequence[Energy | Absent], lengths_s: Sequence[float]) -> Energy | Absent:
    """Energy of one part over several stages or sessions (method.md, eq. 10).

    Random parts add in quadrature but for what is in step (eq. 128), systematic parts linearly; coverage is weighted
    by the stages' lengths. A stage in which the part is absent adds no joules, and all its seconds to `missing_s`.

    Args:
        energies: of one part, one per stage; at least one.
        lengths_s: seconds of each stage.

    Raises:
        ValueError: no energies, several parts or boundaries, or a number of lengths that does not fit.
    """
    if len(energies) != len(lengths_s) or not energies:
        raise ValueError(f"{len(energies)} energies do not go with {len(lengths_s)} lengths")
    if len({(energy.part, energy.boundary) for energy in energies}) > 1:
        raise ValueError(f"not one part: {', '.join(sorted({energy.part for energy in energies}))}")
    known = [energy for energy in energies if isinstance(energy, Energy)]
    if not known:
        reasons = _joined((energy.reason for energy in energies if isinstance(energy, Absent)), "; ")
        return Absent(part=energies[0].part, boundary=energies[0].boundary, reason=reasons)
    pairs = list(zip(energies, lengths_s, strict=True))
    total_s = math.fsum(lengths_s)
    covered_s = math.fsum(energy.coverage * length_s for energy, length_s in pairs if isinstance(energy, Energy))
    lost_s = math.fsum(length_s for energy, length_s in pairs if isinstance(energy, Absent))
    random = random_of_sum((1.0, energy) for energy in known)
    return replace(
        known[0],
        device=_joined((energy.device for energy in known), " + "),
        value_j=math.fsum(energy.value_j for energy in known),
        random_j=random.half_j,
        placing_j=random.placing_j,
        in_step_cos_j=random.in_step_cos_j,
        in_step_sin_j=random.in_step_sin_j,
        systematic_low_j=math.fsum(energy.systematic_low_j for energy in known),
        systematic_high_j=math.fsum(energy.systematic_high_j for energy in known),
        basis=worst_basis([energy.basis for energy in known]),
        method=_joined((energy.method for energy in known), "+"),
        coverage=min(1.0, covered_s / total_s) if total_s > 0 else min(energy.coverage for energy in known),
        failed_reads=sum(energy.failed_reads for energy in known),
        estimated_j=math.fsum(energy.estimated_j for energy in known),
        missing_s=lost_s + math.fsum(energy.missing_s for energy in known),
        driver=_joined((energy.driver for energy in known), "+"),
        source=_joined((energy.source for energy in known), "; "),
        flags=tuple(dict.fromkeys(flag for energy in known for flag in energy.flags)),
        is_net=any(energy.is_net for energy in known),
    )


def merge_parts(
    stages: Sequence[Mapping[str, Energy | Absent]], lengths_s: Sequence[Mapping[str, float]]
) -> dict[str, Energy | Absent]:
    """`sum_part` for every part of several stages or sessions (method.md, eq. 10).

    A part that a stage's mapping does not name did not exist there (another host) and is no gap.

    Args:
        stages: energies by part.
        lengths_s: seconds by part, of every part that the stage names.

    Raises:
        ValueError: a number of lengths that does not fit.
    """
    if len(stages) != len(lengths_s):
        raise ValueError(f"{len(stages)} stages do not go with {len(lengths_s)} lengths")
    found: dict[str, list[tuple[Energy | Absent, float]]] = defaultdict(list)
    for energies, by_part_s in zip(stages, lengths_s, strict=True):
        for part, energy in energies.items():
            found[part].append((energy, by_part_s[part]))
    return {
        part: sum_part([energy for energy, _ in entries], [length_s for _, length_s in entries])
        for part, entries in found.items()
    }


def combine(parts: Sequence[Energy | Absent], boundary: Boundary | None = None) -> Total | NoTotal:
    """Sum over parts of one stage, with its interval (method.md, eqs. 11 and 14).

    Components (chips and boards) are added; what lies around them (node, wall, facility) or inside them (rails) is
    not, and stands beside the sum as a part of its own. Where no component is metered, the narrowest boundary
    around them gives the total. Systematic parts of one driver add linearly, those of different drivers and all random
    parts in quadrature; then the interval is cut at 0 J, unless a baseline was taken off. Absent parts of the boundary
    that is summed are named and the total is not complete; nor is it where seconds are missing.

    Args:
        parts: each part once.
        boundary: what the whole that these parts are a share of is summed at: a stage whose components are absent has
            no total then, where a run's components are summed. None for what the parts themselves give.

    Returns:
        NoTotal where no part of the boundary that is summed has an energy.

    Raises:
        ValueError: a part stands there twice; add it up with `sum_part` first.
    """
    names = [part.part for part in parts]
    if len(set(names)) != len(names):
        raise ValueError(f"a part stands twice among {', '.join(names)}")
    if boundary is None:
        boundary = summed_boundary(boundaries(parts))
    if boundary is None or not any(is_summed(found, boundary) for found in boundaries(parts)):
        reasons = "; ".join(f"{part.part}: {part.reason}" for part in parts if isinstance(part, Absent))
        rails = ", ".join(part.part for part in parts if isinstance(part, Energy) and part.boundary is Boundary.RAIL)
        lone = "no part of this machine is metered"
        if rails:
            lone = f"only rails inside chips and boards are metered ({rails})"
        elif boundary is not None and parts:
            lone = f"no part of it is metered at the boundary that is summed ({boundary})"
        return NoTotal(reason=reasons or lone)
    summed = [part for part in parts if is_summed(part.boundary, boundary)]
    known = [part for part in summed if isinstance(part, Energy)]
    absent = [part for part in summed if isinstance(part, Absent)]
    value_j = math.fsum(part.value_j for part in known)
    below_j = _half_width_j(known, lambda part: part.systematic_low_j)
    return Total(
        value_j=value_j,
        low_j=value_j - below_j if any(part.is_net for part in known) else low_end(value_j, below_j),
        high_j=value_j + _half_width_j(known, lambda part: part.systematic_high_j),
        basis=worst_basis([part.basis for part in known]),
        complete=not absent and not any(part.missing_s > 0 for part in known),
        boundary=boundary,
        absent=tuple(part.part for part in absent),
        share_by_basis=_shares(known),
    )


def sum_stages(stages: Sequence[StageRecord]) -> Total | NoTotal:
    """Energy of stages of one session, none inside another, as one total (method.md, eqs. 10, 11 and 14).

    Args:
        stages: at least one.

    Returns:
        NoTotal where none of them has a total; not complete where one has none.
    """
    totals = [stage.gross for stage in stages if isinstance(stage.gross, Total)]
    if len(stages) == 1 or not totals:
        return stages[0].gross
    energies = [{energy.part: energy for energy in stage.energies} for stage in stages]
    lengths_s = [dict.fromkeys(own, stage.duration_s) for own, stage in zip(energies, stages, strict=True)]
    found = combine(list(merge_parts(energies, lengths_s).values()), totals[0].boundary)
    is_known = len(totals) == len(stages)  # a stage without a single part leaves no gap in any
    return found if is_known or isinstance(found, NoTotal) else replace(found, complete=False)


def _half_width_j(parts: Sequence[Energy], systematic_j: Callable[[Energy], float]) -> float:
    by_driver: dict[str, float] = defaultdict(float)
    for part in parts:
        by_driver[part.driver] += systematic_j(part)
    return math.hypot(*(part.random_j for part in parts), *by_driver.values())


def boundaries(parts: Iterable[Energy | Absent]) -> set[Boundary]:
    """Those at which a part has an energy."""
    return {part.boundary for part in parts if isinstance(part, Energy)}


def in_sum(parts: Sequence[Energy | Absent], boundary: Boundary | None) -> list[Energy | Absent]:
    """Those of the parts that `combine` adds up or names as absent; all of them where it has nothing to add up."""
    total = boundary or summed_boundary(boundaries(parts))
    return [part for part in parts if total is None or is_summed(part.boundary, total)]


def summed_boundary(found: set[Boundary]) -> Boundary | None:
    """Boundary of the sum: the components', else the narrowest around them; None for rails alone."""
    if any(is_summed(each, Boundary.COMPONENTS) for each in found):
        return Boundary.COMPONENTS
    return next((boundary for boundary in _AROUND if boundary in found), None)


def _shares(parts: Sequence[Energy]) -> tuple[tuple[Basis, float], ...]:
    """Shares of the sum of absolute values by basis (eq. 14); empty where that is 0."""
    whole_j = math.fsum(abs(part.value_j) for part in parts)
    if whole_j == 0:
        return ()
    found = {part.basis for part in parts}
    return tuple(
        (basis, math.fsum(abs(part.value_j) for part in parts if part.basis is basis) / whole_j)
        for basis in Basis
        if basis in found
    )


def _joined(words: Iterable[str], between: str) -> str:
    return between.join(dict.fromkeys(words))
