"""The logit cache's files: what goes in comes out, within fp16; what is damaged is refused.

Shapes: B sequences of a batch, T rows of a sequence, V vocabulary, K kept tokens.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillwatt.errors import ArtifactError
from stillwatt.pipelines.logit_cache import MASS_TOLERANCE, LogitCache, LogitCacheWriter
from stillwatt.pipelines.logit_shards import renormalised, row_dtype

Rows = tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.float64]]


def rows_of(logits_TV: npt.NDArray[np.float64], top_k: int) -> Rows:
    """A teacher's kept tokens, exactly, in fp64; the tail is the sum of the others."""
    logp_TV = logits_TV - np.logaddexp.reduce(logits_TV, axis=1, keepdims=True)
    order_TV = np.argsort(-logp_TV, axis=1, kind="stable")
    ids_TK, rest_TR = order_TV[:, :top_k], order_TV[:, top_k:]
    tail_T = np.logaddexp.reduce(np.take_along_axis(logp_TV, rest_TR, 1), axis=1, initial=-np.inf)
    return ids_TK, np.take_along_axis(logp_TV, ids_TK, 1), tail_T


def random_rows(seed: int, num_rows: int, *, vocab_size: int = 100, top_k: int = 4, scale: float = 3.0) -> Rows:
    rng = np.random.default_rng(seed)
    return rows_of(rng.normal(size=(num_rows, vocab_size)) * scale, top_k)


def new_writer(directory: Path, *, vocab_size: int = 100, top_k: int = 4, shard_rows: int = 10) -> LogitCacheWriter:
    return LogitCacheWriter(
        directory,
        vocab_size=vocab_size,
        top_k=top_k,
        temperature=2.0,
        inputs={"corpus": "abc", "sequences": 5},
        shard_rows=shard_rows,
    )


def fill(directory: Path, lengths: tuple[int, ...] = (4, 4, 7, 0, 4)) -> Path:
    with new_writer(directory) as writer:
        for index, num_rows in enumerate(lengths):
            writer.add(index, *random_rows(index, num_rows))
    return directory


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    cache = LogitCache.open(fill(tmp_path))
    assert cache.sequence_indices == (0, 1, 2, 3, 4)
    assert (cache.vocab_size, cache.top_k, cache.temperature, cache.num_rows) == (100, 4, 2.0, 19)
    assert cache.inputs == {"corpus": "abc", "sequences": 5}
    for index, num_rows in enumerate((4, 4, 7, 0, 4)):
        ids_TK, logp_TK, tail_T = random_rows(index, num_rows)
        found = cache.sequence(index)
        np.testing.assert_array_equal(found.ids_TK.numpy(), ids_TK)
        np.testing.assert_allclose(found.logp_TK.numpy(), logp_TK, rtol=2e-3, atol=1e-3)
        np.testing.assert_allclose(found.tail_logmass_T.numpy(), tail_T, rtol=1e-6)


def test_a_batch_is_its_sequences_in_the_order_asked_for(tmp_path: Path) -> None:
    cache = LogitCache.open(fill(tmp_path))
    batch = cache.batch([4, 0, 1, 0])
    assert batch.ids_BTK.shape == batch.logp_BTK.shape == (4, 4, 4)
    for place, index in enumerate([4, 0, 1, 0]):
        alone = cache.sequence(index)
        assert batch.ids_BTK[place].equal(alone.ids_TK)
        assert batch.logp_BTK[place].equal(alone.logp_TK)
        assert batch.tail_logmass_BT[place].equal(alone.tail_logmass_T)
    moved = batch.to("cpu")
    assert moved.ids_BTK.equal(batch.ids_BTK)


def test_a_batch_of_different_lengths_is_refused(tmp_path: Path) -> None:
    cache = LogitCache.open(fill(tmp_path))
    with pytest.raises(ValueError, match="one length"):
        cache.batch([0, 2])
    with pytest.raises(ValueError, match="one length"):
        cache.batch([])


def test_a_sequence_it_does_not_hold_is_an_index_error(tmp_path: Path) -> None:
    with pytest.raises(IndexError, match="no sequence 5"):
        LogitCache.open(fill(tmp_path)).sequence(5)


