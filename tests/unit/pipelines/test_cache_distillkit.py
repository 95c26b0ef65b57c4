"""Tables of DistillKit, written here from what its settings say, are read to the last bit they hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from stillwatt.cli.main import cli
from stillwatt.errors import UsageError
from stillwatt.pipelines.cache.distillkit import CONFIG_NAME, logprobs_of, read_layout, unpacked
from stillwatt.pipelines.cache.reader import CodedCache

VOCAB = 320
KEPT = 20
SETTINGS: dict[str, Any] = {
    "d": VOCAB,
    "k": KEPT,
    "exact_k": 4,
    "exact_dtype": "bfloat16",
    "polynomial_terms": [0, 1, 2, "sqrt"],
    "term_dtype": "float32",
    "residual_bins": [{"scale_dtype": "float16", "element_bits": 5, "num_elements": 11}],
    "delta_encoding": False,
    "error_diffusion": False,
    "normalize_t": True,
}


def teacher(seed: int, rows: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The most probable tokens and their log-probabilities."""
    logits = np.random.default_rng(seed).normal(size=(rows, VOCAB)) * 3
    logp = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    ids = np.argsort(-logp, axis=1)[:, :KEPT]
    return ids, np.take_along_axis(logp, ids, 1)


def pack_bits(values: np.ndarray[Any, Any], bits: int) -> bytes:
    return np.packbits([int(digit) for value in values for digit in f"{value:0{bits}b}"]).tobytes()


