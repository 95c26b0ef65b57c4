"""`stillwatt cache`: what it tells of a cache, what it finds wrong, and what it makes of other tools' tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner, Result

from stillwatt.cli.main import cli
from stillwatt.errors import UsageError
from stillwatt.pipelines.cache.cut import cut_logits
from stillwatt.pipelines.cache.reader import CodedCache
from stillwatt.pipelines.cache.scheme import Scheme
from stillwatt.pipelines.cache.writer import CodedCacheWriter
from stillwatt.pipelines.caches import open_cache
from stillwatt.pipelines.logit_cache import LogitCache, LogitCacheWriter

VOCAB = 320
SCHEME = Scheme(name="topk", top_k=16)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["cache", *map(str, arguments)])


def logits_of(seed: int, rows: int) -> torch.Tensor:
    return torch.randn(rows, VOCAB, generator=torch.Generator().manual_seed(seed)) * 3


def coded(directory: Path) -> CodedCache:
    with CodedCacheWriter(
        directory, scheme=SCHEME, vocab_size=VOCAB, temperature=2.0, inputs={"tokenizer_sha256": "aa"}
    ) as writer:
        for index in range(3):
            cut = cut_logits(logits_of(index, 60), SCHEME, temperature=2.0, sequence_index=index)
            writer.add(index, np.arange(61) % VOCAB, cut)
    return CodedCache.open(directory)


def harness_table() -> pa.Table:
    """Two sequences as the harness writes them: float64 and int64 lists, one row a token, padding included."""
    columns: dict[str, list[Any]] = {name: [] for name in ("input_ids", "attention_mask", "labels")}
    columns |= {"logprob_indices": [], "logprob_values": []}
    for seed, length in ((1, 30), (2, 18)):
        found = torch.log_softmax(logits_of(seed, 30).double(), -1).topk(20, -1)
        columns["input_ids"].append(list(range(length)) + [0] * (30 - length))
        columns["attention_mask"].append([1] * length + [0] * (30 - length))
        columns["labels"].append([-100] * 30)
        columns["logprob_indices"].append(found.indices.tolist())
        columns["logprob_values"].append(found.values.tolist())
    return pa.table(columns)


def test_info_adds_up_and_verify_finds_nothing(tmp_path: Path) -> None:
    cache = coded(tmp_path / "c")
    found = json.loads(run("info", tmp_path / "c", "--json").output)
    assert sum(found["bytes_per_token_of"].values()) == pytest.approx(found["bytes_per_token"])
    assert found["bytes"] == sum(path.stat().st_size for path in (tmp_path / "c").iterdir())
    assert found["scheme"]["name"] == "topk"
    assert found["sha256"] == cache.sha256
    assert found["inputs"]["tokenizer_sha256"] == "aa"
    text = run("info", tmp_path / "c")
    assert "kept ids" in text.output
    assert "50% lie below" in text.output
    sound = run("verify", tmp_path / "c")
    assert (sound.exit_code, sound.output.split(":")[0]) == (0, "sound")


def test_verify_names_shard_and_block(tmp_path: Path) -> None:
    coded(tmp_path / "c")
    path = tmp_path / "c" / "shard-00000.bin"
    broken = bytearray(path.read_bytes())
    broken[40] ^= 4
    path.write_bytes(broken)
    result = run("verify", tmp_path / "c")
    assert result.exit_code == 1
    assert "shard 0 (shard-00000.bin), block 0 of 1: changed" in result.output
    found = run("verify", tmp_path / "c", "--json")
    assert (found.exit_code, json.loads(found.output)["is_sound"]) == (1, False)
    assert run("info", tmp_path / "none").exit_code == 1


def test_rows_and_back_keep_the_distributions(tmp_path: Path) -> None:
    cache = coded(tmp_path / "c")
    assert run("convert", tmp_path / "c", tmp_path / "r", "--scheme", "rows", "--top-k", 10).exit_code == 0
    rows = open_cache(tmp_path / "r")
    assert isinstance(rows, LogitCache)
    a, b = cache.batch([1]), rows.batch([1])
    assert torch.equal(a.ids_BTK[..., :10], b.ids_BTK)
    assert float((a.logp_BTK[..., :10] - b.logp_BTK).abs().max()) < 0.01
    info = json.loads(run("info", tmp_path / "r", "--json").output)
    assert info["scheme"] == {"name": "rows", "top_k": 10}
    assert sum(info["bytes_per_token_of"].values()) == pytest.approx(info["bytes_per_token"])
    assert run("verify", tmp_path / "r").exit_code == 0
    without_text = run("convert", tmp_path / "r", tmp_path / "x", "--top-k", 10)
    assert (without_text.exit_code, "--prior unigram" in without_text.output) == (2, True)
    result = run("convert", tmp_path / "r", tmp_path / "d", "--top-k", 8, "--prior", "unigram", "--json")
    assert json.loads(result.output)["positions"] == 180
    again = open_cache(tmp_path / "d").batch([1])
    assert float((again.logp_BTK - b.logp_BTK[..., :8]).abs().max()) < 0.5


@pytest.mark.parametrize("form", ["parquet", "arrow", "datasets"])
def test_a_harness_table_is_imported_without_its_padding(tmp_path: Path, form: str) -> None:
    table, source = harness_table(), tmp_path / "table"
    if form == "parquet":
        source = source.with_suffix(".parquet")
        pq.write_table(table, source)
    elif form == "arrow":
        source = source.with_suffix(".arrow")
        with pa.OSFile(str(source), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    else:
        pytest.importorskip("datasets").Dataset.from_dict(table.to_pydict()).save_to_disk(str(source))
    unsaid = run("convert", source, tmp_path / "out", "--top-k", 16)
    assert (unsaid.exit_code, "--vocab-size" in unsaid.output) == (2, True)
    result = run(
        "convert", source, tmp_path / "out", "--top-k", 16, "--vocab-size", VOCAB, "--temperature", 1.0, "--json"
    )
    assert json.loads(result.output)["positions"] == 29 + 17
    cache = CodedCache.open(tmp_path / "out")
    assert cache.tokens(1).tolist() == list(range(18))
    exact = torch.log_softmax(logits_of(2, 30), -1)[:17].topk(16, -1)
    found = cache.batch([1])
    assert float((found.logp_BTK[0] - exact.values).abs().max()) < 0.4
    assert found.ids_BTK[0].sort(-1).values.tolist() == exact.indices.sort(-1).values.tolist()


def test_what_cannot_be_imported_says_why(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    pq.write_table(pa.table({"text": ["a"]}), path)
    assert "needs input_ids, logprob_indices, logprob_values or" in run("convert", path, tmp_path / "x").output
    path.write_bytes(b"no table")
    assert "cannot be read as a table" in run("convert", path, tmp_path / "x").output
    assert run("convert", tmp_path / "nothing", tmp_path / "x").exit_code == 1
    coded(tmp_path / "c")
    few = run("convert", tmp_path / "c", tmp_path / "y", "--top-k", 40)
    assert (few.exit_code, "lower --top-k" in few.output) == (2, True)
    assert "cannot be made from a cache" in run("convert", tmp_path / "c", tmp_path / "y", "--scheme", "rs_kd").output
    assert "did you mean 'topk'?" in run("convert", tmp_path / "c", tmp_path / "y", "--scheme", "topkk").output
    size = run("convert", tmp_path / "c", tmp_path / "z", "--top-k", 8, "--vocab-size", 7)
    assert "holds a vocabulary of 320, and 7 is wanted" in size.output


def test_another_tokenizer_is_refused_with_both_hashes(tmp_path: Path) -> None:
    coded(tmp_path / "c")
    result = run("convert", tmp_path / "c", tmp_path / "y", "--top-k", 8, "--tokenizer-sha256", "bb")
    assert (result.exit_code, "hash aa, and bb" in result.output) == (2, True)
    with pytest.raises(UsageError, match="hash aa, and bb"):
        open_cache(tmp_path / "c", tokenizer_sha256="bb")
    assert open_cache(tmp_path / "c", tokenizer_sha256="aa").num_rows == 180
    with LogitCacheWriter(tmp_path / "r", vocab_size=9, top_k=2, temperature=1.0, inputs={}):
        pass
    assert open_cache(tmp_path / "r", tokenizer_sha256="aa").num_rows == 0  # it does not say


def test_a_wrong_vocabulary_or_index_is_told(tmp_path: Path) -> None:
    pq.write_table(harness_table(), tmp_path / "h.parquet")
    for number, (scheme, size, message) in enumerate(
        [
            ("rows", 25, "sequence 0: an id lies outside the vocabulary of 25; give the vocabulary"),
            ("topk", 25, "outside the vocabulary of 25; give the vocabulary"),
            ("topk", 7, "top_k 16 of 7 tokens"),
        ]
    ):
        how = ("--scheme", scheme, "--vocab-size", size, "--temperature", 1, "--top-k", 16)
        result = run("convert", tmp_path / "h.parquet", tmp_path / str(number), *how)
        assert (result.exit_code, message in result.output) == (2, True), result.output
    cold = run("convert", tmp_path / "h.parquet", tmp_path / "t", "--vocab-size", VOCAB, "--temperature", 0)
    assert (cold.exit_code, "--temperature 0 must be above 0" in cold.output) == (2, True)
    coded(tmp_path / "c")
    index = tmp_path / "c" / "index.json"
    whole = json.loads(index.read_text())
    index.write_text(json.dumps({key: value for key, value in whole.items() if key != "prior"}))
    assert "its index.json lacks prior" in run("info", tmp_path / "c").output
    index.write_text("{")
    assert "its index.json cannot be read" in run("verify", tmp_path / "c").output
