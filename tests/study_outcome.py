"""What a study left behind, beside what an undisturbed one left; and what the books say of both."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stillwatt.ledger.post import build_record
from stillwatt.ledger.rundir import list_run_dirs, program_journals
from stillwatt.pipelines.artifacts import file_sha256
from stillwatt.records import RunRecord, StageRecord, StageStatus, Total
from stillwatt.records.run import DOES_OVER
from stillwatt.units import NS_PER_S

WATTS = 100.0
"""What the made-up machine of these studies draws."""
_FIRST_READING_S = 1.0
"""After a session's beginning, at most."""
_SLACK_S = 0.5
"""Between a kill and the session's last sign of life, as its sampling process notes it."""


class Outcome:
    """What a finished study left behind."""

    def __init__(self, runs_dir: Path, *, ranks: int = 1) -> None:
        self.runs_dir, self.ranks = runs_dir, ranks
        (self.run_dir,) = list_run_dirs(runs_dir)
        self.record: RunRecord = build_record(self.run_dir)

    def length_s(self, stage: str) -> float:
        """How long a stage took; the whole run where none is named."""
        named = [each.duration_s for each in self.record.stages if each.name == stage]
        return named[0] if stage else self.record.duration_s

    def stages(self) -> list[str]:
        """Outermost stages, in order."""
        return [stage.name for stage in self.record.stages if stage.parent_id is None]

    @property
    def lost(self) -> list[StageRecord]:
        """Attempts that a kill cut off, outermost ones."""
        stages = [stage for stage in self.record.stages if stage.parent_id is None]
        return [stage for stage in stages if stage.status is StageStatus.RECOVERED]

    @property
    def lost_j(self) -> float:
        """What they took, as booked."""
        return sum(stage.gross.value_j for stage in self.lost if isinstance(stage.gross, Total))

    def artifacts(self) -> dict[str, Any]:
        """Hash of every file of the teacher's artefacts; of their records, all but who made them."""
        found: dict[str, Any] = {}
        for path in sorted((self.runs_dir / "artifacts").rglob("*")):
            name = path.relative_to(self.runs_dir).as_posix()
            if path.name == "artifact.json":
                told = json.loads(path.read_text(encoding="utf-8"))
                told.pop("made_by")
                found[name] = told
            elif path.is_file():
                found[name] = file_sha256(path)
        return found

    def students(self) -> dict[str, str]:
        """Hash of every file of the trained students."""
        folder = self.run_dir / "state" / "checkpoints"
        return {path.relative_to(folder).as_posix(): file_sha256(path) for path in folder.rglob("*") if path.is_file()}

    def losses(self) -> dict[tuple[str, int], float]:
        """Loss of each step of each arm; of a step that was done again, the last."""
        lines = self.runs_dir.with_suffix(".losses").read_text(encoding="utf-8").splitlines()
        return {(told["arm"], told["step"]): told["loss"] for told in map(json.loads, lines)}

    def results(self) -> dict[str, Any]:
        """What each stage found, of its ended attempt; without who paid for an artefact."""
        found: dict[str, Any] = {}
        for stage in self.record.stages:
            if stage.status is StageStatus.ENDED and stage.parent_id is None:
                # energies and waits are of one run; all else is the same in every run
                own = {key: v for key, v in stage.results.items() if not key.startswith(("energy_", "loader_wait_"))}
                found.setdefault(stage.name, {}).update(own)  # of several ranks, one tells
        return found

    def differences(self, whole: Outcome) -> Iterator[str]:
        """Where this differs from the undisturbed one."""
        parts: dict[str, tuple[Mapping[Any, Any], Mapping[Any, Any]]] = {
            "artefacts": (self.artifacts(), whole.artifacts()),
            "students": (self.students(), whole.students()),
            "losses": (self.losses(), whole.losses()),
            "results": (self.results(), whole.results()),
        }
        for what, (ours, theirs) in parts.items():
            for key in sorted(ours.keys() | theirs.keys(), key=str):
                if ours.get(key) != theirs.get(key):
                    yield f"{what}: {key} is {ours.get(key)!r}, undisturbed {theirs.get(key)!r}"[:400]

    def book_faults(self, killed_s: Sequence[float] = ()) -> Iterator[str]:
        """What the books have wrong: attempts, sums, what the lost work took.

        Args:
            killed_s: How long each killed session had run, as whoever killed it knows.
        """
        yield from self._attempt_faults()
        record, total = self.record, self.record.total
        if not isinstance(total, Total) or not record.complete:
            yield f"the run's energy is {total}; complete: {record.complete}"
            return
        outer = [stage for stage in record.stages if stage.parent_id is None]
        parts_j = [stage.gross.value_j for stage in outer if isinstance(stage.gross, Total)]
        rest_j = record.unallocated.value_j if isinstance(record.unallocated, Total) else 0.0
        if len(parts_j) < len(outer) or abs(sum(parts_j) + rest_j - total.value_j) > 1e-6 * total.value_j:
            yield f"stages of {sum(parts_j)} J and {rest_j} J outside them are not the total of {total.value_j} J"
        # the first reading comes a moment after a session's beginning
        unread_j = WATTS * _FIRST_READING_S * record.meter["sessions"] / self.ranks
        if not WATTS * record.duration_s - unread_j <= total.value_j <= WATTS * (record.duration_s + _SLACK_S):
            yield f"{total.value_j} J for {record.duration_s} s of {WATTS} W"
        for each in outer if self.ranks == 1 else ():  # ranks side by side share what the machine draws
            true_j, slack_j, energy = WATTS * each.duration_s, WATTS * 1e-3, each.gross
            if not isinstance(energy, Total) or not energy.low_j - slack_j <= true_j <= energy.high_j + slack_j:
                yield f"{each.name}, attempt {each.attempt}: {energy}, truly {true_j} J"
        yield from self._length_faults(killed_s)

    def _attempt_faults(self) -> Iterator[str]:
        attempts: dict[str, list[StageRecord]] = {}
        for stage in self.record.stages:
            if stage.parent_id is None:
                attempts.setdefault(f"{stage.name} {stage.labels.get('rank', '')}".strip(), []).append(stage)
        for name, own in attempts.items():
            beside = [each for each in self.record.stages if each.parent_id is None and each.name == own[0].name]
            # what was whole when its stage was cut off is found by a stage that is no rank's
            found = [each for each in beside if "reused_from" in each.labels and each not in own]
            tries = [*own, *found]
            numbers, statuses = [each.attempt for each in tries], [each.status for each in tries]
            # of several ranks one may not have begun when it was killed
            known = sorted({each.attempt for each in beside})
            is_numbered = known == list(range(1, len(known) + 1)) and numbers == sorted(set(numbers))
            # a rank's part goes the way of the first one's: done, though it was cut off itself, or not, though it ended
            first = {each.attempt: each.status for each in [*attempts.get(f"{own[0].name} 0", own), *found]}
            ended = [each.attempt for each in tries if first.get(each.attempt, each.status) is StageStatus.ENDED]
            # and what a damaged checkpoint held is done over by an attempt that says so
            over = {each.attempt - 1 for each in tries if DOES_OVER in each.labels}
            is_told = all(number in over for number in ended[:-1])
            if not is_numbered or numbers[-1] != known[-1] or ended[-1:] != numbers[-1:] or not is_told:
                yield f"{name}: attempts {numbers} with {[str(status) for status in statuses]}"
        if self.record.status is not StageStatus.ENDED:
            yield f"the run's status is {self.record.status}"

    def _length_faults(self, killed_s: Sequence[float]) -> Iterator[str]:
        """Every session is on the books once: a killed one up to its kill, the last one to its end."""
        first_ns, last_ns = max(session_bounds(self.run_dir))
        true_s = sum(killed_s) + (last_ns - first_ns) / NS_PER_S
        if abs(self.record.duration_s - true_s) > _SLACK_S * (1 + len(killed_s)):
            yield f"{self.record.duration_s} s are booked, truly {true_s} s"
        if self.record.meter["sessions"] != self.ranks * (1 + len(killed_s)):
            yield f"{self.record.meter['sessions']} sessions after {len(killed_s)} kills"


def session_bounds(run_dir: Path) -> Iterator[tuple[int, int]]:
    """First and last event of each of a run's sessions, in ns of the monotonic clock."""
    for path in program_journals(run_dir):
        events = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if events:
            yield events[0]["t_ns"], events[-1]["t_ns"]
