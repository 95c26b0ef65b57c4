"""Which completions are kept: every check once, their order, and what holds for any text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from byte_tokenizer import byte_tokenizer
from stillwatt.errors import StillwattError
from stillwatt.pipelines import teacher_generate
from stillwatt.pipelines.generated import REJECT_REASONS, Accepted, reasons_of
from stillwatt.pipelines.near_duplicates import grams_of, similarity
from stillwatt.pipelines.prompts import NewSample
from stillwatt.pipelines.sampling import ScoringWriter, Writer, Written
from stillwatt.pipelines.spec import GenerateSpec
from tiny_models import CountingStage, CountingTask

END = 0
SPEC = GenerateSpec(
    prompt_tokens=8,
    max_new_tokens=12,
    min_new_tokens=2,
    max_repeat_share=0.5,
    temperature=1.0,
    top_p=1.0,
    batch_size=4,
    max_rounds=1,
    seed=7,
)
STRICT = replace(
    SPEC, reject_unfinished=True, near_duplicate=0.6, min_mean_logprob=-2.0, max_mean_logprob=-0.1, blocklist=("7 7",)
)
ENOUGH = 10**9


def numbers(tokens: Sequence[int]) -> str:
    return " ".join(map(str, tokens))


def test_each_check_rejects_for_its_own_reason_and_the_first_one_counts() -> None:
    accepted = Accepted(STRICT, frozenset({END}), numbers)
    good, fine = [1, 2, 3, 4, 5, 6, 8, END], [-1.0] * 8
    cases: list[tuple[list[int], list[float], str | None]] = [
        ([END], [-9.0], "empty"),
        ([5, END], [-9.0, -9.0], "too_short"),
        ([9] * 12, [-9.0] * 12, "unfinished"),
        ([9] * 9 + [7, 7, END], [-9.0] * 12, "too_repetitive"),
        ([1, 7, 7, END], [-9.0] * 4, "blocked"),
        ([1, 2, 3, END], [-1.0, -4.0, -3.0, -0.1], "improbable"),
        ([1, 2, 3, END], [-0.1, -0.05, 0.0, 0.0], "too_probable"),
        (good, fine, None),
        (good, fine, "duplicate"),
        ([1, 2, 3, 4, 5, 6, END], fine[:7], "near_duplicate"),  # two of its grams, of three
        ([1, 2, 3, 4, 9, 6, 8, END], fine, None),
    ]
    for completion, logprobs, reason in cases:
        assert accepted.judge([3], completion, logprobs) == reason
    assert accepted.rejects == dict.fromkeys(REJECT_REASONS, 1)
    assert accepted.sequences == [(3, *good), (3, 1, 2, 3, 4, 9, 6, 8, END)]


def test_checks_that_are_off_are_not_counted() -> None:
    assert reasons_of(SPEC) == ("empty", "too_short", "too_repetitive", "duplicate")
    assert reasons_of(STRICT) == REJECT_REASONS


TEXTS = st.lists(st.integers(0, 3), max_size=14)
PAIRS = st.lists(st.tuples(TEXTS.filter(bool), TEXTS), max_size=20)


@given(PAIRS, st.sampled_from([0.3, 0.6, 1.0]))
@settings(deadline=None)
def test_kept_and_rejected_are_all_that_was_written_and_nothing_near_is_kept_twice(
    pairs: list[tuple[list[int], list[int]]], threshold: float
) -> None:
    spec = replace(STRICT, near_duplicate=threshold, min_mean_logprob=None, max_mean_logprob=None)
    runs = [Accepted(spec, frozenset({END}), numbers) for _ in range(2)]
    answers = [[run.judge(*pair) for pair in pairs] for run in runs]
    assert answers[0] == answers[1]
    kept = runs[0]
    assert len(kept.sequences) + sum(kept.rejects.values()) == len(pairs)
    assert kept.tokens == sum(map(len, kept.sequences))
    own = [
        grams_of([token for token in sequence[length:] if token != END])
        for sequence, length in zip(kept.sequences, kept.prompt_lengths, strict=True)
    ]
    assert all(similarity(a, b) < threshold for i, a in enumerate(own) for b in own[:i])


def test_a_blocklist_needs_text_and_bounds_need_probabilities() -> None:
    with pytest.raises(ValueError, match="nothing turns tokens into text"):
        Accepted(replace(SPEC, blocklist=("a",)), frozenset())
    with pytest.raises(ValueError, match="none was told"):
        Accepted(replace(SPEC, min_mean_logprob=-1.0), frozenset()).judge([1], [2, 3, 4])


TOKENIZER = byte_tokenizer()


def ids(text: str) -> list[int]:
    found: list[int] = TOKENIZER(text)["input_ids"]
    return found


def test_of_a_sample_after_examples_the_new_one_alone_is_kept_and_seeds_are_no_new_ones() -> None:
    sample = NewSample(separator="\n\n", tokenizer=TOKENIZER, seeds=frozenset({"a seed of long words"}))
    spec = replace(SPEC, near_duplicate=0.5, min_mean_logprob=-2.0)
    accepted = Accepted(spec, frozenset({END}), sample=sample)
    prompt = ids("a seed of long words\n\n")
    text = ids("a new one.\n\nand another")
    # what is thrown away does not weigh, nor does the token that reaches across
    logprobs = [-1.0] * 9 + [-50.0] * (len(text) - 9)
    assert accepted.judge(prompt, text, logprobs) is None
    assert accepted.sequences == [(*ids("a new one."), END)]
    assert accepted.prompt_lengths == [0]
    assert accepted.judge(ids("other\n\n"), text, logprobs) == "duplicate"
    assert accepted.judge(prompt, ids(" a seed of long words\n\n"), [-1.0] * 22) == "duplicate"
    assert accepted.judge(prompt, ids("a seed of long wordy"), [-1.0] * 20) == "near_duplicate"
    assert accepted.judge(prompt, ids(".\n\n"), [-1.0]) == "too_short"


@dataclass
class Told:
    """A writer that says what it is told, and nothing of probabilities."""

    script: dict[int, list[int]]
    end_ids: frozenset[int] = frozenset({END})
    asked: list[list[int]] = field(default_factory=list)

    def write(self, prompts: Sequence[Sequence[int]], seed: int) -> list[list[int]]:
        self.asked += [list(prompt) for prompt in prompts]
        return [self.script[prompt[-1]] for prompt in prompts]


@dataclass
class Scored(Told):
    """The same, with probabilities."""

    calls_left: int = 100

    def write_scored(self, prompts: Sequence[Sequence[int]], seed: int) -> list[Written]:
        if not self.calls_left:
            raise KeyboardInterrupt
        self.calls_left -= 1
        written = self.write(prompts, seed)
        return [Written(tokens=row, logprobs=[-float(row[0])] * len(row)) for row in written]


def make(writer: Any, directory: Path, spec: GenerateSpec, prompts: list[list[int]]) -> dict[str, Any]:
    stage = CountingStage()
    found = teacher_generate.make(
        writer, prompts, spec, ENOUGH, directory, task=CountingTask(), stage=stage, decode=numbers
    )
    return {**found, "counts": stage.counts}


def test_a_writer_that_cannot_tell_probabilities_is_refused_with_the_reason(tmp_path: Path) -> None:
    writer = Told({})
    with pytest.raises(StillwattError, match="Told does not tell how probable its tokens were; leave both out"):
        make(writer, tmp_path, replace(SPEC, min_mean_logprob=-1.0), [[1]])
    assert not writer.asked


def test_rejects_are_billed_and_counted_and_probabilities_survive_a_kill(tmp_path: Path) -> None:
    script = {n: [n, n + 1, n + 2, n + 3, END] for n in range(1, 7)}
    spec = replace(SPEC, batch_size=2, min_mean_logprob=-3.5, blocklist=(r"^2 3\b",))
    prompts = [[n] for n in range(1, 7)]
    whole = make(Scored(script), tmp_path / "whole", spec, prompts)
    assert whole["rejects"] == {
        "empty": 0, "too_short": 0, "too_repetitive": 0, "blocked": 1, "improbable": 3, "duplicate": 0,
    }  # fmt: skip
    assert whole["samples"] == 2
    assert whole["counts"]["tokens"] == 6 * 6
    assert whole["counts"]["rejected_samples"] == 4
    with pytest.raises(KeyboardInterrupt):
        make(Scored(script, calls_left=2), tmp_path / "broken", spec, prompts)
    again = make(Scored(script), tmp_path / "broken", spec, prompts)
    assert again["artifact_sha256"] == whole["artifact_sha256"]
    index = json.loads((tmp_path / "broken" / "index.json").read_text(encoding="utf-8"))
    assert index["inputs"]["spec"]["blocklist"] == [r"^2 3\b"]


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=len(TOKENIZER), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, initializer_range=0.3, bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(config)


@pytest.mark.parametrize("temperature", [0.0, 1.6])
def test_a_models_own_probabilities_are_those_of_a_pass_over_its_text(model: Any, temperature: float) -> None:
    spec = replace(SPEC, temperature=temperature, top_p=0.9)
    writer = Writer(model, TOKENIZER, spec, frozenset({END}))
    assert isinstance(writer, ScoringWriter)
    prompts = [ids("a"), ids("bcdefg"), ids("hi")]
    written = writer.write_scored(prompts, 3)
    assert [one.tokens for one in written] == writer.write(prompts, 3)
    for prompt, one in zip(prompts, written, strict=True):
        assert one.logprobs is not None
        tokens = torch.tensor([[*prompt, *one.tokens]])
        with torch.inference_mode():
            logp_LV = model.eval()(input_ids=tokens).logits[0].log_softmax(-1)
        expected = logp_LV[len(prompt) - 1 : -1].gather(-1, tokens[0, len(prompt) :, None])[:, 0]
        assert one.logprobs == pytest.approx(expected.tolist(), abs=1e-4)


def test_a_model_stops_where_the_text_is_complete_and_what_follows_is_not_counted(model: Any) -> None:
    spec = replace(SPEC, temperature=1.0)
    plain = Writer(model, TOKENIZER, spec, frozenset({END})).write([ids("a"), ids("bc")], 3)
    stops = Writer(model, TOKENIZER, spec, frozenset({END}), lambda tokens: plain[0][1] in tokens)
    found = stops.write([ids("a"), ids("bc")], 3)
    assert found[0] == plain[0][:2]
    assert found[1] == plain[1]
    assert [one.tokens for one in stops.write_scored([ids("a"), ids("bc")], 3)] == found
