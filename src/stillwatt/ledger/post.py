"""From a run directory to the record of its run: read, account, describe. Writes nothing.

The same directory gives the same record, whoever posts it and however often; only a session that is still
running makes it grow. Numbers come from `stillwatt.metering`; this module brings files and stages together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from msgspec.structs import replace as replace_fields

from stillwatt.clock import iso_utc
from stillwatt.errors import LedgerError
from stillwatt.ledger.absent_ranks import absent_rank_notes, missing_ranks
from stillwatt.ledger.booking import DEFAULT_RULE, BookedRun, StageEnergies, book_run
from stillwatt.ledger.clocks import aligned
from stillwatt.ledger.liveness import Liveness, ThisHost
from stillwatt.ledger.places import Place
from stillwatt.ledger.rundir import (
    MANIFEST,
    is_sound_manifest,
    node_manifests,
    one_line,
    read_manifest,
    read_manifest_file,
    sessions,
)
from stillwatt.ledger.samplers import meter_energy
from stillwatt.ledger.sessions import SessionFacts, read_session
from stillwatt.ledger.stages import StageFacts
from stillwatt.metering.trace import trace_points
from stillwatt.records.energy import NoTotal, Total
from stillwatt.records.run import ProbeRecord, RunRecord, StageRecord, StageSpan, Trace
from stillwatt.records.usage import Rule
from stillwatt.records.window import StageStatus
from stillwatt.threads import map_large
from stillwatt.units import NS_PER_S, NS_PER_US, seconds

_LARGE = 50_000
"""Readings above which streams are worth a thread each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """A run directory as read: its manifest and its sessions, earliest first."""

    run_id: str
    """The directory's name, which is what tells runs of one ledger apart."""
    manifest: Mapping[str, Any]
    created_utc_ns: int
    sessions: tuple[SessionFacts, ...]
    nodes: Mapping[str, Mapping[str, Any]]
    """Environments of other nodes whose journals were brought in, by run id there."""
    missing_ranks: tuple[int, ...]
    """Ranks without a session of a start of their launch, whose machines nobody else measured: their journals were not
    brought along, or they never began."""
    is_damaged: bool
    """Whether the manifest was changed after it was written."""
    warnings: tuple[str, ...]

    @property
    def is_live(self) -> bool:
        """Whether a process of the run may still write, so that the record will change."""
        return any(session.is_live for session in self.sessions)


def build_record(run_dir: Path, *, liveness: Liveness | None = None, rule: Rule = DEFAULT_RULE) -> RunRecord:
    """The record of a run from its directory alone.

    Args:
        run_dir: A directory with a manifest.
        liveness: Tells whether processes still live; this machine's /proc if None.
        rule: How sessions share a device that several of them use at once (method.md, eq. 15).

    Raises:
        LedgerError: the manifest is missing or not one of this schema.
        OSError: a file cannot be read.
    """
    return account_run(read_run(run_dir, liveness=liveness or ThisHost()), rule=rule)


def read_run(run_dir: Path, *, liveness: Liveness) -> RunFacts:
    """Read a run directory.

    Raises:
        LedgerError: the manifest is missing or not one of this schema.
        OSError: a file cannot be read.
    """
    run_dir = Path(run_dir)
    manifest = read_manifest(run_dir)
    created_utc_ns = _utc_ns(str(manifest["created_utc"]), run_dir)
    found = [
        read_session(run_dir, name, paths, liveness=liveness, created_utc_ns=created_utc_ns)
        for name, paths in sessions(run_dir).items()
    ]
    ordered, warnings = aligned(found)
    missing = missing_ranks(ordered)
    warnings += absent_rank_notes(ordered)
    run_id = run_dir.resolve().name
    if manifest["run_id"] != run_id:
        warnings.append(f"the directory was renamed; its manifest calls the run {one_line(manifest['run_id'])}")
    is_damaged = not is_sound_manifest(manifest)
    if is_damaged:
        warnings.append(f"{MANIFEST} does not have the hash written in it; name and settings may not be the run's own")
    if not ordered:
        warnings.append("the run directory holds no journal; nothing was measured")
    distinct, renamed = _distinct_stage_ids(ordered)
    nodes = _nodes(run_dir, warnings)
    return RunFacts(
        run_id=run_id,
        manifest=manifest,
        created_utc_ns=created_utc_ns,
        sessions=distinct,
        nodes=nodes,
        missing_ranks=missing,
        is_damaged=is_damaged,
        warnings=(*warnings, *renamed),
    )


def account_run(facts: RunFacts, *, rule: Rule = DEFAULT_RULE) -> RunRecord:
    """The record of a run that was read."""
    return booked_record(facts, book_run(facts.sessions, rule=rule))


