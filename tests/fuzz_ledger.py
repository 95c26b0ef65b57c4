"""Random damage to run directories and ledgers, and what the readers make of it.

Each case copies a finished run, damages one of its files and reads it. The outcome is one of

- `intact`: the record is the true one, to the last bit (damage in a place that says nothing, or repaired);
- `refused`: an error of this project, or of the operating system, with its place;
- `said`: numbers differ or are gone, and the record says so: it is not complete, or a session was lost and what was
  kept of it ends there, as after a kill; and it has a warning more (where only the sampling process's account of
  itself is lost, the warning alone);
- `silent`: numbers differ and the record looks whole. There must be none.

Any other exception is let through: it is a mistake of the reader.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from run_dirs import FakeLiveness, quick_run
from stillwatt.errors import StillwattError
from stillwatt.ledger.post import build_record
from stillwatt.ledger.store import LedgerStore
from stillwatt.ledger.verify import verify
from stillwatt.records import RunRecord, StageStatus

DEAD = FakeLiveness(False)
Damage = Callable[[bytearray, np.random.Generator], None]


def cut(data: bytearray, random: np.random.Generator) -> None:
    """Cut the file off anywhere."""
    del data[int(random.integers(0, len(data))) :]


def flip(data: bytearray, random: np.random.Generator) -> None:
    """Flip one to eight bits."""
    for place in random.integers(0, 8 * len(data), size=int(random.integers(1, 9))).tolist():
        data[place // 8] ^= 1 << place % 8


def blank(data: bytearray, random: np.random.Generator) -> None:
    """Overwrite a stretch with zeros, as a lost page is."""
    begin = int(random.integers(0, len(data)))
    end = min(len(data), begin + int(random.integers(1, 600)))
    data[begin:end] = bytes(end - begin)


def repeat(data: bytearray, random: np.random.Generator) -> None:
    """Write a stretch twice."""
    begin = int(random.integers(0, len(data)))
    end = min(len(data), begin + int(random.integers(1, 600)))
    data[end:end] = data[begin:end]


def remove(data: bytearray, random: np.random.Generator) -> None:
    """Take a stretch out of the middle."""
    begin = int(random.integers(0, len(data)))
    del data[begin : begin + int(random.integers(1, 600))]


def cut_and_flip(data: bytearray, random: np.random.Generator) -> None:
    """Both at once."""
    cut(data, random)
    if data:
        flip(data, random)


DAMAGES: tuple[Damage, ...] = (cut, flip, blank, repeat, remove, cut_and_flip)


@dataclass(slots=True)
class Outcomes:
    """How the cases came out."""

    cases: int = 0
    by_outcome: Counter[str] = field(default_factory=Counter)
    by_file: Counter[str] = field(default_factory=Counter)
    silent: list[str] = field(default_factory=list)
    """What the silent ones were, to be made again."""


@dataclass(slots=True)
class Fuzz:
    """Two finished runs, one as measured and one sealed and posted, and the truth about them."""

    folder: Path
    random: np.random.Generator
    raw: Path = field(init=False)
    posted: Path = field(init=False)
    truth: RunRecord = field(init=False)
    seen: str = field(init=False, default="")
    """How the last record differed, for whoever looks into it."""

    def __post_init__(self) -> None:
        self.raw, self.posted = self.folder / "raw", self.folder / "posted"
        run = quick_run(self.raw)
        shutil.copytree(self.raw, self.posted)
        self.truth = build_record(run.path, liveness=DEAD)
        with LedgerStore(self.posted, liveness=DEAD) as store:
            store.refresh()

    def run(self, cases: int, outcomes: Outcomes, *, seen: Callable[[int], None] = lambda _: None) -> None:
        """Damage and read as many times."""
        for number in range(cases):
            origin = self.raw if self.random.integers(2) else self.posted
            damage = DAMAGES[int(self.random.integers(len(DAMAGES)))]
            files = sorted(path.relative_to(origin) for path in origin.rglob("*") if path.is_file())
            file = files[int(self.random.integers(len(files)))]
            outcome = self._case(origin, file, damage)
            outcomes.cases += 1
            outcomes.by_outcome[outcome] += 1
            outcomes.by_file["".join(file.suffixes[-1:]) or file.name] += 1
            if outcome == "silent":
                outcomes.silent.append(f"case {number}: {damage.__name__} of {origin.name}/{file}: {self.seen}")
            seen(number)

    def _case(self, origin: Path, file: Path, damage: Damage) -> str:
        place = self.folder / "case"
        shutil.copytree(origin, place)
        try:
            data = bytearray((place / file).read_bytes())
            damage(data, self.random)
            (place / file).write_bytes(data)
            return self._read(place)
        finally:
            shutil.rmtree(place)

    def _read(self, runs_dir: Path) -> str:
        if self.random.integers(4) == 0:
            verify(runs_dir, liveness=DEAD)  # finds what it finds, and never falls over it
        try:
            with LedgerStore(runs_dir, liveness=DEAD) as store:
                problems = store.refresh().problems
                lines = store.runs()
                if not lines:
                    return "refused" if problems else "silent"
                record = store.get(self.truth.run_id)
        except (StillwattError, OSError):
            return "refused"
        (line,) = lines
        is_same_line = (line.complete, line.total, line.name) == (record.complete, record.total, record.name)
        if record == self.truth and is_same_line:
            return "intact"
        differing = [name for name in record.__slots__ if getattr(record, name) != getattr(self.truth, name)]
        self.seen = f"differs in {differing}, line {'same' if is_same_line else 'differs'}, {record.warnings}"
        is_lost = any("process was lost" in warning for warning in record.warnings)
        said_alone = {"meter", "gaps", "warnings"} if is_lost else {"warnings"}
        is_prefix = record.status is StageStatus.RECOVERED or set(differing) <= said_alone
        has_said = (is_prefix or not record.complete) and len(record.warnings) > len(self.truth.warnings)
        return "said" if has_said and is_same_line else "silent"
