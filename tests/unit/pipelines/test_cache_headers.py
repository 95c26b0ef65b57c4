"""Headers of caches: whatever is written into an index.json, it is refused by name and never read past."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from stillwatt.cli.main import cli
from stillwatt.errors import ArtifactError
from stillwatt.pipelines.artifacts import seal_artifact
from stillwatt.pipelines.cache.cut import cut_logits
from stillwatt.pipelines.cache.scheme import Scheme
from stillwatt.pipelines.cache.writer import CodedCacheWriter
from stillwatt.pipelines.caches import open_cache
from stillwatt.pipelines.logit_cache import LogitCacheWriter
from stillwatt.pipelines.logit_forms import top_k_with_tail

VOCAB, LENGTH = 256, 40
AGAIN = r"copy the folder again|made again"
INPUTS = {"tokenizer_sha256": "abc"}
Edit = Callable[[dict[str, Any]], Any]


def logits_of(seed: int) -> torch.Tensor:
    return torch.randn(LENGTH - 1, VOCAB, generator=torch.Generator().manual_seed(seed)) * 3


def coded(directory: Path, scheme: Scheme) -> Path:
    with CodedCacheWriter(directory, scheme=scheme, vocab_size=VOCAB, temperature=1.0, inputs=INPUTS) as writer:
        for index in range(3):
            cut = cut_logits(logits_of(index), scheme, temperature=1.0, sequence_index=index, is_wide=True)
            writer.add(index, (np.arange(LENGTH) * 7 + index) % VOCAB, cut)
    return directory


def fixed(directory: Path) -> Path:
    with LogitCacheWriter(directory, vocab_size=VOCAB, top_k=16, temperature=1.0, inputs=INPUTS) as writer:
        for index in range(3):
            found = top_k_with_tail(logits_of(index), top_k=16, temperature=1.0)
            writer.add(index, *(part.numpy() for part in found))
    return directory


MAKERS: dict[str, Callable[[Path], Path]] = {
    "rows": fixed,
    "topk": lambda directory: coded(directory, Scheme(name="topk", top_k=16)),
    "head_draws": lambda directory: coded(directory, Scheme(name="head_draws", top_k=8, draws=4)),
}


def put(*keys: str | int, value: Any) -> Edit:
    def edit(index: dict[str, Any]) -> None:
        place: Any = index
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return edit


def drop(*keys: str | int) -> Edit:
    def edit(index: dict[str, Any]) -> None:
        place: Any = index
        for key in keys[:-1]:
            place = place[key]
        del place[keys[-1]]

    return edit


UNTOLD: dict[str, tuple[str, Edit]] = {
    "temperature": ("any", put("temperature", value=4.0)),
    "tokenizer": ("any", put("inputs", "tokenizer_sha256", value="zzz")),
    "larger vocabulary": ("rows", put("vocab_size", value=512)),
    "seed": ("topk", put("scheme", "seed", value=5)),
}
"""What nothing else in a cache contradicts: only the header's own hash tells."""

