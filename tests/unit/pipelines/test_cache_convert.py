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
from stillwatt.errors import NoSuchInputError, UsageError
from stillwatt.pipelines.cache import imports
from stillwatt.pipelines.cache.cut import cut_logits
from stillwatt.pipelines.cache.reader import CodedCache
from stillwatt.pipelines.cache.scheme import Scheme
from stillwatt.pipelines.cache.table_files import table_files
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


def harness_table(shift: int = 0) -> pa.Table:
    """Two sequences as the harness writes them: float64 and int64 lists, one row a token, padding included."""
    columns: dict[str, list[Any]] = {name: [] for name in ("input_ids", "attention_mask", "labels")}
    columns |= {"logprob_indices": [], "logprob_values": []}
    for seed, length in ((1, 30), (2, 18)):
        found = torch.log_softmax(logits_of(seed + shift, 30).double(), -1).topk(20, -1)
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
    assert run("info", tmp_path / "none").exit_code == 2


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
    assert rows.text(1).tokens_T.tolist() == cache.tokens(1).tolist()
    assert run("convert", tmp_path / "r", tmp_path / "x", "--top-k", 10).exit_code == 0
    assert open_cache(tmp_path / "x").text(2).tokens_T.tolist() == cache.tokens(2).tolist()
    without_text(tmp_path / "r", tmp_path / "w")
    refused = run("convert", tmp_path / "w", tmp_path / "y", "--top-k", 10)
    assert (refused.exit_code, "--prior unigram" in refused.output) == (2, True)
    result = run("convert", tmp_path / "w", tmp_path / "d", "--top-k", 8, "--prior", "unigram", "--json")
    assert json.loads(result.output)["positions"] == 180
    again = open_cache(tmp_path / "d").batch([1])
    assert float((again.logp_BTK - b.logp_BTK[..., :8]).abs().max()) < 0.5


def without_text(source: Path, target: Path) -> None:
    """The same fixed rows as an older writer left them: no tokens."""
    cache = LogitCache.open(source)
    with LogitCacheWriter(
        target, vocab_size=cache.vocab_size, top_k=cache.top_k, temperature=cache.temperature, inputs={}
    ) as writer:
        for index in cache.sequence_indices:
            found = cache.sequence(index)
            writer.add(index, found.ids_TK.numpy(), found.logp_TK.numpy(), found.tail_logmass_T.numpy())


