"""A study whose teacher is a server: killed in the middle of its text, gone on with, accounted for, and keyless.

Run as a person runs it; the server is a real one, on loopback, in this process.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from endpoint_server import OK, Asked, Behaviour, EndpointServer, endpoint_server
from kill_stage import RECIPE
from stillwatt.factors.serving import modelled_reply_token
from stillwatt.ledger.conservation import conservation_findings
from stillwatt.ledger.post import build_record
from stillwatt.ledger.rundir import list_run_dirs
from stillwatt.records import Absent, Basis, Energy, RunRecord, StageRecord, StageStatus, Total
from stillwatt.units import J_PER_KWH
from study_outcome import WATTS

pytest.importorskip("torch", reason="the distill extra is not installed")

pytestmark = pytest.mark.slow

KEY = "sk-never-to-be-seen-0123456789"
KILLED_AT = 9
"""The request at which the program dies: the first batch of eight is on disk then, the second is under way."""
ENDPOINT = """
[serve]
prompts = 2
prompt_tokens = 8
new_tokens = 8
batch_size = 2
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
[teacher_endpoint]
url = "{url}"
model = "big"
api = "chat"
api_key_env = "TEACHER_KEY"
concurrency = 4
[[arms]]
name = "sft"
method = "sft"
[[arms]]
name = "synthetic"
method = "synthetic_sft"
"""


def write_recipe(path: Path, url: str) -> Path:
    text = RECIPE.format(watts=WATTS, tokens=512, sharding="none").partition("[teacher_logits]")[0]
    text = text.replace('[teacher]\nsource = "tiny-random"\ndtype = "float32"\n', '[teacher]\nsource = "endpoint"\n')
    text = text.replace("checkpoints = [0.5, 1.0]", "checkpoints = [1.0]")
    path.write_text(text + ENDPOINT.format(url=url), encoding="utf-8")
    return path


@dataclass
class Study:
    """A study that was killed once and gone on with."""

    runs: Path
    said: list[str] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)
    """Requests in each session."""
    generated: list[int] = field(default_factory=list)
    process: subprocess.Popen[str] | None = None

    def run(self, recipe: Path, server: EndpointServer) -> None:
        before = len(server.asked), server.generated
        command = [sys.executable, "-m", "stillwatt", "run", str(recipe), "--runs", str(self.runs)]
        told = {**os.environ, "TEACHER_KEY": KEY, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command, env=told, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
        )
        said, _ = self.process.communicate(timeout=120)
        self.said.append(said)
        self.codes.append(self.process.returncode)
        self.asked.append(len(server.asked) - before[0])
        self.generated.append(server.generated - before[1])

    def behave(self, number: int, _asked: Asked) -> Behaviour:
        if number == 0:
            return Behaviour(status=429, headers={"Retry-After": "0"})
        if number == KILLED_AT and self.process is not None:
            os.kill(self.process.pid, signal.SIGKILL)
        return OK

    @property
    def record(self) -> RunRecord:
        (run_dir,) = list_run_dirs(self.runs)
        return build_record(run_dir)

    def stages(self, name: str) -> list[StageRecord]:
        return [stage for stage in self.record.stages if stage.name == name]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("endpoint")
    study = Study(folder / "runs")
    with endpoint_server(study.behave) as server:
        recipe = write_recipe(folder / "recipe.toml", server.url)
        study.run(recipe, server)
        study.run(recipe, server)
    return study


def test_it_runs_but_its_energy_is_incomplete_and_the_reason_is_said(study: Study) -> None:
    assert study.codes == [-signal.SIGKILL, 3], study.said[-1]
    assert (
        "the teacher is an endpoint: none is evaluated, so quality is relative to the first student as it starts"
        in study.said[1]
    )
    assert "the teacher is an endpoint: its serving is not measured, so there is no T*" in study.said[1]
    record = study.record
    names = [stage.name for stage in record.stages]
    assert not {"evaluate.teacher", "serve.teacher", "fetch_models"} & set(names)
    assert {"teacher_generate", "train.synthetic.1.0", "train.sft.1.0", "serve.student"} <= set(names)
    assert isinstance(record.total, Total)
    assert (record.total.complete, record.total.absent) == (False, ("endpoint",))
    whole = {
        name: isinstance(total := stage.gross, Total) and total.complete
        for name, stage in zip(names, record.stages, strict=True)
    }
    assert {name for name, is_whole in whole.items() if not is_whole} == {"teacher_generate"}
    assert list(conservation_findings(record)) == []


def test_finished_batches_are_taken_over_and_every_answer_is_on_the_books(study: Study) -> None:
    killed, ended = study.stages("teacher_generate")
    assert (killed.status, ended.status) == (StageStatus.RECOVERED, StageStatus.ENDED)
    assert (killed.attempt, ended.attempt) == (1, 2)
    assert ended.workload["taken_over_tokens"] > 0
    assert ended.workload["requests"] == study.asked[1]
    assert ended.workload["generated_tokens"] == study.generated[1]
    assert killed.workload.get("retries", 0) in (0, 1)  # counts are journalled every half second
    assert ended.results["endpoint"]["models"] == {"big-0001": study.asked[1]}
    assert ended.results["shortfall_tokens"] == 0
    server = [each for stage in (killed, ended) for each in stage.energies if each.part == "endpoint"]
    assert {each.reason if isinstance(each, Absent) else "known" for each in server} == {
        "the teacher is an endpoint: 127.0.0.1 is read by nobody here, and no model was asked for"
    }


def test_no_file_of_the_run_and_no_line_on_the_screen_holds_the_key(study: Study) -> None:
    files = [path for path in study.runs.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
    assert not [said for said in study.said if KEY in said]


def test_the_report_tells_what_is_not_known(study: Study) -> None:
    (path,) = study.runs.rglob("report.json")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    text = json.dumps(found)
    assert "no teacher was evaluated: quality Q is relative to tiny as it starts, which is 1" in text
    assert [model["quality"]["value"] for model in found["references"]] == [1.0]
    assert "bills are incomplete for synthetic" in text
    (said,) = [each for each in found["answer"]["sentences"] if "nobody knows how much" in each]
    assert "endpoint in teacher_generate: the teacher is an endpoint" in said
    assert [each["value"] for each in found["break_evens"] if each["kind"] == "reuse"] == [None]


@pytest.fixture(scope="module")
def modelled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, int]:
    """The same study, undisturbed, with the server's energy modelled; and the tokens that the server wrote."""
    pytest.importorskip("ecologits", reason="the factors extra is not installed")
    folder = tmp_path_factory.mktemp("modelled")
    study = Study(folder / "runs")
    with endpoint_server() as server:
        recipe = write_recipe(folder / "recipe.toml", server.url)
        told = 'energy = "ecologits"\nactive_parameters = 70\ntotal_parameters = 70\n[[arms]]\nname = "sft"'
        recipe.write_text(recipe.read_text().replace('[[arms]]\nname = "sft"', told, 1), encoding="utf-8")
        study.run(recipe, server)
    return study, study.generated[0]


