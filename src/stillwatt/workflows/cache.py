"""Use case: look into a logit cache, check it, or write it anew in another form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stillwatt.errors import ArtifactError, UnknownNameError, UsageError

__all__ = ["cache_info", "convert", "verify_cache"]

QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)


def cache_info(directory: Path) -> dict[str, Any]:
    """What a cache holds and what its bytes are made of, as JSON values; every byte is checked on the way.

    Raises:
        ArtifactError: It is unfinished or damaged.
    """
    from stillwatt.pipelines.caches import open_cache
    from stillwatt.pipelines.logit_cache import LogitCache

    cache = open_cache(directory)
    common = {
        "directory": str(directory),
        "sha256": cache.sha256,
        "vocab_size": cache.vocab_size,
        "temperature": cache.temperature,
        "sequences": len(cache.sequence_indices),
        "positions": cache.num_rows,
        "bytes": cache.bytes,
        "bytes_per_token": cache.bytes_per_token,
        "kept_mass": cache.kept_mass,
        "inputs": dict(cache.inputs),
        "account": _account(directory),
    }
    if isinstance(cache, LogitCache):
        row_bytes = cache.row_bytes
        other = (cache.bytes_per_token or row_bytes) - row_bytes
        return {
            **common,
            "scheme": {"name": "rows", "top_k": cache.top_k},
            "bytes_per_token_of": {"rows": row_bytes, "index and offsets": other},
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
    """Check every hash, decode every block, and say what is wrong; `problem` is None where nothing is."""
    from stillwatt.pipelines.caches import open_cache

    try:
        cache = open_cache(directory)
        for index in cache.sequence_indices:
            cache.verify_sequence(index)
    except ArtifactError as err:
        return {"directory": str(directory), "is_sound": False, "problem": str(err)}
    return {
        "directory": str(directory),
        "is_sound": True,
        "problem": None,
        "sequences": len(cache.sequence_indices),
        "positions": cache.num_rows,
        "sha256": cache.sha256,
    }


def convert(
    source: Path,
    target: Path,
    *,
    scheme: str,
    top_k: int,
    step: float,
    prior: str,
    vocab_size: int | None,
    temperature: float | None,
    tokenizer_sha256: str | None,
) -> dict[str, Any]:
    """Write a cache anew; see `pipelines.cache.imports.convert_cache`.

    Raises:
        UsageError: What is asked for cannot be made from what is there.
    """
    from stillwatt.pipelines.cache.imports import convert_cache
    from stillwatt.pipelines.cache.scheme import SCHEMES, Scheme

    if scheme not in ("rows", *SCHEMES):
        raise UnknownNameError("cache scheme", scheme, ("rows", *SCHEMES))
    if scheme not in ("rows", "topk"):
        raise UsageError(f"scheme {scheme}: it needs the teacher and cannot be made from a cache; use rows or topk")
    coded = None if scheme == "rows" else Scheme(name=scheme, top_k=top_k, step=step, prior=prior)
    return convert_cache(
        source,
        target,
        scheme=coded,
        top_k=top_k,
        vocab_size=vocab_size,
        temperature=temperature,
        tokenizer_sha256=tokenizer_sha256,
    )
