"""The generation stage on a tiny random Llama, and the judging of completions.

Shapes: B prompts of a batch, P longest prompt, L longest sequence.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from stillwatt.errors import ArtifactError, StillwattError
from stillwatt.pipelines import teacher_generate
from stillwatt.pipelines.generated import Accepted, repeat_share
from stillwatt.pipelines.sampling import Writer, end_ids
from stillwatt.pipelines.spec import GenerateSpec
from tiny_models import Tally

VOCABULARY, END, PAD = 48, 2, 0
SPEC = GenerateSpec(
    prompt_tokens=8,
    max_new_tokens=10,
    min_new_tokens=1,
    max_repeat_share=1.0,
    temperature=1.0,
    top_p=1.0,
    batch_size=3,
    max_rounds=3,
    seed=7,
)
GREEDY = replace(SPEC, temperature=0.0)
PROMPTS = [[5, 6], [7, 8, 9, 10, 11, 12, 13], [20], [21, 22, 23], [24, 25]]
ENOUGH = 10**9


@dataclass(frozen=True)
class SpecialTokens:
    """What the stage asks of a tokenizer."""

    eos_token_id: int | None = END
    pad_token_id: int | None = PAD


@pytest.fixture(scope="module")
def teacher() -> Any:
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        initializer_range=0.7,
        attention_dropout=0.5,
        bos_token_id=1,
        eos_token_id=END,
        pad_token_id=PAD,
    )
    return LlamaForCausalLM(config)


def make(
    model: Any,
    directory: Path,
    *,
    prompts: list[list[int]] = PROMPTS,
    spec: GenerateSpec = SPEC,
    needed_tokens: int = ENOUGH,
    tokenizer: SpecialTokens | None = None,
) -> tuple[dict[str, Any], Tally]:
    tally = Tally()
    given = tokenizer or SpecialTokens()
    writer = Writer(model, given, spec, end_ids(model, given))
    results = teacher_generate.make(writer, prompts, spec, needed_tokens, directory, task=tally, stage=tally)
    return results, tally


@dataclass
class ScriptedTeacher:
    """A teacher that continues each prompt as told by its last token, and fills up as transformers does."""

    script: dict[int, list[int]]
    generation_config: Any = field(default_factory=GenerationConfig)
    calls: list[dict[str, Any]] = field(default_factory=list)
    calls_left: int = 1000

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def eval(self) -> Any:
        return self

    def generate(self, inputs: Any, /, **settings: Any) -> Any:
        if not self.calls_left:
            raise KeyboardInterrupt
        self.calls_left -= 1
        self.calls.append({"tokens_BP": inputs, **settings})
        completions = [self.script[int(row[-1])] for row in inputs]
        longest = max(map(len, completions))
        pad = settings["generation_config"].pad_token_id
        tail_BL = torch.tensor([row + [pad] * (longest - len(row)) for row in completions])
        return torch.cat([inputs, tail_BL], dim=1)


def greedy_alone(model: Any, prompt: list[int]) -> list[int]:
    """The reference: one prompt at a time through plain forward passes, no padding and no cache."""
    tokens = list(prompt)
    for _ in range(SPEC.max_new_tokens):
        with torch.inference_mode():
            tokens.append(int(model.eval()(input_ids=torch.tensor([tokens])).logits[0, -1].argmax()))
        if tokens[-1] == END:
            break
    return tokens


def test_a_prompt_gets_the_same_greedy_continuation_alone_and_among_longer_ones(teacher: Any, tmp_path: Path) -> None:
    make(teacher, tmp_path, spec=replace(GREEDY, batch_size=5))
    together = teacher_generate.load(tmp_path)
    assert together.prompt_lengths == tuple(map(len, PROMPTS))
    for prompt, sequence in zip(PROMPTS, together.sequences, strict=True):
        assert list(sequence) == greedy_alone(teacher, prompt)
    # the comparison means something: continuations differ, so conditioning on the wrong place would show
    assert len({sequence[-5:] for sequence in together.sequences}) > 1


def test_prompts_are_padded_on_the_left_and_masked(tmp_path: Path) -> None:
    model = ScriptedTeacher({6: [9, END], 13: [9, 9, END], 20: [8, END], 23: [8, END], 25: [8, END]})
    make(model, tmp_path, spec=GREEDY)
    assert model.calls[0]["tokens_BP"].tolist() == [[0] * 5 + [5, 6], [7, 8, 9, 10, 11, 12, 13], [0] * 6 + [20]]
    assert model.calls[0]["attention_mask"].tolist() == [[0] * 5 + [1] * 2, [1] * 7, [0] * 6 + [1]]


def test_nothing_behind_the_end_is_stored_or_counted(tmp_path: Path) -> None:
    script = {6: [9, END], 13: [9, 9, 9, 9, 9], 20: [8, 7, END]}
    results, tally = make(ScriptedTeacher(script), tmp_path, prompts=PROMPTS[:3], spec=GREEDY)
    assert teacher_generate.load(tmp_path).sequences == (
        (5, 6, 9, END),
        (7, 8, 9, 10, 11, 12, 13, 9, 9, 9, 9, 9),
        (20, 8, 7, END),
    )
    assert results["tokens"] == 20
    assert tally.counts == {
        "tokens": 20,
        "generated_tokens": 10,
        "accepted_tokens": 20,
        "accepted_samples": 3,
        "rejected_samples": 0,
    }


@pytest.mark.parametrize("pad", [END, None])
def test_padding_that_is_the_end_token_is_no_text(tmp_path: Path, pad: int | None) -> None:
    script = {6: [9, END], 13: [9, 9, 9, 9, 9], 20: [8, 7, END]}
    tokenizer = SpecialTokens(pad_token_id=pad)
    _, tally = make(ScriptedTeacher(script), tmp_path, prompts=PROMPTS[:3], spec=GREEDY, tokenizer=tokenizer)
    assert tally.counts["generated_tokens"] == 10


def test_every_end_token_of_the_model_ends_a_text(tmp_path: Path) -> None:
    model = ScriptedTeacher({6: [9, 40, 9]}, generation_config=GenerationConfig(eos_token_id=[END, 40]))  # type: ignore[no-untyped-call]
    make(model, tmp_path, prompts=[[5, 6]], spec=GREEDY)
    assert teacher_generate.load(tmp_path).sequences == ((5, 6, 9, 40),)


def test_a_teacher_without_an_end_token_writes_to_the_limit(teacher: Any, tmp_path: Path) -> None:
    model = ScriptedTeacher({6: [9, END, 9]})
    make(model, tmp_path, prompts=[[5, 6]], spec=GREEDY, tokenizer=SpecialTokens(eos_token_id=None))
    assert teacher_generate.load(tmp_path).sequences == ((5, 6, 9, END, 9),)


def test_rejected_completions_are_billed_and_counted_by_reason(tmp_path: Path) -> None:
    script = {
        1: [END],
        3: [9, 9, END],
        4: [9] * 9 + [END],
        5: [10, 11, 12, 13, END],
        6: [10, 11, 12, 14, END],
    }
    prompts = [[1], [3], [4], [5], [5], [6]]
    spec = replace(GREEDY, min_new_tokens=3, max_repeat_share=0.5, batch_size=4)
    results, tally = make(ScriptedTeacher(script), tmp_path, prompts=prompts, spec=spec)
    assert results["rejects"] == {"empty": 1, "too_short": 1, "too_repetitive": 1, "duplicate": 1}
    assert results["samples"] == 2
    assert tally.counts == {
        "tokens": 6 + 1 + 3 + 10 + 5 + 5 + 5,
        "generated_tokens": 29,
        "accepted_tokens": 12,
        "accepted_samples": 2,
        "rejected_samples": 4,
    }
    assert tally.progress == 12
    assert results["shortfall_tokens"] == ENOUGH - 12


def test_it_stops_once_the_text_suffices(tmp_path: Path) -> None:
    model = ScriptedTeacher({prompt[-1]: [9, END] for prompt in PROMPTS})
    results, _ = make(model, tmp_path, needed_tokens=16)  # the first batch holds exactly 16
    assert len(model.calls) == 1
    assert (results["tokens"], results["shortfall_tokens"], results["rounds"]) == (16, 0, 1)


def test_rounds_are_limited_and_the_shortfall_said(teacher: Any, tmp_path: Path) -> None:
    results, tally = make(teacher, tmp_path, needed_tokens=5000)
    assert results["rounds"] == 3
    assert results["shortfall_tokens"] == 5000 - results["tokens"]
    assert tally.counts["accepted_samples"] + tally.counts["rejected_samples"] == 3 * len(PROMPTS)
    assert tally.progress == tally.counts["accepted_tokens"] == results["tokens"]


def test_a_teacher_that_writes_nothing_but_empty_texts_is_not_asked_for_all_of_them(tmp_path: Path) -> None:
    """An endpoint's model that spends its whole answer on thoughts would be paid for every prompt in every round."""
    model = ScriptedTeacher({5: [END]})
    with pytest.raises(StillwattError, match=r"each of the first 6[4-9] texts that the teacher wrote is empty.*fresh"):
        make(model, tmp_path, prompts=[[5]] * 1000, spec=dataclasses.replace(SPEC, temperature=1.0, max_rounds=8))
    assert sum(len(call["tokens_BP"]) for call in model.calls) < 200


