"""Caches of other tools and of the other format, as sequences of tokens and kept rows.

Known: fixed rows (`stillwatt.logit_cache/1`); this format; tables of the Energy harness, a `datasets` folder or Arrow
and Parquet files with columns `input_ids`, `attention_mask`, `logprob_indices` and `logprob_values`; and tables of
DistillKit with `input_ids`, `compressed_logprobs` and `bytepacked_indices`.

Shapes: T rows of a sequence, K kept tokens.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stillwatt.errors import ArtifactError, UsageError
from stillwatt.pipelines.artifacts import file_sha256
from stillwatt.pipelines.cache.distillkit import CONFIG_NAME, Layout, logprobs_of, read_layout, unpacked
from stillwatt.pipelines.cache.reader import CodedCache
from stillwatt.pipelines.cache.scheme import Scheme
from stillwatt.pipelines.cache.table_files import table_files
from stillwatt.pipelines.cache.writer import CodedCacheWriter, Cut
from stillwatt.pipelines.caches import CODED_SCHEMA, check_tokenizer, open_cache
from stillwatt.pipelines.logit_cache import LogitCacheWriter
from stillwatt.pipelines.logit_shards import INDEX_NAME, LOGIT_CACHE_SCHEMA
from stillwatt.pipelines.logit_text import SequenceText

__all__ = ["convert_cache"]

_HARNESS = {"input_ids", "logprob_indices", "logprob_values"}
_DISTILLKIT = {"input_ids", "compressed_logprobs", "bytepacked_indices"}
_OLD_DISTILLKIT = {"packed_indices", "coeffs"}
_LABELS = "labels"
"""Column with the token itself where it is to be predicted, and `_NOT_PREDICTED` where it is not."""
_NOT_PREDICTED = -100
_MASKED = f"tokens that column {_LABELS} names"
_MOST_LOGP = 1.0
"""A curve may end up a little above probability 1; no more than this is believed."""
_OVER = 2.0**-20
"""How far kept tokens may exceed a mass of 1 before it is told that they were scaled down."""
_ELSEWHERE = "give a folder that is not there yet, or remove this one"


@dataclass(frozen=True, slots=True)
class Source:
    """What is converted."""

    kind: str
    vocab_size: int | None
    temperature: float | None
    inputs: Mapping[str, Any]
    sha256: str
    """Hash of its content, wherever it lies."""
    knows_tokens: bool
    """Whether its text is the sequences' own; else it only stands for it."""
    sequences: Iterator[tuple[int, SequenceText, Cut]]
    notes: Counter[str] = field(default_factory=Counter)
    """What had to be done to positions or rows, and to how many."""
    is_masked: bool = False
    """Whether it says which tokens are to be predicted."""


def convert_cache(
    source: Path,
    target: Path,
    *,
    scheme: Scheme | None,
    top_k: int,
    vocab_size: int | None = None,
    temperature: float | None = None,
    tokenizer_sha256: str | None = None,
) -> dict[str, Any]:
    """Write a cache anew in another form, a sequence at a time.

    Args:
        source: A cache of either format, or a table of the Energy harness or of DistillKit.
        target: A folder that is not there yet, or holds a conversion of the same content in the same form, which is
            finished if it is not yet.
        scheme: How to code; None for fixed rows.
        top_k: Kept tokens of fixed rows.
        vocab_size: Where the source does not say; where it does, the same.
        temperature: Where the source does not say; where it does, the same.
        tokenizer_sha256: What the source's tokenizer must be, where it says; kept in the new cache.

    Returns:
        `sequences`, `positions`, `bytes`, `bytes_per_token`, `from`; `scaled_down`: positions whose kept tokens had a
        mass above 1, as curves through them can; and `left_out`: rows of a table that are nothing but padding.

    Raises:
        UsageError: The source cannot give what is asked for, or is of another tokenizer; or the target was made from
            another source, in another form, or does not say what from.
    """
    found = _source(source)
    if tokenizer_sha256 is not None:
        check_tokenizer(str(source), found.inputs, tokenizer_sha256)
    size, heat = _stated(source, found, vocab_size, temperature)
    if scheme is not None and scheme.is_bigram and not found.knows_tokens:
        raise UsageError(f"{source}: fixed rows do not hold the text; code them with --prior unigram")
    inputs = {**found.inputs, **_origin(found, tokenizer_sha256)}
    _check_target(source, target, found)
    try:
        if scheme is None:
            _to_rows(source, found, target, size, top_k, heat, inputs)
        else:
            _to_coded(source, found, target, size, scheme, heat, inputs)
    except ValueError as err:
        cure = "give the vocabulary that it was made with, and a row's kept tokens as log-probabilities"
        raise UsageError(f"{source}: {err}; {cure}") from err
    except ArtifactError as err:
        if err.path != str(target):
            raise
        raise UsageError(f"{target}: {err.detail}; {_ELSEWHERE}") from err
    cache = open_cache(target)
    return {
        "from": found.kind,
        "sequences": len(cache.sequence_indices),
        "positions": cache.num_rows,
        "bytes": cache.bytes,
        "bytes_per_token": cache.bytes_per_token,
        "scaled_down": found.notes["scaled_down"],
        "left_out": found.notes["left_out"],
    }


