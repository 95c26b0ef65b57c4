"""`stillwatt.load`: frames with units in the names, null with its reason, and records a notebook can show."""

from __future__ import annotations

import html
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import stillwatt
from figure_studies import HOSTILE, study
from run_dirs import quick_run
from run_records import energy, quickstart, run_record, stage
from stillwatt.errors import MissingExtraError, MissingInputError, UnknownNameError
from stillwatt.ledger.export import run_table, stage_table
from stillwatt.records import Absent, Boundary, NoTotal, StageKind, Total
from stillwatt.workflows.points import point_table


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("runs")
    quick_run(place, number=1, name="one")
    quick_run(place, number=2, name="two")
    return place


def test_arrow_frames_hold_every_run_and_stage(runs: Path) -> None:
    loaded = stillwatt.load(runs, frame="arrow")
    assert [record.name for record in loaded.records] == ["one", "two"]
    assert loaded.runs.num_rows == 2
    assert loaded.stages.num_rows == sum(len(record.stages) for record in loaded.records)
    assert loaded.energies.num_rows == sum(len(s.energies) for r in loaded.records for s in r.stages)
    total = loaded.runs["total_value_j"].to_pylist()[0]
    whole = loaded.records[0].total
    assert isinstance(whole, Total)
    assert total == pytest.approx(whole.value_j)


def test_every_number_of_energy_time_and_power_says_its_unit(runs: Path) -> None:
    loaded = stillwatt.load(runs, frame="arrow")
    bare = {"attempt", "tokens", "stages", "gaps", "warnings", "failed_reads", "coverage", "quality", "quality_se"}
    bare |= {"on_frontier_probability"}
    for table in (loaded.runs, loaded.stages, loaded.energies, loaded.samples(), loaded.points):
        for field in table.schema:
            if field.type in (pa.float64(), pa.int64()):
                assert field.name in bare or field.name.endswith(("_j", "_s", "_w", "_ns")), field.name


def test_one_run_directory_is_loaded_alone(runs: Path) -> None:
    first = stillwatt.load(runs, frame="arrow").records[0]
    loaded = stillwatt.load(runs / first.run_id, frame="arrow")
    assert [record.run_id for record in loaded.records] == [first.run_id]


def test_samples_are_in_si_and_can_be_chosen(runs: Path) -> None:
    loaded = stillwatt.load(runs, frame="arrow")
    both = loaded.samples("one", part="gpu0").to_pylist()
    powers = [row["power_w"] for row in both if row["quantity"] == "power"]
    counts = [row["energy_j"] for row in both if row["quantity"] == "energy_counter"]
    assert max(powers) == 300.0
    assert counts == sorted(counts)
    assert all((row["power_w"] is None) != (row["energy_j"] is None) for row in both)
    assert {row["part"] for row in loaded.samples().to_pylist()} == {"gpu0", "cpu0"}
    with pytest.raises(UnknownNameError, match="unknown run 'three'"):
        loaded.samples("three")
    with pytest.raises(UnknownNameError, match="unknown part 'gpu1'; did you mean 'gpu0'"):
        loaded.samples(part="gpu1")


def test_an_empty_directory_has_empty_frames(tmp_path: Path) -> None:
    loaded = stillwatt.load(tmp_path, frame="arrow")
    for table in (loaded.runs, loaded.stages, loaded.energies, loaded.samples(), loaded.points):
        assert table.num_rows == 0
        assert table.num_columns > 5


def test_what_is_absent_is_null_with_its_reason_and_never_0() -> None:
    gone = NoTotal(reason="cpu0: energy_uj is readable by root only")
    run = run_record([stage("a1", "job", StageKind.OTHER, energies=())], total=gone, unallocated=gone)
    row = run_table([run]).to_pylist()[0]
    assert row["total_value_j"] is None
    assert row["total_absent_reason"] == gone.reason
    (entry,) = stage_table([replace(run, stages=(replace(run.stages[0], gross=gone),))]).to_pylist()
    assert (entry["gross_value_j"], entry["gross_absent_reason"]) == (None, gone.reason)


