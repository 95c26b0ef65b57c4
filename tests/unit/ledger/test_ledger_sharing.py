"""Sessions share a device by a stated rule, another rule can be asked for later, and tenants are told of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from run_dirs import GPU, FakeLiveness, SyntheticRun, SyntheticSession, constant_counter, gpu_counter
from stillwatt.ledger.conservation import conservation_findings
from stillwatt.ledger.post import build_record
from stillwatt.records import Energy, RunRecord, StageRecord, Total
from stillwatt.records.usage import Rule
from stillwatt.units import J_PER_MJ_MILLI, nanoseconds
from stillwatt.workflows import books

WATTS = 400.0
TEACHER, STUDENT, STRANGER = [2001, 10], [2002, 20], [666, 30]


def process(who: list[int], sm_share: float | None) -> dict[str, Any]:
    return {"pid": who[0], "chain": [who], "sm_share": sm_share, "memory_bytes": 1, "instance": None, "same_user": True}


def look(session: SyntheticSession, since_s: float, t_s: float, *users: dict[str, Any]) -> None:
    """What the sampling process saw from one time to another."""
    session.meter("device_users", t_s, part="gpu0", since_ns=nanoseconds(since_s), users=list(users))


def served_beside_trained(
    folder: Path, *, teacher: float | None = 0.6, student: float | None = 0.2, is_student_there: bool = True
) -> SyntheticRun:
    """A teacher serves from second 101 to 121, a student trains beside it from 111 to 121, on one card at 400 W."""
    run = SyntheticRun(folder)
    sessions = []
    for rank, who in enumerate((TEACHER, STUDENT)):
        session = run.session(start_s=100.0, rank=rank, world_size=2)
        session.prefix = f"r{rank}a"
        channels = [gpu_counter()] if rank == 0 else []
        session.sampler(channels, parts={"gpu0": GPU}, program=who)
        sessions.append(session)
    sessions[0].stage("serve", 101.0, 121.0, kind="serve")
    sessions[1].stage("train", 111.0, 121.0, kind="student_train")
    look(sessions[0], 100.0, 100.5, process(TEACHER, 0.9))
    users = [process(TEACHER, teacher), process(STUDENT, student)]
    look(sessions[0], 110.5, 111.5, *users[: 2 if is_student_there else 1])
    sessions[0].samples("gpu0.energy_counter", constant_counter(WATTS, J_PER_MJ_MILLI), until_s=122.0)
    for session in sessions:
        session.end(122.0)
    return run


def accounted(run: SyntheticRun, rule: Rule) -> RunRecord:
    record = build_record(run.path, liveness=FakeLiveness(), rule=rule)
    assert list(conservation_findings(record)) == []
    return record


def energy_j(record: RunRecord, name: str) -> float:
    (stage,) = [stage for stage in record.stages if stage.name == name]
    assert isinstance(stage.gross, Total)
    return stage.gross.value_j


def only_energy(stage: StageRecord) -> Energy:
    (energy,) = stage.energies
    assert isinstance(energy, Energy)
    return energy


@pytest.mark.parametrize(("rule", "teacher_share"), [(Rule.EVEN, 0.5), (Rule.PROCESS, 0.5), (Rule.UTILISATION, 0.75)])
def test_what_ran_at_once_is_divided_by_the_rule(tmp_path: Path, rule: Rule, teacher_share: float) -> None:
    record = accounted(served_beside_trained(tmp_path), rule)
    assert energy_j(record, "serve") == pytest.approx(WATTS * (10 + 10 * teacher_share), rel=1e-3)
    assert energy_j(record, "train") == pytest.approx(WATTS * 10 * (1 - teacher_share), rel=1e-3)
    assert record.complete
    assert record.warnings == ()


def test_another_rule_moves_joules_and_makes_none(tmp_path: Path) -> None:
    run = served_beside_trained(tmp_path)
    totals = {rule: accounted(run, rule).total for rule in Rule}
    assert len(set(totals.values())) == 1
    sums = [sum(energy_j(accounted(run, rule), name) for name in ("serve", "train")) for rule in Rule]
    assert sums == pytest.approx([sums[0]] * len(sums))


def test_who_has_no_process_there_pays_nothing(tmp_path: Path) -> None:
    """A student that waits on the CPU while the teacher has the card to itself."""
    run = served_beside_trained(tmp_path, is_student_there=False)
    record = accounted(run, Rule.PROCESS)
    assert energy_j(record, "train") == 0.0
    assert energy_j(accounted(run, Rule.EVEN), "train") == pytest.approx(WATTS * 5, rel=1e-3)


def test_a_rule_without_anything_to_go_by_says_so(tmp_path: Path) -> None:
    record = accounted(served_beside_trained(tmp_path, teacher=None), Rule.UTILISATION)
    assert energy_j(record, "train") == pytest.approx(WATTS * 5, rel=1e-3)
    (said,) = record.warnings
    assert "gpu0: for 10 s shared by `process` and not by `utilisation`: shares of the multiprocessors are not" in said


def test_a_tenant_is_told_of_and_pays_nothing(tmp_path: Path) -> None:
    run = SyntheticRun(tmp_path)
    session = run.session()
    session.sampler([gpu_counter()], parts={"gpu0": GPU}, program=TEACHER)
    session.stage("alone", 101.0, 105.0)
    session.stage("together", 105.0, 111.0)
    look(session, 100.0, 100.5, process(TEACHER, 0.9))
    look(session, 107.0, 108.0, process(TEACHER, 0.2), process(STRANGER, 0.8))
    session.samples("gpu0.energy_counter", constant_counter(WATTS, J_PER_MJ_MILLI), until_s=112.0)
    session.end(112.0)
    record = accounted(run, Rule.PROCESS)
    alone, together = record.stages
    assert only_energy(alone).flags == ()
    assert only_energy(together).flags == (
        "shared: processes of others were on it for 4.0 s of 6.0 s, with up to 80 % of its multiprocessors",
    )
    assert only_energy(together).value_j == pytest.approx(WATTS * 6, rel=1e-3)
    assert record.warnings == (
        "gpu0: another process (pid 666, not of this run) used it for 5.0 s of 12 s, up to 80 % of its multiprocessors",
    )


def test_the_books_answer_for_any_rule(tmp_path: Path) -> None:
    served_beside_trained(tmp_path)
    stored = books.show_run(tmp_path, "demo")
    assert books.show_run(tmp_path, "demo", rule="process") == stored
    assert energy_j(books.show_run(tmp_path, "demo", rule="utilisation"), "train") < energy_j(stored, "train")
