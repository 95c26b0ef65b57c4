"""Two ranks train adapters, and layers that are computed again, as one process does: whole on each, and by FSDP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the distill extra is not installed")
pytest.importorskip("peft", reason="the lora extra is not installed")

from safetensors.torch import load_file

from tiny_trainings import job_of

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).parent.parent / "train_ranks_program.py"
LAUNCH = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


def launch(folder: Path, name: str, sharding: str, *before: str) -> dict[str, Any]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "CUDA_VISIBLE_DEVICES": ""}
    paths = [str(PROGRAM.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    command = [sys.executable, *before, str(PROGRAM), str(folder), name, sharding]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads((folder / f"{name}.0.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("sharding", ["none", "fsdp"])
def test_two_ranks_train_as_one_process_does(tmp_path: Path, sharding: str) -> None:
    job_of("kd", tmp_path)  # writes the cache that all read
    one = launch(tmp_path, "one", "none")
    two = launch(tmp_path, "two", sharding, *LAUNCH)
    for way in ("lora", "weights", "adafactor"):
        for ours, theirs in zip(two[way], one[way], strict=True):
            assert ours["loss_curve"] == pytest.approx(theirs["loss_curve"], abs=1e-5)
            for key in ("parameters", "tokens_total", "trained_parameters"):
                assert ours.get(key) == theirs.get(key)
        whole, shared = (load_file(tmp_path / f"{name}.{way}" / "model.safetensors") for name in ("one", "two"))
        assert whole.keys() == shared.keys()
        for name, values in whole.items():
            assert float((values - shared[name]).abs().max()) < 1e-4, (way, name)
    # adapters are kept whole, whatever lay where
    ours, theirs = (
        load_file(tmp_path / f"{name}.lora.half" / "adapter" / "adapter_model.safetensors") for name in ("two", "one")
    )
    assert {name: values.shape for name, values in ours.items()} == {
        name: values.shape for name, values in theirs.items()
    }
