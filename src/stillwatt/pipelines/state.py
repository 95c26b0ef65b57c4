"""Which stages of a run are finished, kept in its directory so that a killed run goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stillwatt.errors import LedgerError
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

    def folder(self, name: str) -> Path:
        """A folder for a stage's files; not made here."""
        return self.directory / name

    def _path(self, stage: str) -> Path:
        return self.directory / f"{stage}.json"