def test_greedy_text_is_written_once(tmp_path: Path) -> None:
    model = ScriptedTeacher({prompt[-1]: [9, END] for prompt in PROMPTS})
    results, _ = make(model, tmp_path, spec=GREEDY)
    assert len(model.calls) == 2
    assert results["rounds"] == 1
    assert results["rejects"]["duplicate"] == 0


def test_sampling_follows_the_recipe_alone(teacher: Any, tmp_path: Path) -> None:
    # a checkpoint's own settings must not creep in: with them every sample would be the greedy one
    own = GenerationConfig(do_sample=True, top_k=1, repetition_penalty=5.0, eos_token_id=END)  # type: ignore[no-untyped-call]
    before, teacher.generation_config = teacher.generation_config, own
    try:
        make(teacher, tmp_path / "with")
        assert teacher.generation_config is own
    finally:
        teacher.generation_config = before
    make(teacher, tmp_path / "without")
    found = teacher_generate.load(tmp_path / "with")
    assert found == teacher_generate.load(tmp_path / "without")
    assert any(list(sequence) != greedy_alone(teacher, PROMPTS[0]) for sequence in found.sequences[::5])


def test_sampling_is_not_cut_to_fifty_tokens(tmp_path: Path) -> None:
    model = ScriptedTeacher({prompt[-1]: [9, END] for prompt in PROMPTS})
    make(model, tmp_path, spec=replace(SPEC, temperature=0.8, top_p=0.9))
    config = model.calls[0]["generation_config"]
    assert (config.do_sample, config.temperature, config.top_p, config.top_k) == (True, 0.8, 0.9, 0)


