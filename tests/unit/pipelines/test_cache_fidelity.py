from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("constriction", reason="the cache extra is not installed")

from stillwatt.pipelines import teacher_logits
from stillwatt.pipelines.artifacts import file_sha256
from stillwatt.pipelines.cache_fidelity import measure_fidelity, sampled_sequences
from stillwatt.pipelines.caches import open_cache
from stillwatt.pipelines.spec import CacheSpec, LogitsSpec
from stillwatt.workflows.cache import cache_info
from tiny_models import CountingStage, CountingTask

VOCAB = 40


class Teacher:
    """Says the same of the same token, whatever came before it."""

    device = torch.device("cpu")
    config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(vocab_size=VOCAB))

    def __init__(self) -> None:
        self._logits_VV = 3.0 * torch.randn(VOCAB, VOCAB, generator=torch.Generator().manual_seed(5))

    def __call__(self, *, input_ids: torch.Tensor, use_cache: bool, **_more: torch.Tensor) -> Any:
        return SimpleNamespace(logits=self._logits_VV[input_ids])

    def eval(self) -> None:
        """Nothing to switch off."""


def sequences() -> list[list[int]]:
    rng = np.random.default_rng(3)
    return [rng.integers(0, VOCAB, 24).tolist() for _ in range(12)]


def found(folder: Path, spec: LogitsSpec) -> tuple[dict[str, Any], CountingStage]:
    teacher, stage = Teacher(), CountingStage()
    teacher_logits.make(teacher, sequences(), spec, folder, task=CountingTask(), stage=CountingStage())
    return measure_fidelity(open_cache(folder), teacher, sequences(), stage), stage


def fixed(top_k: int) -> LogitsSpec:
    return LogitsSpec(top_k=top_k, temperature=1.0, batch_size=4)


def test_a_cache_of_everything_is_the_teacher_and_less_of_it_is_further_away(tmp_path: Path) -> None:
    far = [found(tmp_path / str(top_k), fixed(top_k))[0]["kl_to_full"] for top_k in (2, 8, 20, VOCAB)]
    assert far == sorted(far, reverse=True)
    assert 0.1 < far[0] < 3.0
    assert 0.0 <= far[-1] < 1e-5


def test_the_divergence_is_that_of_whole_distributions(tmp_path: Path) -> None:
    told, stage = found(tmp_path, fixed(4))
    (index,) = sampled_sequences(12)
    assert stage.counts == {"tokens": 24}
    assert told["kl_positions"] == 23
    p_TV = torch.log_softmax(
        Teacher()(input_ids=torch.tensor([sequences()[index]]), use_cache=False).logits[0, :-1], -1
    )
    kept = open_cache(tmp_path).batch([index])
    q_TV = torch.full((23, VOCAB), -torch.inf, dtype=torch.float64)
    for t in range(23):
        ids, logp = kept.ids_BTK[0, t], kept.logp_BTK[0, t].double()
        q_TV[t] = (kept.tail_logmass_BT[0, t].double().exp() / (VOCAB - 4)).log()
        q_TV[t, ids] = logp
    exact = (p_TV.double().exp() * (p_TV.double() - q_TV)).sum(-1).mean()
    assert told["kl_to_full"] == pytest.approx(float(exact), rel=1e-5)


def test_a_coded_cache_is_measured_with_its_priors_tail(tmp_path: Path) -> None:
    coded = LogitsSpec(top_k=4, temperature=1.0, batch_size=4, cache=CacheSpec(scheme="topk"))
    even, prior = (found(tmp_path / name, spec)[0]["kl_to_full"] for name, spec in (("a", fixed(4)), ("b", coded)))
    # the prior knows the tail of a teacher that looks at one token back
    assert 0.0 < prior < 0.7 * even


def test_draws_have_no_divergence_and_say_so(tmp_path: Path) -> None:
    draws = LogitsSpec(top_k=4, temperature=1.0, batch_size=4, cache=CacheSpec(scheme="head_draws", draws=4))
    told, stage = found(tmp_path, draws)
    assert told.keys() == {"kl_absent"}
    assert "head_draws" in told["kl_absent"]
    assert stage.counts == {}


@pytest.mark.parametrize("count", [1, 2, 99, 100, 101, 5000])
def test_the_sample_is_a_hundredth_spread_evenly(count: int) -> None:
    chosen = sampled_sequences(count)
    assert len(chosen) == -(-count // 100)
    assert len(set(chosen)) == len(chosen)
    assert all(0 <= index < count for index in chosen)
    assert sampled_sequences(0) == []


def test_sequences_of_one_token_leave_nothing_to_compare(tmp_path: Path) -> None:
    teacher = Teacher()
    teacher_logits.make(teacher, [[1]], fixed(4), tmp_path, task=CountingTask(), stage=CountingStage())
    assert "no positions" in measure_fidelity(open_cache(tmp_path), teacher, [[1]], CountingStage())["kl_absent"]


def test_a_cache_that_no_run_made_has_no_account_and_says_so(tmp_path: Path) -> None:
    found(tmp_path / "cache", fixed(4))
    assert "no readable artifact.json" in cache_info(tmp_path / "cache")["account"]["absent"]
    files = {"index.json": file_sha256(tmp_path / "cache" / "index.json")}
    told = {"made_by": {"run_id": "20260101-nobody"}, "files": files}
    (tmp_path / "cache" / "artifact.json").write_text(json.dumps(told), encoding="utf-8")
    assert "20260101-nobody" in cache_info(tmp_path / "cache")["account"]["absent"]
