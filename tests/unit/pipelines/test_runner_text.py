"""Studies on tiny models whose teacher is given prompts of a file, or seeds: from the settings to the stages."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from byte_tokenizer import byte_tokenizer
from stillwatt.errors import MissingInputError, StillwattError
from stillwatt.pipelines import teacher_generate
from stillwatt.pipelines.model_sources import resolve_model
from stillwatt.pipelines.models import load_tokenizer
from stillwatt.pipelines.progress import SilentProgress
from stillwatt.pipelines.runner import run_pipeline
from stillwatt.pipelines.spec import PipelineSpec
from tiny_models import ListJournal, list_meter, smoke_spec


def study(**generate: Any) -> PipelineSpec:
    """The smoke study's synthetic arm alone, with other settings of the teacher's text."""
    spec = smoke_spec(serve=None)
    assert spec.generate is not None
    arms = tuple(arm for arm in spec.arms if arm.name == "synthetic")
    train, evaluate = replace(spec.train, checkpoints=(1.0,)), replace(spec.evaluate, choice_items=0)
    return replace(spec, arms=arms, train=train, evaluate=evaluate, generate=replace(spec.generate, **generate))


def run(spec: PipelineSpec, directory: Path, run_id: str = "r1") -> ListJournal:
    meter, journal = list_meter()
    run_pipeline(
        spec,
        meter=meter,
        run_id=run_id,
        run_dir=directory / run_id,
        artifacts_dir=directory / "artifacts",
        progress=SilentProgress(),
        announce=lambda _text: None,
    )
    return journal


def teachers_tokenizer() -> Any:
    place = resolve_model("tiny-random", revision=None, announce=lambda _text: None, is_student=False)
    return load_tokenizer(place.directory)


def rows(path: Path, key: str, texts: list[str]) -> str:
    path.write_text("".join(json.dumps({key: text}) + "\n" for text in texts), encoding="utf-8")
    return f"path:{path}"


def kept(directory: Path, journal: ListJournal) -> teacher_generate.Generated:
    return teacher_generate.load(directory / "artifacts" / journal.labels("teacher_generate")["artifact"])


def test_prompts_of_a_file_stand_before_the_completions_and_are_not_supervised(tmp_path: Path) -> None:
    asked = [f"word {number}:" for number in range(12)] + ["much longer than the others"]
    path = rows(tmp_path / "p.jsonl", "prompt", asked)
    spec = study(prompts=path, template="<{prompt}>", prompt_tokens=12, near_duplicate=0.9, min_mean_logprob=-9.0)
    journal = run(spec, tmp_path)
    found, text = journal.results("teacher_generate"), kept(tmp_path, journal)
    assert found["prompts"] == {"read": 13, "cut": 0, "refused": 1, "answers_left_out": 0}
    tokenizer = teachers_tokenizer()
    begun = {tokenizer.decode(s[:n]) for s, n in zip(text.sequences, text.prompt_lengths, strict=True)}
    assert begun <= {f"<{prompt}>" for prompt in asked[:12]}
    work = journal.workload("teacher_generate")
    assert found["samples"] + sum(found["rejects"].values()) == work["accepted_samples"] + work["rejected_samples"]
    assert {"improbable", "near_duplicate"} < set(found["rejects"])
    train = journal.workload("train.synthetic.1.0")
    assert 0 < train["supervised_tokens"] < train["tokens"]
    assert 0.0 <= journal.results("train.synthetic.1.0")["loader_wait_share"] <= 1.0


def test_seeds_are_shown_to_the_teacher_and_are_no_part_of_the_students_text(tmp_path: Path) -> None:
    path = rows(tmp_path / "s.jsonl", "text", ["seed one", "seed two", "seed three"])
    journal = run(study(seeds=path, shots=2, template="- {text}\n", prompt_tokens=64, max_rounds=8), tmp_path)
    found, text = journal.results("teacher_generate"), kept(tmp_path, journal)
    assert found["prompts"] == {"read": 22, "cut": 0, "refused": 0}  # 512 tokens, 24 at most in each sample
    assert set(text.prompt_lengths) == {0}
    tokenizer = teachers_tokenizer()
    texts = [tokenizer.decode(sequence) for sequence in text.sequences]
    assert not any("seed" in text or "\n" in text for text in texts)
    # an untrained teacher writes at random: now and then it comes to the separator, which is then an end
    assert any(sequence[-1] == 0 and len(sequence) < 25 for sequence in text.sequences)
    # all of it is supervised, but for what begins a packed sequence, and ends that are not the teacher's
    train, unfinished = journal.workload("train.synthetic.1.0"), sum(s[-1] != 0 for s in text.sequences)
    assert train["tokens"] - 16 - unfinished <= train["supervised_tokens"] <= train["tokens"] - 16


def test_a_file_that_cannot_be_used_stops_the_study_before_anything_is_spent(tmp_path: Path) -> None:
    meter, journal = list_meter()
    with pytest.raises(MissingInputError, match="give a file with one"):
        run_pipeline(
            study(prompts=f"path:{tmp_path / 'none.jsonl'}"),
            meter=meter,
            run_id="r1",
            run_dir=tmp_path / "r1",
            artifacts_dir=tmp_path / "artifacts",
            progress=SilentProgress(),
            announce=lambda _text: None,
        )
    assert journal.stages() == []


def test_logits_are_not_compared_across_tokenizers(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = byte_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    base = smoke_spec(serve=None)
    student = replace(base.students[0], source=f"path:{tmp_path / 'other'}", drop_layers=0, candidate_starts=())
    spec = replace(base, students=(student,), arms=tuple(arm for arm in base.arms if arm.name == "kd"))
    with pytest.raises(StillwattError, match="cut text into different tokens, so there is no student probability"):
        run(spec, tmp_path)
    assert not (tmp_path / "artifacts").exists()