def test_same_seed_same_text_and_the_callers_random_state_is_left_alone(teacher: Any, tmp_path: Path) -> None:
    torch.manual_seed(1)
    first, _ = make(teacher, tmp_path / "a")
    state = torch.get_rng_state()
    torch.rand(5)
    second, _ = make(teacher, tmp_path / "b")
    other, _ = make(teacher, tmp_path / "c", spec=replace(SPEC, seed=8))
    assert first == second
    assert first["artifact_sha256"] != other["artifact_sha256"]
    torch.manual_seed(1)
    assert torch.get_rng_state().equal(state)


def test_rounds_and_batches_have_seeds_of_their_own(teacher: Any, tmp_path: Path) -> None:
    make(teacher, tmp_path, prompts=[[5, 6]] * 4, spec=replace(SPEC, batch_size=1))
    sequences = teacher_generate.load(tmp_path).sequences
    assert len(set(sequences)) == len(sequences) > 6


def test_temperature_near_zero_is_greedy(teacher: Any, tmp_path: Path) -> None:
    make(teacher, tmp_path, spec=replace(SPEC, temperature=1e-4, max_rounds=1))
    for prompt, sequence in zip(PROMPTS, teacher_generate.load(tmp_path).sequences, strict=True):
        assert list(sequence) == greedy_alone(teacher, prompt)


def test_a_killed_attempt_is_continued_and_billed_once(tmp_path: Path) -> None:
    script = {prompt[-1]: [9, prompt[-1], END] for prompt in PROMPTS}
    whole, bill = make(ScriptedTeacher(script), tmp_path / "whole", spec=GREEDY)
    with pytest.raises(KeyboardInterrupt):
        make(ScriptedTeacher(script, calls_left=1), tmp_path / "broken", spec=GREEDY)
    with pytest.raises(ArtifactError, match="index"):
        teacher_generate.load(tmp_path / "broken")
    again = ScriptedTeacher(script)
    results, tally = make(again, tmp_path / "broken", spec=GREEDY)
    assert len(again.calls) == 1
    assert results == whole
    assert tally.counts["tokens"] == 3 + 2 + 6  # the second batch alone
    assert tally.progress == bill.progress
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert names == ["index.json", "offsets.npy", "prompt_lengths.npy", "tokens.npy"]
    for name in names:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "broken" / name).read_bytes()


