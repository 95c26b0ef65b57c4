"""Laws of the ledger: nothing acknowledged is lost, the books close, and the index can be thrown away."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from run_dirs import (
    FakeLiveness,
    SyntheticRun,
    SyntheticSession,
    constant_counter,
    constant_power,
    cpu_counter,
    dram_model,
    gpu_counter,
    gpu_power,
    quick_run,
)
from stillwatt.ledger.conservation import conservation_findings
from stillwatt.ledger.journal import JournalWriter, read_journal
from stillwatt.ledger.post import build_record
from stillwatt.ledger.segments import read_segment, seal
from stillwatt.ledger.segments_raw import RawWriter, raw_path
from stillwatt.ledger.store import LedgerStore
from stillwatt.records import RunRecord, StageKind
from stillwatt.units import J_PER_MJ_MILLI, J_PER_UJ

DEAD = FakeLiveness(False)
QUICKLY = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
events = st.fixed_dictionaries({"event": st.text(), "t_ns": st.integers(), "value": json_values})


def _printable(value: Any) -> Any:
    """The value as a journal can hold it: half characters become `?`."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_printable(key): _printable(inner) for key, inner in value.items()}
    return [_printable(inner) for inner in value] if isinstance(value, list) else value


@QUICKLY
@given(st.lists(events, max_size=5))
def test_whatever_is_written_is_read_back(written: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "j.jsonl"
        writer = JournalWriter(path)
        for event in written:
            writer.write(event)
        writer.close()
        read = read_journal(path)
    assert list(read.events) == [_printable(event) for event in written]
    assert (read.torn_bytes, read.problems) == (0, ())


def test_a_journal_torn_at_any_byte_keeps_every_earlier_event(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    writer = JournalWriter(path)
    written = [{"event": "warning", "t_ns": n, "message": f"ü {'x' * n} \u2028 {n}"} for n in range(12)]
    ends = []
    for event in written:
        writer.write(event)
        ends.append(path.stat().st_size)
    writer.close()
    data = path.read_bytes()
    for cut in range(len(data) + 1):
        path.write_bytes(data[:cut])
        read = read_journal(path)
        # an event is whole as soon as its closing brace is there; only its newline may be lost
        whole = sum(cut >= end - 1 for end in ends)
        assert list(read.events) == written[:whole], cut
        assert read.problems == ()
        rest = cut - (ends[whole - 1] if whole else 0)
        assert read.torn_bytes == max(0, rest)


@QUICKLY
@given(st.data())
def test_going_on_after_a_tear_keeps_what_comes_after(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "j.jsonl"
        expected: list[int] = []
        number = 0
        for _ in range(data.draw(st.integers(1, 4))):
            writer = JournalWriter(path)
            for _ in range(data.draw(st.integers(1, 3))):
                number += 1
                writer.write({"event": "e", "t_ns": number})
                expected.append(number)
            writer.close()
            size = path.stat().st_size
            cut = data.draw(st.integers(0, min(5, size)))
            path.write_bytes(path.read_bytes()[: size - cut])
            if cut > 1:
                expected = expected[:-1]
        assert [event["t_ns"] for event in read_journal(path).events] == expected


@QUICKLY
@given(
    st.lists(st.tuples(st.integers(0, 2**62), st.floats(-(2.0**63), 2.0**63)), max_size=8),
    st.data(),
)
def test_raw_cut_at_any_byte_keeps_whole_blocks(records: list[tuple[int, float]], data: st.DataObject) -> None:
    records = [(t_ns, count) for t_ns, count in sorted(dict(records).items())]
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder)
        path = raw_path(run_dir, "s", "gpu0.energy_counter")
        writer = RawWriter(path)
        blocks: list[tuple[int, int]] = []
        written = []
        for t_ns, count in records:
            writer.append(t_ns, count)
            written.append(t_ns)
            if data.draw(st.booleans()):
                writer.flush()
                blocks.append((path.stat().st_size, len(written)))
        writer.close()
        blocks.append((path.stat().st_size, len(written)))
        cut = data.draw(st.integers(0, path.stat().st_size))
        path.write_bytes(path.read_bytes()[:cut])
        for is_sealed in (False, True):
            if is_sealed:
                seal(run_dir, "s", {"gpu0.energy_counter": gpu_counter()})
            segment = read_segment(run_dir, "s", "gpu0.energy_counter")
            end, number = max((block for block in blocks if block[0] <= cut), default=(0, 0))
            whole = records[:number]
            assert list(zip(segment.t_ns.tolist(), segment.count.tolist(), strict=True)) == whole
            assert (segment.torn_bytes, segment.damaged) == (cut - end, 0)


kinds = st.sampled_from([kind.value for kind in StageKind])


@st.composite
def run_dirs(draw: st.DrawFn, runs_dir: Path, number: int) -> SyntheticRun:
    """A run of one or two sessions with nested stages, any of which may be cut off."""
    run = SyntheticRun(runs_dir, number=number, name=draw(st.text(max_size=8)))
    for index in range(draw(st.integers(0, 2))):
        start_s = 100.0 + 1000.0 * index
        session = run.session(start_s=start_s)
        _fill(draw, session, start_s)
    return run


def _fill(draw: st.DrawFn, session: SyntheticSession, start_s: float) -> None:
    power_w = draw(st.floats(1.0, 500.0))
    last_s = start_s + 12.0
    if draw(st.booleans()):
        session.sampler([gpu_counter(), gpu_power(), cpu_counter(), dram_model()])
        session.samples("gpu0.energy_counter", constant_counter(power_w, J_PER_MJ_MILLI), until_s=last_s)
        session.samples("gpu0.power", constant_power(power_w), until_s=last_s)
        session.samples("cpu0.energy_counter", constant_counter(20.0, J_PER_UJ), until_s=last_s)
        if draw(st.booleans()):
            session.samples("dram0.power", constant_power(3.0), until_s=last_s)
    marks = sorted(draw(st.lists(st.floats(0.5, 11.0), min_size=2, max_size=8)))
    open_stages: list[str] = []
    for mark in marks:
        is_end = draw(st.booleans())
        if open_stages and is_end:
            session.finish(open_stages.pop(), start_s + mark, status=draw(st.sampled_from(["ended", "failed"])))
        else:
            parent = open_stages[-1] if open_stages else None
            open_stages.append(
                session.begin(draw(st.text(max_size=5)), start_s + mark, kind=draw(kinds), parent=parent)
            )
            session.program(
                "workload", start_s + mark, stage_id=open_stages[-1], counts={"tokens": draw(st.integers(0, 2**70))}
            )
            session.program("result", start_s + mark, stage_id=open_stages[-1], results={"r": draw(json_values)})
    ending = draw(st.sampled_from(["ended", "failed", "parent_lost", "killed"]))
    if ending == "parent_lost":
        session.parent_lost(start_s + 11.5)
    elif ending != "killed":
        session.end(start_s + 11.5, status=ending)


@QUICKLY
@given(st.data())
def test_the_ledger_can_be_thrown_away_and_the_books_close(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        runs_dir = Path(folder) / "runs"
        runs = [data.draw(run_dirs(runs_dir, number)) for number in (1, 2)]
        built = [build_record(run.path, liveness=DEAD) for run in runs]
        with LedgerStore(runs_dir, liveness=DEAD) as store:
            posted = store.refresh()
            assert posted.problems == ()
            for record in built:
                assert store.get(record.run_id) == record
                assert list(conservation_findings(record)) == []
            before = store.dump()
            # sealed by now: the same record from other files
            assert [build_record(run.path, liveness=DEAD) for run in runs] == built
            store.rebuild()
            assert store.dump() == before
            assert store.refresh().posted == ()


@QUICKLY
@given(st.integers(0, 10_000))
def test_a_program_journal_torn_anywhere_can_be_posted(cut_from_end: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = quick_run(Path(folder))
        whole = build_record(run.path, liveness=DEAD)
        path = next(path for path in run.path.glob("journal.*.jsonl") if ".meter." not in path.name)
        data = path.read_bytes()
        assume(cut_from_end <= len(data))
        path.write_bytes(data[: len(data) - cut_from_end])
        torn = build_record(run.path, liveness=DEAD)
    assert len(torn.stages) <= len(whole.stages)
    kept = {stage.stage_id: stage for stage in torn.stages}
    for stage in whole.stages:
        if stage.stage_id in kept and kept[stage.stage_id].status is stage.status:
            assert kept[stage.stage_id].duration_s == stage.duration_s
    assert list(conservation_findings(torn)) == []
    assert _measured_j(torn) >= _measured_j(whole) - 1e-6, "what was measured stays on the books"


def _measured_j(record: RunRecord) -> float:
    return getattr(record.total, "value_j", math.nan)


def test_sorting_and_sealing_never_change_a_count(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    times = rng.permutation(5_000).astype(np.int64) * 1_000
    writer = RawWriter(raw_path(tmp_path, "s", "gpu0.energy_counter"))
    for t_ns in times.tolist():
        writer.append(t_ns, t_ns / 3.0)
    writer.close()
    before = read_segment(tmp_path, "s", "gpu0.energy_counter")
    seal(tmp_path, "s", {"gpu0.energy_counter": gpu_counter()})
    after = read_segment(tmp_path, "s", "gpu0.energy_counter")
    assert np.array_equal(before.t_ns, np.sort(times))
    assert np.array_equal(before.count, before.t_ns / 3.0)
    assert np.array_equal(after.count, before.count)
    assert np.array_equal(after.t_ns, before.t_ns)
