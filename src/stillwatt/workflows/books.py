"""The ledger's use cases: list, show, rebuild, verify, export. Every look posts what is new first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from stillwatt.errors import LedgerError, NoSuchInputError, RunNotFoundError, UsageError

if TYPE_CHECKING:
    from stillwatt.analysis.side_by_side import SideBySide
    from stillwatt.ledger.gather import Gathered
    from stillwatt.ledger.policy import PolicyView
    from stillwatt.ledger.post import RunFacts
    from stillwatt.ledger.store import LedgerStore, RunLine
    from stillwatt.ledger.verdicts import Judged
    from stillwatt.ledger.verify import Finding
    from stillwatt.records.run import RunRecord


def list_runs(runs_dir: str | Path) -> Sequence[RunLine]:
    """All runs, newest first."""
    from stillwatt.ledger.store import LedgerStore

    with LedgerStore(Path(runs_dir)) as store:
        store.refresh()
        return store.runs()


def show_run(runs_dir: str | Path, reference: str, *, rule: str | None = None) -> RunRecord:
    """One run, by id, unique prefix, name or `latest`.

    With a `rule` (`even`, `process`, `utilisation`) the run is accounted anew from its directory: sessions that were on
    a device at once then share it by that rule (method.md, eq. 15). Other runs of the ledger that measured the same
    parts at the same time are told of among the warnings.

    Raises:
        RunNotFoundError: No such run.
        AmbiguousRunError: The prefix fits several.
        LedgerError: The run's directory is there, and no account can be made of it; says why.
    """
    from stillwatt.ledger.store import LedgerStore
    from stillwatt.workflows.beside import measured_beside

    with LedgerStore(Path(runs_dir)) as store:
        run_id = _resolved(store, reference)
        record = store.get(run_id) if rule is None else _by_rule(Path(runs_dir) / run_id, rule)
        return replace(record, warnings=(*record.warnings, *measured_beside(store, record)))


def side_by_side(runs_dir: str | Path, references: Sequence[str]) -> SideBySide:
    """Runs held against the first of them; references joined by commas are repeats of each other.

    Raises:
        UsageError: Fewer than two sides, or a run is named twice.
        RunNotFoundError: No such run.
        AmbiguousRunError: A prefix fits several.
        LedgerError: A run's directory is there, and no account can be made of it; says why.
        MissingExtraError: A side has several runs, and SciPy is not installed.
    """
    from stillwatt.analysis.side_by_side import side_by_side as hold

    if len(references) < 2:
        raise UsageError("name two runs or more, the one to hold the others against first; `ledger show` shows one")
    sides = [[show_run(runs_dir, one) for one in _repeats(runs_dir, reference)] for reference in references]
    ids = [run.run_id for side in sides for run in side]
    twice = sorted({run_id for run_id in ids if ids.count(run_id) > 1})
    if twice:
        raise UsageError(f"run {twice[0]} is named twice: a name stands for the newest run of that name; give ids")
    return hold(sides)


def _repeats(runs_dir: str | Path, reference: str) -> list[str]:
    """The runs of one side; a name may have a comma in it."""
    if "," not in reference or any(run.name == reference for run in list_runs(runs_dir)):
        return [reference]
    return [one.strip() for one in reference.split(",") if one.strip()]


def _resolved(store: LedgerStore, reference: str) -> str:
    """The id of the run that is meant, after what is new was posted."""
    reasons = {problem.run_id: problem.message for problem in store.refresh().problems}
    try:
        return store.resolve(reference)
    except RunNotFoundError:
        if reference not in reasons:
            raise
        why = f"run {reference!r} in {store.runs_dir} cannot be posted: {reasons[reference]}"
        raise LedgerError(f"{why}; `stillwatt ledger verify {reference}` says what is wrong with it") from None


def _by_rule(run_dir: Path, rule: str) -> RunRecord:
    from stillwatt.ledger.post import build_record
    from stillwatt.records.usage import Rule

    return build_record(run_dir, rule=Rule(rule))


def post(runs_dir: str | Path, sources: Sequence[str | Path]) -> Sequence[Gathered]:
    """Bring run directories of other nodes in, those of one launch into one run, and post what is new.

    Raises:
        NoSuchInputError: A source is neither a run directory nor a folder of them.
        LedgerError: A source's manifest was changed, or its id is taken by another run.
        OSError: A file cannot be copied.
    """
    from stillwatt.ledger.gather import gather
    from stillwatt.ledger.store import LedgerStore

    gathered = gather(Path(runs_dir), [Path(source) for source in sources])
    with LedgerStore(Path(runs_dir)) as store:
        store.refresh()
    return gathered


def show_policy(runs_dir: str | Path, reference: str, policy: str, *, rule: str | None = None) -> PolicyView:
    """One run under an accounting policy, computed anew from its directory and not from the ledger's rows.

    A `rule` says how sessions share a device, as in `show_run`.

    Raises:
        RunNotFoundError: No such run.
        AmbiguousRunError: The prefix fits several.
        LedgerError: The run directory cannot be read.
    """
    from stillwatt.ledger.booking import DEFAULT_RULE
    from stillwatt.ledger.policy import view_run
    from stillwatt.metering.policies import Policy
    from stillwatt.records.usage import Rule

    facts = _read(runs_dir, reference)
    return view_run(facts, Policy(policy), rule=DEFAULT_RULE if rule is None else Rule(rule))


def judge(runs_dir: str | Path, reference: str, *, rule: str | None = None) -> Judged:
    """One run with a verdict on each stage, read anew from its directory: the ledger's rows hold no readings.

    A `rule` says how sessions share a device, as in `show_run`.

    Raises:
        RunNotFoundError: No such run.
        AmbiguousRunError: The prefix fits several.
        LedgerError: The run directory cannot be read.
    """
    from stillwatt.ledger.booking import DEFAULT_RULE
    from stillwatt.ledger.verdicts import judge_run
    from stillwatt.records.usage import Rule

    facts = _read(runs_dir, reference)
    return judge_run(facts, rule=DEFAULT_RULE if rule is None else Rule(rule))


def _read(runs_dir: str | Path, reference: str) -> RunFacts:
    """A run's directory, after what is new was posted."""
    from stillwatt.ledger.liveness import ThisHost
    from stillwatt.ledger.post import read_run
    from stillwatt.ledger.store import LedgerStore

    with LedgerStore(Path(runs_dir)) as store:
        store.refresh()
        run_id = store.resolve(reference)
    return read_run(Path(runs_dir) / run_id, liveness=ThisHost())


