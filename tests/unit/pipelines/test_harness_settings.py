"""Tasks of lm-evaluation-harness as its users ask them: with examples, in chat templates, in groups, with filters."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import RwkvConfig, RwkvForCausalLM

from chat_models import CHATML, chat_tokenizer
from stillwatt.errors import MissingExtraError, MissingInputError, StillwattError
from stillwatt.pipelines.evaluate_harness import harness_scores
from stillwatt.pipelines.harness_check import check_chat, check_harness
from stillwatt.pipelines.model_sources import resolve_model
from stillwatt.pipelines.models import open_place
from stillwatt.pipelines.ranks import Ranks
from stillwatt.pipelines.spec_evaluate import EvaluateSpec, HarnessWriting
from tiny_models import CountingStage, smoke_spec

pytestmark = pytest.mark.slow

_SPEC = smoke_spec().evaluate
_HEAD = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{{splits}}}}}
test_split: test
doc_to_text: "Q: {{{{question}}}} A:"
metadata: {{version: 2.0}}
{more}
"""
_CHOICE = """
output_type: multiple_choice
doc_to_choice: "{{choices}}"
doc_to_target: "{{label}}"
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""
_ROLLING = """
output_type: loglikelihood_rolling
doc_to_target: "{{question}}"
metric_list: [{metric: word_perplexity}, {metric: bits_per_byte}]
"""
_LAST_WORD = """
output_type: loglikelihood
doc_to_target: "{{answer}}"
metric_list: [{metric: perplexity, aggregation: perplexity, higher_is_better: false}]
"""
_FILTERED = """
output_type: generate_until
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["\\n"], do_sample: false, max_gen_toks: 6}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
filter_list:
  - {name: strict-match, filter: [{function: regex, regex_pattern: "x(.)"}, {function: take_first}]}
  - {name: flexible-extract, filter: [{function: regex, regex_pattern: "(.)"}, {function: take_first}]}
"""
_ODD = """
output_type: generate_until
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 2}
process_results: !function odd.process
metric_list: [{metric: oddity, aggregation: mean}, {metric: surprise, aggregation: mean, higher_is_better: false}]
"""
_SPELT = """
output_type: generate_until
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["\\n"], do_sample: false, max_gen_toks: 8}
process_results: !function odd.spelt
metric_list: [{metric: spelling, aggregation: mean, higher_is_better: true}]
"""
_PYTHON = """
def process(doc, results):
    return {'oddity': 1.0 + int(doc['label']), 'surprise': 2.0}

def spelt(doc, results):
    return {'spelling': sum((place + 1) * ord(letter) for place, letter in enumerate(results[0]))}
