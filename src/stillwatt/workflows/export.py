"""Use case: a run or a report in another format, with the list of what that format could not carry beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from stillwatt.errors import MissingExtraError, ReportError
from stillwatt.records.export import Details, Exported, Loss
from stillwatt.report.exports.boamps import to_boamps
from stillwatt.report.exports.cyclonedx import VERSIONS, to_cyclonedx
from stillwatt.report.exports.eu_gpai import to_eu_gpai
from stillwatt.report.exports.huggingface import CardParts, to_card, with_section
from stillwatt.report.exports.otel import to_opentelemetry
from stillwatt.report.exports.rocrate import METADATA, PROVENANCE, to_rocrate
from stillwatt.report.exports.sci import to_sci
from stillwatt.report.exports.spdx import to_spdx
from stillwatt.workflows.account import Wanted, account
from stillwatt.workflows.lifecycle_pages import is_saved, saved_report
from stillwatt.workflows.outputs import refuse_taken, write_whole

LOSSES_SCHEMA = "stillwatt.losses/1"
CARD = "huggingface"
_FRONT = re.compile(r"\A---[ \t]*\r?\n(.*?)^---", re.DOTALL | re.MULTILINE)
_EXTRA = "exports"
FORMATS: Mapping[str, Callable[..., Exported]] = {
    "cyclonedx": to_cyclonedx,
    "spdx": to_spdx,
    "boamps": to_boamps,
    "sci": to_sci,
    "eu-gpai": to_eu_gpai,
    "rocrate": to_rocrate,
    "opentelemetry": to_opentelemetry,
}
NAMES = (*FORMATS, CARD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Where an export is, what it lost, and whether anybody checked it."""

    path: Path
    losses_path: Path
    losses: tuple[Loss, ...]
    validated_by: str
    """The library that read it back without complaint; empty where none could."""
    note: str = ""


def report_of(reference: str, wanted: Wanted, *, runs_dir: str | Path) -> dict[str, Any]:
    """The report at a path, or of a run.

    Raises:
        ReportError: the file is no life-cycle report.
        MissingInputError: a path to no file.
        ConfigError: a run without a place.
        RunNotFoundError: no such run.
    """
    if is_saved(reference):
        return saved_report(reference)
    return account([reference], wanted, runs_dir=runs_dir)


def export(
    report: Mapping[str, Any],
    form: str,
    out: str | Path,
    details: Details,
    *,
    version: str = VERSIONS[0],
    is_forced: bool = False,
    inputs: Iterable[str | Path] = (),
) -> Written:
    """Write a report in another format, and its losses beside it.

    Args:
        report: a life-cycle report.
        form: one of `NAMES`.
        out: a file, or a folder for `rocrate`; a model card that is there already is kept, but for its own section.
        details: what the report does not hold.
        version: of CycloneDX's specification.
        is_forced: whether a file that is there is written over.
        inputs: files that the report comes from; never written over.

    Raises:
        FileExistsAlreadyError: something is there already.
        ConfigError: a folder stands where a file is to be, or a file where a folder is to be; or it is an input.
        MissingExtraError: a model card without huggingface_hub.
        ReportError: the report cannot be said in the format.
    """
    path = Path(out)
    losses_path = path.with_name(f"{path.name}.losses.json")
    is_over = is_forced or form == CARD
    read = tuple(inputs)
    refuse_taken(path, is_forced=is_over, is_folder=form == "rocrate", inputs=read)
    refuse_taken(losses_path, is_forced=is_over, inputs=read)
    if form == CARD:
        text, losses, library, note = _card(to_card(report, details), path)
        write_whole(path, text)
    else:
        make = partial(to_cyclonedx, version=version) if form == "cyclonedx" else FORMATS[form]
        made = make(report, details)
        library, note = _check(form, made, version)
        losses = made.losses
        for name, text in (made.files or {"": made.text}).items():
            write_whole(path / name if name else path, text)
        if form == "rocrate":
            library, note = _check_crate(path, library, note)
    write_whole(losses_path, _losses_text(form, path, losses))
    return Written(path=path, losses_path=losses_path, losses=losses, validated_by=library, note=note)


def _losses_text(form: str, path: Path, losses: tuple[Loss, ...]) -> str:
    said = {"schema": LOSSES_SCHEMA, "format": form, "file": path.name, "losses": [asdict(loss) for loss in losses]}
    return json.dumps(said, indent=2, ensure_ascii=False) + "\n"