@given(
    st.lists(
        st.lists(st.one_of(st.floats(-6, 6), st.sampled_from([-50.0, 0.0, 50.0])), min_size=12, max_size=12),
        min_size=1,
        max_size=5,
    ),
    st.integers(1, 12),
)
@settings(deadline=None)
def test_what_is_read_sums_to_one_and_costs_almost_no_divergence(logits: list[list[float]], top_k: int) -> None:
    ids_TK, logp_TK, tail_T = rows_of(np.array(logits), top_k)
    stored = np.empty(len(ids_TK), dtype=row_dtype(12, top_k))
    stored["ids"], stored["logp"], stored["tail_logmass"] = ids_TK, np.minimum(logp_TK, 0.0), tail_T
    logp_again_TK = renormalised(stored).astype(np.float64)
    tail_again_T = stored["tail_logmass"].astype(np.float64)
    mass_T = np.exp(logp_again_TK).sum(1) + np.exp(tail_again_T)
    assert np.abs(mass_T - 1.0).max() <= MASS_TOLERANCE
    with np.errstate(invalid="ignore"):  # a tail of nothing: -inf - -inf, replaced below
        rest_T = np.exp(tail_T) * (tail_T - tail_again_T)
    divergence_T = (np.exp(logp_TK) * (logp_TK - logp_again_TK)).sum(1) + np.where(np.isneginf(tail_T), 0.0, rest_T)
    # fp16 rounds by at most 2^-8 of a nat down to -16, and a divergence is second order in that
    assert np.abs(divergence_T).max() < 1e-5


def test_the_tail_survives_at_both_ends() -> None:
    stored = np.zeros(2, dtype=row_dtype(1000, 1))
    stored["tail_logmass"] = [-1e-6, -80.0]  # nearly everything outside, nearly nothing outside
    stored["logp"][:, 0] = [np.log(1e-6), 0.0]
    np.testing.assert_allclose(renormalised(stored)[:, 0], [np.log(1e-6), 0.0], rtol=1e-6, atol=1e-12)


def test_token_ids_beyond_16_bits_get_four_bytes(tmp_path: Path) -> None:
    assert row_dtype(65_536, 8)["ids"].base == np.dtype("<u2")
    assert row_dtype(65_537, 8)["ids"].base == np.dtype("<i4")
    with LogitCacheWriter(tmp_path, vocab_size=70_000, top_k=1, temperature=1.0, inputs={}) as writer:
        writer.add(0, np.array([[69_999]]), np.log([[0.5]]), np.log([0.5]))
    assert LogitCache.open(tmp_path).sequence(0).ids_TK.tolist() == [[69_999]]


def test_sizes_and_kept_mass(tmp_path: Path) -> None:
    cache = LogitCache.open(fill(tmp_path))
    on_disk = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert cache.bytes == on_disk
    assert cache.bytes_per_token == on_disk / 19
    kept = np.concatenate([np.exp(random_rows(index, n)[1]).sum(1) for index, n in enumerate((4, 4, 7, 0, 4))])
    assert cache.kept_mass == pytest.approx(kept.mean(), rel=1e-6)


def test_bytes_per_token_approach_the_row(tmp_path: Path) -> None:
    with LogitCacheWriter(tmp_path, vocab_size=49_152, top_k=64, temperature=1.0, inputs={}) as writer:
        rows = random_rows(0, 512, vocab_size=200, top_k=64)
        for index in range(16):
            writer.add(index, *rows)
    found = LogitCache.open(tmp_path).bytes_per_token
    assert found is not None
    assert 260 < found < 260.5


def test_an_empty_cache_has_no_means(tmp_path: Path) -> None:
    cache = LogitCache.open(fill(tmp_path, lengths=()))
    assert (cache.num_rows, cache.bytes_per_token, cache.kept_mass) == (0, None, None)


def test_sequences_without_rows_alone(tmp_path: Path) -> None:
    cache = LogitCache.open(fill(tmp_path, lengths=(0, 0)))
    assert cache.batch([0, 1]).ids_BTK.shape == (2, 0, 4)


def test_nothing_is_pickled(tmp_path: Path) -> None:
    for path in fill(tmp_path).glob("*.npy"):
        assert not np.load(path, allow_pickle=False).dtype.hasobject


@pytest.mark.parametrize("name", ["shard-00000.rows.npy", "shard-00001.rows.npy", "shard-00000.offsets.npy"])
def test_one_changed_bit_is_refused(tmp_path: Path, name: str) -> None:
    path = fill(tmp_path) / name
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=f"{name} has changed"):
        LogitCache.open(tmp_path)


