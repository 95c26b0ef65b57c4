"""Which importer a file is for, and what all of them make of a set of files together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from stillwatt.errors import ConfigError, UnknownNameError
from stillwatt.importers import carbontracker, codecarbon, energy_harness, power_csv, zeus
from stillwatt.importers.intake import LogFile, left_with
from stillwatt.importers.model import Found, ImportedRun, LeftOut

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class _Importer:
    recognises: Callable[[LogFile], bool]
    read: Callable[[Sequence[LogFile]], Found]


_IMPORTERS = {
    energy_harness.FORM: _Importer(energy_harness.recognises, energy_harness.read),
    carbontracker.FORM: _Importer(carbontracker.recognises, carbontracker.read),
    codecarbon.FORM: _Importer(codecarbon.recognises, codecarbon.read),
    zeus.FORM: _Importer(zeus.recognises, zeus.read),
    power_csv.FORM: _Importer(power_csv.recognises, power_csv.read),
}
"""In the order they are asked."""
FORMATS = (AUTO, *sorted(_IMPORTERS))
_UNKNOWN = "not a log that is known here; name its kind with --format if it is one"


def find_runs(
    files: Sequence[LogFile], form: str = AUTO, *, elsewhere: Mapping[tuple[str, float], str] = MappingProxyType({})
) -> Found:
    """All runs in some files, each run once, and every file or line that was not taken.

    Args:
        files: As `take_in` gives them.
        form: One of FORMATS; `auto` asks each importer.
        elsewhere: CodeCarbon's rows that runs of the ledger have already, by project and total in kWh.

    Raises:
        UnknownNameError: no such format.
        ConfigError: a file that was asked for by name, or by format, cannot be read as what it is.
    """
    if form not in FORMATS:
        raise UnknownNameError("format", form, FORMATS)
    by_form, left_out = _sorted_out(files, form)
    runs: list[ImportedRun] = []
    for name, own in by_form.items():
        found, faults = _read(name, own, {**elsewhere, **_codecarbon_figures(runs)})
        runs += found.runs
        left_out += [*found.left_out, *faults]
    runs, repeats = _without_repeats(runs)
    left_out = list(dict.fromkeys([*left_out, *repeats]))
    ordered = sorted(runs, key=lambda run: (run.start_utc_ns, run.form, run.identity))
    return Found(runs=tuple(_with_constants_said(ordered)), left_out=tuple(sorted(left_out, key=_place)))


def _place(left: LeftOut) -> tuple[str, int, str]:
    return left.name, left.line or 0, left.reason


def _sorted_out(files: Sequence[LogFile], form: str) -> tuple[dict[str, list[LogFile]], list[LeftOut]]:
    by_form: dict[str, list[LogFile]] = {name: [] for name in _IMPORTERS}
    left_out = []
    for file in files:
        is_backup = file.name.endswith(".bak") and not codecarbon.recognises(file)
        if is_backup and not file.is_named:
            left_out.append(LeftOut(name=file.name, reason="a backup; name it to import it"))
            continue
        names = _IMPORTERS if form == AUTO else (form,)
        fitting = next((name for name in names if _IMPORTERS[name].recognises(file)), None)
        if fitting is not None:
            by_form[fitting].append(file)
            continue
        error = _unknown(file, form)
        if file.is_named:
            raise error
        left_out.append(left_with(file, error))
    return by_form, left_out


def _unknown(file: LogFile, form: str) -> ConfigError:
    """Why nothing recognises a file: it is no text, or another kind of text."""
    try:
        _ = file.text
    except ConfigError as err:
        return err
    return file.wrong(_UNKNOWN if form == AUTO else f"it does not look like a log of {form}; try --format auto", 1)


def _read(name: str, files: Sequence[LogFile], figures: Mapping[tuple[str, float], str]) -> tuple[Found, list[LeftOut]]:
    """What one importer makes of its files; one that cannot be read is left out unless it was asked for by name."""
    remaining = list(files)
    faults: list[LeftOut] = []
    while remaining:
        try:
            if name == codecarbon.FORM:
                return codecarbon.read(remaining, figures), faults
            return _IMPORTERS[name].read(remaining), faults
        except ConfigError as err:
            wrong = next((file for file in remaining if file.name == err.path), None)
            if wrong is None or wrong.is_named:
                raise
            faults.append(left_with(wrong, err))
            remaining.remove(wrong)
    return Found(runs=(), left_out=()), faults


def _without_repeats(runs: Sequence[ImportedRun]) -> tuple[list[ImportedRun], list[LeftOut]]:
    """Each run once by its identity."""
    kept: dict[tuple[str, str], ImportedRun] = {}
    left_out = []
    for run in runs:
        key = (run.form, run.identity)
        if key in kept:
            reason = f"the same run as in {kept[key].sources[0].name}"
            left_out += [LeftOut(name=source.name, reason=reason) for source in run.sources]
        else:
            kept[key] = run
    return list(kept.values()), left_out


def _codecarbon_figures(runs: Iterable[ImportedRun]) -> dict[tuple[str, float], str]:
    """CodeCarbon's totals that the harness copied into its stages, with the file that has them."""
    return {
        (stage.name, float(stage.results["codecarbon_total_kwh"])): stage.labels["file"]
        for run in runs
        if run.form == energy_harness.FORM
        for session in run.sessions
        for stage in session.stages
        if "codecarbon_total_kwh" in stage.results
    }


def _with_constants_said(runs: Sequence[ImportedRun]) -> list[ImportedRun]:
    """Runs of the harness with a word where the same count of tokens stands in stages of different lengths."""
    seen: dict[float, set[tuple[str, int]]] = {}
    for run in runs:
        for session in run.sessions:
            for stage in session.stages:
                length_ns = stage.end_utc_ns - stage.start_utc_ns
                if run.form == energy_harness.FORM and "tokens" in stage.workload:
                    seen.setdefault(stage.workload["tokens"], set()).add((stage.name, length_ns))
    constant = {tokens for tokens, stages in seen.items() if len(stages) > 1}
    said = []
    for run in runs:
        own = {s.workload.get("tokens") for session in run.sessions for s in session.stages} & constant
        words = tuple(
            f"{tokens:.0f} tokens stand in several stages of different lengths: a constant, perhaps, and not a count"
            for tokens in sorted(token for token in own if token is not None)
        )
        said.append(replace(run, warnings=(*run.warnings, *words)) if words else run)
    return said