def _card(parts: CardParts, path: Path) -> tuple[str, tuple[Loss, ...], str, str]:
    """The card with its block and section; whatever else is in it stays."""
    try:
        from huggingface_hub import ModelCard
    except ImportError as err:
        raise MissingExtraError("huggingface_hub", _EXTRA) from err
    import yaml  # huggingface_hub brings it

    there = path.read_bytes().decode("utf-8-sig") if path.is_file() else "---\n{}\n---\n"
    try:
        card = ModelCard(there)
        if parts.emissions is not None:
            card.data["co2_eq_emissions"] = dict(parts.emissions)
        card.text = with_section(card.text, parts.section)
        text = _front_kept(str(card), there)
    except (ValueError, yaml.YAMLError) as err:
        reason = " ".join(str(err).split())[:200]
        raise ReportError(str(path), f"its front matter cannot be read, so nothing was written ({reason})") from err
    return text, (*parts.losses, *_card_losses(parts, there)), "huggingface_hub", ""


def _front_kept(text: str, there: str) -> str:
    """The card with all of its own front matter: the library writes what it knows, and drops the rest."""
    import yaml

    was, now = _front(there), _front(text)
    if {**was, "co2_eq_emissions": None} == {**now, "co2_eq_emissions": None}:
        return text
    kept = {**was, **({"co2_eq_emissions": now["co2_eq_emissions"]} if "co2_eq_emissions" in now else {})}
    front = yaml.safe_dump(kept, sort_keys=False, allow_unicode=True)
    end = "\r\n" if "\r\n" in text else "\n"
    return f"---{end}{front.replace(chr(10), end)}---{_FRONT.sub('', text, count=1)}"


def _front(card: str) -> dict[str, Any]:
    import yaml

    there = _FRONT.match(card)
    found = yaml.safe_load(there[1]) if there else None
    return found if isinstance(found, dict) else {}


def _card_losses(parts: CardParts, there: str) -> list[Loss]:
    front = there.split("---")[1] if there.startswith("---") and there.count("---") > 1 else ""
    found = []
    if any(line.lstrip().startswith("#") for line in front.splitlines()):
        found.append(Loss(path="", what="comments in the card's front matter", why="it is written anew, as YAML"))
    if parts.emissions is None:
        was = "the card's own is kept" if "co2_eq_emissions" in front else "none is written"
        why = f"no GWP of making the model is counted; {was}, and never 0"
        found.append(Loss(path="$.cells[?impact=gwp_location]", what="co2_eq_emissions", why=why))
    return found


def _check(form: str, made: Exported, version: str) -> tuple[str, str]:
    """Let the format's own library read the export: its name, or why nobody could.

    Raises:
        ReportError: it complains.
    """
    checks: dict[str, Callable[[], str]] = {
        "cyclonedx": lambda: _check_cyclonedx(made.text, version),
        "spdx": lambda: _check_spdx(made.text),
        "rocrate": lambda: _check_prov(made.files[PROVENANCE]),
    }
    if form not in checks:
        return "", "no library checks this format"
    try:
        return checks[form](), ""
    except ImportError as err:
        return "", f"not checked: {err.name} is not installed (pip install 'stillwatt[{_EXTRA}]')"


def _check_cyclonedx(text: str, version: str) -> str:
    from cyclonedx.exception import MissingOptionalDependencyException
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    try:
        fault = JsonStrictValidator(SchemaVersion.from_version(version)).validate_str(text)
    except MissingOptionalDependencyException as err:
        raise ImportError(name="cyclonedx-python-lib[json-validation]") from err
    if fault is not None:
        raise ReportError("cyclonedx", f"the export breaks the specification's schema: {str(fault)[:300]}")
    return "cyclonedx-python-lib"


def _check_spdx(text: str) -> str:
    from spdx_python_model import v3_0_1 as spdx

    objects = spdx.SHACLObjectSet()
    try:
        spdx.JSONLDDeserializer().deserialize_data(json.loads(text), objects)
    except (ValueError, TypeError, KeyError, AttributeError) as err:
        raise ReportError("spdx", f"the export breaks the model: {err}") from err
    return "spdx-python-model"


def _check_prov(text: str) -> str:
    from prov.model import ProvDocument

    ProvDocument.deserialize(content=text, format="json")
    return "prov"


def _check_crate(path: Path, library: str, note: str) -> tuple[str, str]:
    try:
        from rocrate.rocrate import ROCrate
    except ImportError:
        return (
            library,
            note or f"{METADATA} was not checked: rocrate is not installed (pip install 'stillwatt[{_EXTRA}]')",
        )
    ROCrate(str(path))
    return " and ".join(filter(None, (library, "rocrate"))), note
