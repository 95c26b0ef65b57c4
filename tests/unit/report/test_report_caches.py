from __future__ import annotations

from run_records import run_record, stage
from stillwatt.records import StageKind
from stillwatt.report.cache_table import caches_table

LABELS = {"artifact": "logits-0a1b2c3d4e5f", "artifact_kind": "logits"}


def test_a_caches_row_has_its_figures_and_the_note_says_why_others_are_missing() -> None:
    made = stage(
        "a1", "teacher_logits", StageKind.TEACHER_LOGITS, joules=200.0, labels=LABELS, workload={"write_s": 1.0},
        results={"positions": 1000, "bytes": 50_000, "bytes_per_token": 50.0, "kept_mass": 0.93, "kl_to_full": 0.25,
                 "kl_positions": 127},
    )  # fmt: skip
    table = caches_table({"run": run_record([made]).to_dict()})
    (row,) = table.rows
    assert row.cells[:4] == ("logits-0a1b2c3d4e5f", "50.0", "0.9300", "0.250 over 127")
    assert row.cells[4].startswith("200 mJ [")
    assert row.cells[5].startswith("20.0 mJ [")
    assert all(cell.endswith("modelled") for cell in row.cells[4:6])
    assert row.cells[6] == "–"
    assert table.note == "to read: no stage of this run did it"


def test_what_was_never_measured_is_a_dash_with_its_reason() -> None:
    bare = stage("a1", "teacher_logits", StageKind.TEACHER_LOGITS, joules=200.0, labels=LABELS)
    table = caches_table({"run": run_record([bare]).to_dict()})
    assert table.rows[0].cells[1:] == ("–",) * 6
    assert "KL: it was made before fidelity was measured" in table.note
    assert caches_table({"run": run_record([]).to_dict()}).rows == ()
