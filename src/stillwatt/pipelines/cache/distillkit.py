"""Tables of DistillKit: each position is a row of bytes, and `compression_config.yaml` beside them says how to read it.

A row holds the first values as they are, the coefficients of a curve through the others, and residuals in bins, each
with its scale. Ids are packed without gaps, the highest bit first.

Shapes: T rows of a sequence, N bytes of a row, K kept tokens, E exact values, C terms of the curve.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from stillwatt.errors import MissingInputError, UsageError

__all__ = ["CONFIG_NAME", "Layout", "logprobs_of", "read_layout", "unpacked"]

CONFIG_NAME = "compression_config.yaml"
_WIDTHS = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
_FUNCTIONS = {"sqrt": np.sqrt, "exp": np.exp}

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bin:
    """Residuals of some values, as whole numbers of few bits."""

    scale_dtype: str
    element_bits: int
    num_elements: int


@dataclass(frozen=True, slots=True)
class Layout:
    """What stands where in a row."""

    id_bits: int
    kept: int
    exact: int
    exact_dtype: str
    terms: tuple[int | str, ...]
    term_dtype: str
    bins: tuple[Bin, ...]
    is_delta: bool
    is_normalised: bool
    """Whether the curve runs over [0, 1]; over ranks otherwise."""


def read_layout(folder: Path) -> Layout:
    """Read the settings that lie beside a table.

    Raises:
        MissingInputError: They do not.
        UsageError: They cannot be read, or name something that is not known here.
    """
    path = folder / CONFIG_NAME
    if not path.is_file():
        cure = "copy the file that DistillKit wrote with the table; its rows cannot be read without it"
        raise MissingInputError("settings of a DistillKit table", str(path), cure)
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        return _layout(found)
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as err:
        raise UsageError(f"{path}: cannot be used as settings of a table ({type(err).__name__}: {err})") from err


def _layout(found: Any) -> Layout:
    if not isinstance(found, Mapping):
        raise TypeError("it holds no settings by name")
    terms = tuple(found.get("polynomial_terms") or ())
    bins = tuple(
        Bin(str(b["scale_dtype"]), int(b["element_bits"]), int(b["num_elements"]))
        for b in found.get("residual_bins") or ()
    )
    layout = Layout(
        id_bits=(int(found["d"]) - 1).bit_length(),
        kept=int(found["k"]),
        exact=int(found["exact_k"]),
        exact_dtype=str(found.get("exact_dtype", "float32")),
        terms=terms,
        term_dtype=str(found.get("term_dtype", "float32")),
        bins=bins,
        is_delta=bool(found.get("delta_encoding", True)),
        is_normalised=bool(found.get("normalize_t", False)),
    )
    for dtype in (layout.exact_dtype, layout.term_dtype, *(b.scale_dtype for b in bins)):
        if dtype not in _WIDTHS:
            raise ValueError(f"type {dtype!r} is none of {', '.join(_WIDTHS)}")
    for term in terms:
        if not isinstance(term, int) and term not in _FUNCTIONS:
            raise ValueError(f"term {term!r} is neither a power nor one of {', '.join(_FUNCTIONS)}")
    return layout


def logprobs_of(rows_TN: Bytes, layout: Layout) -> Floats:
    """Log-probabilities of all kept tokens, [T, K].

    Raises:
        ValueError: The rows have another length than the settings give them.
    """
    reader = _Reader(rows_TN)
    exact_TE = reader.floats(layout.exact, layout.exact_dtype)
    curve_TK = np.zeros((len(rows_TN), layout.kept - layout.exact))
    if layout.terms:
        curve_TK = reader.floats(len(layout.terms), layout.term_dtype) @ _terms(layout).T
    at = 0
    for part in layout.bins:
        scale_T1 = reader.floats(1, part.scale_dtype)
        whole = reader.whole_numbers(part.num_elements, part.element_bits)
        # one bit says only the sign
        signed = 2 * whole - 1 if part.element_bits == 1 else whole - (1 << (part.element_bits - 1))
        curve_TK[:, at : at + part.num_elements] += signed * scale_T1
        at += part.num_elements
    reader.finish()
    values_TK: Floats = np.concatenate([exact_TE, curve_TK], axis=1)
    return values_TK.cumsum(1) if layout.is_delta else values_TK


def unpacked(rows_TN: Bytes, count: int, bits: int) -> npt.NDArray[np.int64]:
    """Whole numbers of so many bits each, the highest bit first.

    >>> unpacked(np.array([[0b10100110, 0b11000000]], dtype=np.uint8), 3, 3).tolist()
    [[5, 1, 5]]
    """
    flat = np.unpackbits(rows_TN, axis=1)[:, : count * bits]
    if flat.shape[1] != count * bits:
        raise ValueError(f"{rows_TN.shape[1]} bytes do not hold {count} numbers of {bits} bits")
    heavy = 1 << np.arange(bits - 1, -1, -1, dtype=np.int64)
    found: npt.NDArray[np.int64] = flat.reshape(len(rows_TN), count, bits).astype(np.int64) @ heavy
    return found


def _terms(layout: Layout) -> Floats:
    """Values of the curve's terms at each rank, [K - E, C]; in double precision, as powers of ranks grow large."""
    num = layout.kept - layout.exact
    at = np.linspace(0.0, 1.0, num) if layout.is_normalised else np.arange(num, dtype=np.float64)
    columns = [at**term if isinstance(term, int) else _FUNCTIONS[term](at) for term in layout.terms]
    return np.stack(columns, axis=1)


class _Reader:
    """Takes one part of all rows after the other."""

    def __init__(self, rows_TN: Bytes) -> None:
        self._rows_TN, self._at = rows_TN, 0

    def _take(self, size: int) -> Bytes:
        part = self._rows_TN[:, self._at : self._at + size]
        self._at += size
        if part.shape[1] != size:
            raise ValueError(f"rows have {self._rows_TN.shape[1]} bytes, and the settings call for more")
        return np.ascontiguousarray(part)

    def floats(self, count: int, dtype: str) -> Floats:
        raw = self._take(count * _WIDTHS[dtype])
        if dtype == "bfloat16":  # the upper half of a float32
            wide = raw.view("<u2").astype(np.uint32) << 16
            return wide.view(np.float32).astype(np.float64)
        return raw.view(f"<f{_WIDTHS[dtype]}").astype(np.float64)

    def whole_numbers(self, count: int, bits: int) -> npt.NDArray[np.int64]:
        return unpacked(self._take((count * bits + 7) // 8), count, bits)

    def finish(self) -> None:
        if self._at != self._rows_TN.shape[1]:
            raise ValueError(f"rows have {self._rows_TN.shape[1]} bytes, and the settings call for {self._at}")
