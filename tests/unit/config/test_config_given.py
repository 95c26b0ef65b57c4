"""Recipes that name a logit cache, or the text of one: what they need, what is refused, and what a plan says."""

from __future__ import annotations

from pathlib import Path

import pytest

from given_tables import RECIPE
from recipe_refusals import refusal
from stillwatt.config.jobs import jobs_of
from stillwatt.config.load import load_recipe
from stillwatt.config.plan import plan
from stillwatt.pipelines.spec import GivenCacheSpec
from stillwatt.records.forecast import Device

GIVEN = RECIPE.format(cache="caches/mine", text="cache:caches/mine")
ENDPOINT = """
[teacher_endpoint]
url = "http://127.0.0.1:1/v1"
model = "big"
api = "chat"
"""


@pytest.fixture
def at(tmp_path: Path) -> Path:
    return tmp_path / "recipe.toml"


def test_a_given_cache_needs_its_folder_alone_and_is_no_work_of_the_teacher(at: Path) -> None:
    at.write_text(GIVEN, encoding="utf-8")
    recipe = load_recipe(at)
    spec = recipe.to_spec()
    assert spec.given_cache == GivenCacheSpec(directory="caches/mine")
    assert (spec.logits, spec.data.source) == (None, "cache:caches/mine")
    # what a manifest keeps is a recipe again
    assert type(recipe).model_validate_json(recipe.model_dump_json()) == recipe
    (stage,) = [each for each in plan(spec).stages if each.name == "teacher_logits"]
    assert (stage.tokens, "caches/mine" in stage.detail) == (None, True)
    assert (plan(spec).teacher_tokens, plan(spec).cache_bytes_low) == (0, None)
    (job,) = [each for each in jobs_of(spec, Device(name="any", is_gpu=False, count=1)) if each.name == stage.name]
    assert "is not nothing" in job.unknown


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("top_k=8", "caches/mine is there already, and what it keeps is in it; remove top_k, or source"),
        ("temperature=1.0", "it says its own, which the arms that read it must have; remove temperature, or source"),
        ("batch_size=4", "the teacher is not asked; remove batch_size, or source"),
        ('engine="vllm"', "the teacher is not asked; remove engine, or source"),
    ],
)
def test_what_only_writing_needs_is_refused(at: Path, setting: str, message: str) -> None:
    assert message in refusal(at, GIVEN, f"teacher_logits.{setting}")


def test_a_coding_and_kept_apart_documents_are_refused(at: Path) -> None:
    coded = refusal(at, GIVEN + '[logit_cache]\nscheme = "topk"\n')
    assert "is there already, and coded; remove this table, or teacher_logits.source" in coded
    apart = refusal(at, GIVEN, 'data.packing="documents"')
    assert 'where documents begin in them is not known; set packing = "stream"' in apart


@pytest.mark.parametrize("key", ["top_k", "temperature", "batch_size"])
def test_a_cache_that_the_teacher_writes_needs_what_it_always_did(at: Path, key: str) -> None:
    own = {"top_k": "8", "temperature": "1.0", "batch_size": "4"}
    lines = "".join(f"{name} = {value}\n" for name, value in own.items() if name != key)
    text = GIVEN.replace('source = "path:caches/mine"\n', lines)
    message = f'the teacher writes this cache, which needs {key}; set it, or source = "path:DIR"'
    assert message in refusal(at, text)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ('teacher_logits.source="caches/mine"', "known: teacher or path:DIR"),
        ('teacher_logits.source="path:"', "known: teacher or path:DIR"),
        (
            'data.source="cache:"',
            "unknown source; known: pydoc-topics, random-words, path:FILE.jsonl, cache:DIR or hf:",
        ),
    ],
)
def test_other_forms_of_a_source_are_refused(at: Path, setting: str, message: str) -> None:
    assert message in refusal(at, GIVEN, setting)


def test_which_losses_fit_is_for_the_cache_to_say(at: Path) -> None:
    at.write_text(GIVEN, encoding="utf-8")
    spec = load_recipe(at, ['arms.kd.loss="sampled_kl"', "arms.kd.temperature=3.0"]).to_spec()
    assert spec.arms[1].loss == "sampled_kl"  # refused, or not, once the cache is looked at


def test_a_cache_that_no_arm_reads_is_refused(at: Path) -> None:
    assert "no arm uses [teacher_logits]" in refusal(at, GIVEN, 'arms.kd.loss="forward_kl"')


def test_who_has_a_cache_alone_needs_no_teacher(at: Path) -> None:
    nobody = GIVEN.replace('[teacher]\nsource = "tiny-random"\ndtype = "float32"\n', '[teacher]\nsource = "none"\n')
    at.write_text(nobody, encoding="utf-8")
    spec = load_recipe(at).to_spec()
    assert (spec.teacher.source, spec.teacher.has_weights) == ("none", False)
    names = [stage.name for stage in plan(spec).stages]
    assert "teacher_logits" in names
    assert not [name for name in names if name in ("evaluate.teacher", "serve.teacher")]
    assert "its loss runs the teacher beside the student: the recipe has no teacher" in refusal(
        at, nobody, 'arms.kd.loss="forward_kl"'
    )


def test_the_teacher_of_a_given_cache_may_be_a_server_that_nobody_asks(at: Path) -> None:
    server = GIVEN.replace('[teacher]\nsource = "tiny-random"\ndtype = "float32"\n', '[teacher]\nsource = "endpoint"\n')
    at.write_text(server + ENDPOINT, encoding="utf-8")
    spec = load_recipe(at).to_spec()
    assert spec.given_cache is not None
    assert "evaluate.teacher" not in [stage.name for stage in plan(spec).stages]
    online = refusal(at, server + ENDPOINT, 'arms.kd.loss="forward_kl"')
    assert "its loss runs the teacher beside the student: the teacher is an endpoint" in online
