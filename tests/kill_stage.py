"""Kills of real small studies at random moments of a stage, and what the artefacts and the books say afterwards.

A study is killed with SIGKILL, gone on with as a person would, and compared with one that nobody disturbed: teacher
artefacts and students to the byte, loss curves and scores exactly. A made-up instrument of constant power says what
the machine drew, so that what lost work took is known.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from stillwatt.ledger.rundir import list_run_dirs, program_journals, sessions
from stillwatt.units import NS_PER_S
from study_outcome import WATTS, Outcome, session_bounds

PATIENCE_S = 120.0
_POLL_S = 0.001
_QUIETLY = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
RECIPE = """
name = "killed"
[meter]
sensors = ["synthetic"]
sample_period_ms = 20
idle_baseline_s = 0.0
[meter.options.synthetic]
origin_ns = 0  # one counter, whichever rank reads it
channels = [{{ part = "gpu0", quantity = "energy_counter", shape = "constant", watts = {watts}, gain_bound_rel = 0.0 }}]
[teacher]
source = "tiny-random"
dtype = "float32"
[[students]]
name = "tiny"
source = "tiny-random"
dtype = "float32"
[data]
source = "random-words"
sequence_tokens = 32
train_tokens = {tokens}
held_out_share = 0.25
seed = 1
[train]
optimizer = "adamw"
learning_rate = 1e-3
warmup_steps = 2
schedule = "cosine"
max_grad_norm = 1.0
batch_size = 2
accumulation_steps = 2
checkpoints = [0.5, 1.0]
seeds = [1]
[evaluate]
perplexity_tokens = 1024
choice_items = 32
choice_context_tokens = 8
choice_continuation_tokens = 4
batch_size = 4
seed = 1
[run]
threads = 1
sharding = "{sharding}"
[teacher_logits]
top_k = 8
temperature = 1.0
batch_size = 4
"""
_TWO = """
[[arms]]
name = "sft"
method = "sft"
[[arms]]
name = "kd"
method = "kd"
alpha = 0.5
temperature = 1.0
"""
_ON_POLICY = """
[student_generate]
prompt_tokens = 8
max_new_tokens = 24
temperature = 1.0
top_p = 1.0
[[arms]]
name = "gkd"
method = "gkd"
alpha = 0.0
temperature = 1.0
loss = "jsd"
loss_parameter = 0.5
own_text_share = 0.5
"""
_TEXT = """
[teacher_generate]
prompt_tokens = 8
max_new_tokens = 24
min_new_tokens = 1
max_repeat_share = 1.0
temperature = 1.0
top_p = 1.0
batch_size = 8
max_rounds = 8
seed = 1
[[arms]]
name = "synthetic"
method = "synthetic_sft"
"""
_JUDGE = """
[evaluate.judge]
source = "teacher"
dtype = "float32"
mode = "pairwise"
against = "text"
rubric = "continuation-pairwise-1"
form = "plain"
prompts = 4
prompt_tokens = 8
answer_tokens = 4
temperature = 0.0
batch_size = 4
seed = 1
in_quality = false
"""
_CODED = """
[logit_cache]
scheme = "topk"
"""
STUDIES = {
    "fixed rows": _TWO + _TEXT + _ON_POLICY,
    "coded rows": _CODED + _TWO,
    "ranks": _CODED + _JUDGE + _TWO + _ON_POLICY + _TEXT.replace("batch_size = 8", "batch_size = 2"),
    "two ranks": _CODED + _TWO + _TEXT.replace("batch_size = 8", "batch_size = 2"),
    "fsdp": _CODED + _JUDGE + _TWO + _ON_POLICY + _TEXT.replace("batch_size = 8", "batch_size = 2"),
}


def write_recipe(path: Path, *, study: str, tokens: int) -> Path:
    """Write one of the studies as a recipe, with so many tokens of training text."""
    sharding = "fsdp" if study == "fsdp" else "none"
    path.write_text(RECIPE.format(watts=WATTS, tokens=tokens, sharding=sharding) + STUDIES[study], encoding="utf-8")
    return path


@dataclass(slots=True)
class StageKill:
    """What became of a study that was killed once and gone on with."""

    study: str
    aimed_at: str
    hit: list[str]
    """The stage that was open when a kill came; empty between stages."""
    lost_j: float = 0.0
    """Of all lost attempts, as booked."""
    faults: list[str] = field(default_factory=list)
    outcome: Outcome | None = None
    """What it left behind; None where it did not come to its end."""


class Studies:
    """Runs studies in forked processes, or launches of several; a context manager.

    Args:
        folder: Where they go.
        tokens: Of the training text.
    """

    def __init__(self, folder: Path, *, tokens: int) -> None:
        self._folder, self._tokens = folder, tokens
        self._numbers = iter(range(1_000_000))

    def __enter__(self) -> Studies:
        program = Path(__file__).with_name("stage_program.py")
        paths = [str(program.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._program = subprocess.Popen(
            [sys.executable, str(program)],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(paths),
                "CUDA_VISIBLE_DEVICES": "",
                "OMP_NUM_THREADS": "1",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,  # a line that is read ahead could not be waited for
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.close()
        self._program.wait(PATIENCE_S)
        self._program.stdout.close()

    def whole(self, study: str, *, ranks: int = 1) -> Outcome:
        """A study that nobody disturbs."""
        runs_dir = self._place(study)
        self._begin(runs_dir, ranks)
        assert self._finish(runs_dir), runs_dir.with_suffix(".said").read_text(encoding="utf-8")
        return Outcome(runs_dir, ranks=ranks)

    def killed(
        self,
        whole: Outcome,
        study: str,
        stage: str,
        chance: random.Random,
        *,
        times: int = 1,
        harm: Callable[[Path], None] | None = None,
    ) -> StageKill:
        """Kill a study at random moments of a stage, go on with it, and compare it with the undisturbed one.

        Args:
            whole: The same study, undisturbed.
            study: Its name in `STUDIES`.
            stage: Name of a stage, or empty for any moment of the run.
            chance: Draws the moments, evenly over the time that the stage took undisturbed.
            times: How often; a stage that was over before is not killed again.
            harm: Done to the run's directory after the last kill, while nothing runs.
        """
        runs_dir = self._place(study)
        kill = StageKill(study=study, aimed_at=stage, hit=[])
        sessions_s: list[float] = []
        is_over = False
        for _ in range(times):
            begun = _count_of(runs_dir, stage)
            pids = self._begin(runs_dir, whole.ranks)
            _wait_for_stage(runs_dir, stage, begun, pids[0])
            time.sleep(chance.uniform(0.0, whole.length_s(stage)))
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):  # it was over before
                    os.kill(pid, signal.SIGKILL)
            killed_ns = time.monotonic_ns()
            is_over = self._finish(runs_dir) or any('"event":"session_ended"' in text for text in _journals(runs_dir))
            if is_over:
                break  # the kill came too late to cost anything
            kill.hit.append(_open_stage(runs_dir))
            sessions_s.append(_begun_s(runs_dir, killed_ns))
            _wait_for_end(runs_dir)
        if not is_over:
            if harm is not None:
                (run_dir,) = list_run_dirs(runs_dir)
                harm(run_dir)
            self._begin(runs_dir, whole.ranks)
            is_over = self._finish(runs_dir)
        _wait_for_end(runs_dir)
        if not is_over:
            kill.faults.append(runs_dir.with_suffix(".said").read_text(encoding="utf-8")[-1000:])
            return kill
        outcome = Outcome(runs_dir, ranks=whole.ranks)
        kill.outcome, kill.lost_j = outcome, outcome.lost_j
        kill.faults += [*outcome.differences(whole), *outcome.book_faults(sessions_s)]
        return kill

    def _place(self, study: str) -> Path:
        runs_dir = self._folder / f"study-{next(self._numbers):04d}"
        runs_dir.mkdir(parents=True)
        write_recipe(runs_dir.with_suffix(".toml"), study=study, tokens=self._tokens)
        return runs_dir

    def _begin(self, runs_dir: Path, ranks: int) -> list[int]:
        """Start a study; gives its processes."""
        told = {
            "ranks": ranks,
            "runs_dir": str(runs_dir),
            "recipe": str(runs_dir.with_suffix(".toml")),
            "losses": str(runs_dir.with_suffix(".losses")),
        }
        assert self._program.stdin is not None
        self._program.stdin.write(json.dumps(told).encode() + b"\n")
        self._pids: list[int] = self._told()
        return self._pids

    def _finish(self, runs_dir: Path) -> bool:
        """Wait until it is over; whether all of it went well.

        Raises:
            TimeoutError: It does not come to its end; where each of its threads stands is said.
        """
        try:
            return not any(self._told())
        except TimeoutError:
            for sign in (signal.SIGUSR1, signal.SIGKILL):
                for pid in self._pids:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, sign)
                time.sleep(1.0)
            raise TimeoutError(runs_dir.with_suffix(".said").read_text(encoding="utf-8")[-10_000:]) from None

    def _told(self) -> list[int]:
        """The next line that the program writes."""
        assert self._program.stdout is not None
        if not select.select([self._program.stdout], [], [], 2 * PATIENCE_S)[0]:
            raise TimeoutError
        told: list[int] = json.loads(self._program.stdout.readline())
        return told


def _journals(runs_dir: Path) -> list[str]:
    paths = [path for run_dir in list_run_dirs(runs_dir) for path in program_journals(run_dir)]
    return [path.read_text(encoding="utf-8") for path in paths]


def _begun_s(runs_dir: Path, killed_ns: int) -> float:
    """How long the latest session had run at that time; 0 where it had not begun."""
    begun_ns = [first_ns for run_dir in list_run_dirs(runs_dir) for first_ns, _ in session_bounds(run_dir)]
    return (killed_ns - max(begun_ns)) / NS_PER_S if begun_ns else 0.0


def _count_of(runs_dir: Path, stage: str) -> int:
    """How often a stage of that name was begun; how many sessions, where none is named."""
    sign = f'"name":"{stage}"' if stage else '"event":"session_started"'
    return sum(text.count(sign) for text in _journals(runs_dir))


def _wait_for_stage(runs_dir: Path, stage: str, begun: int, pid: int) -> None:
    """Until a stage of that name has begun once more, or the study is over; its line is in the journal at once."""
    deadline = time.monotonic() + PATIENCE_S
    while _count_of(runs_dir, stage) == begun and Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline, f"no stage {stage} within {PATIENCE_S} s"
        time.sleep(_POLL_S)


def _wait_for_end(runs_dir: Path) -> None:
    """Until the killed study's sampling process has noted that it is alone."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        paths = [path.meter for run_dir in list_run_dirs(runs_dir) for path in sessions(run_dir).values()]
        told = [path.read_text(encoding="utf-8") for path in paths if path is not None]
        if all('"sampler_ended"' in text or '"parent_lost"' in text for text in told):
            return
        time.sleep(_POLL_S)


def _open_stage(runs_dir: Path) -> str:
    """The outermost stage that was begun and not ended."""
    is_open: dict[str, str] = {}
    for text in _journals(runs_dir):
        for event in map(json.loads, text.splitlines()):
            if event.get("event") == "stage_started" and event["parent_id"] is None:
                is_open[event["stage_id"]] = event["name"]
            elif event.get("event") == "stage_ended":
                is_open.pop(event["stage_id"], None)
    return next(iter(is_open.values()), "")
