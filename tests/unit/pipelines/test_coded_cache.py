"""The coded cache: what goes in comes out, whatever it is; kills and damage; many readers; expectation of the draws."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stillwatt.errors import ArtifactError, UnknownNameError, UsageError
from stillwatt.pipelines.cache.coder import Reading, Writing, binomial, frequencies
from stillwatt.pipelines.cache.cut import cut_logits
from stillwatt.pipelines.cache.files import read_codec
from stillwatt.pipelines.cache.grid import Grid, tail_level, tail_logmass
from stillwatt.pipelines.cache.reader import CodedCache
from stillwatt.pipelines.cache.scheme import Scheme
from stillwatt.pipelines.cache.whole import rebuilt_logp
from stillwatt.pipelines.cache.writer import CodedCacheWriter
from stillwatt.pipelines.cached_rows import CachedReader

VOCAB = 320
TOPK = Scheme(name="topk", top_k=12)
SCHEMES = (
    TOPK,
    Scheme(name="topk", top_k=12, prior="unigram"),
    Scheme(name="topp", top_k=24, mass=0.8),
    Scheme(name="head_draws", top_k=6, draws=5),
    Scheme(name="rs_kd", draws=9),
)
IDS = [f"{scheme.name}-{scheme.prior}" for scheme in SCHEMES]


def teacher(seed: int, lengths: list[int], scale: float = 3.0) -> list[tuple[np.ndarray[Any, Any], torch.Tensor]]:
    """Sequences with the logits of each position that has a successor; the token before shapes what follows."""
    rng = np.random.default_rng(seed)
    likes = np.random.default_rng(0).normal(size=(VOCAB, VOCAB)) * scale
    sequences = []
    for length in lengths:
        tokens = rng.integers(0, VOCAB // 4, length)
        logits = likes[tokens[:-1]] + rng.normal(size=(length - 1, VOCAB))
        sequences.append((tokens, torch.from_numpy(logits.astype(np.float32))))
    return sequences


def adversarial(kind: str) -> torch.Tensor:
    logits = torch.zeros(40, VOCAB)
    if kind == "one-hot":
        logits[:, 7] = 500.0
    if kind == "forbidden":
        logits[:, 30:] = -torch.inf
    if kind == "ties":
        logits[:, ::2] = 4.0
    if kind == "steep":
        logits += -torch.arange(VOCAB) * 1.7
    return logits


def write(directory: Path, scheme: Scheme, sequences: list[Any], start: int = 0, **settings: Any) -> CodedCacheWriter:
    settings = {"prior_rows": 400, "shard_rows": 300, "inputs": {"text": "t"}, **settings}
    writer = CodedCacheWriter(directory, scheme=scheme, vocab_size=VOCAB, temperature=1.0, **settings)
    for index, (tokens, logits) in enumerate(sequences):
        if index >= start and index not in writer.sealed_sequences:
            writer.add(index, tokens, cut_logits(logits, scheme, temperature=1.0, sequence_index=index, is_wide=True))
    return writer


def make(directory: Path, scheme: Scheme, sequences: list[Any], **settings: Any) -> CodedCache:
    write(directory, scheme, sequences, **settings).close()
    return CodedCache.open(directory)


def files_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


@pytest.mark.parametrize("scheme", SCHEMES, ids=IDS)
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000), lengths=st.lists(st.sampled_from([1, 2, 9, 140, 300]), min_size=1, max_size=5))
def test_levels_and_counts_come_back_as_they_went_in(
    tmp_path_factory: pytest.TempPathFactory, scheme: Scheme, seed: int, lengths: list[int]
) -> None:
    from stillwatt.pipelines.cache.writer import rows_of

    sequences = teacher(seed, lengths)
    cache = make(tmp_path_factory.mktemp("cache"), scheme, sequences)
    assert cache.sequence_indices == tuple(range(len(lengths)))
    assert cache.num_rows == sum(lengths) - len(lengths)
    for index, (tokens, logits) in enumerate(sequences):
        assert cache.tokens(index).tolist() == tokens.tolist()
        if len(tokens) == 1:
            continue
        cut = cut_logits(logits, scheme, temperature=1.0, sequence_index=index)
        expected, found = rows_of(scheme, index, tokens, cut), cache.rows(index)
        for name in expected.__slots__:
            want, have = getattr(expected, name), getattr(found, name)
            if want.ndim == 2:  # blocks are as wide as they need to be
                width = max(want.shape[1], have.shape[1])
                filler = -1 if "ids" in name else 0
                want, have = (
                    np.pad(a, ((0, 0), (0, width - a.shape[1])), constant_values=filler) for a in (want, have)
                )
                ids = np.pad(expected.ids_RK if "K" in name else expected.draw_ids_RU, ((0, 0), (0, width)))[:, :width]
                want, have = (a if filler else np.where(ids < 0, 0, a) for a in (want, have))
            assert (want == have).all(), name


@pytest.mark.parametrize("scheme", SCHEMES, ids=IDS)
def test_a_sequence_of_one_token_has_no_rows_and_is_read_as_such(tmp_path: Path, scheme: Scheme) -> None:
    cache = make(tmp_path, scheme, teacher(2, [1, 9, 1]))
    read = cache.weights if scheme.is_unbiased else cache.batch
    for indices in ([0], [0, 2]):
        found = read(indices)
        # losses want at least one kept token, of no position too
        assert found.ids_BTK.shape == found.logp_BTK.shape == (len(indices), 0, 1)
    # beside others it adds nothing
    reader = CachedReader(cache, is_even=False)
    together = reader.read([0, 1, 2], torch.tensor([[False] * 8, [True] * 8, [False] * 8]))
    alone = reader.read([1], torch.ones(1, 8, dtype=torch.bool))
    assert all(torch.equal(one, other) for one, other in zip(together.parts, alone.parts, strict=True))


@pytest.mark.parametrize("kind", ["one-hot", "uniform", "forbidden", "ties", "steep"])
@pytest.mark.parametrize("scheme", SCHEMES, ids=IDS)
def test_no_distribution_is_too_odd(tmp_path: Path, scheme: Scheme, kind: str) -> None:
    logits = adversarial(kind)
    cache = make(tmp_path, scheme, [*teacher(1, [200]), (np.arange(41) % 7, logits)])
    p = torch.softmax(logits.double(), -1)
    if scheme.is_unbiased:
        found = cache.weights([1])
        dense = torch.zeros(40, VOCAB + 1).scatter_add_(1, found.ids_BTK[0] % (VOCAB + 1), found.weight_BTK[0])
        assert dense[:, VOCAB].sum() == 0
        # forbidden tokens are never drawn, and nothing is lost but what rounding takes
        assert (dense[:, :VOCAB][p == 0] == 0).all()
        assert float(dense.sum(1).sub(1).abs().max()) < 0.3
    else:
        found_k = cache.batch([1])
        mass = found_k.logp_BTK.exp().sum(-1) + found_k.tail_logmass_BT.exp()
        assert float((mass - 1).abs().max()) < 1e-5
        top = found_k.logp_BTK[0, :, 0].exp()
        assert float((top / p.amax(-1)).log().abs().max()) < 0.5


def test_the_coder_spends_what_the_chances_say() -> None:
    rng = np.random.default_rng(0)
    chance = rng.integers(1, 1 << 16, 20_000).astype(np.uint16)
    bits = rng.random(20_000) < chance / 65536
    side = Writing()
    side.bits(bits, chance)
    payload = side.finish()
    ideal = -np.log2(np.where(bits, chance / 65536, 1 - chance / 65536)).sum() / 8
    assert len(payload) < ideal * 1.001 + 16
    assert (Reading(payload).bits(None, chance) == bits).all()


def test_bytes_do_not_depend_on_the_machine() -> None:
    """A change here is a change of the format: old caches would decode to something else."""
    side = Writing()
    chance = (np.arange(2000) * 7919 % 65535 + 1).astype(np.uint16)
    side.bits(np.arange(2000) % 3 == 0, chance)
    side.symbols(np.arange(500) % 41, binomial(40), 500)
    import hashlib

    assert hashlib.sha256(side.finish()).hexdigest()[:16] == "774fae5cbcad784b"


@given(counts=st.lists(st.floats(0, 1e9), min_size=2, max_size=400))
def test_frequencies_are_whole_and_sum_to_the_total(counts: list[float]) -> None:
    found = frequencies(np.array(counts)).astype(np.int64)
    assert found.min() >= 1
    assert found.sum() == 1 << 16


@given(logp=st.floats(-39.0, 0.0), step=st.sampled_from([0.25, 0.5, 1.0]))
def test_rounding_by_chance_is_right_on_average(logp: float, step: float) -> None:
    grid = Grid(step)
    uniform = (np.arange(4096) + 0.5) / 4096
    p = np.exp(grid.points[grid.either(np.full(4096, logp), uniform)])
    assert p.mean() == pytest.approx(np.exp(logp), rel=1e-3)
    tail = np.exp(tail_logmass(tail_level(np.full(4096, min(logp, -1e-6)), uniform)))
    assert tail.mean() == pytest.approx(np.exp(min(logp, -1e-6)), rel=1e-3) or logp < -19


@pytest.mark.parametrize("scheme", [s for s in SCHEMES if s.is_unbiased], ids=lambda s: s.name)
def test_the_expected_gradient_is_the_exact_one(tmp_path: Path, scheme: Scheme) -> None:
    """Error of the mean logit gradient M q - w against q - p: falls as one over the root of the number of draws."""
    logits = torch.randn(1, VOCAB, generator=torch.Generator().manual_seed(3)) * 2
    student = torch.randn(1, VOCAB, generator=torch.Generator().manual_seed(4)).softmax(-1)
    exact = student - logits.softmax(-1)
    errors = []
    for times in (200, 3200):
        many = logits.expand(times, -1).contiguous()
        cache = make(tmp_path / str(times), scheme, [(np.zeros(times + 1, dtype=np.int64), many)])
        found = cache.weights([0])
        w = torch.zeros(times, VOCAB).scatter_add_(
            1, found.ids_BTK[0].clamp_min(0), found.weight_BTK[0].masked_fill(found.ids_BTK[0] < 0, 0.0)
        )
        gradient = (w.sum(-1, keepdim=True) * student - w).mean(0)
        errors.append(float((gradient - exact[0]).norm() / exact.norm()))
    assert errors[1] < 0.05
    assert errors[1] < errors[0] / 2.2  # 4 expected


def test_a_killed_writer_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    sequences = teacher(5, [120, 120, 257, 60, 300, 120, 90])
    make(tmp_path / "whole", TOPK, sequences)
    for killed_after in (1, 4, 6):
        directory = tmp_path / f"killed{killed_after}"
        write(directory, TOPK, sequences[:killed_after])  # never closed
        for name in (".shard-00009.bin.x.unfinished", ".prior.bin.x.unfinished", ".index.json.x.unfinished"):
            (directory / name).write_bytes(b"half")
        with pytest.raises(ArtifactError, match="never completed"):
            CodedCache.open(directory)
        write(directory, TOPK, sequences).close()
        assert files_of(directory) == files_of(tmp_path / "whole")


def test_a_writer_refuses_a_cache_of_other_inputs(tmp_path: Path) -> None:
    write(tmp_path, TOPK, teacher(5, [300, 300]))
    with pytest.raises(ArtifactError, match="begun with another inputs"):
        write(tmp_path, TOPK, [], inputs={"text": "u"})
    with pytest.raises(ArtifactError, match="begun with another scheme"):
        write(tmp_path, Scheme(name="topk", top_k=11), [])


def test_every_broken_byte_is_told_with_its_place(tmp_path: Path) -> None:
    cache = make(tmp_path, TOPK, teacher(2, [200, 200, 200, 200]))
    path = tmp_path / "shard-00000.bin"
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    told = set()
    for at in rng.integers(0, len(whole), 60):
        broken = bytearray(whole)
        broken[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(broken)
        with pytest.raises(ArtifactError, match=r"shard 0 \(shard-00000.bin\).*made again") as caught:
            CodedCache.open(tmp_path)
        told.add("block" in str(caught.value))
    assert told == {True, False}
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArtifactError, match=r"shard 0 .*cut short"):
        CodedCache.open(tmp_path)
    broken = bytearray(whole)
    broken[20] ^= 1  # after it was opened: the block's own checksum tells
    path.write_bytes(broken)
    with pytest.raises(ArtifactError, match=r"shard 0 \(shard-00000.bin\), block 0 of"):
        cache.rows(0)
    broken = bytearray(whole)
    broken[-20] ^= 1
    path.write_bytes(broken)
    with pytest.raises(ArtifactError, match=r"its tables changed since the cache was opened"):
        cache.tokens(0)
    path.unlink()
    with pytest.raises(ArtifactError, match="missing"):
        CodedCache.open(tmp_path)


def test_memory_does_not_grow_with_the_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stillwatt.pipelines.cache.reader._HELD_TEXTS", 2)
    monkeypatch.setattr("stillwatt.pipelines.cache.reader._HELD_BLOCKS", 1)
    sequences = teacher(7, [80] * 8)
    cache = make(tmp_path, TOPK, sequences, shard_rows=80)
    assert len(cache._shards) == 4
    for turn in (3, 0, 7, 5, 1, 2, 6, 4, 0):
        assert cache.tokens(turn).tolist() == sequences[turn][0].tolist()
        assert cache.batch([turn]).ids_BTK.shape == (1, 79, 12)
        assert len(cache._texts) <= 2
        assert len(cache._held) <= 1
    assert all(not tables.tokens_T.size for tables in cache._shards)


def test_a_broken_prior_is_told(tmp_path: Path) -> None:
    make(tmp_path, TOPK, teacher(2, [200]))
    index = json.loads((tmp_path / "index.json").read_text())
    path = tmp_path / "prior.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=r"prior\.bin has changed"):
        read_codec(path, TOPK, sha256=index["prior"]["sha256"])


def test_many_read_at_once(tmp_path: Path) -> None:
    cache = make(tmp_path, TOPK, teacher(9, [150] * 8))
    alone = [cache.batch([index]).logp_BTK.clone() for index in range(8)]
    cache = CodedCache.open(tmp_path)
    wrong: list[int] = []

    def read(offset: int) -> None:
        for turn in range(16):
            index = (turn * 3 + offset) % 8
            if not torch.equal(cache.batch([index]).logp_BTK, alone[index]):
                wrong.append(index)

    threads = [threading.Thread(target=read, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_prior_pays(tmp_path: Path) -> None:
    """Text of the same kind, coded under a prior from other text: fewer bytes than the ideal fixed set."""
    first = make(tmp_path / "a", TOPK, teacher(11, [300] * 12), prior_rows=4000)
    given = make(tmp_path / "b", TOPK, teacher(12, [300] * 12), prior=first.codec)
    blind = make(tmp_path / "c", Scheme(name="topk", top_k=12, prior="unigram"), teacher(12, [300] * 12))
    assert given.bytes_per_token_of["kept ids"] < 0.8 * blind.bytes_per_token_of["kept ids"]
    parts = given.bytes_per_token_of
    assert sum(parts.values()) == pytest.approx(given.bytes_per_token)
    low, middle, high = given.kept_mass_quantiles((0.1, 0.5, 0.9)) or (0.0, 0.0, 0.0)
    assert 0 < low < middle < high < 1
    assert given.kept_mass == pytest.approx(middle, abs=0.2)


def test_a_rebuilt_distribution_is_one_and_nears_the_teacher(tmp_path: Path) -> None:
    sequences = teacher(13, [300] * 8)
    cache = make(tmp_path, TOPK, sequences, prior_rows=4000)
    exact = torch.log_softmax(sequences[0][1], -1)
    kept = cache.batch([0])
    kl = []
    for mean in (torch.from_numpy(cache.mean_logp(0)), torch.zeros(299, VOCAB)):
        q = rebuilt_logp(kept.ids_BTK[0], kept.logp_BTK[0], kept.tail_logmass_BT[0], mean)
        assert float((q.exp().sum(-1) - 1).abs().max()) < 1e-4
        kl.append(float((exact.exp() * (exact - q)).sum(-1).mean()))
    assert 0 < kl[0] < 0.6 * kl[1]


def test_a_tail_of_no_power_is_even_and_one_of_more_power_is_steeper() -> None:
    ids, logp, tail = torch.tensor([[5, 0]]), torch.tensor([[0.6, 0.2]]).log(), torch.tensor([0.2]).log()
    mean = torch.tensor([[0.3, 0.02, 0.08, 0.05, 0.1, 0.4, 0.03, 0.02]]).log()
    found = {power: rebuilt_logp(ids, logp, tail, mean.clone(), power=power).exp()[0] for power in (0.0, 0.5, 1.0)}
    for q in found.values():
        assert float(q.sum()) == pytest.approx(1.0)
        assert q[[5, 0]].tolist() == pytest.approx([0.6, 0.2])
    assert found[0.0][[1, 2, 3, 4, 6, 7]].tolist() == pytest.approx([0.2 / 6] * 6)
    assert float(found[0.5][4] / found[0.5][1]) == pytest.approx(5**0.5)
    assert float(found[1.0][4] / found[1.0][1]) == pytest.approx(5.0)


def test_what_cannot_be_meant_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="topk"):
        Scheme(name="topks")
    for bad in (
        {"name": "topk"},
        {"name": "rs_kd"},
        {"name": "topp", "top_k": 4},
        {"name": "topk", "top_k": 4, "step": 9.0},
    ):
        with pytest.raises(UsageError):
            Scheme(**bad)
    cache = make(tmp_path / "a", TOPK, teacher(1, [50]))
    with pytest.raises(UsageError, match="holds no draws"):
        cache.weights([0])
    with pytest.raises(IndexError, match="no sequence 4"):
        cache.batch([4])
    draws = make(tmp_path / "b", SCHEMES[3], teacher(1, [50]))
    with pytest.raises(UsageError, match="sampled_kl"):
        draws.batch([0])
    tokens, logits = teacher(1, [50])[0]
    with CodedCacheWriter(tmp_path / "c", scheme=TOPK, vocab_size=VOCAB, temperature=1.0, inputs={}) as writer:
        cut = cut_logits(logits, TOPK, temperature=1.0, sequence_index=0)
        with pytest.raises(ValueError, match="49 rows of ids for 49 tokens"):
            writer.add(0, tokens[:-1], cut)
        with pytest.raises(ValueError, match="outside the vocabulary"):
            writer.add(0, tokens + VOCAB, cut)
        writer.add(0, tokens, cut)
        with pytest.raises(ValueError, match="already"):
            writer.add(0, tokens, cut)