def _origin(found: Source, tokenizer_sha256: str | None) -> dict[str, Any]:
    """What the new cache says of where it is from, beside what its source says."""
    known = {"tokenizer_sha256": tokenizer_sha256, "supervised": _MASKED if found.is_masked else None}
    origin = {"converted_from": found.kind, "source_sha256": found.sha256}
    return {**origin, **{key: value for key, value in known.items() if value is not None}}


def _check_target(source: Path, target: Path, found: Source) -> None:
    """Refuse a folder that holds something else: it would be left as it is, and called converted.

    Raises:
        UsageError: With both hashes.
    """
    path = target / INDEX_NAME
    if not path.exists():
        return
    try:
        held = json.loads(path.read_text(encoding="utf-8"))["inputs"].get("source_sha256")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as err:
        raise UsageError(f"{path}: cannot be read ({type(err).__name__}); {_ELSEWHERE}") from err
    if held is None:
        raise UsageError(f"{target}: holds a cache that does not say which source it was converted from; {_ELSEWHERE}")
    if held != found.sha256:
        raise UsageError(
            f"{target}: was converted from a source with the hash {held}, and {source} has {found.sha256}; {_ELSEWHERE}"
        )


def _stated(source: Path, found: Source, vocab_size: int | None, temperature: float | None) -> tuple[int, float]:
    """Vocabulary and temperature: what the source says, or what is given where it does not."""
    size, heat = found.vocab_size or vocab_size, found.temperature or temperature
    if size is None or heat is None:
        raise UsageError(f"{source}: does not say its vocabulary or temperature; give --vocab-size and --temperature")
    if vocab_size is not None and vocab_size != size:
        raise UsageError(f"{source}: holds a vocabulary of {size}, and {vocab_size} is wanted")
    if temperature is not None and temperature != heat:
        raise UsageError(
            f"{source}: holds distributions at temperature {heat:g}, and {temperature:g} is wanted; what is kept "
            "cannot be brought to another temperature: leave --temperature out, or have the teacher asked anew"
        )
    if not heat > 0.0:
        raise UsageError(f"{source}: --temperature {heat:g} must be above 0")
    return size, heat


def _to_coded(
    source: Path,
    found: Source,
    target: Path,
    vocab_size: int,
    scheme: Scheme,
    temperature: float,
    inputs: Mapping[str, Any],
) -> None:
    with CodedCacheWriter(
        target, scheme=scheme, vocab_size=vocab_size, temperature=temperature, inputs=inputs
    ) as writer:
        for index, text, cut in found.sequences:
            if index not in writer.sealed_sequences:
                writer.add(index, text.tokens_T, _narrowed(str(source), cut, scheme.top_k), text.supervised_T)


def _to_rows(
    source: Path,
    found: Source,
    target: Path,
    vocab_size: int,
    top_k: int,
    temperature: float,
    inputs: Mapping[str, Any],
) -> None:
    with LogitCacheWriter(target, vocab_size=vocab_size, top_k=top_k, temperature=temperature, inputs=inputs) as writer:
        for index, text, cut in found.sequences:
            if index not in writer.sealed_sequences:
                few = _narrowed(str(source), cut, top_k)
                known = text if found.knows_tokens else None
                writer.add(index, few.ids_TK, few.logp_TK, few.tail_logmass_T, text=known)


