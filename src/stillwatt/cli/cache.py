"""`stillwatt cache`: what a logit cache holds, whether it is sound, and how to bring it into another form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from stillwatt.cli.options import Number, json_option
from stillwatt.cli.screen import columns, say, say_json


@click.group()
def cache() -> None:
    """Logit caches: what is in them, whether they are sound, and other forms of them."""


@cache.command("info")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@json_option
def info_command(directory: Path, as_json: bool) -> None:
    """Show scheme, bytes per token and what they are made of, kept mass, and hashes."""
    from stillwatt.workflows.cache import cache_info

    found = cache_info(directory)
    if as_json:
        say_json(found)
        return
    for line in columns(_lines(found)):
        say(line)


@cache.command("verify")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@json_option
@click.pass_context
def verify_command(context: click.Context, directory: Path, as_json: bool) -> None:
    """Check every byte against its hash and decode every block.

    Exits with 1 where something is wrong, and names shard and block.
    """
    from stillwatt.workflows.cache import verify_cache

    found = verify_cache(directory)
    if as_json:
        say_json(found)
    elif found["is_sound"]:
        say(f"sound: {found['sequences']:,} sequences, {found['positions']:,} positions, sha256 {found['sha256']}")
        if found["not_vouched_for"]:
            say(f"not vouched for: {found['not_vouched_for']}")
    else:
        say(f"not sound: {found['problem']}")
    context.exit(0 if found["is_sound"] else 1)


@cache.command("convert")
@click.argument("source", metavar="SOURCE", type=click.Path(path_type=Path))
@click.argument("target", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--scheme", default="topk", show_default=True, help="`topk` (coded) or `rows` (fixed rows).")
@click.option("--top-k", default=64, show_default=True, help="Tokens kept at each position.")
@click.option("--step", type=Number(), default=0.5, show_default=True, help="Width of a coded value's levels, in nats.")
@click.option("--prior", default="bigram", show_default=True, help="`bigram`, or `unigram` where the text is unknown.")
@click.option("--vocab-size", type=int, help="Size of the teacher's output, where the source does not say.")
@click.option("--temperature", type=Number(), help="Temperature of the source, where it does not say.")
@click.option("--tokenizer-sha256", metavar="HASH", help="Refuse a source of another tokenizer.")
@json_option
@click.pass_context
def convert_command(context: click.Context, /, source: Path, target: Path, as_json: bool, **settings: Any) -> None:
    """Write a cache anew: fixed rows, coded, or a table of the Energy harness or of DistillKit.

    Tables are Arrow or Parquet files or a `datasets` folder; DistillKit's need their `compression_config.yaml` beside.
    """
    from stillwatt.workflows.cache import convert

    for name in ("step", "prior"):  # one that was typed must have a meaning, a default need not
        if context.get_parameter_source(name) is ParameterSource.DEFAULT:
            settings[name] = None
    found = convert(source, target, **settings)
    if as_json:
        say_json(found)
        return
    say(
        f"{found['positions']:,} positions of {found['sequences']:,} sequences from {found['from']}: "
        f"{found['bytes']:,} bytes, {found['bytes_per_token'] or 0.0:.1f} a token"
    )
    if found["scaled_down"]:
        say(f"{found['scaled_down']:,} positions had kept tokens of a mass above 1; they were scaled down to 1")
    if found["left_out"]:
        say(f"{found['left_out']:,} rows were nothing but padding; they were left out, and keep their numbers")


def _lines(found: dict[str, Any]) -> list[tuple[str, ...]]:
    scheme = ", ".join(f"{key} {value}" for key, value in found["scheme"].items() if key != "name")
    rows: list[tuple[str, ...]] = [
        ("scheme", f"{found['scheme']['name']} ({scheme})"),
        ("vocabulary", f"{found['vocab_size']:,}"),
        ("temperature", f"{found['temperature']:g}"),
        ("text", f"{found['sequences']:,} sequences, {found['positions']:,} positions"),
        ("bytes", f"{found['bytes']:,}" + _per_token(found["bytes_per_token"])),
    ]
    rows += [(f"  {part}", f"{size:.2f} a token") for part, size in found["bytes_per_token_of"].items()]
    mass = "none: no token is kept as such" if found["kept_mass"] is None else f"{found['kept_mass']:.4f} on average"
    rows.append(("kept mass", mass))
    rows += [
        (f"  {float(share):.0%} lie below", f"{q:.4f}") for share, q in (found["kept_mass_quantiles"] or {}).items()
    ]
    if found["prior"] is not None:
        rows.append(("prior", ", ".join(f"{key} {value}" for key, value in found["prior"].items())))
    rows += _account_lines(found["account"])
    rows += [(name, str(value)) for name, value in found["inputs"].items()]
    rows.append(("sha256", found["sha256"]))
    return [*rows, *([("not vouched for", found["not_vouched_for"])] if found["not_vouched_for"] else [])]


def _account_lines(account: dict[str, Any]) -> list[tuple[str, ...]]:
    """What the books of the run that made it say."""
    if "absent" in account:
        return [("account", f"none: {account['absent']}")]
    kl = account["kl_to_full"]
    far = (
        f"none: {kl['absent']}" if isinstance(kl, dict) else f"{kl:.4f} nats over {account['kl_positions']:,} positions"
    )
    named = {"to make": "made_j_per_token", "to write": "write_j_per_token", "to read": "read_j_per_token"}
    return [
        ("account", f"run {account['run_id']}"),
        ("  divergence from the teacher", far),
        *((f"  joules a token {what}", _joules(account[key])) for what, key in named.items()),
    ]


def _joules(told: dict[str, Any]) -> str:
    if "absent" in told:
        return f"not known: {told['absent']}"
    return f"{told['value_j']:.3g} [{told['low_j']:.3g}, {told['high_j']:.3g}], {told['basis']}"


def _per_token(size: float | None) -> str:
    return "" if size is None else f", {size:.2f} a token"
