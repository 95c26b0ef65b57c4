"""`run` loads the recipe, calls one workflow and tells what came of it."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from stillwatt.config.bundled import bundled_recipes
from stillwatt.config.load import load_recipe
from stillwatt.config.models import Recipe
from stillwatt.errors import MissingExtraError
from stillwatt.records import RunRecord
from stillwatt.records.finding import Study
from stillwatt.workflows.pipeline import PipelineOutcome
from stillwatt.workflows.run_ray import Order
from stillwatt.workflows.unfinished import Wish

Stillwatt = Callable[..., Result]


class Workflow:
    """Stands in for `run_recipe`."""

    def __init__(self, record: RunRecord, study: Study, error: BaseException | None = None) -> None:
        self.record, self.study, self.error = record, study, error
        self.recipe: Recipe | None = None
        self.options: dict[str, Any] = {}

    def __call__(self, recipe: Recipe, **options: Any) -> PipelineOutcome:
        self.recipe, self.options = recipe, options
        options["announce"](f"run {self.record.run_id}")
        with options["progress"].task("train.sft.1.0", total=2, unit="steps") as task:
            task.advance(2)
        if self.error is not None:
            raise self.error
        return PipelineOutcome(
            run_id=self.record.run_id,
            record=self.record,
            study=self.study,
            report_html=Path("d/report.html"),
            report_json=Path("d/report.json"),
            resumed=False,
        )


@pytest.fixture
def install(
    monkeypatch: pytest.MonkeyPatch,
    make_record: Callable[..., RunRecord],
    make_study: Callable[[RunRecord], Study],
) -> Callable[..., Workflow]:
    def put(error: BaseException | None = None, **record: Any) -> Workflow:
        made = make_record(**record)
        workflow = Workflow(made, make_study(made), error)
        monkeypatch.setattr("stillwatt.workflows.pipeline.run_recipe", workflow)
        return workflow

    return put


def test_recipe_and_options_reach_the_workflow(stillwatt: Stillwatt, install: Callable[..., Workflow]) -> None:
    workflow = install()
    result = stillwatt(
        *("run", "quickstart", "--runs", "d", "--set", "data.seed=7", "--set", "run.threads=1"),
        *("--fresh", "--sensors", "synthetic"),
    )
    assert result.exit_code == 0, result.stderr
    assert workflow.recipe == load_recipe(bundled_recipes()["quickstart"], ["data.seed=7", "run.threads=1"])
    assert workflow.options["runs_dir"] == "d"
    assert workflow.options["fresh"] is True
    assert workflow.options["sensors"] == ("synthetic",)


def test_without_options_the_recipe_decides(stillwatt: Stillwatt, install: Callable[..., Workflow]) -> None:
    workflow = install()
    stillwatt("run", str(bundled_recipes()["smoke_cpu"]))
    assert (workflow.options["sensors"], workflow.options["fresh"]) == (None, False)
    assert workflow.options["runs_dir"] == "runs"
    assert workflow.recipe == load_recipe(bundled_recipes()["smoke_cpu"])


def test_a_run_that_is_named_is_the_one_to_go_on_with(stillwatt: Stillwatt, install: Callable[..., Workflow]) -> None:
    workflow = install()
    assert stillwatt("run", "smoke_cpu", "--resume", "latest").exit_code == 0
    assert workflow.options["wish"] == Wish(run="latest")
    result = stillwatt("run", "smoke_cpu", "--resume", "latest", "--fresh")
    assert (result.exit_code, "leave one out" in result.stderr) == (2, True)


def test_the_answer_is_on_stdout_and_the_way_there_on_stderr(
    stillwatt: Stillwatt, install: Callable[..., Workflow]
) -> None:
    workflow = install()
    result = stillwatt("run", "smoke_cpu")
    assert "1,500" in result.stdout
    assert result.stdout.endswith("report  d/report.html\n")
    assert result.stderr.startswith(f"run {workflow.record.run_id}\ntrain.sft.1.0: 2 steps\n")
    assert "train.sft.1.0" not in result.stdout


def test_json_is_all_there_is_on_stdout(stillwatt: Stillwatt, install: Callable[..., Workflow]) -> None:
    workflow = install()
    answer = json.loads(stillwatt("run", "smoke_cpu", "--json").stdout)
    assert answer["record"] == workflow.record.to_dict()
    assert answer["report_html"] == "d/report.html"
    assert (answer["complete"], answer["resumed"]) == (True, False)


@pytest.mark.parametrize("as_json", [False, True])
def test_an_incomplete_energy_exits_with_3_after_the_answer(
    as_json: bool, stillwatt: Stillwatt, install: Callable[..., Workflow]
) -> None:
    install(complete=False, absent=["gpu0"])
    result = stillwatt("run", "smoke_cpu", *(["--json"] if as_json else []))
    assert result.exit_code == 3
    assert result.stderr.endswith("incomplete: the energy of gpu0 is not known (exit status 3)\n")
    assert result.stdout.endswith("}\n" if as_json else "report  d/report.html\n")


def test_an_interrupt_says_how_to_go_on(stillwatt: Stillwatt, install: Callable[..., Workflow]) -> None:
    install(KeyboardInterrupt())
    result = stillwatt("run", "smoke_cpu")
    assert result.exit_code == 130
    assert "the same command goes on from there" in result.stderr
    assert result.stdout == ""


class InterruptedWhileItEnds:
    """Stands in for `run_recipe`: interrupted, and once more while it closes its books."""

    def __init__(self, *, apart_s: float = 0.0) -> None:
        self.apart_s, self.is_closed = apart_s, False

    def __call__(self, _recipe: Recipe, **_options: Any) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            time.sleep(self.apart_s)
            signal.raise_signal(signal.SIGINT)
            self.is_closed = True


@pytest.fixture
def hears_sigint() -> Iterator[None]:
    """An interrupt is heard, though whoever starts the tests may have it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("hears_sigint")
