"""The how-to on integrations does what it says: every snippet is run, every metric it names exists."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import stillwatt
from chat_server import chat_server
from integration_runs import stages, synthetic_run
from stillwatt.integrations.live_view import RunFolder
from stillwatt.workflows.books import show_run

PAGE = (Path(__file__).parents[3] / "docs" / "how-to" / "integrations.md").read_text(encoding="utf-8")
SNIPPETS = {
    heading.strip(): code
    for heading, code in re.findall(r"^## ([^\n]+)\n+```python\n(.*?)```", PAGE, re.MULTILINE | re.DOTALL)
}


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def do(heading: str, **given: Any) -> Mapping[str, Any]:
    """Run a section's snippet with what it takes as the reader's own; gives its names."""
    names = dict(given)
    exec(compile(SNIPPETS[heading], f"how-to: {heading}", "exec"), names)
    return names


def record(names: Mapping[str, Any]) -> stillwatt.RunRecord:
    """The run of a snippet."""
    run = names["run"]
    return show_run(run.runs_dir, run.run_id)


def test_every_snippet_has_a_test() -> None:
    assert sorted(SNIPPETS) == sorted(
        [
            "A function",
            "Hugging Face Trainer",
            "Lightning",
            "Tokens of an OpenAI client",
            "Tokens of vLLM",
            "A finished run in MLflow",
            "A finished run in Weights & Biases",
            "OpenTelemetry",
        ]
    )


def test_a_function() -> None:
    found = record(do("A function"))
    assert [(stage.name, dict(stage.workload)) for stage in found.stages] == [
        ("generate", {}),
        ("tidy up", {"files": 3}),
    ]


def test_hugging_face_trainer(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="the extra 'distill' is not installed")
    transformers = pytest.importorskip("transformers", reason="the extra 'distill' is not installed")
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = torch.arange(8)
    trainer = transformers.Trainer(
        model=transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=64, **sizes)),
        args=transformers.TrainingArguments(
            output_dir=str(tmp_path), use_cpu=True, report_to=[], disable_tqdm=True, max_steps=2
        ),
        train_dataset=[{"input_ids": ids, "labels": ids, "attention_mask": torch.ones(8, dtype=torch.long)}] * 16,
    )
    (train,) = stages(record(do("Hugging Face Trainer", trainer=trainer)), "student_train")
    assert (train.labels, train.workload["steps"], train.workload["tokens"]) == ({"arm": "kd"}, 2, 2 * 8 * 8)


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning", "ignore::UserWarning")
def test_lightning() -> None:
    torch = pytest.importorskip("torch", reason="the extra 'distill' is not installed")
    lightning = pytest.importorskip("lightning.pytorch", reason="the extra 'lightning' is not installed")

    class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Embedding(64, 1)

        def training_step(self, batch: Any) -> Any:
            return self.layer(batch["input_ids"]).pow(2).mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    row = {"input_ids": torch.arange(8), "attention_mask": torch.ones(8, dtype=torch.long)}
    data = torch.utils.data.DataLoader([row] * 6, batch_size=2)
    (train,) = stages(record(do("Lightning", module=Module(), data=data)), "student_train")
    assert (train.workload["steps"], train.workload["examples"], train.workload["tokens"]) == (3, 6, 6 * 8)


def test_tokens_of_an_openai_client(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openai", reason="the extra 'integrations' is not installed")
    with chat_server() as url:
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        names = do("Tokens of an OpenAI client")
        names["client"].close()
    (stage,) = stages(record(names), "teacher_generate")
    assert stage.workload["requests"] == 1
    assert stage.workload["tokens"] > 0


def test_tokens_of_vllm() -> None:
    output = SimpleNamespace(prompt_token_ids=[1, 2, 3], outputs=[SimpleNamespace(token_ids=[4, 5])])
    names = do("Tokens of vLLM", llm=SimpleNamespace(generate=lambda _prompts: [output]))
    (stage,) = stages(record(names), "teacher_generate")
    assert dict(stage.workload) == {"requests": 1, "prompt_tokens": 3, "generated_tokens": 2, "tokens": 5}


def test_a_finished_run_in_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="the extra 'integrations' is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    try:
        do("A finished run in MLflow")
    finally:
        mlflow.set_tracking_uri(None)
    assert list(tmp_path.rglob("stillwatt_run.json"))


def test_a_finished_run_in_weights_and_biases(tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="the extra 'integrations' is not installed")
    # in a process of its own: wandb reads its settings once a process
    settings = {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_SILENT": "true"}
    script = SNIPPETS["A finished run in Weights & Biases"]
    subprocess.run([sys.executable, "-c", script], env={**os.environ, **settings}, check=True, capture_output=True)
    assert list(tmp_path.rglob("*.wandb"))


def test_opentelemetry(tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.sdk.metrics", reason="the extra 'integrations' is not installed")
    with synthetic_run(tmp_path / "runs") as run, run.stage("work"):
        script = SNIPPETS["OpenTelemetry"] + "provider.shutdown()\n"
        told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    (resource,) = json.loads(told)["resource_metrics"]
    (energy,) = [each for each in resource["scope_metrics"][0]["metrics"] if each["name"] == "hw.energy"]
    assert {point["attributes"]["stillwatt.run"] for point in energy["data"]["data_points"]} == {run.run_id}


def test_every_metric_is_described(tmp_path: Path) -> None:
    pytest.importorskip("prometheus_client", reason="the extra 'integrations' is not installed")
    from stillwatt.integrations.prometheus import registry

    runs_dir = tmp_path / "runs"
    runs_dir.mkdir()
    families = registry(RunFolder(runs_dir)).collect()
    exposed = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    rows = "\n".join(line for line in PAGE.splitlines() if line.startswith("| `stillwatt_"))
    assert set(re.findall(r"`(stillwatt_\w+)`", rows)) == exposed