def test_a_complete_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    script = {prompt[-1]: [9, END] for prompt in PROMPTS}
    first, _ = make(ScriptedTeacher(script), tmp_path)
    again, tally = make(ScriptedTeacher(script, calls_left=0), tmp_path)
    assert again == first
    assert tally.counts == {"taken_over_tokens": first["tokens"]}


def test_other_prompts_are_not_continued(tmp_path: Path) -> None:
    script = {prompt[-1]: [9, END] for prompt in PROMPTS}
    with pytest.raises(KeyboardInterrupt):
        make(ScriptedTeacher(script, calls_left=1), tmp_path)
    with pytest.raises(ArtifactError, match="other prompts"):
        make(ScriptedTeacher(script), tmp_path, prompts=PROMPTS[:4])
    make(ScriptedTeacher(script), tmp_path)
    with pytest.raises(ArtifactError, match="other prompts"):
        make(ScriptedTeacher(script), tmp_path, spec=replace(SPEC, seed=8))


@pytest.mark.parametrize("name", ["tokens.npy", "offsets.npy", "prompt_lengths.npy"])
def test_a_changed_file_is_refused(tmp_path: Path, name: str) -> None:
    make(ScriptedTeacher({prompt[-1]: [9, END] for prompt in PROMPTS}), tmp_path)
    content = bytearray((tmp_path / name).read_bytes())
    content[-1] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ArtifactError, match="has changed"):
        teacher_generate.load(tmp_path)


def test_another_format_is_refused(tmp_path: Path) -> None:
    make(ScriptedTeacher({prompt[-1]: [9, END] for prompt in PROMPTS}), tmp_path)
    (tmp_path / "index.json").write_text(json.dumps({"schema": "other/1"}), encoding="utf-8")
    with pytest.raises(ArtifactError, match="format"):
        teacher_generate.load(tmp_path)


def test_no_sample_at_all_is_said_and_loads(tmp_path: Path) -> None:
    results, _ = make(ScriptedTeacher({6: [END]}), tmp_path, prompts=[[6]], needed_tokens=10)
    assert (results["samples"], results["shortfall_tokens"], results["rejects"]["empty"]) == (0, 10, 3)
    assert teacher_generate.load(tmp_path).sequences == ()


@pytest.mark.parametrize("prompts", [[], [[1], []]])
def test_prompts_without_tokens_are_refused(tmp_path: Path, prompts: list[list[int]]) -> None:
    with pytest.raises(ValueError, match=r"no prompts|no tokens"):
        make(ScriptedTeacher({}), tmp_path, prompts=prompts)


def test_nothing_is_pickled(tmp_path: Path) -> None:
    make(ScriptedTeacher({prompt[-1]: [9, END] for prompt in PROMPTS}), tmp_path)
    for path in tmp_path.glob("*.npy"):
        assert not np.load(path, allow_pickle=False).dtype.hasobject


TOKENS = st.lists(st.integers(0, 5), max_size=30)


@given(st.lists(st.tuples(TOKENS.filter(bool), TOKENS), max_size=20))
@settings(deadline=None)
def test_every_completion_is_kept_or_counted(pairs: list[tuple[list[int], list[int]]]) -> None:
    spec = replace(SPEC, min_new_tokens=3, max_repeat_share=0.4)
    accepted = Accepted(spec, frozenset({0}))
    reasons = [accepted.judge(*pair) for pair in pairs]
    assert len(accepted.sequences) + sum(accepted.rejects.values()) == len(pairs)
    assert accepted.tokens == sum(map(len, accepted.sequences))
    assert len(set(accepted.sequences)) == len(accepted.sequences)
    assert reasons.count(None) == len(accepted.sequences)


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(1, 5))
@settings(deadline=None)
def test_repeat_share_is_a_share_and_blind_to_names(tokens: list[int], shift: int) -> None:
    share = repeat_share(tokens)
    assert 0.0 <= share <= 1.0
    assert repeat_share([token + shift for token in tokens]) == share
    assert repeat_share(tokens[::-1]) == share


def test_repeat_share_by_hand() -> None:
    # 1231 2312 3123 1231 2312: five 4-grams, the most frequent twice
    assert repeat_share([1, 2, 3, 1, 2, 3, 1, 2]) == 2 / 5
    assert repeat_share([1, 2, 3, 4]) == 0.0  # its only 4-gram does not repeat
    assert repeat_share([]) == 0.0