@pytest.mark.parametrize("scheme", ["topk", "rows"])
def test_a_table_keeps_its_tokens_and_which_of_them_are_predicted(
    tmp_path: Path, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stillwatt.pipelines.cache.writer.PRIOR_ROWS", 1)
    monkeypatch.setattr("stillwatt.pipelines.cache.writer.SHARD_ROWS", 1)  # a shard for each sequence
    monkeypatch.setattr("stillwatt.pipelines.logit_cache.SHARD_ROWS", 1)
    columns = harness_table().to_pydict()
    columns["labels"] = [[-100] * 10 + list(range(10, 30)), [-100] * 30]
    columns["labels"][1][3:5] = [3, 4]
    pq.write_table(pa.table(columns), tmp_path / "h.parquet")
    assert run("convert", tmp_path / "h.parquet", tmp_path / "out", *HOW, "--scheme", scheme).exit_code == 0
    assert run("convert", tmp_path / "out", tmp_path / "again", "--scheme", scheme, "--top-k", 8).exit_code == 0
    for name in ("out", "again"):
        cache = open_cache(tmp_path / name)
        assert cache.holds_text
        first, second = cache.text(0), cache.text(1)
        assert first.tokens_T.tolist() == list(range(30))
        assert np.flatnonzero(first.supervised_T).tolist() == list(range(10, 30))
        assert second.tokens_T.tolist() == list(range(18))
        assert np.flatnonzero(second.supervised_T).tolist() == [3, 4]
    assert run("verify", tmp_path / "out").exit_code == 0


@pytest.mark.parametrize("name", ["shard-00000.tokens.npy", "shard-00000.supervised.npy"])
def test_a_changed_text_is_found(tmp_path: Path, name: str) -> None:
    pq.write_table(harness_table(), tmp_path / "h.parquet")
    assert run("convert", tmp_path / "h.parquet", tmp_path / "out", *HOW, "--scheme", "rows").exit_code == 0
    path = tmp_path / "out" / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    result = run("verify", tmp_path / "out")
    assert (result.exit_code, f"{name} has changed since it was written" in result.output) == (1, True), result.output
    path.unlink()
    assert f"{name} is missing" in run("verify", tmp_path / "out").output


def test_a_conversion_that_an_older_release_began_is_not_gone_on_with(tmp_path: Path) -> None:
    pq.write_table(harness_table(), tmp_path / "h.parquet")
    assert run("convert", tmp_path / "h.parquet", tmp_path / "out", *HOW, "--scheme", "rows").exit_code == 0
    whole = open_cache(tmp_path / "out")
    found = whole.batch([0])
    rows = (found.ids_BTK[0].numpy(), found.logp_BTK[0].numpy(), found.tail_logmass_BT[0].numpy())
    how: Any = {"vocab_size": VOCAB, "top_k": 16, "temperature": 1.0, "inputs": whole.inputs, "shard_rows": 1}
    LogitCacheWriter(tmp_path / "old", **how).add(0, *rows)
    result = run("convert", tmp_path / "h.parquet", tmp_path / "old", *HOW, "--scheme", "rows")
    assert (result.exit_code, "comes with its text and those before it without" in result.output) == (2, True)
    assert "give a folder that is not there yet" in result.output


def test_labels_must_be_as_many_as_tokens(tmp_path: Path) -> None:
    columns = harness_table().to_pydict()
    columns["labels"] = [[-100] * 29, [-100] * 30]
    pq.write_table(pa.table(columns), tmp_path / "h.parquet")
    result = run("convert", tmp_path / "h.parquet", tmp_path / "out", *HOW)
    assert (result.exit_code, "row 0: 30 tokens and 29 labels" in result.output) == (2, True), result.output


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


@pytest.mark.parametrize("is_said", [True, False], ids=["with its state", "files alone"])
def test_what_datasets_leaves_beside_a_table_is_no_part_of_it(tmp_path: Path, is_said: bool) -> None:
    datasets, source = pytest.importorskip("datasets"), tmp_path / "table"
    table = harness_table().to_pydict()
    datasets.Dataset.from_dict(table).save_to_disk(str(source))
    before = {path.name for path in source.iterdir()}
    opened = datasets.Dataset.load_from_disk(str(source))
    opened.map(lambda row: {"input_ids": [token + 0 for token in row["input_ids"]]})
    left = {path.name for path in source.iterdir()} - before
    assert [name for name in left if name.startswith("cache-")]
    (source / "tmp1234.arrow").write_bytes(b"half a table")
    if not is_said:
        (source / "state.json").unlink()
    asked = ("--top-k", 16, "--vocab-size", VOCAB, "--temperature", 1.0, "--json")
    assert json.loads(run("convert", source, tmp_path / "out", *asked).output)["positions"] == 29 + 17


def test_the_parts_of_a_table_come_in_the_order_that_its_state_says(tmp_path: Path) -> None:
    datasets, source = pytest.importorskip("datasets"), tmp_path / "table"
    datasets.Dataset.from_dict(harness_table().to_pydict()).save_to_disk(str(source), num_shards=2)
    first, second = sorted(source.glob("data-*.arrow"))
    state = json.loads((source / "state.json").read_text())
    assert table_files(source) == [first, second]
    state["_data_files"].reverse()
    (source / "state.json").write_text(json.dumps(state))
    assert table_files(source) == [second, first]
    first.unlink()
    asked = ("--top-k", 16, "--vocab-size", VOCAB, "--temperature", 1.0)
    said = run("convert", source, tmp_path / "out", *asked).output
    assert f"names {first.name}, which is not there" in " ".join(said.split())
    (source / "state.json").write_text("[]")  # another tool's
    assert table_files(source) == [second]
    second.rename(source / "cache-1.arrow")
    with pytest.raises(NoSuchInputError, match="logit cache"):
        table_files(source)


def test_what_cannot_be_imported_says_why(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    pq.write_table(pa.table({"text": ["a"]}), path)
    assert "needs input_ids, logprob_indices, logprob_values or" in run("convert", path, tmp_path / "x").output
    path.write_bytes(b"no table")
    assert "cannot be read as a table" in run("convert", path, tmp_path / "x").output
    assert run("convert", tmp_path / "nothing", tmp_path / "x").exit_code == 2
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


HOW = ("--top-k", 16, "--vocab-size", VOCAB, "--temperature", 1)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize("scheme", ["topk", "rows"])
def test_a_folder_made_from_another_source_is_refused_and_left_alone(tmp_path: Path, scheme: str) -> None:
    one, other, target = tmp_path / "one.parquet", tmp_path / "other.parquet", tmp_path / "out"
    pq.write_table(harness_table(), one)
    pq.write_table(harness_table(shift=7), other)
    assert run("convert", one, target, *HOW, "--scheme", scheme).exit_code == 0
    before = contents(target)
    hashed = open_cache(target).inputs["source_sha256"]
    result = run("convert", other, target, *HOW, "--scheme", scheme)
    assert (result.exit_code, f"{target}: was converted from a source with the hash {hashed}" in result.output) == (
        2,
        True,
    ), result.output
    assert "give a folder that is not there yet" in result.output
    # the same content in another place, and again, is the same source
    (tmp_path / "elsewhere").mkdir()
    copy = one.rename(tmp_path / "elsewhere" / "copy.parquet")
    assert run("convert", copy, target, *HOW, "--scheme", scheme).exit_code == 0
    assert contents(target) == before
    form = "rows" if scheme == "topk" else "topk"
    for more in (("--scheme", form), ("--scheme", scheme, "--top-k", 8)):
        result = run("convert", copy, target, *HOW, *more)
        assert (result.exit_code, "give a folder that is not there yet" in result.output) == (2, True), result.output
    assert contents(target) == before


def test_an_interrupted_conversion_goes_on_from_the_same_source_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(harness_table(), tmp_path / "one.parquet")
    pq.write_table(harness_table(shift=7), tmp_path / "other.parquet")
    assert run("convert", tmp_path / "one.parquet", tmp_path / "whole", *HOW).exit_code == 0
    monkeypatch.setattr("stillwatt.pipelines.cache.writer.PRIOR_ROWS", 1)
    monkeypatch.setattr("stillwatt.pipelines.cache.writer.SHARD_ROWS", 20)
    target, make = tmp_path / "cut", imports._harness_row

    def stop_at_the_second(place: str, row: Any) -> Any:
        if "row 1" in place:
            raise KeyboardInterrupt
        return make(place, row)

    with monkeypatch.context() as patch:
        patch.setattr(imports, "_harness_row", stop_at_the_second)
        run("convert", tmp_path / "one.parquet", target, *HOW)
    assert json.loads((target / "index.json").read_text())["is_complete"] is False
    other = run("convert", tmp_path / "other.parquet", target, *HOW)
    assert (other.exit_code, "was converted from a source" in other.output) == (2, True), other.output
    assert run("convert", tmp_path / "one.parquet", target, *HOW).exit_code == 0
    assert open_cache(target).num_rows == 46
    assert open_cache(target).batch([0]).logp_BTK.equal(open_cache(tmp_path / "whole").batch([0]).logp_BTK)


def test_a_cache_that_does_not_say_its_source_is_no_place_to_convert_into(tmp_path: Path) -> None:
    coded(tmp_path / "mine")  # made by a teacher
    pq.write_table(harness_table(), tmp_path / "h.parquet")
    before = contents(tmp_path / "mine")
    result = run("convert", tmp_path / "h.parquet", tmp_path / "mine", *HOW)
    assert (result.exit_code, "does not say which source" in result.output) == (2, True), result.output
    (tmp_path / "mine" / "index.json").write_text("[1, 2]")
    broken = run("convert", tmp_path / "h.parquet", tmp_path / "mine", *HOW)
    assert (broken.exit_code, "index.json: cannot be read" in broken.output) == (2, True), broken.output
    assert contents(tmp_path / "mine") == {**before, "index.json": b"[1, 2]"}


@pytest.mark.parametrize("scheme", ["topk", "rows"])
def test_a_row_of_padding_alone_is_left_out_and_told(tmp_path: Path, scheme: str) -> None:
    columns = harness_table().to_pydict()
    columns["attention_mask"].insert(1, [0] * 30)
    for name in ("input_ids", "labels", "logprob_indices", "logprob_values"):
        columns[name].insert(1, columns[name][0])
    pq.write_table(pa.table(columns), tmp_path / "h.parquet")
    result = run("convert", tmp_path / "h.parquet", tmp_path / "out", *HOW, "--scheme", scheme)
    assert result.exit_code == 0, result.output
    assert "1 rows were nothing but padding; they were left out" in result.output
    cache = open_cache(tmp_path / "out")
    assert cache.sequence_indices == (0, 2)
    assert cache.num_rows == 29 + 17


def test_settings_that_would_do_nothing_are_refused(tmp_path: Path) -> None:
    coded(tmp_path / "c")
    rows = ("convert", tmp_path / "c", tmp_path / "r", "--scheme", "rows", "--top-k", 8)
    for more, named in ((("--step", 0.1), "--step"), (("--prior", "nonsense"), "--prior"), (("--step", 0.5), "--step")):
        result = run(*rows, *more)
        assert (result.exit_code, f"{named} would change nothing" in result.output) == (2, True), result.output
    both = run(*rows, "--step", 0.1, "--prior", "unigram")
    assert "--step and --prior would change nothing" in both.output
    hot = run("convert", tmp_path / "c", tmp_path / "t", "--top-k", 8, "--temperature", 2.5)
    assert (hot.exit_code, "at temperature 2, and 2.5 is wanted" in hot.output) == (2, True), hot.output
    assert not any((tmp_path / name).exists() for name in "rt")
    assert run("convert", tmp_path / "c", tmp_path / "t", "--top-k", 8, "--temperature", 2).exit_code == 0
    assert run(*rows).exit_code == 0


@pytest.mark.parametrize("scheme", ["topk", "rows"])
def test_a_vocabulary_beyond_all_memory_is_refused(tmp_path: Path, scheme: str) -> None:
    pq.write_table(harness_table(), tmp_path / "h.parquet")
    how = ("--top-k", 16, "--vocab-size", 999_999_999, "--temperature", 1, "--scheme", scheme)
    result = run("convert", tmp_path / "h.parquet", tmp_path / "out", *how)
    assert (result.exit_code, "a vocabulary of 999999999 tokens is above the 4194304" in result.output) == (2, True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("given", [{"name": "topk", "top_k": 8}, {"name": "head_draws", "top_k": 8, "draws": 4}])
def test_a_mass_without_meaning_is_refused_and_old_headers_with_one_are_read(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"mass 0\.5 has no meaning here; leave it out"):
        Scheme(**given, mass=0.5)
    assert Scheme.from_json({**Scheme(**given).to_json(), "mass": 0.5}) == Scheme(**given)
