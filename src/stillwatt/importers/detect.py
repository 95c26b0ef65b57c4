"""Which importer a file is for, and what all of them make of a set of files together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from stillwatt.errors import ConfigError, UnknownNameError
from stillwatt.importers import carbontracker, codecarbon, energy_harness, power_csv, zeus
from stillwatt.importers.codecarbon_trackers import Tracked, with_trackers_said
from stillwatt.importers.copies import Figure, Figures
from stillwatt.importers.intake import LogFile, left_with
from stillwatt.importers.model import Found, ImportedRun, ImportedStage, LeftOut

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
    files: Sequence[LogFile],
    form: str = AUTO,
    *,
    copied: Sequence[Figure] = (),
    booked: Sequence[Figure] = (),
    known: Iterable[Tracked] = (),
) -> Found:
    """All runs in some files, each run once, and every file or line that was not taken.

    Args:
        files: As `take_in` gives them.
        form: One of FORMATS; `auto` asks each importer.
        copied: CodeCarbon's totals that the harness's runs in the ledger have copied.
        booked: CodeCarbon's totals that its own runs in the ledger hold.
        known: CodeCarbon's trackers of runs in the ledger.

    Raises:
        UnknownNameError: no such format.
        ConfigError: a file that was asked for by name, or by format, cannot be read as what it is.
    """
    if form not in FORMATS:
        raise UnknownNameError("format", form, FORMATS)
    by_form, left_out = _sorted_out(files, form)
    runs: list[ImportedRun] = []
    for name, own in by_form.items():
        found, faults = _read(name, own, Figures([*copied, *_copied_figures(runs)]))
        new, booked_before = _not_booked(found.runs, Figures(booked))
        runs += new
        left_out += [*found.left_out, *faults, *booked_before]
    runs, repeats = _without_repeats(runs)
    left_out = list(dict.fromkeys([*left_out, *repeats]))
    ordered = sorted(runs, key=lambda run: (run.start_utc_ns, run.form, run.identity))
    found_here = {run.identity for run in runs}
    ordered = with_trackers_said(ordered, [tracker for tracker in known if tracker.run not in found_here])
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


def _read(name: str, files: Sequence[LogFile], figures: Figures) -> tuple[Found, list[LeftOut]]:
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
    """Each run once, by its identity; of a power log and a copy that was made as it grew, the log."""
    kept: list[ImportedRun] = []
    left_out = []
    for run in sorted(runs, key=lambda run: (carbontracker.is_total_alone(run.settings), _shortness(run))):
        same = next((other for other in kept if _is_same(run, other)), None)
        if same is None:
            kept.append(run)
            continue
        reason = f"the same run as in {same.sources[0].name}"
        left_out += [LeftOut(name=source.name, reason=reason) for source in run.sources]
    return kept, left_out


def _shortness(run: ImportedRun) -> int:
    return -(run.sessions[-1].end_utc_ns or 0) if run.form == power_csv.FORM else 0


def _is_same(run: ImportedRun, other: ImportedRun) -> bool:
    if run.form != other.form:
        return False
    return run.identity == other.identity or carbontracker.is_other_log(run.settings, other.settings)


def _copied_figures(runs: Iterable[ImportedRun]) -> Iterator[Figure]:
    """CodeCarbon's totals that the harness copied into its stages, with the file that has them."""
    for stage in _harness_stages(runs):
        if "codecarbon_total_kwh" in stage.results:
            total_kwh = float(stage.results["codecarbon_total_kwh"])
            yield Figure(project=stage.name, total_kwh=total_kwh, file=stage.labels["file"])


def _harness_stages(runs: Iterable[ImportedRun]) -> Iterator[ImportedStage]:
    for run in runs:
        if run.form == energy_harness.FORM:
            for session in run.sessions:
                yield from session.stages


def _not_booked(runs: Sequence[ImportedRun], booked: Figures) -> tuple[list[ImportedRun], list[LeftOut]]:
    """Runs of which the ledger does not hold a stage as CodeCarbon told it; the others' stages with the reason.

    A run is left out whole: its other stages would be counted twice when it is imported after all.
    """
    new, left_out = [], []
    for run in runs:
        stages = [(stage, stage.results.get("codecarbon_total_kwh")) for stage in _harness_stages([run])]
        held = {stage.name: figure for stage, kwh in stages if (figure := booked.find(stage.name, kwh))}
        if not held:
            new.append(run)
            continue
        for stage, kwh in stages:
            if figure := held.get(stage.name):
                reason = (
                    f"stage {stage.name!r} is in {figure.where} already, from CodeCarbon's own file: both say "
                    f"{kwh:.9g} kWh. That one is kept, so that the work is not counted twice; {figure.instead}, as it "
                    "tells more"
                )
            else:
                reason = f"stage {stage.name!r} is of one run with {next(iter(held))!r}, which is there already"
            left_out.append(LeftOut(name=stage.labels["file"], reason=reason, is_in_ledger=stage.name in held))
    return new, left_out


def _with_constants_said(runs: Sequence[ImportedRun]) -> list[ImportedRun]:
    """Runs of the harness with a word where the same count of tokens stands in stages of different lengths."""
    seen: dict[float, set[tuple[str, int]]] = {}
    for stage in _harness_stages(runs):
        if "tokens" in stage.workload:
            length_ns = stage.end_utc_ns - stage.start_utc_ns
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
