"""Small versions of the proofs in benchmarks/: damage, kills, hours of sampling."""

from __future__ import annotations

import random
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from fuzz_ledger import Fuzz, Outcomes
from kill_run import kill_posting, kill_sampling

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))


def test_damage_is_an_error_or_is_said(tmp_path: Path) -> None:
    outcomes = Outcomes()
    Fuzz(tmp_path, np.random.default_rng(2)).run(150, outcomes)
    assert outcomes.silent == []
    assert outcomes.by_outcome["said"] > 50
    assert outcomes.by_outcome["refused"] > 10


@pytest.mark.parametrize("seed", [1, 4])
def test_a_kill_while_sampling_costs_no_stage_that_was_over(tmp_path: Path, seed: int) -> None:
    kill = kill_sampling(tmp_path, random.Random(seed))
    assert kill.faults == []
    assert kill.stages_told


def test_a_kill_while_posting_costs_nothing(tmp_path: Path) -> None:
    assert kill_posting(tmp_path, random.Random(1), slowest_s=1.0) == []


def test_memory_stays_flat_while_it_samples(tmp_path: Path) -> None:
    found = import_module("proof_soak").soak(tmp_path, 0.25)
    assert found["records"] > 150_000
    assert found["resident_mib_last"] - found["resident_mib_first"] < 8.0


def test_what_the_sampling_process_costs_can_be_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bench reaches into a run for its sampling process; how much that takes is no test's affair."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    costs = import_module("bench_meter_cost")
    for found in (costs.sampler_cost(0.1), costs.sampler_cost_8gpu(0.1)):
        assert found["cpu_s_per_min"] >= 0.0
        assert 5.0 < found["rss_mib"] < 100.0
    assert costs.slow_down(pairs=1)["workers"] == 1