def test_a_missing_shard_is_refused(tmp_path: Path) -> None:
    (fill(tmp_path) / "shard-00001.rows.npy").unlink()
    with pytest.raises(ArtifactError, match="missing"):
        LogitCache.open(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", '{"schema": "other/1"}', "{"])
def test_an_index_that_is_not_one_is_refused(tmp_path: Path, content: str) -> None:
    (fill(tmp_path) / "index.json").write_text(content, encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"index\.json|format"):
        LogitCache.open(tmp_path)


def test_an_index_that_lies_about_the_rows_is_refused(tmp_path: Path) -> None:
    path = fill(tmp_path) / "index.json"
    index = json.loads(path.read_text(encoding="utf-8"))
    index["top_k"] = 5
    path.write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(ArtifactError, match="does not have its own hash"):
        LogitCache.open(tmp_path)
    del index["header_sha256"]  # as caches were before they had it
    path.write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(ArtifactError, match="holds"):
        LogitCache.open(tmp_path)


def test_an_unfinished_cache_is_not_read(tmp_path: Path) -> None:
    new_writer(tmp_path).add(0, *random_rows(0, 12))
    with pytest.raises(ArtifactError, match="never completed"):
        LogitCache.open(tmp_path)


def test_an_error_inside_the_block_leaves_the_cache_unfinished(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="killed"), new_writer(tmp_path) as writer:
        writer.add(0, *random_rows(0, 4))
        raise RuntimeError("killed")
    with pytest.raises(ArtifactError, match="never completed"):
        LogitCache.open(tmp_path)


def test_a_stopped_writer_is_continued_to_the_same_bytes(tmp_path: Path) -> None:
    whole = fill(tmp_path / "whole")
    broken = tmp_path / "broken"
    writer = new_writer(broken)
    for index, num_rows in enumerate((4, 4, 7)):  # the third seals the shard of ten rows or more
        writer.add(index, *random_rows(index, num_rows))
    writer.add(3, *random_rows(3, 0))
    writer.add(4, *random_rows(4, 4))  # in memory only: lost here
    (broken / ".shard-00001.rows.npy.x.unfinished").write_bytes(b"torn")
    (broken / "shard-00001.rows.npy").write_bytes(b"torn")
    with new_writer(broken) as again:
        assert again.sealed_sequences == {0, 1, 2}
        with pytest.raises(ValueError, match="already"):
            again.add(1, *random_rows(1, 4))
        again.add(3, *random_rows(3, 0))
        again.add(4, *random_rows(4, 4))
    names = sorted(path.name for path in whole.iterdir())
    assert names == sorted(path.name for path in broken.iterdir())
    for name in names:
        assert (whole / name).read_bytes() == (broken / name).read_bytes()
    assert LogitCache.open(whole).sha256 == LogitCache.open(broken).sha256


def test_a_cache_of_other_inputs_is_not_continued(tmp_path: Path) -> None:
    new_writer(tmp_path).add(0, *random_rows(0, 12))
    with pytest.raises(ArtifactError, match="inputs"):
        LogitCacheWriter(tmp_path, vocab_size=100, top_k=4, temperature=2.0, inputs={"corpus": "other"})
    with pytest.raises(ArtifactError, match="temperature"):
        LogitCacheWriter(tmp_path, vocab_size=100, top_k=4, temperature=1.0, inputs={})


def test_a_complete_cache_is_not_added_to(tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in fill(tmp_path).iterdir()}
    with new_writer(tmp_path) as again:
        assert again.sealed_sequences == {0, 1, 2, 3, 4}
        with pytest.raises(ValueError, match="complete"):
            again.add(5, *random_rows(5, 4))
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


@pytest.mark.parametrize(
    ("ids_TK", "logp_TK", "tail_T", "message"),
    [
        ([[1, 100]], np.log([[0.5, 0.3]]), np.log([0.2]), "vocabulary"),
        ([[-1, 1]], np.log([[0.5, 0.3]]), np.log([0.2]), "vocabulary"),
        ([[1, 1]], np.log([[0.5, 0.3]]), np.log([0.2]), "twice"),
        ([[1, 2]], np.log([[0.5, 0.3]]), np.log([0.3]), "distribution"),
        ([[1, 2]], [[np.nan, -1.0]], np.log([0.2]), "distribution"),
        ([[1, 2]], np.log([[0.5, 0.3]]), [np.nan], "distribution"),
        ([[1, 2]], [[-np.inf, -np.inf]], [0.0], "distribution"),
        ([[1, 2, 3]], np.log([[0.5, 0.3, 0.1]]), np.log([0.1]), r"must be \[T, 2\]"),
        ([[1, 2]], np.log([[0.5]]), np.log([0.5]), "do not fit"),
        ([[1, 2]], np.log([[0.5, 0.3]]), np.log([0.1, 0.1]), "do not fit"),
    ],
)
def test_rows_that_are_no_distribution_are_refused(
    tmp_path: Path, ids_TK: list[list[int]], logp_TK: list[list[float]], tail_T: list[float], message: str
) -> None:
    writer = new_writer(tmp_path, top_k=2)
    with pytest.raises(ValueError, match=message):
        writer.add(0, np.array(ids_TK), np.array(logp_TK), np.array(tail_T))


@pytest.mark.parametrize(("top_k", "temperature"), [(0, 1.0), (101, 1.0), (4, 0.0)])
def test_settings_without_meaning_are_refused(tmp_path: Path, top_k: int, temperature: float) -> None:
    with pytest.raises(ValueError, match=r"top_k|temperature"):
        LogitCacheWriter(tmp_path, vocab_size=100, top_k=top_k, temperature=temperature, inputs={})