def test_interrupts_in_a_burst_are_one_and_the_books_are_closed(
    stillwatt: Stillwatt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stillwatt.workflows.pipeline.run_recipe", ending := InterruptedWhileItEnds())
    result = stillwatt("run", "smoke_cpu")
    assert (result.exit_code, ending.is_closed) == (130, True)
    assert result.stderr.count("interrupted: ") == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    monkeypatch.setattr("stillwatt.cli.interrupts._BURST_NS", 1_000_000)
    monkeypatch.setattr("stillwatt.workflows.pipeline.run_recipe", stuck := InterruptedWhileItEnds(apart_s=0.01))
    result = stillwatt("run", "smoke_cpu")
    assert (result.exit_code, stuck.is_closed) == (130, False)  # whoever has waited is heard again


@pytest.mark.parametrize("filename", [None, "d/journal.jsonl"])
def test_a_full_disk_says_which_and_how_to_go_on(
    stillwatt: Stillwatt, install: Callable[..., Workflow], filename: str | None
) -> None:
    """Who writes to an open file hears of no path, and `No space left on device` alone helps nobody."""
    install(OSError(errno.ENOSPC, "No space left on device", filename))
    result = stillwatt("run", "smoke_cpu", "--runs", "some/runs")
    told = "No space left on device on the disk of some/runs; make room and give the same command once more: it goes on"
    assert result.exit_code == 1
    assert f"error: {told} from the last finished stage{f': {filename}' if filename else ''}\n" in result.stderr
    said = "No space left on device while tensors were written; make room and give the same command once more"
    install(OSError(errno.ENOSPC, said, "d/model"))
    assert stillwatt("run", "smoke_cpu").stderr.endswith(f"error: {said}: d/model\n")
    install(OSError(errno.EACCES, "Permission denied", "d"))
    assert stillwatt("run", "smoke_cpu").stderr.endswith("error: Permission denied: d\n")


def test_an_error_is_one_sentence(stillwatt: Stillwatt, install: Callable[..., Workflow]) -> None:
    install(MissingExtraError("torch", "distill"))
    result = stillwatt("run", "smoke_cpu")
    assert result.exit_code == 1
    assert result.stderr.endswith("error: torch is not installed; run: pip install 'stillwatt[distill]'\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("quikstart",), "did you mean 'quickstart'?"),
        (("none.toml",), "none.toml: no such file"),
        (("quickstart", "--set", "data.sead=1"), "did you mean 'seed'?"),
    ],
)
def test_what_cannot_be_meant_runs_nothing(
    arguments: tuple[str, ...], words: str, stillwatt: Stillwatt, install: Callable[..., Workflow]
) -> None:
    workflow = install()
    result = stillwatt("run", *arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert workflow.recipe is None


def test_a_folder_that_models_cannot_be_saved_in_is_refused_before_anything_is_made(
    stillwatt: Stillwatt, tmp_path: Path
) -> None:
    runs = tmp_path / os.fsdecode(b"caf\xe9")
    result = stillwatt("run", "smoke_cpu", "--runs", str(runs))
    assert result.exit_code == 2
    assert "caf\\xe9: models cannot be saved under a name that is not UTF-8; name another folder" in result.stderr
    assert not runs.exists()


class Cluster:
    """Stands in for `run_over_ray`."""

    def __init__(self, outcome: int | BaseException) -> None:
        self.outcome = outcome
        self.orders: list[Order] = []
        self.ranks: int | None = None

    def __call__(
        self, order: Order, *, ranks: int | None, show: Callable[[str, bytes], None], announce: Callable[[str], None]
    ) -> int:
        self.orders.append(order)
        self.ranks = ranks
        announce("2 ranks over the Ray cluster")
        show("stdout", b"the answer\n")
        show("stderr", b"a remark\n")
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | BaseException], Cluster]:
    def put(outcome: int | BaseException) -> Cluster:
        made = Cluster(outcome)
        monkeypatch.setattr("stillwatt.workflows.run_ray.run_over_ray", made)
        return made

    return put