def row_bytes(logp: np.ndarray[Any, Any]) -> list[int]:
    """One row under SETTINGS."""
    exact = (logp[:4].astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    at = np.linspace(0, 1, KEPT - 4)
    terms = np.stack([at**0, at, at**2, np.sqrt(at)], 1)
    coefficients = np.linalg.lstsq(terms, logp[4:], rcond=None)[0].astype("<f4")
    residual = (logp[4:] - terms @ coefficients)[:11]
    scale = np.float16(np.abs(residual).max() / 16)
    whole = np.clip(np.rint(residual / scale), -16, 15).astype(int) + 16
    return list(exact + coefficients.tobytes() + scale.tobytes() + pack_bits(whole, 5))


def write_table(folder: Path, lengths: tuple[int, ...] = (30, 18), change: int | None = None) -> None:
    """`change` alters a byte of the first position."""
    columns: dict[str, list[Any]] = {"input_ids": [], "compressed_logprobs": [], "bytepacked_indices": []}
    for seed, length in enumerate(lengths):
        ids, logp = teacher(seed, length - 1)
        rows = [row_bytes(row) for row in logp]
        if change is not None:
            rows[0][1] = change
        columns["input_ids"].append(list(range(length)))
        columns["compressed_logprobs"].append(rows)
        columns["bytepacked_indices"].append([list(pack_bits(row, 9)) for row in ids])
    folder.mkdir(exist_ok=True)
    bytes_of = pa.list_(pa.list_(pa.uint8()))
    types = {"input_ids": pa.list_(pa.uint64()), "compressed_logprobs": bytes_of, "bytepacked_indices": bytes_of}
    pq.write_table(pa.table(columns, schema=pa.schema(types.items())), folder / "data_0.parquet")
    (folder / CONFIG_NAME).write_text(yaml.safe_dump(SETTINGS), encoding="utf-8")


def convert(source: Path, target: Path, *more: object) -> Result:
    common = ["cache", "convert", source, target, "--top-k", 20, "--vocab-size", VOCAB, "--temperature", 1.0, *more]
    return CliRunner().invoke(cli, [str(part) for part in common])


def test_ids_text_and_values_come_through(tmp_path: Path) -> None:
    write_table(tmp_path / "in")
    result = convert(tmp_path / "in", tmp_path / "out", "--json")
    found = json.loads(result.output)
    assert (found["from"], found["sequences"], found["positions"]) == ("distillkit", 2, 29 + 17)
    assert found["scaled_down"] == 0
    cache = CodedCache.open(tmp_path / "out")
    assert cache.tokens(1).tolist() == list(range(18))
    ids, logp = teacher(1, 17)
    batch = cache.batch([1])
    assert np.sort(batch.ids_BTK[0].numpy()).tolist() == np.sort(ids).tolist()
    # half a level at most, and what the table itself has lost
    assert np.abs(batch.logp_BTK[0].numpy() - logp).max() < 0.5


def test_the_layout_is_read_part_by_part(tmp_path: Path) -> None:
    write_table(tmp_path)
    layout = read_layout(tmp_path)
    _, logp = teacher(3, 40)
    rows = np.array([row_bytes(row) for row in logp], dtype=np.uint8)
    found = logprobs_of(rows, layout)
    error = np.abs(found - logp)
    assert error[:, :4].max() < 0.02 * np.abs(logp).max()  # bfloat16, cut off
    assert error[:, 4:15].max() < 0.1
    assert error[:, 15:].max() < 0.6  # the curve alone
    with pytest.raises(ValueError, match="the settings call for more"):
        logprobs_of(rows[:, :-1], layout)
    with pytest.raises(ValueError, match="the settings call for 33"):
        logprobs_of(np.concatenate([rows, rows], 1), layout)


def test_differences_are_summed_up(tmp_path: Path) -> None:
    plain = {"d": 70000, "k": 3, "exact_k": 3, "exact_dtype": "float64", "residual_bins": []}
    (tmp_path / CONFIG_NAME).write_text(yaml.safe_dump(plain), encoding="utf-8")
    layout = read_layout(tmp_path)
    assert layout.id_bits == 17
    row = np.frombuffer(np.array([-0.5, -1.0, -0.25], dtype="<f8").tobytes(), dtype=np.uint8)
    assert logprobs_of(row[None], layout).tolist() == [[-0.5, -1.5, -1.75]]


@given(values=st.lists(st.integers(0, 2**17 - 1), min_size=1, max_size=40))
def test_packed_ids_come_back(values: list[int]) -> None:
    raw = np.frombuffer(pack_bits(np.array(values), 17), dtype=np.uint8)[None]
    assert unpacked(raw, len(values), 17).tolist() == [values]
    with pytest.raises(ValueError, match="do not hold"):
        unpacked(raw[:, :-1], len(values), 17)


def test_a_mass_above_one_is_scaled_down_and_told(tmp_path: Path) -> None:
    write_table(tmp_path / "in", change=0)  # the first log-probability becomes all but 0
    result = convert(tmp_path / "in", tmp_path / "out")
    assert "2 positions had kept tokens of a mass above 1" in result.output
    kept = CodedCache.open(tmp_path / "out").batch([0])
    assert float(kept.tail_logmass_BT[0, 0]) == -np.inf
    assert float(kept.logp_BTK[0, 0].exp().sum()) == pytest.approx(1, abs=1e-5)


def test_what_is_missing_or_wrong_is_named(tmp_path: Path) -> None:
    write_table(tmp_path / "in")
    config = tmp_path / "in" / CONFIG_NAME
    config.write_text(yaml.safe_dump({**SETTINGS, "k": 21}), encoding="utf-8")
    longer = convert(tmp_path / "in", tmp_path / "a")
    assert (longer.exit_code, "data_0.parquet row 0: 23 bytes do not hold 21 numbers" in longer.output) == (2, True)
    assert "are these the settings that the table was written with?" in longer.output
    config.write_text(yaml.safe_dump({**SETTINGS, "exact_dtype": "float8"}), encoding="utf-8")
    assert "type 'float8' is none of float16" in convert(tmp_path / "in", tmp_path / "b").output
    config.write_text(yaml.safe_dump({**SETTINGS, "polynomial_terms": ["cube"]}), encoding="utf-8")
    assert "term 'cube' is neither a power nor" in convert(tmp_path / "in", tmp_path / "c").output
    config.write_text("- k", encoding="utf-8")
    assert "cannot be used as settings" in convert(tmp_path / "in", tmp_path / "d").output
    config.unlink()
    missing = convert(tmp_path / "in", tmp_path / "e")
    assert (missing.exit_code, CONFIG_NAME in missing.output, "copy the file" in missing.output) == (1, True, True)
    write_table(tmp_path / "in", change=0x7F)  # all but infinite
    assert "row 0, position 0: " in convert(tmp_path / "in", tmp_path / "f").output
    assert "is no log-probability; leave that row out" in convert(tmp_path / "in", tmp_path / "f").output
    table = pa.table({"input_ids": [[1]], "packed_indices": [[[1]]], "coeffs": [[[0.5]]]})
    pq.write_table(table, tmp_path / "in" / "data_0.parquet")
    assert "DistillKit's older form" in convert(tmp_path / "in", tmp_path / "g").output
    with pytest.raises(UsageError):
        config.write_text("k: [", encoding="utf-8")
        read_layout(tmp_path / "in")
