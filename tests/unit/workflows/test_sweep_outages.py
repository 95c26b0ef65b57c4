"""What a sweep does where a trial was cut short by a server or the machine, and how failed trials are run again."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optuna", reason="the sweep extra is not installed")

from endpoint_server import OK, Behaviour, EndpointServer, endpoint_server
from stillwatt.config.bundled import find_recipe
from stillwatt.errors import EndpointError, MissingInputError, SensorUnavailableError, StillwattError, UsageError
from stillwatt.pipelines.progress import SilentProgress
from stillwatt.records.channel import Basis
from stillwatt.records.energy import Total
from stillwatt.workflows import sweep as sweep_module
from stillwatt.workflows import sweep_ray, trials
from stillwatt.workflows.search import Search
from stillwatt.workflows.sweep import SweepOutcome, run_sweep
from stillwatt.workflows.trials import (
    FAILED,
    FINISHED,
    Trial,
    TrialJob,
    TrialLeftOpen,
    carry_out,
    keep,
    kept_trials,
    open_again,
    opened_again,
)
from stillwatt.workflows.unfinished import Wish

TABLE = """
[sweep]
recipe = "smoke_cpu"
arm = "kd"
seed = 1
method = "METHOD"
trials = 4
objectives = ["loss"]
[sweep.parameters]
"arms.kd.alpha" = { choices = [0.0, 0.25, 0.5, 1.0] }
"""


class Killed(BaseException):
    """Stands for a signal."""


@dataclass
class OutageEngine:
    """Every trial takes 100 J each time it is run; some are cut short, some fail."""

    cut_short: tuple[int, ...] = ()
    failing: tuple[int, ...] = ()
    kill_at: int | None = None
    slots: int = 1
    seen: list[int] = field(default_factory=list)
    jobs: list[TrialJob] = field(default_factory=list)
    _jobs: list[TrialJob] = field(default_factory=list)

    def submit(self, job: TrialJob) -> None:
        self._jobs.append(job)
        self.jobs.append(job)
        self.seen.append(job.number)

    def wait(self) -> Trial:
        job = self._jobs.pop(0)
        if job.number == self.kill_at:
            raise Killed
        if job.number in self.cut_short:
            raise TrialLeftOpen(job.number, "endpoint http://x: it answers 503")
        is_failed = job.number in self.failing
        trial = Trial(
            number=job.number,
            parameters=dict(job.parameters),
            status=FAILED if is_failed else FINISHED,
            energy_j=100.0,
            energy_low_j=90.0,
            energy_high_j=110.0,
            complete=True,
            why_not="the loss is nan" if is_failed else "",
            values={} if is_failed else {"loss": float(job.parameters["arms.kd.alpha"])},
        )
        keep(Path(job.folder), trial)
        return trial


@pytest.fixture(autouse=True)
def no_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_module, "analyse_runs", lambda *_args, **_more: None)


def sweep(folder: Path, engine: OutageEngine, method: str = "grid", **more: Any) -> tuple[SweepOutcome, list[str]]:
    path, said = folder / "sweep.toml", list[str]()
    path.write_text(TABLE.replace("METHOD", method), encoding="utf-8")
    outcome = run_sweep(
        path, runs_dir=folder / "runs", engine=lambda: engine, progress=SilentProgress(), announce=said.append, **more
    )
    return outcome, said


@pytest.mark.parametrize("method", ["grid", "random", "tpe", "nsga2"])
def test_a_trial_that_was_cut_short_is_gone_on_with_by_the_same_command(tmp_path: Path, method: str) -> None:
    down = OutageEngine(cut_short=(1,))
    with pytest.raises(TrialLeftOpen, match=r"trial 1 was cut short: .* 503; .*the same command goes on with that"):
        sweep(tmp_path, down, method)
    assert down.seen == [0, 1]  # nothing is tried after it
    outcome, _ = sweep(tmp_path, up := OutageEngine(), method)
    assert up.seen == [1, 2, 3]
    assert [trial.status for trial in outcome.trials] == [FINISHED] * 4


def test_trials_that_others_have_under_way_are_taken_note_of_first(tmp_path: Path) -> None:
    sweep(tmp_path, OutageEngine(), trials=1)
    with pytest.raises(TrialLeftOpen):
        sweep(tmp_path, OutageEngine(cut_short=(1,), slots=3))
    (folder,) = (tmp_path / "runs").iterdir()
    assert sorted(kept_trials(folder)) == [0, 2, 3]
    outcome, _ = sweep(tmp_path, rest := OutageEngine())
    assert rest.seen == [1]
    assert len(outcome.trials) == 4


@pytest.mark.parametrize("method", ["grid", "random", "tpe", "nsga2"])
def test_failed_trials_are_run_again_where_that_is_asked_for(tmp_path: Path, method: str) -> None:
    sweep(tmp_path, OutageEngine(failing=(1, 2)), method)
    outcome, said = sweep(tmp_path, idle := OutageEngine(), method)
    assert idle.seen == []
    assert "4 trials are over and not run again (2 of them failed: --retry-failed runs those again)" in said[0]
    outcome, _ = sweep(tmp_path, again := OutageEngine(failing=(2,)), method, retry_failed=True)
    assert again.seen == [1, 2]
    assert {trial.number: trial.status for trial in outcome.trials} == {
        0: FINISHED, 1: FINISHED, 2: FAILED, 3: FINISHED,
    }  # fmt: skip
    (folder,) = (tmp_path / "runs").iterdir()
    assert outcome.settings is not None
    before = len(Search(folder, outcome.settings)._study.trials)
    sweep(tmp_path, OutageEngine(), method)  # what is known of a second try is not noted again
    search = Search(folder, outcome.settings)
    assert len(search._study.trials) == before
    values = [trial.values[0] for trial in search._study.trials if trial.values]
    assert len(values) == (2 if method == "grid" else 3)


def test_what_was_to_be_run_again_is_so_after_a_kill(tmp_path: Path) -> None:
    sweep(tmp_path, OutageEngine(failing=(1, 3)))
    with pytest.raises(Killed):
        sweep(tmp_path, OutageEngine(kill_at=3), retry_failed=True)
    outcome, _ = sweep(tmp_path, rest := OutageEngine())
    assert rest.seen == [3]
    assert {trial.status for trial in outcome.trials} == {FINISHED}


def test_a_sweep_that_is_under_way_is_not_begun_once_more(tmp_path: Path) -> None:
    refused: list[str] = []

    class Twice(OutageEngine):
        def wait(self) -> Trial:
            with pytest.raises(UsageError) as caught:
                sweep(tmp_path, OutageEngine())
            refused.append(str(caught.value))
            return super().wait()

    with pytest.raises(Killed):
        sweep(tmp_path, first := Twice(kill_at=1))
    (folder,) = (tmp_path / "runs").iterdir()
    here = f"process {os.getpid()} on {socket.gethostname()}"
    assert refused == [f"the sweep {folder} is under way already, by {here}; wait for that, or end it"] * 2
    assert first.seen == [0, 1]
    sweep(tmp_path, rest := OutageEngine())  # a killed one is in nobody's way
    assert rest.seen == [1, 2, 3]


def test_a_disk_without_locks_is_swept_on_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_here(*_args: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", none_here)
    assert len(sweep(tmp_path, OutageEngine())[0].trials) == 4


def test_a_new_outcome_closes_what_was_opened_again(tmp_path: Path) -> None:
    trial = Trial(number=3, parameters={"a": 1}, status=FAILED)
    keep(tmp_path, trial)
    open_again(tmp_path, [trial])
    assert (kept_trials(tmp_path), opened_again(tmp_path)) == ({}, {3: {"a": 1}})
    keep(tmp_path, replace(trial, status=FINISHED))
    assert (kept_trials(tmp_path)[3].status, opened_again(tmp_path)) == (FINISHED, {})
    assert [path.name for path in (tmp_path / "trials").iterdir()] == ["0003.json"]


def _job(tmp_path: Path) -> TrialJob:
    (tmp_path / "recipe.toml").write_bytes(find_recipe("smoke_cpu").read_bytes())
    return TrialJob(
        folder=str(tmp_path), number=0, arm="kd", parameters={"arms.kd.alpha": 0.5}, overrides=(), objectives=("loss",),
        others={}, sensors=None,
    )  # fmt: skip


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/runs")
MACHINES = [EndpointError("http://x", "it answers 503"), SensorUnavailableError("rapl", "not readable"), FULL]
ITS_OWN = [StillwattError("the loss is nan"), RuntimeError("CUDA out of memory"), MemoryError("no more")]


@pytest.mark.parametrize("fault", [*MACHINES, MissingInputError("a model", "here", "fetch it")], ids=repr)
def test_faults_of_the_machine_leave_a_trial_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def broken(*_args: Any, **_more: Any) -> None:
        raise fault

    monkeypatch.setattr(trials, "run_recipe", broken)
    job = _job(tmp_path)
    with pytest.raises(StillwattError) as caught:
        carry_out(job, SilentProgress(), lambda _text: None)
    assert str(fault) in str(caught.value)
    assert caught.value.exit_code == 1
    assert kept_trials(tmp_path) == {}
    # over a cluster the same, told as plain values
    told = sweep_ray.carry_out_far({**vars_of(job)})
    with pytest.raises(TrialLeftOpen, match="trial 0 was cut short"):
        sweep_ray.come_back(json.loads(json.dumps(told)))


@pytest.mark.parametrize("fault", ITS_OWN, ids=repr)
def test_faults_of_a_trials_own_are_its_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def broken(*_args: Any, **_more: Any) -> None:
        raise fault

    monkeypatch.setattr(trials, "run_recipe", broken)
    trial = carry_out(_job(tmp_path), SilentProgress(), lambda _text: None)
    assert (trial.status, kept_trials(tmp_path)) == (FAILED, {0: trial})
    assert str(fault) in trial.why_not
    assert sweep_ray.come_back(sweep_ray.carry_out_far(vars_of(_job(tmp_path)))).status == FAILED


def vars_of(job: TrialJob) -> dict[str, Any]:
    return {name: getattr(job, name) for name in job.__dataclass_fields__}


STUDY = """
name = "outage"
[meter]
sensors = ["synthetic"]
idle_baseline_s = 0.0
[meter.options.synthetic]
channels = [{ watts = 100.0 }]
[teacher]
source = "endpoint"
[teacher_endpoint]
url = "URL"
model = "big"
api = "completions"
max_retries = 0
[[students]]
name = "tiny"
source = "tiny-random"
dtype = "float32"
[data]
source = "random-words"
sequence_tokens = 32
train_tokens = 256
held_out_share = 0.25
seed = 1
[teacher_generate]
prompt_tokens = 8
max_new_tokens = 24
min_new_tokens = 1
max_repeat_share = 1.0
temperature = 1.0
top_p = 1.0
batch_size = 4
max_rounds = 30
seed = 1
[train]
optimizer = "adamw"
learning_rate = 1e-3
warmup_steps = 0
schedule = "constant"
max_grad_norm = 1.0
batch_size = 2
accumulation_steps = 1
checkpoints = [1.0]
seeds = [1]
[[arms]]
name = "sft"
method = "sft"
[[arms]]
name = "synthetic"
method = "synthetic_sft"
[evaluate]
perplexity_tokens = 128
choice_items = 0
choice_context_tokens = 8
choice_continuation_tokens = 4
batch_size = 8
seed = 1
[run]
threads = 1
[sweep]
arm = "synthetic"
method = "grid"
seed = 1
objectives = ["loss"]
[sweep.parameters]
"train.learning_rate" = { choices = [1e-4, 1e-3] }
"""


def _command(path: Path, runs: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stillwatt", "sweep", str(path), "--runs", str(runs), "--json"]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
def test_a_sweep_whose_server_was_down_finishes_when_it_is_up(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the distill extra is not installed")
    path, runs = tmp_path / "study.toml", tmp_path / "runs"
    with endpoint_server(lambda _number, _asked: Behaviour(status=503)) as server:
        path.write_text(STUDY.replace("URL", server.url), encoding="utf-8")
        down = _command(path, runs)
        assert down.returncode == 1
        assert "trial 0 was cut short: endpoint" in down.stderr
        assert "Traceback" not in down.stderr
        _answer(server)
        up = _command(path, runs)
    assert up.returncode == 3, up.stderr[-3000:]  # what the server draws is not known
    found = json.loads(up.stdout)
    assert [trial["status"] for trial in found["trials"]] == ["finished"] * 2
    # the outage is on the books of the run that it hit, which the second command went on with
    (folder,) = runs.iterdir()
    run_dir = folder / found["trials"][0]["run_id"]
    assert len([path for path in run_dir.glob("journal.*.jsonl") if "meter" not in path.name]) == 2
    spent_j = found["experimentation_j"]["value_j"]
    assert spent_j == pytest.approx(sum(trial["energy_j"] for trial in found["trials"]))
    assert len(list(folder.glob("2*"))) == 2


def _answer(server: EndpointServer) -> None:
    server.behave = lambda _number, _asked: OK


@pytest.mark.parametrize("takes_over", [False, True])
def test_trials_are_told_whether_to_go_on_with_what_another_host_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, takes_over: bool
) -> None:
    sweep(tmp_path, engine := OutageEngine(), takes_over=takes_over)
    assert {job.takes_over for job in engine.jobs} == {takes_over}
    wishes = []

    def note(*_args: Any, wish: Wish, **_more: Any) -> None:
        wishes.append(wish)
        raise StillwattError("enough is known")

    monkeypatch.setattr(trials, "run_recipe", note)
    carry_out(replace(_job(tmp_path), takes_over=takes_over), SilentProgress(), lambda _text: None)
    assert wishes == [Wish(takes_over=takes_over, is_trial=True)]


@dataclass(frozen=True)
class Booked:
    """A run's record, as far as a trial asks it."""

    total: Total
    duration_s: float


