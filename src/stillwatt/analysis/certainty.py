"""How sure a place on the frontier is: draws of all labels from their seeds and errors (method.md, eq. 38).

Draws rest on fixed streams named by labels and seeds, so the same labels give the same answer in any order, and a
label that joins changes the streams of no other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stillwatt.analysis.contrast import Z_95, student_t
from stillwatt.analysis.plane import frontier_mask
from stillwatt.analysis.sheet import Plane
from stillwatt.analysis.trainings import has_quality_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

MOST_CELLS = 5_000_000
"""Labels times draws that are drawn at most; beyond it there are fewer draws."""
FEWEST_DRAWS = 100
MOST_LISTED = 10_000
"""Labels beyond which only those that may be on a frontier are listed with it, and the first ones with their stages."""
_SURELY = 6.0
"""Standard deviations that a single training's known errors never exceed, for this purpose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """Draws of the labels that may be on the frontier."""

    index: NDArray[np.intp]
    """Places in the plane."""
    energy: Floats
    """Draws by labels."""
    quality: Floats
    spread: _Spread
    """What they rest on, of all placed labels."""

    @property
    def count(self) -> int:
        """How many draws there are."""
        return len(self.energy)


def draw(plane: Plane, rel: float, *, draws: int) -> Draws:
    """Draw every label's mean anew from its seeds and its known errors (method.md, eq. 38).

        X_b = mean + sqrt((n-1) / chi2_b) sum_s z_bs (x_s - mean) / sqrt(n (n-1)) + known errors

    with z and chi2 shared by all labels that have the same seeds, so that what a seed does to all of them cancels.
    The first part is Student's t with n - 1 degrees of freedom, the smallest honest width that 2 or 3 seeds allow.

    Args:
        plane: Placed labels.
        rel: Half-width of a single training's repeatability, as a share of its energy (eq. 28).
        draws: How many; fewer where there are very many labels.

    Returns:
        Draws of the labels that can be on the frontier at all; the others are beaten beyond any doubt. No draws
        where that leaves too many labels for `FEWEST_DRAWS`.
    """
    spread = _Spread.of(plane, rel)
    index = np.flatnonzero(~_surely_beaten(plane, spread))
    count = min(draws, MOST_CELLS // max(len(index), 1))
    if count < min(draws, FEWEST_DRAWS):
        nothing = np.empty((0, len(index)))
        return Draws(index=index, energy=nothing, quality=nothing, spread=spread)
    energy = np.repeat(plane.energy[index][:, None], count, axis=1)
    quality = np.repeat(plane.quality[index][:, None], count, axis=1)
    position = {int(label): place for place, label in enumerate(index)}
    for seeds, members in spread.groups.items():
        # a label with several seeds has no worst case, so all of them are among the drawn
        places = [position[member] for member in members]
        weights = _seed_weights(seeds, count)
        energy[places] += np.stack([spread.energy_off[member] for member in members]) @ weights
        quality[places] += np.stack([spread.quality_off[member] for member in members]) @ weights
    for place, member in enumerate(index):
        sigma_e, sigma_q = spread.energy_sigma[member], spread.quality_sigma[member]
        if sigma_e or sigma_q:
            noise = _stream(plane.sheet.labels[plane.index[member]].name).standard_normal((2, count))
            energy[place] += sigma_e * noise[0]
            quality[place] += sigma_q * noise[1]
    return Draws(index=index, energy=energy.T, quality=quality.T, spread=spread)


def listed_places(on: NDArray[np.bool_], drawn: Draws) -> Sequence[int]:
    """Places of the labels that are listed: all, or of very many those on the frontier and those that were drawn."""
    if len(on) <= MOST_LISTED:
        return range(len(on))
    maybe = drawn.index if drawn.count else np.empty(0, dtype=np.intp)
    places: list[int] = np.union1d(np.flatnonzero(on), maybe).tolist()
    return places


def probabilities(plane: Plane, drawn: Draws, places: Sequence[int] | None = None) -> list[float | None]:
    """Share of the draws in which each label is on the frontier; None where its quality has no error.

    Args:
        plane: Placed labels.
        drawn: Their draws.
        places: Which of them are asked for; all where not given.
    """
    wanted = range(len(plane.index)) if places is None else places
    if not drawn.count:
        return [None] * len(wanted)
    found = np.zeros(len(plane.index))
    if len(drawn.index):
        found[drawn.index] = frontier_mask(drawn.energy, drawn.quality).mean(axis=0)
    labels = plane.sheet.labels
    return [float(found[i]) if has_quality_error(labels[plane.index[i]]) else None for i in wanted]


@dataclass(frozen=True, slots=True, kw_only=True)
class HalfWidths:
    """95 % half-widths of labels, for drawing; NaN where nothing is known of the error."""

    energy: Floats
    quality: Floats


def half_widths(plane: Plane, drawn: Draws, places: Sequence[int] | None = None) -> HalfWidths:
    """How wide labels' means are, by the errors that the draws rest on (method.md, eq. 29).

        h^2 = t_{n-1}^2 s^2 / n + known

    Args:
        plane: Placed labels.
        drawn: Their draws.
        places: Which of them are asked for; all where not given.
    """
    wanted = range(len(plane.index)) if places is None else places
    spread = drawn.spread
    quality = _widths(spread.quality_sigma, spread.quality_off, wanted)
    labels = plane.sheet.labels
    quality[[not has_quality_error(labels[plane.index[member]]) for member in wanted]] = np.nan
    return HalfWidths(energy=_widths(spread.energy_sigma, spread.energy_off, wanted), quality=quality)


def _widths(sigma: Floats, offs: Mapping[int, Floats], wanted: Sequence[int]) -> Floats:
    squares = (Z_95 * sigma[list(wanted)]) ** 2
    for place, member in enumerate(wanted):
        if member in offs:
            off, count = offs[member], len(offs[member])
            squares[place] += student_t(count - 1) ** 2 * float(off @ off) / (count * (count - 1))
    widths: Floats = np.sqrt(squares)
    return widths


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spread:
    """Where a label's draws come from, by its place in the plane."""

    groups: dict[tuple[str, ...], list[int]]
    """Labels with several differing seeds, by their seeds."""
    energy_off: dict[int, Floats]
    quality_off: dict[int, Floats]
    energy_sigma: Floats
    """Standard deviations of what the seeds do not show."""
    quality_sigma: Floats

    @classmethod
    def of(cls, plane: Plane, rel: float) -> _Spread:
        sheet, rows = plane.sheet, plane.rows
        variances = sheet.columns["quality_se"] ** 2
        quality_var = np.nan_to_num(sheet.mean(variances, rows & np.isfinite(variances)))[plane.index]
        meter_var = np.nan_to_num(sheet.mean((plane.row_half_width / Z_95) ** 2, rows))[plane.index]
        single_var = (rel * plane.energy / Z_95) ** 2 + meter_var
        groups: dict[tuple[str, ...], list[int]] = {}
        energy_off: dict[int, Floats] = {}
        quality_off: dict[int, Floats] = {}
        for member, seeds, kept in _repeated(plane):
            energies = plane.row_energy[kept]
            if np.ptp(energies) > 0.0:
                single_var[member] = 0.0
            groups.setdefault(seeds, []).append(member)
            energy_off[member] = energies - plane.energy[member]
            quality_off[member] = sheet.columns["quality"][kept] - plane.quality[member]
        return cls(
            groups=groups,
            energy_off=energy_off,
            quality_off=quality_off,
            energy_sigma=np.sqrt(single_var),
            quality_sigma=np.sqrt(quality_var),
        )


def _repeated(plane: Plane) -> Iterator[tuple[int, tuple[str, ...], NDArray[np.intp]]]:
    """Labels with several placed rows: their place in the plane, their seeds in order, and those rows."""
    labels = plane.sheet.labels
    starts = plane.sheet.starts
    for member in np.flatnonzero(np.diff(starts)[plane.index] > 1).tolist():
        index = int(plane.index[member])
        own, first = labels[index].rows, int(starts[index])
        kept = sorted((row.seed, first + i) for i, row in enumerate(own) if plane.rows[first + i])
        if len(kept) > 1:
            yield member, tuple(seed for seed, _ in kept), np.array([row for _, row in kept], dtype=np.intp)


def _surely_beaten(plane: Plane, spread: _Spread) -> NDArray[np.bool_]:
    """Labels whose best case another label's worst case beats; labels with several seeds have no worst case."""
    worst_e, worst_q = plane.energy + _SURELY * spread.energy_sigma, plane.quality - _SURELY * spread.quality_sigma
    best_e, best_q = plane.energy - _SURELY * spread.energy_sigma, plane.quality + _SURELY * spread.quality_sigma
    seeded = np.zeros(len(plane.index), dtype=bool)
    seeded[list(spread.energy_off)] = True
    single = np.flatnonzero(~seeded)
    order = single[np.argsort(worst_e[single], kind="stable")]
    reach = np.maximum.accumulate(worst_q[order]) if len(order) else np.empty(0)
    beaten = np.zeros(len(plane.index), dtype=bool)
    # strictly cheaper in the worst case, so that a point without errors does not beat itself
    cheaper = np.searchsorted(worst_e[order], best_e[single], side="left")
    known = cheaper > 0
    beaten[single[known]] = reach[cheaper[known] - 1] >= best_q[single[known]]
    return beaten


def _seed_weights(seeds: Sequence[str], draws: int) -> Floats:
    """Weights of the seeds' deviations: normal, over a shared chi, so that their sum is a Student's t."""
    count = len(seeds)
    stream = _stream("\x1f".join(seeds))
    normal = stream.standard_normal((count, draws))
    chi_square = stream.chisquare(count - 1, draws)
    weights: Floats = normal / np.sqrt(count * chi_square)
    return weights


def _stream(name: str) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]))
