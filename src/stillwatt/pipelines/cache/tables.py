"""Frequency tables, counted on rows that the lists of the prior have not seen.

Shapes: L levels, C classes of rows, X symbols, P tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from stillwatt.pipelines.cache.coder import TOTAL, Side, frequencies, model

__all__ = ["ContextTables", "chances", "fit_contexts"]

_OWN_TABLE = 192
"""Symbols counted in a context before it has a table of its own."""
_COARSE = 64.0
"""Symbols' worth of the coarser table that each table starts from."""

Ints = npt.NDArray[np.int64]
Counts = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ContextTables:
    """Tables of one kind of symbol, and which context uses which."""

    table_of: npt.NDArray[np.uint16]
    """For each context."""
    frequency: npt.NDArray[np.uint16]
    """[P, X]; each row sums to 2**16."""

    @cached_property
    def _models(self) -> list[Any]:
        return [None] * len(self.frequency)

    def _model(self, index: int) -> Any:
        if self._models[index] is None:
            self._models[index] = model(self.frequency[index])
        return self._models[index]

    def code(self, side: Side, context_N: Ints, symbols_N: Ints | None) -> Ints:
        """Write or read one symbol for each context; table by table, as that is one call each."""
        table_N = self.table_of[context_N]
        order = np.argsort(table_N, kind="stable")
        found = np.zeros(len(table_N), dtype=np.int64)
        counts = np.bincount(table_N, minlength=1)
        ends = np.cumsum(counts)
        for index in np.flatnonzero(counts):
            of = order[ends[index] - counts[index] : ends[index]]
            given = None if symbols_N is None else symbols_N[of]
            found[of] = side.symbols(given, self._model(int(index)), len(of))
        return found

    def arrays(self, name: str) -> dict[str, npt.NDArray[np.integer]]:
        """What is stored."""
        return {f"{name}.table_of": self.table_of, f"{name}.frequency": self.frequency}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[np.integer]], name: str) -> ContextTables:
        """The reverse of `arrays`."""
        table_of, frequency = arrays[f"{name}.table_of"], arrays[f"{name}.frequency"]
        return cls(table_of.astype(np.uint16), frequency.astype(np.uint16))


def fit_contexts(context_N: Ints, symbols_N: Ints, *, contexts: int, coarse: int, symbols: int) -> ContextTables:
    """Count symbols in contexts; where too few were seen, those of `context % coarse` stand in, then all.

    Args:
        context_N: Of each symbol seen.
        symbols_N: The symbols.
        contexts: How many contexts there are.
        coarse: Contexts that are alike modulo this share a coarser table.
        symbols: X.
    """
    counts = np.zeros((contexts, symbols))
    np.add.at(counts, (context_N, symbols_N), 1.0)
    everything = counts.sum(0) + _neighbours(counts.sum(0)) / symbols + 1.0 / symbols
    by_class = np.zeros((coarse, symbols))
    np.add.at(by_class, np.arange(contexts) % coarse, counts)
    rows, table_of = [everything], np.zeros(contexts, dtype=np.uint16)
    of_class = np.zeros(coarse, dtype=np.int64)
    base = [everything / everything.sum()] * coarse
    for index in np.flatnonzero(by_class.sum(1) >= _OWN_TABLE):
        own = by_class[index] + _COARSE * everything / everything.sum()
        of_class[index], base[index] = len(rows), own / own.sum()
        rows.append(own)
    for context in range(contexts):
        table_of[context] = of_class[context % coarse]
        if counts[context].sum() >= _OWN_TABLE:
            table_of[context] = len(rows)
            rows.append(counts[context] + _COARSE * base[context % coarse])
    return ContextTables(table_of, np.stack([frequencies(row) for row in rows]))


def chances(asked_LC: Counts, found_LC: Counts) -> npt.NDArray[np.uint16]:
    """Chances in units of 2**-16; a cell that was asked little takes its neighbours' counts along."""
    asked, found = asked_LC.copy(), found_LC.copy()
    near_asked, near_found = asked_LC, found_LC
    for share in (0.1, 0.01, 0.001):
        near_asked, near_found = _blurred(near_asked), _blurred(near_found)
        asked, found = asked + share * near_asked, found + share * near_found
    overall = (found_LC.sum(1, keepdims=True) + 0.0005) / (asked_LC.sum(1, keepdims=True) + 1.0)
    share_LC = (found + 0.2 * overall) / (asked + 0.2)
    chance: npt.NDArray[np.uint16] = np.clip(np.rint(share_LC * TOTAL), 1, TOTAL - 1).astype(np.uint16)
    return chance


def _blurred(counts: Counts) -> Counts:
    """Each cell with its neighbours, on both axes."""
    for axis in (0, 1):
        padded = np.pad(counts, [(1, 1) if a == axis else (0, 0) for a in (0, 1)])
        size = counts.shape[axis]
        counts = sum(np.take(padded, np.arange(k, k + size), axis=axis) for k in range(3))  # type: ignore[assignment]
    return counts


def _neighbours(counts: Counts) -> Counts:
    padded = np.pad(counts, 1)
    return padded[:-2] + padded[2:]