def booked_record(facts: RunFacts, booked: BookedRun) -> RunRecord:
    """The record of a run that was read and booked."""
    stages = tuple(_stage_records(booked))
    start_utc_ns = facts.sessions[0].start_utc_ns if facts.sessions else facts.created_utc_ns
    return RunRecord(
        run_id=facts.run_id,
        name=str(facts.manifest["name"]),
        status=_run_status(facts),
        start_utc=iso_utc(start_utc_ns),
        duration_s=float(seconds(_length_ns([each.place for each in booked.places]))),
        complete=_is_complete(facts, stages, booked.total),
        stages=stages,
        unallocated=booked.unallocated,
        total=booked.total,
        meter=_meter_account(facts.sessions),
        environment={**facts.manifest["environment"], **({"nodes": dict(facts.nodes)} if facts.nodes else {})},
        settings=dict(facts.manifest["settings"]),
        settings_sha256=str(facts.manifest["settings_sha256"]),
        probes=_probes(facts.sessions),
        gaps=sum(len(session.gaps) for session in facts.sessions),
        warnings=tuple(_warnings(facts, booked)),
        traces=tuple(_traces(booked)),
        spans=tuple(_spans(booked)),
    )


def _distinct_stage_ids(found: Sequence[SessionFacts]) -> tuple[tuple[SessionFacts, ...], list[str]]:
    """Sessions whose stage ids no earlier session has; two sessions at once may have taken the same prefix."""
    taken: set[str] = set()
    distinct, warnings = [], []
    for session in found:
        own = {stage.stage_id for stage in session.stages}
        if taken & own:
            session = _with_qualified_ids(session)
            own = {stage.stage_id for stage in session.stages}
            warnings.append(f"session {session.session} reuses stage ids of an earlier one; its ids carry its name")
        taken |= own
        distinct.append(session)
    return tuple(distinct), warnings


def _with_qualified_ids(session: SessionFacts) -> SessionFacts:
    """The session with its own name in the ids of its stages, wherever they are named."""
    return replace(
        session,
        stages=tuple(_qualified(stage, session.session) for stage in session.stages),
        stated=tuple(replace_fields(line, stage_id=f"{line.stage_id}@{session.session}") for line in session.stated),
    )


def _qualified(stage: StageFacts, session: str) -> StageFacts:
    parent_id = None if stage.parent_id is None else f"{stage.parent_id}@{session}"
    return replace(stage, stage_id=f"{stage.stage_id}@{session}", parent_id=parent_id)


def _run_status(facts: RunFacts) -> StageStatus:
    """Running while any session is; else what the last session came to; recovered where nothing was begun."""
    if any(session.status is StageStatus.RUNNING for session in facts.sessions):
        return StageStatus.RUNNING
    return facts.sessions[-1].status if facts.sessions else StageStatus.RECOVERED


def _is_complete(facts: RunFacts, stages: Sequence[StageRecord], total: Total | NoTotal) -> bool:
    """Whether no part is absent, no second is missing, every session was sampled to its end, nothing was changed."""
    totals = [total, *(stage.gross for stage in stages)]
    return (
        bool(facts.sessions)
        and not facts.is_live
        and not facts.missing_ranks
        and all(session.has_sampler and session.is_end_known and not session.is_damaged for session in facts.sessions)
        and not facts.is_damaged
        and all(isinstance(each, Total) and each.complete for each in totals)
    )


def _stage_records(booked: BookedRun) -> Iterator[StageRecord]:
    for place in booked.places:
        for facts in place.place.sessions:
            for stage in facts.stages:
                yield _stage_record(facts, stage, place.stages[stage.stage_id])


def _stage_record(facts: SessionFacts, stage: StageFacts, energies: StageEnergies) -> StageRecord:
    return StageRecord(
        stage_id=stage.stage_id,
        parent_id=stage.parent_id,
        name=stage.name,
        kind=stage.kind,
        attempt=stage.attempt,
        status=stage.status,
        start_utc=iso_utc(facts.start_utc_ns + stage.start_ns - facts.start_ns),
        duration_s=float(seconds(stage.end_ns - stage.start_ns)),
        workload=dict(stage.workload),
        labels=dict(stage.labels),
        results=dict(stage.results),
        energies=energies.gross,
        gross=energies.gross_total,
        net=energies.net_total,
    )


def _nodes(run_dir: Path, warnings: list[str]) -> dict[str, Mapping[str, Any]]:
    nodes: dict[str, Mapping[str, Any]] = {}
    for path in node_manifests(run_dir):
        try:
            manifest = read_manifest_file(path)
        except LedgerError as err:
            warnings.append(str(err))
            continue
        nodes[path.stem] = dict(manifest["environment"])
        if not is_sound_manifest(manifest):
            warnings.append(f"{path.parent.name}/{path.name} does not have the hash written in it; it was changed")
    return nodes