def test_a_modelled_server_makes_the_books_whole_and_says_whose_figure_it_is(modelled: tuple[Study, int]) -> None:
    study, written = modelled
    assert study.codes == [0], study.said[-1]
    record = study.record
    assert isinstance(record.total, Total)
    assert record.total.complete
    (stage,) = study.stages("teacher_generate")
    (server,) = [part for part in stage.energies if part.part == "endpoint"]
    each, source = modelled_reply_token((70.0, 70.0), (70.0, 70.0))
    assert isinstance(server, Energy)
    assert server.value_j == pytest.approx(written * each.value_j)
    assert server.basis is Basis.MODELLED
    assert server.source == source
    low_j, high_j = server.value_j - server.systematic_low_j, server.value_j + server.systematic_high_j
    assert (low_j, high_j) == pytest.approx((written * each.low_j, written * each.high_j))
    # the total's range holds the server's, and the machine's own joules are no model's
    assert record.total.high_j - record.total.low_j >= high_j - low_j
    assert list(conservation_findings(record)) == []


def test_its_account_and_its_report_name_the_model(modelled: tuple[Study, int]) -> None:
    study, _ = modelled
    (run_dir,) = list_run_dirs(study.runs)
    html = (run_dir / "report.html").read_text(encoding="utf-8")
    assert "ecologits" in html
    command = [sys.executable, "-m", "stillwatt", "account", run_dir.name, "--region", "FRA", "--json"]
    done = subprocess.run(
        [*command, "--runs", str(study.runs)], capture_output=True, text=True, check=False, env=os.environ, timeout=120
    )
    assert done.returncode == 0, done.stderr
    cells = {(cell["stage"], cell["impact"]): cell for cell in json.loads(done.stdout)["cells"]}
    data, training = (cells[stage, "energy_metered"] for stage in ("data", "training"))
    (server,) = [part for part in study.stages("teacher_generate")[0].energies if part.part == "endpoint"]
    assert isinstance(server, Energy)
    assert data["value"] * J_PER_KWH > server.low_j
    # the draws of the cell spread as the model's range does, and the training's, which is the machine's own, do not
    spread_j, own_j = ((cell["high"] - cell["low"]) * J_PER_KWH for cell in (data, training))
    range_j = server.systematic_low_j + server.systematic_high_j
    assert spread_j > range_j / 2
    assert own_j < range_j / 2
    # this machine's instrument is made up, and the weaker of two says what a sum is
    assert data["status"] == training["status"] == "factor"