@pytest.mark.parametrize("status", [0, 1, 2, 3])
def test_ranks_of_a_cluster_do_what_the_command_says_and_it_ends_as_the_first_one(
    status: int,
    stillwatt: Stillwatt,
    cluster: Callable[[int], Cluster],
    install: Callable[..., Workflow],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workflow, ray = install(), cluster(status)
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "study.toml"
    recipe.write_bytes(bundled_recipes()["smoke_cpu"].read_bytes())
    result = stillwatt(
        *("run", "study.toml", "--runs", "d", "--engine", "ray", "--ranks", "2", "--set", "data.seed=7"),
        *("--sensors", "synthetic,nvml", "--fresh", "--json"),
    )
    assert result.exit_code == status
    assert (result.stdout, result.stderr) == ("the answer\n", "2 ranks over the Ray cluster\na remark\n")
    assert workflow.recipe is None
    (order,) = ray.orders
    assert (order.runs_dir, order.recipe, ray.ranks) == (tmp_path / "d", recipe, 2)
    assert order.arguments == (
        *("run", str(recipe), "--runs", str(tmp_path / "d"), "--set", "data.seed=7"),
        *("--fresh", "--sensors", "synthetic,nvml", "--json"),
    )


def test_every_rank_is_told_which_run_to_go_on_with(stillwatt: Stillwatt, cluster: Callable[[int], Cluster]) -> None:
    ray = cluster(0)
    assert stillwatt("run", "smoke_cpu", "--engine", "ray", "--resume", "study").exit_code == 0
    assert ray.orders[0].arguments[-2:] == ("--resume", "study")


def test_a_recipe_that_comes_along_is_everywhere(stillwatt: Stillwatt, cluster: Callable[[int], Cluster]) -> None:
    ray = cluster(0)
    assert stillwatt("run", "smoke_cpu", "--engine", "ray").exit_code == 0
    assert (ray.orders[0].recipe, ray.orders[0].arguments[:2], ray.ranks) == (None, ("run", "smoke_cpu"), None)


def test_an_interrupted_launch_says_that_all_have_ended(
    stillwatt: Stillwatt, cluster: Callable[[BaseException], Cluster]
) -> None:
    cluster(KeyboardInterrupt())
    result = stillwatt("run", "smoke_cpu", "--engine", "ray")
    assert result.exit_code == 130
    assert result.stderr.endswith("interrupted: all ranks have ended\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--engine", "ray"), "error: ray is not installed; run: pip install 'stillwatt[ray]'\n"),
        (("--ranks", "2"), "error: --ranks is of --engine ray; `torchrun --nproc-per-node N` starts several"),
        (("--engine", "ray", "--set", "data.sead=1"), "did you mean 'seed'?"),
    ],
)
def test_a_launch_that_cannot_be_meant_is_one_sentence(
    arguments: tuple[str, ...], words: str, stillwatt: Stillwatt, install: Callable[..., Workflow],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    workflow = install()
    monkeypatch.setitem(sys.modules, "ray", None)
    result = stillwatt("run", "smoke_cpu", *arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert workflow.recipe is None
