"""Frontiers of many points, or of many draws of them, at once (method.md, eqs. 23 and 37).

In the plane by a sort and a scan of arrays; with throughput, hypervolumes and attainment by moocore. All refuse what
is no number: moocore may call a point with NaN unbeaten, and a good one beaten by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stillwatt.errors import MissingExtraError
from stillwatt.records.comparison import Attained

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Flags = NDArray[np.bool_]


def frontier_mask(energy: Floats, quality: Floats) -> Flags:
    """Mark the points that none beats, along the last axis (method.md, eq. 23), in O(n log n).

    Equal points do not beat each other: all of them are marked.

    Raises:
        ValueError: A coordinate is no finite number.

    >>> frontier_mask(np.array([1.0, 2.0, 1.0, 3.0]), np.array([0.7, 0.6, 0.7, 0.9])).tolist()
    [True, False, True, True]
    """
    _refuse_nan(energy, quality)
    order = np.argsort(energy, axis=-1)
    sorted_energy = np.take_along_axis(energy, order, axis=-1)
    if (sorted_energy[..., 1:] == sorted_energy[..., :-1]).any():
        return _mask_of_ties(energy, quality)
    sorted_quality = np.take_along_axis(quality, order, axis=-1)
    is_new = np.ones(energy.shape, dtype=bool)
    np.greater(sorted_quality[..., 1:], np.maximum.accumulate(sorted_quality, axis=-1)[..., :-1], out=is_new[..., 1:])
    mask = np.empty(energy.shape, dtype=bool)
    np.put_along_axis(mask, order, is_new, axis=-1)
    return mask


def _mask_of_ties(energy: Floats, quality: Floats) -> Flags:
    """The same where some energies are equal: of those the best comes first, and its twins are marked with it."""
    order = np.lexsort((-quality, energy), axis=-1)
    sorted_energy = np.take_along_axis(energy, order, axis=-1)
    sorted_quality = np.take_along_axis(quality, order, axis=-1)
    best = np.maximum.accumulate(sorted_quality, axis=-1)
    is_new = np.ones(energy.shape, dtype=bool)
    is_new[..., 1:] = sorted_quality[..., 1:] > best[..., :-1]
    positions = np.broadcast_to(np.arange(energy.shape[-1]), energy.shape)
    last_new = np.maximum.accumulate(np.where(is_new, positions, 0), axis=-1)
    # a twin of the last point that was better than all before it
    is_twin = (np.take_along_axis(sorted_energy, last_new, axis=-1) == sorted_energy) & (
        np.take_along_axis(sorted_quality, last_new, axis=-1) == sorted_quality
    )
    mask = np.empty(energy.shape, dtype=bool)
    np.put_along_axis(mask, order, is_new | is_twin, axis=-1)
    return mask


def throughput_mask(energy: Floats, quality: Floats, throughput: Floats) -> Flags:
    """Mark the points that none beats on energy, quality and throughput; equal points do not beat each other.

    Raises:
        ValueError: A coordinate is no finite number.
        MissingExtraError: moocore is not installed.

    >>> cube = np.array([[1.0, 2.0, 2.0], [0.7, 0.6, 0.6], [10.0, 30.0, 20.0]])
    >>> throughput_mask(*cube).tolist()
    [True, True, False]
    """
    _refuse_nan(energy, quality, throughput)
    points = np.column_stack((energy, quality, throughput))
    mask: Flags = _moocore().is_nondominated(points, maximise=[False, True, True], keep_weakly=True)
    return mask


def hypervolume(energy: Floats, quality: Floats, *, reference: tuple[float, float]) -> float:
    """Area that the points beat, up to a reference energy and down to a reference quality (method.md, eq. 37).

        HV = area of { (e, q): e <= e_ref, q >= q_ref, some point has E <= e and Q >= q }           [J] * [1]

    Points beyond the reference add nothing.

    Raises:
        ValueError: A coordinate is no finite number.
        MissingExtraError: moocore is not installed.

    >>> hypervolume(np.array([1.0, 2.0]), np.array([1.0, 2.0]), reference=(3.0, 0.0))
    3.0
    """
    _refuse_nan(energy, quality, np.asarray(reference))
    if not len(energy):
        return 0.0
    points = np.column_stack((energy, quality))
    return float(_moocore().hypervolume(points, ref=reference, maximise=[False, True]))


def attainment(energy: Floats, quality: Floats, *, shares: Sequence[float]) -> tuple[Attained, ...]:
    """What a share of the draws attains at least: curves of the attainment function (method.md, eq. 39).

    Args:
        energy: Draws by points.
        quality: The same.
        shares: For each, the curve of goals that at least this share of the draws reach; 0 to 1.

    Raises:
        ValueError: A coordinate is no finite number.
        MissingExtraError: moocore is not installed.

    >>> curve, = attainment(np.array([[1.0], [2.0]]), np.array([[0.5], [0.4]]), shares=[1.0])
    >>> curve.corners
    ((2.0, 0.4),)
    """
    on = frontier_mask(energy, quality)
    draws, _ = np.nonzero(on)
    # moocore minimises both
    points = np.column_stack((energy[on], -quality[on]))
    found = _moocore().eaf(points, draws + 1, percentiles=[share * 100.0 for share in shares])
    curves = []
    for share in shares:
        rows = found[np.isclose(found[:, 2], share * 100.0)]
        corners = sorted((float(e), float(-q)) for e, q, _ in rows)
        curves.append(Attained(share=share, corners=tuple(corners)))
    return tuple(curves)


def _refuse_nan(*columns: Floats) -> None:
    for column in columns:
        if not np.isfinite(column).all():
            raise ValueError("a coordinate of a point is no finite number; leave such points out first")


def _moocore() -> Any:
    try:
        import moocore
    except ImportError as err:
        raise MissingExtraError("moocore", "analysis") from err
    return moocore