"""
_TASKS = {
    "shown": _CHOICE, "few": f"{_CHOICE}num_fewshot: 2\n", "never": f"{_CHOICE}num_fewshot: 0\n", "rolling": _ROLLING,
    "lastword": _LAST_WORD, "filtered": _FILTERED, "odd": _ODD, "bare": _CHOICE, "spelt": _SPELT,
}  # fmt: skip
_GROUPS = {
    "family": "group: family\ntask: [shown, pair]\n",
    "pair": "group: pair\ntask: [few, never]\naggregate_metric_list: [{metric: acc, weight_by_size: true}]\n",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tasks of every kind, most of which have examples in a split of their own, all questions equally long."""
    pytest.importorskip("lm_eval")
    made = tmp_path_factory.mktemp("tasks")
    for split, first in (("test", 0), ("train", 50)):
        rows = [
            {"question": f"word {n:02}?", "choices": ["a", "b", "c"], "label": n % 3, "answer": "xyz"[n % 3]}
            for n in range(first, first + 12)
        ]
        (made / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (made / "odd.py").write_text(_PYTHON, encoding="utf-8")
    for name, more in _TASKS.items():
        names = ("test",) if name == "bare" else ("test", "train")
        more += "" if name == "bare" else "fewshot_split: train\n"
        splits = ", ".join(f"{split}: {made / f'{split}.jsonl'}" for split in names)
        (made / f"{name}.yaml").write_text(_HEAD.format(name=name, splits=splits, more=more), encoding="utf-8")
    for name, text in _GROUPS.items():
        (made / f"{name}.yaml").write_text(text, encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def opened() -> tuple[Any, Any]:
    return open_place(resolve_model("tiny-random", revision=None, announce=lambda _: None), dtype="float32")


def spec_of(folder: Path, *tasks: str, **changes: Any) -> EvaluateSpec:
    told = {"lm_eval_tasks": tasks, "lm_eval_include_path": str(folder), "lm_eval_limit": 6, **changes}
    return dataclasses.replace(_SPEC, **told)


def scores_of(opened: tuple[Any, Any], spec: EvaluateSpec, stage: CountingStage | None = None) -> dict[str, Any]:
    found = harness_scores(*opened, spec, stage=stage or CountingStage(), ranks=Ranks())
    assert json.dumps(found, allow_nan=False)
    return {score["task"]: score for score in found}


def test_examples_are_shown_as_often_as_asked_and_their_tokens_go_through_the_model(
    opened: tuple[Any, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    forward = opened[0].forward

    def watched(ids: Any, *args: Any, **more: Any) -> Any:
        seen.append(int(ids.numel()))
        return forward(ids, *args, **more)

    monkeypatch.setattr(opened[0], "forward", watched)
    counts = {}
    for shots in (None, 1, 3):
        stage, seen[:] = CountingStage(), []
        (score,) = scores_of(opened, spec_of(folder, "shown", lm_eval_few_shot=shots), stage).values()
        assert score["asked"]["few_shot"] == (shots or 0)
        counts[shots] = stage.counts["tokens"]
        assert sum(seen) == counts[shots]  # all equally long, so that nothing is padding
    example = len("Q: word 50? A: a\n\n")
    assert counts[1] - counts[None] == 6 * example
    assert counts[3] - counts[None] == 6 * 3 * example


def test_contexts_that_are_cut_to_one_text_go_through_the_model_one_by_one(
    opened: tuple[Any, Any], folder: Path, tmp_path: Path
) -> None:
    """Examples differ and the question does not: of what fits into the model nothing but the question is left."""
    spec = spec_of(folder, "shown", lm_eval_few_shot=3, lm_eval_limit=2)
    rows = [{"question": "z" * 600, "choices": ["a", "b", "c"], "label": 0, "answer": "x"}] * 2
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    text = (folder / "shown.yaml").read_text(encoding="utf-8")
    text = text.replace(f"test: {folder / 'test.jsonl'}", f"test: {tmp_path / 'test.jsonl'}")
    (tmp_path / "shown.yaml").write_text(text, encoding="utf-8")
    stage = CountingStage()
    scores_of(opened, dataclasses.replace(spec, lm_eval_include_path=str(tmp_path)), stage)
    assert stage.counts["tokens"] == 2 * 512


def test_data_that_cannot_be_read_is_one_sentence(opened: tuple[Any, Any], folder: Path, tmp_path: Path) -> None:
    text = (folder / "bare.yaml").read_text(encoding="utf-8").replace(str(folder), str(tmp_path))
    (tmp_path / "bare.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "test.jsonl").write_text('{"question": "a"}\n{"question": \n', encoding="utf-8")
    with pytest.raises(StillwattError, match=r"failed on bare: .* while generating the dataset \(.+\)"):
        scores_of(opened, spec_of(tmp_path, "bare"))


def test_scores_are_named_by_what_was_asked_otherwise_than_the_task_says(opened: tuple[Any, Any], folder: Path) -> None:
    tasks = ("shown", "few", "never")
    assert list(scores_of(opened, spec_of(folder, *tasks))) == [f"lm_eval:{name}:acc" for name in tasks]
    found = scores_of(opened, spec_of(folder, *tasks, lm_eval_few_shot=2))
    # `few` shows two by itself, and `never` says that it shows none, which the harness respects
    assert list(found) == ["lm_eval:shown:acc@2-shot", "lm_eval:few:acc", "lm_eval:never:acc"]
    assert found["lm_eval:never:acc"]["asked"] == {
        "few_shot": 0, "few_shot_asked": 2, "limit": 6, "version": "2.0"
    }  # fmt: skip


def test_examples_are_never_drawn_from_the_questions(opened: tuple[Any, Any], folder: Path) -> None:
    scores_of(opened, spec_of(folder, "bare"))
    with pytest.raises(StillwattError, match=r"task bare has no examples but its own questions.*`fewshot_split`"):
        scores_of(opened, spec_of(folder, "bare", lm_eval_few_shot=1))


def test_a_group_has_the_score_that_it_defines_and_else_is_its_members(opened: tuple[Any, Any], folder: Path) -> None:
    found = scores_of(opened, spec_of(folder, "family"))
    assert list(found) == ["lm_eval:shown:acc", "lm_eval:pair:acc"]
    pair = found["lm_eval:pair:acc"]
    assert [part["task"] for part in pair["of_tasks"]] == ["few", "never"]
    assert pair["value"] == pytest.approx(sum(part["value"] for part in pair["of_tasks"]) / 2)
    assert (pair["n"], pair["asked"]["few_shot"]) == (12, [0, 2])
    assert all(part["se"] > 0 and part["n"] == 6 for part in pair["of_tasks"])
    assert list(scores_of(opened, spec_of(folder, "n*r", "fe*"))) == ["lm_eval:never:acc", "lm_eval:few:acc"]


def test_every_metric_has_its_direction_and_an_unknown_error_has_its_reason(
    opened: tuple[Any, Any], folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("multiprocessing.Pool", lambda *_: pytest.fail("the measured process was forked"))
    found = scores_of(opened, spec_of(folder, "rolling", "lastword"))
    assert list(found) == [
        "lm_eval:rolling:word_perplexity", "lm_eval:rolling:bits_per_byte", "lm_eval:lastword:perplexity",
    ]  # fmt: skip
    assert not any(score["higher_is_better"] for score in found.values())
    bits = found["lm_eval:rolling:bits_per_byte"]
    assert (bits["se"], bits["se_absent"]) == (None, "lm-evaluation-harness knows no standard error of this metric")
    assert found["lm_eval:lastword:perplexity"]["se"] > 0
    assert capsys.readouterr().out == ""


def test_an_unknown_direction_is_no_part_of_quality_and_equal_answers_are_no_certainty(
    opened: tuple[Any, Any], folder: Path
) -> None:
    found = scores_of(opened, spec_of(folder, "odd"))
    odd, same = found["lm_eval:odd:oddity"], found["lm_eval:odd:surprise"]
    assert odd["in_quality"] is False
    assert "whether higher is better" in odd["beside"]
    assert "in_quality" not in same
    assert (same["value"], same["higher_is_better"], same["se"]) == (2.0, False, None)
    assert "all questions scored the same" in same["se_absent"]


def test_each_filter_has_its_score_and_the_recipe_says_how_long_models_write(
    opened: tuple[Any, Any], folder: Path
) -> None:
    stage = CountingStage()
    plain = scores_of(opened, spec_of(folder, "filtered"), stage)
    names = [f"lm_eval:filtered:exact_match[{name}]" for name in ("strict-match", "flexible-extract")]
    assert list(plain) == names
    short, writing = CountingStage(), HarnessWriting(max_gen_toks=2, temperature=0.7)
    other = scores_of(opened, spec_of(folder, "filtered", "shown", lm_eval_generation=writing), short)
    assert list(other) == [*(f"{name}@max_gen_toks=2,temperature=0.7" for name in names), "lm_eval:shown:acc"]
    assert other[f"{names[0]}@max_gen_toks=2,temperature=0.7"]["asked"]["generation"]["do_sample"] is True
    assert short.counts["generated_tokens"] <= 12 < stage.counts["generated_tokens"] <= 36
    with pytest.raises(StillwattError, match="max tokens to generate"):
        scores_of(opened, spec_of(folder, "filtered", lm_eval_generation=HarnessWriting(max_gen_toks=600)))


def test_a_model_that_mixes_the_texts_of_a_batch_writes_as_it_would_alone(
    opened: tuple[Any, Any], folder: Path
) -> None:
    torch.manual_seed(0)
    config = RwkvConfig(vocab_size=257, hidden_size=32, num_hidden_layers=2, bos_token_id=0, eos_token_id=0)
    model: Any = RwkvForCausalLM(config)
    model.eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(0, 0.25)  # untrained, it says nearly the same to everything
    alone, beside = (
        scores_of((model, opened[1]), spec_of(folder, "spelt", "shown", batch_size=size)) for size in (1, 4)
    )
    assert beside["lm_eval:spelt:spelling"] == alone["lm_eval:spelt:spelling"]
    assert beside["lm_eval:shown:acc"] == alone["lm_eval:shown:acc"]


def test_questions_are_put_into_the_chat_template_with_system_and_examples(
    opened: tuple[Any, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = opened
    monkeypatch.setattr(tokenizer, "chat_template", CHATML.replace("|", ""))
    texts: list[str] = []
    encode = tokenizer.encode

    def kept(text: str, **more: Any) -> Any:
        texts.append(text)
        return encode(text, **more)

    monkeypatch.setattr(tokenizer, "encode", kept)
    spec = spec_of(
        folder, "shown", lm_eval_few_shot=1, lm_eval_limit=1, lm_eval_chat_template=True, lm_eval_system="Be brief."
    )
    (as_turns,) = scores_of((model, tokenizer), spec)
    begun = "<im_start>system\nBe brief.<im_end>\n<im_start>user\nQ: word 5"
    assert any(text.startswith(begun) and "<im_start>assistant\n" in text for text in texts)
    turns = max(text.count("<im_start>user") for text in texts)
    texts.clear()
    (in_one,) = scores_of((model, tokenizer), dataclasses.replace(spec, lm_eval_few_shot_as_turns=False))
    assert (turns, max(text.count("<im_start>user") for text in texts)) == (2, 1)
    assert as_turns.startswith("lm_eval:shown:acc@1-shot,chat,system-")
    assert in_one == as_turns.replace("chat", "chat-in-one-turn")


def test_a_template_that_is_not_there_or_loses_the_system_message_is_refused(folder: Path) -> None:
    spec = spec_of(folder, "shown", lm_eval_chat_template=True)
    check_chat(spec, chat_tokenizer(), "the teacher")
    with pytest.raises(StillwattError, match="the tokenizer of the teacher has no chat template"):
        check_chat(spec, chat_tokenizer(None), "the teacher")
    spec = dataclasses.replace(spec, lm_eval_system="Be brief.")
    check_chat(spec, chat_tokenizer(), "the teacher")
    for template in (
        "{% for m in messages if m['role'] == 'user' %}{{ m['content'] }}{% endfor %}",
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}{% endfor %}",
    ):
        with pytest.raises(StillwattError, match="the chat template of the teacher takes no system message"):
            check_chat(spec, chat_tokenizer(template), "the teacher")


def test_what_is_not_installed_or_not_there_is_told_before_anything_is_spent(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_harness(spec_of(folder, "shown"))
    with pytest.raises(MissingInputError, match=f"task definitions of lm-evaluation-harness not found at {tmp_path}"):
        check_harness(spec_of(tmp_path, "shown"))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match="evaluate"):
        check_harness(spec_of(folder, "shown"))
