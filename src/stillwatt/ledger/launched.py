"""Programs that start themselves again, as Lightning does for every further rank: the run that the first one opened.

Such a program opens its run before it is a launch, so that its environment tells nobody of one. It leaves word of the
run in the environment that its ranks inherit.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from stillwatt.ledger.group import STARTED_AGAIN, LaunchGroup
from stillwatt.ledger.rundir import names_run

OPEN_RUN = "STILLWATT_OPEN_RUN"
"""The variable that tells of the run which a program on its own has open."""


def leave_word(environment: MutableMapping[str, str], runs_dir: Path, name: str, run_id: str) -> None:
    """Tell those that are started from now on of an open run, beside others that are open."""
    word = [str(Path(runs_dir).absolute()), name, run_id, os.getpid()]
    environment[OPEN_RUN] = json.dumps([*_words(environment), word])


def take_back(environment: MutableMapping[str, str], run_id: str) -> None:
    """Tell nobody of that run any more, where it is this process's."""
    words = _words(environment)
    left = [word for word in words if word[2:] != [run_id, os.getpid()]]
    if left:
        environment[OPEN_RUN] = json.dumps(left)
    elif words:
        del environment[OPEN_RUN]


def run_begun_before(environment: Mapping[str, str], runs_dir: Path, name: str) -> LaunchGroup | None:
    """The run that the program which started this one has open, where this is a further rank of it.

    A rank above 0 of several, by `LOCAL_RANK` or `NODE_RANK` and `WORLD_SIZE`, that measures under the same name into
    the same folder is one; any other program that is started meanwhile has a run of its own. `launch_id` is the run's
    id. Who is missing cannot be told, since the first one did not know that there would be others.
    """
    try:
        place = max(int(environment.get("LOCAL_RANK", 0)), int(environment.get("NODE_RANK", 0)))
        is_further = place > 0 and int(environment["WORLD_SIZE"]) > 1
    except (KeyError, ValueError):
        return None
    here = [str(Path(runs_dir).absolute()), name]
    told = [str(word[2]) for word in _words(environment) if word[:2] == here and names_run(runs_dir, str(word[2]))]
    if not is_further or not told:
        return None
    return LaunchGroup(launcher=STARTED_AGAIN, launch_id=told[-1], rank=None, world_size=0)


def _words(environment: Mapping[str, str]) -> list[list[object]]:
    try:
        words = json.loads(environment[OPEN_RUN])
    except (KeyError, ValueError):
        return []
    return [word for word in words if isinstance(word, list) and len(word) == 4] if isinstance(words, list) else []