def test_points_have_a_row_an_allocation_and_a_reason_where_a_number_is_missing(tmp_path: Path) -> None:
    run = run_record([entry for entry in quickstart().stages if entry.name != "teacher_logits"])
    rows = point_table([run], runs_dir=tmp_path).to_pylist()
    gone = [row for row in rows if row["energy_j"] is None]
    assert {row["arm"] for row in gone} == {"kd"}
    assert all("no stage of this run made artefact" in row["energy_absent_reason"] for row in gone)
    known = [row for row in rows if row["energy_j"] is not None]
    assert all(row["energy_low_j"] <= row["energy_j"] <= row["energy_high_j"] for row in known)
    assert all((row["is_on_frontier"] is None) != (row["frontier_absent_reason"] is None) for row in rows)
    assert all((row["quality"] is None) == (row["quality_absent_reason"] is not None) for row in rows)


def test_without_scores_the_quality_is_null_and_says_why(tmp_path: Path) -> None:
    run = run_record([entry for entry in quickstart().stages if not entry.name.startswith("evaluate")])
    rows = point_table([run], runs_dir=tmp_path).to_pylist()
    assert rows
    assert all(row["quality"] is None and row["quality_absent_reason"] for row in rows)


def test_pandas_frames_add_up(runs: Path) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    loaded = stillwatt.load(runs)
    frame: Any = loaded.stages
    assert frame.loc[frame["kind"] == "teacher_logits", "gross_value_j"].sum() > 2000.0
    assert frame["net_absent_reason"].isna().all() or frame["net_value_j"].isna().any()


def test_polars_frames_are_polars(runs: Path) -> None:
    polars = pytest.importorskip("polars", reason="polars is not installed")
    frame = stillwatt.load(runs, frame="polars").stages
    assert isinstance(frame, polars.DataFrame)
    assert frame["gross_value_j"].null_count() == 0


@pytest.mark.parametrize("frame", ["pandas", "polars"])
def test_a_library_that_is_not_there_is_named(runs: Path, frame: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, frame, None)
    with pytest.raises(MissingExtraError, match=rf"{frame} is not installed; run: pip install 'stillwatt\[notebook\]'"):
        stillwatt.load(runs, frame=frame)


def test_what_cannot_be_loaded_says_so(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'pandas'"):
        stillwatt.load(tmp_path, frame="panda")  # type: ignore[arg-type]  # the misuse is what is tested
    with pytest.raises(MissingInputError, match="name a directory of runs"):
        stillwatt.load(tmp_path / "nothing", frame="arrow")


def shown(thing: Any) -> str:
    text: str = thing._repr_html_()
    assert "<img" not in text
    assert len(text) < 20_000
    return text


def test_records_show_themselves_with_every_name_escaped(runs: Path) -> None:
    loaded = stillwatt.load(runs, frame="arrow")
    assert "2 runs of" in repr(loaded)
    assert "teacher_logits" in shown(loaded)
    hostile = replace(quickstart(name=HOSTILE), warnings=(HOSTILE,))
    many = replace(hostile, stages=hostile.stages * 3)
    assert html.escape(HOSTILE) in shown(hostile)
    assert "more</div>" in shown(many)
    assert "J [" in shown(energy(12.5, HOSTILE))
    assert shown(Absent(part="cpu0", boundary=Boundary.CHIP, reason=HOSTILE)).startswith("<b>cpu0</b>: absent")
    assert shown(NoTotal(reason="every part is absent")) == "no total: every part is absent"
    assert "J [" in shown(hostile.total)
    assert isinstance(hostile.total, Total)
    partial = replace(hostile.total, complete=False, absent=("gpu0",))
    assert "incomplete · without gpu0" in shown(partial)


def test_a_run_without_a_total_says_why() -> None:
    gone = NoTotal(reason="every part is absent")
    run = run_record([stage("a1", "job", StageKind.OTHER)], total=gone, unallocated=gone)
    assert "no total: every part is absent" in shown(run)


def test_a_comparison_shows_itself() -> None:
    found = study(prefix=HOSTILE)
    text = shown(found)
    assert "on the frontier" in text
    assert "N* (students)" in text
    assert "<ul>" in text
    assert "<ul>" not in shown(replace(found, warnings=()))
