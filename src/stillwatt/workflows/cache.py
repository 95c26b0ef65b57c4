"""Use case: look into a logit cache, check it, or write it anew in another form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stillwatt.errors import ArtifactError, NoSuchInputError, StillwattError, UnknownNameError, UsageError

__all__ = ["cache_info", "convert", "verify_cache"]

QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)


def cache_info(directory: Path) -> dict[str, Any]:
    """What a cache holds and what its bytes are made of, as JSON values; every byte is checked on the way.

    Raises:
        NoSuchInputError: There is no such folder.
        StillwattError: It is no cache.
        ArtifactError: It is unfinished or damaged.
    """
    from stillwatt.pipelines.caches import open_cache
    from stillwatt.pipelines.logit_cache import LogitCache

    _check_is_cache(directory)
    cache = open_cache(directory)
    common = {
        "directory": str(directory),
        "sha256": cache.sha256,
        "vocab_size": cache.vocab_size,
        "temperature": cache.temperature,
        "sequences": len(cache.sequence_indices),
        "positions": cache.num_rows,
        "holds_text": cache.holds_text,
        "bytes": cache.bytes,
        "bytes_per_token": cache.bytes_per_token,
        "kept_mass": cache.kept_mass,
        "inputs": dict(cache.inputs),
        "not_vouched_for": cache.not_vouched_for,
        "account": _account(directory),
    }
    if isinstance(cache, LogitCache):
        row_bytes = cache.row_bytes
        other = (cache.bytes_per_token or row_bytes) - row_bytes
        return {
            **common,
            "scheme": {"name": "rows", "top_k": cache.top_k},
            "bytes_per_token_of": {"rows": row_bytes, "index, offsets and text": other},
            "kept_mass_quantiles": dict(zip(map(str, QUANTILES), cache.kept_mass_quantiles(QUANTILES), strict=True)),
            "prior": None,
        }
    quantiles = cache.kept_mass_quantiles(QUANTILES)
    return {
        **common,
        "scheme": cache.scheme.to_json(),
        "bytes_per_token_of": cache.bytes_per_token_of,
        "kept_mass_quantiles": None if quantiles is None else dict(zip(map(str, QUANTILES), quantiles, strict=True)),
        "prior": cache.prior_facts,
    }


def _check_is_cache(directory: Path) -> None:
    """Tell what is no cache from one that is damaged, which the next run makes again."""
    from stillwatt.pipelines.logit_shards import INDEX_NAME

    cure = "those of a folder of runs lie in its artifacts/"
    if not directory.exists():
        raise NoSuchInputError("a logit cache", str(directory), f"name the folder of one; {cure}")
    if not directory.is_dir():
        raise StillwattError(f"{directory} is a file, and a logit cache is a folder; {cure}")
    if not (directory / INDEX_NAME).exists():
        raise StillwattError(f"{directory} is no logit cache, or an unfinished one: it has no {INDEX_NAME}; {cure}")


def _account(directory: Path) -> dict[str, Any]:
    """The cache's row in the books of the run that made it; why there is none, where it has no books beside it."""
    from stillwatt.pipelines.artifacts import read_record
    from stillwatt.records.cache_rows import cache_rows
    from stillwatt.workflows.books import show_run

    told = read_record(directory)
    if told is None:
        return {"absent": "it has no readable artifact.json, so nothing here says which run made it and what it took"}
    run_id, runs_dir = str(told["made_by"]["run_id"]), directory.resolve().parent.parent
    if not (runs_dir / run_id).is_dir():
        return {"absent": f"run {run_id}, which made it, is not beside it"}
    rows = {row.artifact: row.to_dict() for row in cache_rows(show_run(runs_dir, run_id).stages)}
    row = rows.get(directory.resolve().name)
    return {"run_id": run_id, **row} if row else {"absent": f"the books of run {run_id} have no finished stage of it"}


def verify_cache(directory: Path) -> dict[str, Any]:
    """Check every hash, decode every block, and say what is wrong; `problem` is None where nothing is.

    Raises:
        NoSuchInputError: There is no such folder.
        StillwattError: It is no cache.
    """
    from stillwatt.pipelines.caches import open_cache

    _check_is_cache(directory)
    try:
        cache = open_cache(directory)
        cache.verify()
    except ArtifactError as err:
        return {"directory": str(directory), "is_sound": False, "problem": str(err)}
    return {
        "directory": str(directory),
        "is_sound": True,
        "problem": None,
        "sequences": len(cache.sequence_indices),
        "positions": cache.num_rows,
        "sha256": cache.sha256,
        "not_vouched_for": cache.not_vouched_for,
    }


def convert(
    source: Path,
    target: Path,
    *,
    scheme: str,
    top_k: int,
    step: float | None,
    prior: str | None,
    vocab_size: int | None,
    temperature: float | None,
    tokenizer_sha256: str | None,
) -> dict[str, Any]:
    """Write a cache anew; see `pipelines.cache.imports.convert_cache`. Fixed rows have neither `step` nor `prior`.

    Raises:
        UsageError: What is asked for cannot be made from what is there.
    """
    from stillwatt.pipelines.cache.imports import convert_cache
    from stillwatt.pipelines.cache.scheme import SCHEMES, Scheme

    if scheme not in ("rows", *SCHEMES):
        raise UnknownNameError("cache scheme", scheme, ("rows", *SCHEMES))
    if scheme not in ("rows", "topk"):
        raise UsageError(f"scheme {scheme}: it needs the teacher and cannot be made from a cache; use rows or topk")
    how: dict[str, Any] = {name: value for name, value in (("step", step), ("prior", prior)) if value is not None}
    if scheme == "rows" and how:
        given = " and ".join(f"--{name}" for name in how)
        raise UsageError(f"scheme rows: {given} would change nothing, as fixed rows are not coded; leave that out")
    coded = None if scheme == "rows" else Scheme(name=scheme, top_k=top_k, **how)
    return convert_cache(
        source,
        target,
        scheme=coded,
        top_k=top_k,
        vocab_size=vocab_size,
        temperature=temperature,
        tokenizer_sha256=tokenizer_sha256,
    )
