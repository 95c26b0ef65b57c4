"""Prompts that cannot give the budget are refused before the teacher is asked for anything."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatt.errors import StillwattError
from stillwatt.pipelines.prompt_bounds import check_enough, most_tokens
from stillwatt.pipelines.spec import GenerateSpec, PipelineSpec
from study_place import Place
from tiny_models import smoke_spec

_GIVEN = smoke_spec().generate
assert _GIVEN is not None
SPEC: GenerateSpec = _GIVEN


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=20),
    rounds=st.integers(1, 5),
    new=st.integers(1, 30),
    is_greedy=st.booleans(),
    data=st.data(),
)
def test_no_text_is_longer_than_the_most_there_can_be(
    lengths: list[int], rounds: int, new: int, is_greedy: bool, data: st.DataObject
) -> None:
    spec = replace(SPEC, max_rounds=rounds, max_new_tokens=new, temperature=0.0 if is_greedy else 1.0)
    most = most_tokens(spec, len(lengths), sum(lengths))
    written = st.integers(0, new)
    text = sum(length + data.draw(written) for length in lengths for _ in range(1 if is_greedy else rounds))
    assert text <= most
    check_enough(spec, most, len(lengths), sum(lengths))
    with pytest.raises(StillwattError, match="tokens at most, and the budget is"):
        check_enough(spec, most + 1, len(lengths), sum(lengths))


def _study(path: Path, *, rounds: int) -> PipelineSpec:
    base = smoke_spec()
    generate = replace(SPEC, prompts=f"path:{path}", prompt_tokens=30, max_new_tokens=2, max_rounds=rounds)
    return replace(base, arms=(base.arms[0], base.arms[2]), generate=generate, logits=None, serve=None)


def test_the_prompts_own_lengths_are_looked_at_before_the_teacher_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "asked.jsonl"
    path.write_text("".join(json.dumps({"prompt": "ab" + letter}) + "\n" for letter in "abcdefgh"), encoding="utf-8")
    place = Place(tmp_path)
    with pytest.raises(StillwattError, match="8 prompts in 1 round give 256 tokens at most, and the budget is 512"):
        place.run(_study(path, rounds=1))
    assert place.journal.stages() == []  # such prompts would not do, were they as long as they may be
    with pytest.raises(StillwattError, match="8 prompts in 2 rounds give 80 tokens at most, and the budget is 512"):
        place.run(_study(path, rounds=2), "r2")
    assert place.journal.stages() == ["prepare_data"]
    assert not (tmp_path / "artifacts").exists()
