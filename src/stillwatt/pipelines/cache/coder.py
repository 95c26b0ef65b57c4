"""The entropy coder: one walk over the symbols serves writing and reading, so the two cannot disagree.

The coding itself is a library's (`constriction`, a range coder); here are only the frequencies it is given. These are
integers that sum to 2**16. They are handed over as binary fractions, exact in a double, and the library's own sums and
products of them stay below 2**53: no step rounds, so every machine computes the same intervals (method.md, eq. 80).
"""

from __future__ import annotations

import math
from collections import Counter
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from stillwatt.errors import MissingExtraError

try:
    import constriction
except ImportError as err:  # pragma: no cover - the extra is there wherever the tests run
    raise MissingExtraError("constriction", "cache") from err

_MODELS, _QUEUE = constriction.stream.model, constriction.stream.queue

__all__ = ["TOTAL", "Reading", "Side", "Writing", "binomial", "frequencies", "model"]

TOTAL = 1 << 16
"""What the frequencies of a table sum to."""
_WORD_BYTES = 4
_EITHER = _MODELS.Categorical(perfect=False)
"""Two symbols with frequencies of their own each time. The library's Bernoulli gives the same intervals, bit for bit,
in four times the time."""

Ints = npt.NDArray[np.int64]
Symbols = npt.NDArray[np.int32]


def frequencies(counts: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    """Integer frequencies of a table from counts: each at least 1, summing to 2**16 exactly.

    >>> frequencies(np.array([3, 1, 0])).tolist()
    [49151, 16384, 1]
    """
    weight = np.asarray(counts, dtype=np.float64)
    weight = weight / weight.sum() if weight.sum() > 0 else np.full(len(weight), 1.0 / len(weight))
    whole = 1 + np.floor(weight * (TOTAL - len(weight))).astype(np.int64)
    whole[int(np.argmax(whole))] += TOTAL - int(whole.sum())
    return whole.astype(np.uint16)


def model(table: npt.NDArray[Any]) -> Any:
    """A table as the library takes it."""
    return _MODELS.Categorical(table.astype(np.float64) / TOTAL, perfect=False)


@lru_cache(maxsize=1024)
def binomial(n: int) -> Any:
    """How many of n fall on one of two equally heavy sides; from whole binomial coefficients."""
    counts = [max(1, math.comb(n, k) * (TOTAL - n - 1) >> n) for k in range(n + 1)]
    counts[n // 2] += TOTAL - sum(counts)
    return model(np.array(counts))


def _no_or_yes(chance_Q: npt.NDArray[np.uint16]) -> npt.NDArray[np.float64]:
    """Both frequencies of each chance, [Q, 2]; exact, as they are multiples of 2**-16."""
    both = np.empty((len(chance_Q), 2))
    np.divide(chance_Q, TOTAL, out=both[:, 1])
    np.subtract(1.0, both[:, 1], out=both[:, 0])
    return both


class Side(Protocol):
    """Writing or reading; symbols go in (or nothing) and come out (the same, or what was read)."""

    is_reading: bool

    def bits(self, bits: npt.NDArray[np.bool_] | None, chance: npt.NDArray[np.uint16]) -> npt.NDArray[np.bool_]:
        """Yes or no for each chance, in units of 2**-16."""
        ...

    def symbols(self, symbols: Ints | None, table: Any, count: int) -> Ints:
        """`count` symbols of one table."""
        ...

    def mark(self, part: str) -> None:
        """Book what came since the last mark on this part."""
        ...


class Writing:
    """Symbols to words."""

    is_reading = False

    def __init__(self) -> None:
        self._encoder = _QUEUE.RangeEncoder()
        self.bytes_of: Counter[str] = Counter()

    def bits(self, bits: npt.NDArray[np.bool_] | None, chance: npt.NDArray[np.uint16]) -> npt.NDArray[np.bool_]:
        """Write yes or no for each."""
        assert bits is not None
        if len(bits):
            self._encoder.encode(bits.astype(np.int32), _EITHER, _no_or_yes(chance))
        return bits

    def symbols(self, symbols: Ints | None, table: Any, count: int) -> Ints:
        """Write symbols."""
        assert symbols is not None
        assert len(symbols) == count
        if count:
            self._encoder.encode(symbols.astype(np.int32), table)
        return symbols

    def mark(self, part: str) -> None:
        """Book the words since the last mark on this part."""
        self.bytes_of[part] += self._encoder.num_words() * _WORD_BYTES - self.bytes_of.total()

    def finish(self) -> bytes:
        """What was written."""
        payload: bytes = self._encoder.get_compressed().astype("<u4").tobytes()
        return payload


class Reading:
    """Words to symbols."""

    is_reading = True

    def __init__(self, payload: bytes) -> None:
        self._decoder = _QUEUE.RangeDecoder(np.frombuffer(payload, dtype="<u4").astype(np.uint32))

    def bits(self, bits: npt.NDArray[np.bool_] | None, chance: npt.NDArray[np.uint16]) -> npt.NDArray[np.bool_]:
        """Read yes or no for each."""
        if not len(chance):
            return np.zeros(0, dtype=np.bool_)
        found: Symbols = self._decoder.decode(_EITHER, _no_or_yes(chance))
        return found.astype(np.bool_)

    def symbols(self, symbols: Ints | None, table: Any, count: int) -> Ints:
        """Read `count` symbols."""
        if not count:
            return np.zeros(0, dtype=np.int64)
        found: Symbols = self._decoder.decode(table, count)
        return found.astype(np.int64)

    def mark(self, part: str) -> None:
        """Nothing to book."""