def _narrowed(place: str, cut: Cut, top_k: int) -> Cut:
    """Fewer tokens; what is left out goes into the tail."""
    if cut.ids_TK.shape[1] < top_k or (cut.ids_TK[:, :top_k] < 0).any():
        raise UsageError(f"{place}: holds {cut.ids_TK.shape[1]} tokens a position at most; lower --top-k {top_k}")
    order = np.argsort(-cut.logp_TK, axis=1, kind="stable")
    ids, logp = np.take_along_axis(cut.ids_TK, order, 1), np.take_along_axis(cut.logp_TK, order, 1)
    out = np.exp(logp[:, top_k:].astype(np.float64)).sum(1) + np.exp(cut.tail_logmass_T.astype(np.float64))
    inside = np.exp(logp[:, :top_k].astype(np.float64)).sum(1)
    with np.errstate(divide="ignore"):
        tail = np.log(out) - np.log(out + inside)
    return _without_draws(ids[:, :top_k], logp[:, :top_k], tail)


def _source(path: Path) -> Source:
    if (path / INDEX_NAME).is_file():
        return _own(path)
    return _table(path)


def _own(path: Path) -> Source:
    cache = open_cache(path)

    def sequences() -> Iterator[tuple[int, SequenceText, Cut]]:
        for index in cache.sequence_indices:
            found = cache.batch([index])
            ids, logp = found.ids_BTK[0].numpy(), found.logp_BTK[0].numpy()
            unknown = np.zeros(len(ids) + 1, dtype=np.int64)
            text = cache.text(index) if cache.holds_text else SequenceText.whole(unknown)
            yield index, text, _without_draws(ids, logp, found.tail_logmass_BT[0].numpy())

    kind = CODED_SCHEMA if isinstance(cache, CodedCache) else LOGIT_CACHE_SCHEMA
    return Source(kind, cache.vocab_size, cache.temperature, cache.inputs, cache.sha256, cache.holds_text, sequences())


def _table(path: Path) -> Source:
    files = table_files(path)
    names = set(_batches(files[0]).schema.names)
    notes, is_masked = Counter[str](), _LABELS in names
    if names >= _DISTILLKIT:
        layout, sha256 = read_layout(files[0].parent), _content_sha256([*files, files[0].parent / CONFIG_NAME])
        sequences = _rows_of(files, partial(_distillkit_row, layout, notes), notes)
        return Source("distillkit", None, None, {}, sha256, True, sequences, notes, is_masked)
    if names >= _HARNESS:
        sequences = _rows_of(files, _harness_row, notes)
        content = _content_sha256(files)
        return Source("energy-harness", None, None, {}, content, True, sequences, notes, is_masked)
    if names >= _OLD_DISTILLKIT:
        raise UsageError(
            f"{path}: a table of DistillKit's older form (packed_indices, coeffs), which is not read here; let "
            f"DistillKit write it anew, or give columns {', '.join(sorted(_HARNESS))}"
        )
    wanted = " or ".join(", ".join(sorted(columns)) for columns in (_HARNESS, _DISTILLKIT))
    raise UsageError(f"{path}: has columns {', '.join(sorted(names))}; needs {wanted}")


def _content_sha256(files: list[Path]) -> str:
    """One hash over what files hold, in their order; their names and places are left out."""
    return hashlib.sha256("\n".join(map(file_sha256, files)).encode()).hexdigest()


_MakeRow = Callable[[str, Mapping[str, Any]], tuple[SequenceText, Cut]]


def _rows_of(files: list[Path], make: _MakeRow, notes: Counter[str]) -> Iterator[tuple[int, SequenceText, Cut]]:
    """Sequences under the numbers of their rows; a row of padding alone is no sequence, and its number stays free."""
    index = 0
    for file in files:
        for row in _batches(file).rows():
            text, cut = make(f"{file} row {index}", row)
            if len(text.tokens_T):
                yield index, text, cut
            else:
                notes["left_out"] += 1
            index += 1


@dataclass(frozen=True, slots=True)
class _Batches:
    schema: Any
    batches: Any

    def rows(self) -> Iterator[dict[str, Any]]:
        for batch in self.batches:
            for at in range(batch.num_rows):
                yield {name: batch.column(name)[at].values for name in batch.schema.names if name in _WANTED}


_WANTED = {*_HARNESS, *_DISTILLKIT, "attention_mask", _LABELS}


