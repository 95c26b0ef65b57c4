"""Which stages of a run are finished, kept in its directory so that a killed run goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stillwatt.errors import LedgerError
from stillwatt.ledger.journal import read_journal
from stillwatt.ledger.rundir import program_journals
from stillwatt.pipelines.artifacts import write_json

__all__ = ["RunState"]


class RunState:
    """The `state/` folder of one run directory.

    A finished stage is one file `<stage>.json`, written in one step after the stage's work is on disk. A stage
    without that file is run again from its own beginning.
    """

    def __init__(self, run_dir: Path) -> None:
        self.directory = run_dir / "state"

    def finished(self, stage: str) -> dict[str, Any] | None:
        """What a finished stage left, or None.

        Raises:
            LedgerError: The stage's file is there and cannot be read.
        """
        path = self._path(stage)
        if not path.exists():
            return None
        try:
            outcome = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as err:
            raise LedgerError(f"{path}: unreadable ({err}); remove the file to run that stage again") from err
        if not isinstance(outcome, dict):
            raise LedgerError(f"{path}: not a JSON object; remove the file to run that stage again")
        return outcome

    def finish(self, stage: str, outcome: Mapping[str, Any]) -> None:
        """Mark a stage as finished, with what later stages need from it."""
        write_json(self._path(stage), dict(outcome))

    def forget(self, stage: str) -> None:
        """Let a stage run again, where what it left is gone."""
        self._path(stage).unlink(missing_ok=True)

    def take_over(self) -> str | None:
        """Mark the stage that a kill hit between its end and its mark as finished; returns its name, if there is one.

        Its work is on disk and its end in the journal, with what it found: run again, it would be on the books twice.
        """
        journals = [read_journal(path).events for path in program_journals(self.directory.parent)]
        sessions = [each for each in journals if each and each[0]["event"] == "session_started"]
        # of a launch the first rank has all stages; the session that takes over has none yet
        own = [each for each in sessions if not each[0].get("rank") and any("stage_id" in event for event in each)]
        name, results = _last_ended(max(own, key=lambda each: int(each[0]["utc_ns"]), default=()))
        if name is None or self._path(name).exists():
            return None
        self.finish(name, results)
        return name

    def folder(self, name: str) -> Path:
        """A folder for a stage's files; not made here."""
        return self.directory / name

    def _path(self, stage: str) -> Path:
        return self.directory / f"{stage}.json"


def _last_ended(events: Sequence[Mapping[str, Any]]) -> tuple[str | None, dict[str, Any]]:
    """The outermost stage that a session ended last, if it began none after it, and what the stage found."""
    name, stage_id = None, ""
    results: dict[str, dict[str, Any]] = {}
    for event in events:
        if event["event"] == "result":
            results.setdefault(event["stage_id"], {}).update(event["results"])
        elif event["event"] == "stage_started" and event["parent_id"] is None:
            name, stage_id = None, event["stage_id"]
            begun = event["name"]
        elif event["event"] == "stage_ended" and event["stage_id"] == stage_id and event["status"] == "ended":
            name = begun
    return name, results.get(stage_id, {})