def test_what_a_run_took_that_could_not_be_gone_on_with_is_in_its_trials_energy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Worked by hand: a machine went down at 60 J of a trial, which then took 100 J on another one."""
    basis = {"here": Basis.MEASURED, "gone": Basis.MODELLED}
    booked = {
        name: Booked(Total(value_j=j, low_j=j - 9, high_j=j + 9, basis=basis[name], complete=True), j / 10)
        for name, j in (("gone", 60.0), ("here", 100.0))
    }
    begun = iter(("gone", "here", "here"))

    def cut_short(*_args: Any, on_run: Any, **_more: Any) -> None:
        on_run(next(begun))
        raise Killed

    monkeypatch.setattr(trials, "show_run", lambda _folder, run_id: booked[run_id])
    monkeypatch.setattr(trials, "_finished_before", lambda *_args: None)
    monkeypatch.setattr(trials, "run_recipe", cut_short)
    job = _job(tmp_path)
    for _ in range(2):
        with pytest.raises(Killed):
            carry_out(job, SilentProgress(), lambda _text: None)

    def broken(*_args: Any, on_run: Any, **_more: Any) -> None:
        on_run(next(begun))
        raise StillwattError("the loss is nan")

    monkeypatch.setattr(trials, "run_recipe", broken)
    trial = carry_out(job, SilentProgress(), lambda _text: None)
    assert (trial.energy_j, trial.energy_low_j, trial.energy_high_j, trial.duration_s) == (160.0, 142.0, 178.0, 16.0)
    assert (trial.run_id, trial.basis, trial.complete) == ("here", "modelled", True)
    assert kept_trials(tmp_path) == {0: trial}


class Ticket:
    """Stands for a task's answer that is yet to come."""