TOLD: dict[str, tuple[str, Edit]] = {
    "temperature, a word": ("any", put("temperature", value="hot")),
    "temperature, none": ("any", put("temperature", value=None)),
    "temperature, NaN": ("any", put("temperature", value=float("nan"))),
    "temperature, below 0": ("any", put("temperature", value=-1.0)),
    "temperature, huge": ("any", put("temperature", value=10**400)),
    "smaller vocabulary": ("any", put("vocab_size", value=64)),
    "vocabulary, a word": ("any", put("vocab_size", value="many")),
    "vocabulary, huge": ("any", put("vocab_size", value=10**12)),
    "no shards": ("any", drop("shards")),
    "shards, none": ("any", put("shards", value=[])),
    "shards, a number": ("any", put("shards", value=3)),
    "shard, a list": ("any", put("shards", 0, value=[])),
    "other rows": ("any", put("shards", 0, "rows", value=7)),
    "rows, a word": ("any", put("shards", 0, "rows", value="7")),
    "other sequences": ("any", put("shards", 0, "sequences", value=9)),
    "inputs, a list": ("any", put("inputs", value=[1])),
    "no inputs": ("any", drop("inputs")),
    "not said whether complete": ("any", drop("is_complete")),
    "complete, a word": ("any", put("is_complete", value="yes")),
    "another format": ("any", put("schema", value="stillwatt.logit_cache/9")),
    "format, a list": ("any", put("schema", value=["x"])),
    "a list": ("any", lambda _index: [1, 2]),
    "half": ("any", lambda index: json.dumps(index)[:200]),
    "top_k": ("rows", put("top_k", value=8)),
    "top_k, a word": ("rows", put("top_k", value="8")),
    "no rows' hash": ("rows", drop("shards", 0, "rows_sha256")),
    "rows' hash, a number": ("rows", put("shards", 0, "rows_sha256", value=3)),
    "offsets' hash, another": ("rows", put("shards", 0, "offsets_sha256", value="0" * 64)),
    "kept mass, a word": ("rows", put("shards", 0, "kept_mass_sum", value="1")),
    "scheme, a key": ("topk", put("scheme", "foo", value=1)),
    "scheme, a name": ("topk", put("scheme", "name", value="bogus")),
    "scheme, top_k a word": ("topk", put("scheme", "top_k", value="16")),
    "scheme, none": ("topk", put("scheme", value=None)),
    "topk as topp": ("topk", lambda index: index["scheme"].update(name="topp", mass=0.9)),
    "step": ("topk", put("scheme", "step", value=0.25)),
    "draws": ("head_draws", put("scheme", "draws", value=3)),
    "as if without a head": ("head_draws", lambda index: index["scheme"].update(name="rs_kd", top_k=0)),
    "no prior": ("topk", put("prior", value=None)),
    "no prior's hash": ("topk", drop("prior", "sha256")),
    "prior's bytes": ("topk", put("prior", "bytes", value=9)),
    "prior's entries": ("topk", put("prior", "entries", value=9)),
    "no shard's hash": ("topk", drop("shards", 0, "sha256")),
    "tails": ("topk", put("shards", 0, "tails", value="a:b")),
    "tails, too many": ("topk", put("shards", 0, "tails", value="3:10000")),
    "bytes": ("topk", put("shards", 0, "bytes", value=10**9)),
    "bytes by part": ("topk", put("shards", 0, "bytes_of", value={"x": "y"})),
}

ON_VERIFYING: dict[str, tuple[str, Edit]] = {
    "top_k": ("topk", put("scheme", "top_k", value=8)),
    "other tails": ("topk", put("shards", 0, "tails", value=f"3:{3 * (LENGTH - 1)}")),
    "kept mass": ("rows", put("shards", 0, "kept_mass_sum", value=1.0)),
}
"""What the rows contradict, which takes reading them all."""


def cases(*tables: dict[str, tuple[str, Edit]]) -> list[Any]:
    found = []
    for table in tables:
        for name, (maker, edit) in table.items():
            for one in MAKERS if maker == "any" else [maker]:
                found.append(pytest.param(one, edit, id=f"{one}: {name}"))
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: make(tmp_path_factory.mktemp(name) / "cache") for name, make in MAKERS.items()}