def rebuild(runs_dir: str | Path) -> int:
    """Drop the ledger and post every run directory again; returns how many runs it holds then."""
    from stillwatt.ledger.store import LedgerStore

    with LedgerStore(Path(runs_dir)) as store:
        store.rebuild()
        return len(store.runs())


def verify(runs_dir: str | Path, reference: str | None = None) -> Sequence[Finding]:
    """Check one run, or all of them, against their own files.

    Raises:
        NoSuchInputError: There is no such folder: nothing was checked.
        RunNotFoundError: No such run.
    """
    from stillwatt.ledger.store import LedgerStore
    from stillwatt.ledger.verify import verify as verify_books

    if not Path(runs_dir).is_dir():
        raise NoSuchInputError("run directories", str(runs_dir), "name their folder with --runs")
    with LedgerStore(Path(runs_dir)) as store:
        store.refresh()  # a row that differs after this differs although its files did not change
    return verify_books(Path(runs_dir), reference)


def export(runs_dir: str | Path, reference: str, *, form: str, out: str | Path) -> Sequence[Path]:
    """Write a run's stages, energies and samples as files for other programs; returns their paths.

    Raises:
        ConfigError: A file stands where the folder is to be.
    """
    from stillwatt.ledger.export import export as export_run
    from stillwatt.ledger.store import LedgerStore
    from stillwatt.workflows.outputs import refuse_no_folder

    refuse_no_folder(Path(out), option="--out")
    with LedgerStore(Path(runs_dir)) as store:
        store.refresh()
        run_id = store.resolve(reference)
        return export_run(store.get(run_id), Path(runs_dir) / run_id, form=form, out_dir=Path(out))