@dataclass
class LosingRay:
    """A Ray of two machines, each of whose tasks comes to the same end."""

    end: Exception

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {
                "Alive": True,
                "NodeID": f"{number:056x}",
                "NodeManagerHostname": name,
                "NodeManagerAddress": f"10.0.0.{number}",
                "Resources": {"CPU": 2.0},
            }
            for number, name in enumerate(("left", "right"))
        ]

    def remote(self, **_options: Any) -> Any:
        class Task:
            def __init__(self, _work: Any) -> None: ...

            def remote(self, _job: Any) -> Ticket:
                return Ticket()

        return Task

    def wait(self, asked: list[Ticket], **_more: Any) -> tuple[list[Ticket], list[Ticket]]:
        return asked[:1], asked[1:]

    def get(self, _asked: Ticket) -> Any:
        raise self.end


def engine_that_loses(monkeypatch: pytest.MonkeyPatch, name: str, *said: Any) -> sweep_ray.RayEngine:
    errors = pytest.importorskip("ray.exceptions", reason="the ray extra is not installed")
    monkeypatch.setattr(sweep_ray, "connect", lambda: LosingRay(getattr(errors, name)(*said)))
    return sweep_ray.RayEngine()


@pytest.mark.parametrize(
    ("name", "said", "told"),
    [
        ("WorkerCrashedError", (), "The worker died unexpectedly while executing this task"),
        ("NodeDiedError", ("Task failed because its node is dead. Node IP: 10.0.0.1",), "its node is dead"),
    ],
)
def test_a_trial_whose_machine_or_process_is_gone_is_left_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: tuple[str, ...], told: str
) -> None:
    engine = engine_that_loses(monkeypatch, name, *said)
    for number in (0, 1):
        engine.submit(replace(_job(tmp_path), number=number))
    for number, machine in ((0, r"right \(10.0.0.1\)"), (1, r"left \(10.0.0.0\)")):
        text = f"trial {number} was cut short: its process on {machine} is gone .*{told}.*the same command goes on"
        with pytest.raises(TrialLeftOpen, match=text):
            engine.wait()
    assert kept_trials(tmp_path) == {}


def test_a_trial_that_took_all_memory_has_failed_and_is_not_run_into_the_same_wall_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_that_loses(monkeypatch, "OutOfMemoryError", "killed")
    engine.submit(_job(tmp_path))
    trial = engine.wait()
    assert (trial.status, trial.run_id) == (FAILED, None)
    assert trial.why_not == "it took all memory of right (10.0.0.1), and Ray ended it"
    assert kept_trials(tmp_path) == {0: trial}


def test_an_error_of_our_own_far_away_comes_out_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_that_loses(monkeypatch, "RayTaskError", "carry_out_far", "the stack", ValueError("a fault"))
    engine.submit(_job(tmp_path))
    with pytest.raises(Exception, match="the stack"):
        engine.wait()
