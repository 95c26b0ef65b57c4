"""CodeCarbon's trackers of several ranks: each holds all of its machine, and each says so of the others."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from import_files import START_S, Import, carbon_row, stamp, write_carbon
from stillwatt.importers.codecarbon_trackers import TRACKED_KEY, facts_of, with_trackers_said
from stillwatt.importers.model import ImportedRun, ImportedSession
from stillwatt.units import NS_PER_S
from stillwatt.workflows.import_logs import ImportReport, Outcome


def said(report: ImportReport) -> dict[str, list[str]]:
    """By CodeCarbon's id of a run: what it says of trackers beside it."""
    return {
        line.found.identity: [warning for warning in line.found.warnings if "at the same time" in warning]
        for line in report.lines
    }


def test_four_ranks_of_one_node_name_one_another(tmp_path: Path, run_import: Import) -> None:
    rows = [carbon_row(f"rank-{rank}", duration_s=100.0 + rank / 100) for rank in range(4)]
    report = run_import(write_carbon(tmp_path / "emissions.csv", rows))
    for rank in range(4):
        (warning,) = said(report)[f"rank-{rank}"]
        assert set(re.findall(r"rank-\d", warning)) == {f"rank-{other}" for other in range(4) if other != rank}
        assert "counts the machine 4 times" in warning
    for line in report.lines:
        assert line.record is not None
        assert said(report)[line.found.identity][0] in line.record.warnings


def test_files_of_ranks_beside_each_other_are_seen_together(tmp_path: Path, run_import: Import) -> None:
    for rank in range(2):
        write_carbon(tmp_path / "logs" / f"rank{rank}" / "emissions.csv", [carbon_row(f"rank-{rank}")])
    report = run_import(tmp_path / "logs")
    assert ["counts the machine 2 times" in warnings[0] for warnings in said(report).values()] == [True, True]


def test_a_rank_that_is_imported_later_names_those_that_are_there(tmp_path: Path, run_import: Import) -> None:
    first = run_import(write_carbon(tmp_path / "rank0.csv", [carbon_row("rank-0")]))
    assert not any(said(first).values())
    second = run_import(write_carbon(tmp_path / "rank1.csv", [carbon_row("rank-1")]))
    assert "rank-0 was tracked at the same time" in said(second)["rank-1"][0]
    assert "counts the machine 2 times" in said(second)["rank-1"][0]
    alone = run_import(tmp_path / "rank1.csv")
    assert [line.outcome for line in alone.lines] == [Outcome.ALREADY_THERE]
    both = run_import(tmp_path / "rank0.csv", tmp_path / "rank1.csv")
    assert [warnings[0].count("rank-") for warnings in said(both).values()] == [1, 1]


@pytest.mark.parametrize(
    "changes",
    [
        {"cpu_model": "Intel Xeon"},
        {"gpu_model": "2 x NVIDIA L40S"},
        {"gpu_count": 2},
        {"ram_total_size": 1024.0},
        {"tracking_mode": "process"},
        {"tracking_mode": ""},
        {"timestamp": stamp(201.0)},
        {"timestamp": stamp(199.0)},  # directly after the other, as far as whole seconds tell
        {"run_id": "one", "duration": 90.0},  # an earlier flush of the same run
    ],
)
def test_other_machines_and_other_times_have_nothing_to_say(
    tmp_path: Path, run_import: Import, changes: dict[str, Any]
) -> None:
    rows = [carbon_row("one"), {**carbon_row("two"), **changes}]
    assert not any(said(run_import(write_carbon(tmp_path / "emissions.csv", rows))).values())


def test_of_machines_that_are_not_told_nothing_is_said(tmp_path: Path, run_import: Import) -> None:
    rows = [carbon_row(run_id, cpu_model="", gpu_model="") for run_id in ("one", "two")]
    assert not any(said(run_import(write_carbon(tmp_path / "emissions.csv", rows))).values())


def test_processes_share_their_cpu_and_not_their_gpus(tmp_path: Path, run_import: Import) -> None:
    rows = [carbon_row(run_id, tracking_mode="process") for run_id in ("one", "two")]
    report = run_import(write_carbon(tmp_path / "emissions.csv", rows))
    assert ["counts its GPUs 2 times" in warnings[0] for warnings in said(report).values()] == [True, True]


def test_a_tracker_around_others_is_counted_once_more_by_each_and_not_by_all(
    tmp_path: Path, run_import: Import
) -> None:
    rows = [carbon_row(f"part-{part}", end_s=30.0 * part, duration_s=25.0) for part in (1, 2, 3)]
    report = run_import(write_carbon(tmp_path / "emissions.csv", [carbon_row("around"), *rows]))
    (outer,) = said(report)["around"]
    assert "part-1, part-2, part-3 were tracked" in outer
    assert "counts the machine 2 times" in outer
    assert "around was tracked" in said(report)["part-2"][0]


def tracker(run_id: str, start_s: int, length_s: int) -> ImportedRun:
    """A run of one machine, with nothing in it but its span."""
    start_ns = (int(START_S) + start_s) * NS_PER_S
    end_ns = start_ns + length_s * NS_PER_S
    return ImportedRun(
        form="codecarbon",
        tool="CodeCarbon",
        tool_version="",
        identity=run_id,
        name="",
        host="",
        sessions=(ImportedSession(stages=(), start_utc_ns=start_ns, end_utc_ns=end_ns),),
        sources=(),
        settings={TRACKED_KEY: facts_of({"cpu_model": "EPYC"}, "machine", (start_ns, end_ns))},
    )


@given(spans=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 20)), min_size=1, max_size=12))
def test_each_names_whatever_went_on_beside_it_and_counts_what_did_at_once(spans: list[tuple[int, int]]) -> None:
    spans.sort(key=lambda span: (span[0], -span[1]))
    places = range(len(spans))
    runs = [tracker(f"run-{place:02d}", *span) for place, span in enumerate(spans)]
    told = with_trackers_said(runs[::-1])[::-1]
    assert [run.identity for run in told] == [run.identity for run in runs]

    def goes_on(place: int, beginning: int) -> bool:
        """Whether one goes on for more than a second after another begins."""
        return place == beginning or (place < beginning and sum(spans[place]) - spans[beginning][0] > 1)

    for place, run in enumerate(told):
        beside = [other for other in places if other != place and (goes_on(place, other) or goes_on(other, place))]
        assert bool(run.warnings) == bool(beside)
        if beside:
            (warning,) = run.warnings
            named = set(re.findall(r"run-\d\d", warning))
            assert named <= {f"run-{other:02d}" for other in beside}
            assert len(named) == min(8, len(beside))
            assert (f"and {len(beside) - 8} more" in warning) == (len(beside) > 8)
            most = max(sum(goes_on(other, now) for other in places) for now in places if goes_on(place, now))
            assert f"counts the machine {most} times" in warning