@pytest.fixture
def copy_of(made: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """A cache of its own, whose large files are those of the one that was made."""

    def copied(name: str) -> Path:
        target = tmp_path / name
        target.mkdir()
        for path in made[name].iterdir():
            (target / path.name).write_bytes(path.read_bytes())
        return target

    return copied


def falsify(directory: Path, edit: Edit, *, is_old: bool) -> None:
    """Write something into an index.json; `is_old` as if there had never been a hash of it."""
    path = directory / "index.json"
    index = json.loads(path.read_text(encoding="utf-8"))
    if is_old:
        del index["header_sha256"]
    found = edit(index)
    found = index if found is None else found
    path.write_text(found if isinstance(found, str) else json.dumps(found), encoding="utf-8")


def refused(directory: Path) -> str:
    """What `cache verify` says, having exited with 1 and no traceback; nothing else is written there."""
    result = CliRunner().invoke(cli, ["cache", "verify", str(directory)])
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    return result.output


@pytest.mark.parametrize(("name", "edit"), cases(TOLD, UNTOLD, ON_VERIFYING))
def test_an_edited_header_is_refused(copy_of: Callable[[str], Path], name: str, edit: Edit) -> None:
    directory = copy_of(name)
    falsify(directory, edit, is_old=False)
    with pytest.raises(ArtifactError, match=AGAIN):  # as a training opens it
        open_cache(directory)
    assert "not sound: artefact" in refused(directory)


@pytest.mark.parametrize(("name", "edit"), cases(TOLD))
def test_what_contradicts_the_files_is_refused_without_a_hash_too(
    copy_of: Callable[[str], Path], name: str, edit: Edit
) -> None:
    directory = copy_of(name)
    falsify(directory, edit, is_old=True)
    with pytest.raises(ArtifactError, match=AGAIN):
        open_cache(directory)
    assert "not sound: artefact" in refused(directory)


@pytest.mark.parametrize(("name", "edit"), cases(ON_VERIFYING))
def test_what_takes_reading_all_rows_is_found_by_verify(copy_of: Callable[[str], Path], name: str, edit: Edit) -> None:
    directory = copy_of(name)
    falsify(directory, edit, is_old=True)
    assert "not sound: artefact" in refused(directory)


@pytest.mark.parametrize("name", MAKERS)
def test_a_cache_from_before_is_read_and_said_not_to_be_vouched_for(copy_of: Callable[[str], Path], name: str) -> None:
    directory = copy_of(name)
    assert open_cache(directory).not_vouched_for is None
    new = CliRunner().invoke(cli, ["cache", "verify", str(directory)])
    assert (new.exit_code, "vouched" in new.output) == (0, False)
    falsify(directory, lambda _index: None, is_old=True)
    assert open_cache(directory).num_rows == 3 * (LENGTH - 1)
    for command in ("verify", "info"):
        result = CliRunner().invoke(cli, ["cache", command, str(directory)])
        assert result.exit_code == 0, result.output
        assert "not vouched for" in result.output
        assert "before headers had a hash" in result.output


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("is_old", [False, True])
def test_the_record_beside_a_cache_vouches_for_its_header(
    copy_of: Callable[[str], Path], tmp_path: Path, name: str, is_old: bool
) -> None:
    directory = copy_of(name)
    falsify(directory, lambda _index: None, is_old=is_old)
    sealed = tmp_path / "sealed"
    made_by = {"run_id": "r", "stage_id": "s"}
    seal_artifact(directory, sealed, kind="logits", inputs={}, results={}, made_by=made_by)
    assert open_cache(sealed).not_vouched_for is None
    falsify(sealed, lambda index: index.pop("header_sha256", None) and None, is_old=False)
    falsify(sealed, put("temperature", value=4.0), is_old=False)
    with pytest.raises(ArtifactError, match=r"has changed since the run that made it hashed it \(artifact.json\)"):
        open_cache(sealed)
    (sealed / "artifact.json").write_text("[]")
    with pytest.raises(ArtifactError, match=r"its artifact.json cannot be read"):
        open_cache(sealed)


def test_a_writer_does_not_go_on_from_an_edited_header(tmp_path: Path) -> None:
    writer = LogitCacheWriter(tmp_path, vocab_size=VOCAB, top_k=16, temperature=1.0, inputs=INPUTS, shard_rows=10)
    writer.add(0, *(part.numpy() for part in top_k_with_tail(logits_of(0), top_k=16, temperature=1.0)))
    falsify(tmp_path, put("shards", 0, "kept_mass_sum", value=1.0), is_old=False)
    with pytest.raises(ArtifactError, match="own hash"):
        LogitCacheWriter(tmp_path, vocab_size=VOCAB, top_k=16, temperature=1.0, inputs=INPUTS)