def _batches(file: Path) -> _Batches:
    """A file's schema and its batches, one in memory at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if file.suffix == ".parquet":
            table = pq.ParquetFile(file)
            return _Batches(table.schema_arrow, table.iter_batches(batch_size=8))
        stream = pa.memory_map(str(file))
        try:
            reader = pa.ipc.open_stream(stream)
            return _Batches(reader.schema, reader)
        except pa.ArrowInvalid:
            whole = pa.ipc.open_file(stream)
            return _Batches(whole.schema, (whole.get_batch(n) for n in range(whole.num_record_batches)))
    except (OSError, pa.ArrowInvalid) as err:
        raise UsageError(f"{file}: cannot be read as a table ({err})") from err


def _harness_row(place: str, row: Mapping[str, Any]) -> tuple[SequenceText, Cut]:
    text, ids, logp = _unpadded(place, row, *(_matrix(row[name]) for name in ("logprob_indices", "logprob_values")))
    kept = np.exp(logp.astype(np.float64)).sum(1)
    with np.errstate(divide="ignore"):
        tail = np.log1p(-np.minimum(kept, 1.0))
    return text, _without_draws(ids, logp, tail)


def _distillkit_row(
    layout: Layout, notes: Counter[str], place: str, row: Mapping[str, Any]
) -> tuple[SequenceText, Cut]:
    try:
        logp = logprobs_of(_matrix(row["compressed_logprobs"]), layout)
        ids = unpacked(_matrix(row["bytepacked_indices"]), layout.kept, layout.id_bits)
    except ValueError as err:
        raise UsageError(f"{place}: {err}; are these the settings that the table was written with?") from err
    text, ids, logp = _unpadded(place, row, ids, logp)
    is_sound = np.isfinite(logp) & (logp < _MOST_LOGP)
    if not is_sound.all():
        at, which = (int(n[0]) for n in np.nonzero(~is_sound))
        raise UsageError(f"{place}, position {at}: {logp[at, which]:g} is no log-probability; leave that row out")
    kept = np.exp(logp).sum(1)
    notes["scaled_down"] += int((kept > 1.0 + _OVER).sum())
    logp = logp - np.log(np.maximum(kept, 1.0))[:, None]
    with np.errstate(divide="ignore"):
        tail = np.log1p(-np.minimum(kept, 1.0))
    return text, _without_draws(ids, logp, tail)


def _unpadded(
    place: str, row: Mapping[str, Any], ids: npt.NDArray[Any], logp: npt.NDArray[Any]
) -> tuple[SequenceText, npt.NDArray[Any], npt.NDArray[Any]]:
    """One sequence without its padding; the row at token t holds the distribution over token t + 1."""
    tokens = row["input_ids"].to_numpy(zero_copy_only=False).astype(np.int64)
    if ids.shape != logp.shape or len(ids) not in (len(tokens), len(tokens) - 1):
        raise UsageError(f"{place}: {len(tokens)} tokens, ids {ids.shape} and log-probabilities {logp.shape}")
    mask = row.get("attention_mask")
    real = np.ones(len(tokens), dtype=np.bool_)
    if mask is not None:
        real = mask.to_numpy(zero_copy_only=False).astype(np.bool_)
    text = _marked(place, tokens, row.get(_LABELS), real)
    ids, logp = (array[real[: len(array)]][: len(text.tokens_T) - 1] for array in (ids, logp))
    return text, ids, logp


def _marked(place: str, tokens: npt.NDArray[np.int64], labels: Any, real: npt.NDArray[np.bool_]) -> SequenceText:
    """The tokens that are no padding, and which of them are to be predicted."""
    text = SequenceText.whole(tokens[real])
    if labels is None:
        return text
    marks = labels.to_numpy(zero_copy_only=False).astype(np.int64)
    if len(marks) != len(tokens):
        raise UsageError(f"{place}: {len(tokens)} tokens and {len(marks)} labels; leave that row out")
    return SequenceText(text.tokens_T, text.supervised_T & (marks[real] != _NOT_PREDICTED))


def _without_draws(ids: npt.NDArray[Any], logp: npt.NDArray[Any], tail: npt.NDArray[Any]) -> Cut:
    empty = np.zeros((len(ids), 0), dtype=np.int64)
    return Cut(ids_TK=ids.astype(np.int64), logp_TK=logp, tail_logmass_T=tail, draw_ids_TU=empty, draw_counts_TU=empty)


def _matrix(column: Any) -> npt.NDArray[Any]:
    """A list of lists of one length as an array."""
    flat = column.flatten().to_numpy(zero_copy_only=False)
    whole: npt.NDArray[Any] = flat.reshape(len(column), -1)
    return whole
