"""What `recipe check` says of models that are on this machine: from their configurations, with nothing loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stillwatt.config.bundled import find_recipe
from stillwatt.config.load import check_recipe
from stillwatt.errors import ConfigError

RECIPE = find_recipe("smoke_cpu")  # its models have 257 output rows
CONFIG = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 200}


def test_more_kept_tokens_than_output_rows_are_refused_at_their_key() -> None:
    check_recipe(RECIPE, ["teacher_logits.top_k=257"])
    said = "258 kept tokens are more than the 257 output rows that teacher and students share"
    with pytest.raises(ConfigError, match=rf"--set teacher_logits\.top_k=258: teacher_logits\.top_k: {said}"):
        check_recipe(RECIPE, ["teacher_logits.top_k=258"])


def test_the_model_with_the_fewest_rows_decides(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    student = f"students=[{{name='s', source='path:{tmp_path}', dtype='float32'}}]"
    check_recipe(RECIPE, [student, "teacher_logits.top_k=200"])
    with pytest.raises(ConfigError, match=r"teacher_logits\.top_k: 201 kept tokens are more than the 200"):
        check_recipe(RECIPE, [student, "teacher_logits.top_k=201"])


@pytest.mark.parametrize("source", ["hf:some/model-7b", "path:/not/here"])
def test_models_that_are_not_here_are_let_be(source: str) -> None:
    changes = [f"teacher.source={source}", f"students=[{{name='s', source='{source}', dtype='float32'}}]"]
    check_recipe(RECIPE, [*changes, "teacher_logits.top_k=999999"])