def _length_ns(found: Sequence[Place]) -> int:
    """How long any of the places was measured; nodes side by side count once, and time between sessions not at all."""
    anchors: dict[str, int] = {}
    spans = []
    for place in found:
        # one anchor a machine: sessions of one boot never overlap on its own clock, whatever was done to its wall clock
        at_ns = anchors.setdefault(place.sessions[0].origin.machine or place.name, place.start_utc_ns - place.start_ns)
        spans.append((place.start_ns + at_ns, place.end_ns + at_ns))
    length_ns, reached_ns = 0, 0
    for start_ns, end_ns in sorted(spans):
        length_ns += max(0, end_ns - max(start_ns, reached_ns))
        reached_ns = max(reached_ns, end_ns)
    return length_ns


def _meter_account(found: Sequence[SessionFacts]) -> dict[str, float]:
    """What the meter did and cost; `cpu_s` is left out where no sampling process gave its account."""
    account: dict[str, float] = {
        "sessions": len(found),
        "samples": sum(int(segment.t_ns.size) for session in found for segment in session.segments.values()),
    }
    for name in ("failed_reads", "skipped_ticks", "cpu_s"):
        given = [session.meter[name] for session in found if name in session.meter]
        if given:
            account[name] = sum(given)
    return account | meter_energy(account["cpu_s"]) if account.get("cpu_s") else account


def _probes(found: Sequence[SessionFacts]) -> tuple[ProbeRecord, ...]:
    """What drivers said, each thing once."""
    return tuple(dict.fromkeys(probe for session in found for probe in session.probes))


def _warnings(facts: RunFacts, booked: BookedRun) -> Iterator[str]:
    yield from facts.warnings
    for number, session in enumerate(facts.sessions, start=1):
        where = _whose(session, number, len(facts.sessions))
        for warning in (*session.warnings, *_gap_warnings(session)):
            yield where + one_line(warning)
    yield from (one_line(note) for baseline in booked.idle.found.values() for note in baseline.notes)
    numbers = {session.session: number for number, session in enumerate(facts.sessions, start=1)}
    for place in booked.places:
        first = place.place.sessions[0]
        where = _whose(first, numbers[first.session], len(facts.sessions))
        if len(place.place.sessions) > 1:
            where = f"{first.origin.host}: "
        for note in place.notes:
            yield where + one_line(note)


def _whose(session: SessionFacts, number: int, count: int) -> str:
    if session.origin.rank is not None and session.origin.world_size != 1:
        return f"rank {session.origin.rank}: "
    return f"session {number} of {count}: " if count > 1 else ""


def _gap_warnings(session: SessionFacts) -> Iterator[str]:
    """One line for each stream with gaps."""
    for stream in dict.fromkeys(gap.stream for gap in session.gaps):
        gaps = [gap for gap in session.gaps if gap.stream == stream]
        length_s = seconds(sum(gap.end_ns - gap.start_ns for gap in gaps))
        failed = sum(gap.failed_reads for gap in gaps)
        what = f"{len(gaps)} gap{'' if len(gaps) == 1 else 's'}"
        yield f"{stream}: {what} of {length_s:.3g} s in all, {failed} failed reads; first reason: {gaps[0].reason}"


def _traces(booked: BookedRun) -> Iterator[Trace]:
    for each in booked.places:
        ledgers = [ledger for ledger, _ in each.series.values()]
        drawn = map_large(
            partial(trace_points, start_ns=each.place.start_ns),
            ledgers,
            are_large=any(ledger.t_ns.size > _LARGE for ledger in ledgers),
        )
        for part, points in zip(each.series, drawn, strict=True):
            if points:
                yield Trace(session=each.place.name, part=part, points=points)


def _spans(booked: BookedRun) -> Iterator[StageSpan]:
    for each in booked.places:
        for stage in (stage for session in each.place.sessions for stage in session.stages):
            yield StageSpan(
                stage_id=stage.stage_id,
                session=each.place.name,
                start_s=float(seconds(stage.start_ns - each.place.start_ns)),
                end_s=float(seconds(stage.end_ns - each.place.start_ns)),
            )


def _utc_ns(text: str, run_dir: Path) -> int:
    """Nanoseconds since 1970 of a label written by `clock.iso_utc`."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as err:
        raise LedgerError(f"{run_dir}: created_utc {text!r} is not a time ({err})") from err
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    whole_s = since.days * 24 * 60 * 60 + since.seconds
    return whole_s * NS_PER_S + since.microseconds * NS_PER_US
