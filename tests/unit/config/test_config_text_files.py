"""What `recipe check` says of files of text: their rows, and whether there are enough of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from stillwatt.cli.main import cli
from stillwatt.config import corpus_file
from stillwatt.config.bundled import find_recipe
from stillwatt.config.load import check_recipe, load_recipe
from stillwatt.errors import ConfigError

RECIPE = find_recipe("smoke_cpu")
TEACHER, STUDENT = "teacher_generate.prompts", "student_generate.prompts"


def written(path: Path, *rows: Any) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return f"path:{path}"


def checked(*overrides: str) -> tuple[str, ...]:
    return check_recipe(RECIPE, overrides)[1]


@pytest.mark.parametrize("key", [TEACHER, STUDENT])
def test_a_row_that_is_no_prompt_is_refused_with_its_line_and_its_key(tmp_path: Path, key: str) -> None:
    source = written(tmp_path / "asked.jsonl", {"prompt": "a"}, {"text": "b"})
    with pytest.raises(ConfigError, match=rf"{key}: .*asked\.jsonl:2: neither `prompt`"):
        checked(f"{key}={source}")


@pytest.mark.parametrize("key", [TEACHER, STUDENT])
def test_a_file_that_is_on_another_machine_is_said_to_be_unread(tmp_path: Path, key: str) -> None:
    (caution,) = checked(f"{key}=path:{tmp_path}/asked.jsonl")
    assert caution.startswith(f"{key}: the prompts not found at {tmp_path}/asked.jsonl; ")
    assert caution.endswith("; it was not looked into")


def test_prompts_that_cannot_give_the_teachers_budget_are_refused_at_their_line(tmp_path: Path) -> None:
    spec = load_recipe(RECIPE).to_spec()
    assert spec.generate is not None
    longest = spec.generate.prompt_tokens + spec.generate.max_new_tokens
    enough = -(-spec.data.train_tokens // longest)  # whole prompts, rounded up
    rows = [{"prompt": f"row {number}"} for number in range(enough)]
    one_round = [f"{TEACHER}={written(tmp_path / 'asked.jsonl', *rows)}", "teacher_generate.max_rounds=1"]
    assert checked(*one_round) == ()
    too_few = f"{TEACHER}={written(tmp_path / 'fewer.jsonl', *rows[1:])}"
    words = rf"{enough - 1} prompts in 1 round give {(enough - 1) * longest:,} tokens at most, and the budget is"
    with pytest.raises(ConfigError, match=f"{words}.*max_rounds"):
        checked(too_few, one_round[1])
    assert checked(too_few, "teacher_generate.max_rounds=2") == ()
    with pytest.raises(ConfigError, match="at 0 a second round repeats the first"):
        checked(too_few, "teacher_generate.max_rounds=2", "teacher_generate.temperature=0.0")


def test_of_seeds_no_more_than_ten_thousand_prompts_are_drawn_for_a_round(tmp_path: Path) -> None:
    seeds = [f"teacher_generate.seeds={written(tmp_path / 'seeds.jsonl', {'text': 'a'})}", "teacher_generate.shots=1"]
    assert checked(*seeds) == ()
    many = [*seeds, "data.train_tokens=3200000", "teacher_generate.max_new_tokens=8", "teacher_generate.max_rounds=1"]
    with pytest.raises(ConfigError, match="10000 prompts in 1 round give 90,000 tokens at most"):
        checked(*many)


def test_own_prompts_that_come_again_are_told_of(tmp_path: Path) -> None:
    (caution,) = checked(f"{STUDENT}={written(tmp_path / 'asked.jsonl', {'prompt': 'a'})}")
    assert "1 prompts for the 16 sequences of a training" in caution
    rows = [{"prompt": f"row {number}"} for number in range(16)]
    assert checked(f"{STUDENT}={written(tmp_path / 'asked.jsonl', *rows)}") == ()


def test_a_corpus_that_is_smaller_than_the_budget_is_refused_at_its_line(tmp_path: Path) -> None:
    budget = load_recipe(RECIPE).data.train_tokens
    rows = [{"text": "ü" * 31} for _ in range(8)]  # 64 tokens at most, each with a beginning and an end
    source = f"data.source={written(tmp_path / 'text.jsonl', *rows)}"
    words = f"the 6 documents of .* hold 384 tokens at most, and the budget is {budget:,}: set data.epochs = 2 or more,"
    with pytest.raises(ConfigError, match=f"data.train_tokens: {words} lower data.train_tokens"):
        checked(source)
    assert checked(source, "data.train_tokens=384") == ()
    assert checked(source, "data.epochs=2") == ()
    words = "hold 384 tokens at most, and the budget is 1,536, 768 in each of 2 passes: set data.epochs = 4 or more,"
    with pytest.raises(ConfigError, match=words):
        checked(source, "data.train_tokens=1536", "data.epochs=2")
    more = f"data.source={written(tmp_path / 'more.jsonl', *rows * 4)}"
    assert checked(more) == ()
    # what a chat template writes around conversations is not known
    said = {"messages": [{"role": "user", "content": "a"}]}
    assert checked(f"data.source={written(tmp_path / 'said.jsonl', *[said] * 8)}") == ()


def test_a_corpus_is_read_where_it_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "text.jsonl"
    (caution,) = checked(f"data.source=path:{path}")
    assert caution.startswith(f"data.source: the corpus not found at {path}; ")
    written(path, {"text": "a" * 999}, {"txt": "b"})
    with pytest.raises(ConfigError, match=r"data\.source: .*text\.jsonl:2: neither `text`"):
        checked(f"data.source=path:{path}")
    monkeypatch.setattr(corpus_file, "_MOST_BYTES", 100)  # a large one is let be
    assert checked(f"data.source=path:{path}") == ()


def test_the_command_says_where(tmp_path: Path) -> None:
    text = RECIPE.read_text(encoding="utf-8")
    text = text.replace("[student_generate]\n", f'[student_generate]\nprompts = "path:{tmp_path}/asked.jsonl"\n')
    path = tmp_path / "study.toml"
    path.write_text(text, encoding="utf-8")
    done = CliRunner().invoke(cli, ["recipe", "check", str(path)])
    assert done.exit_code == 0
    assert "student_generate.prompts: the prompts not found" in done.stdout
    written(tmp_path / "asked.jsonl", {"prompt": 3})
    done = CliRunner().invoke(cli, ["recipe", "check", str(path)])
    assert done.exit_code == 2
    line = text.splitlines().index(f'prompts = "path:{tmp_path}/asked.jsonl"') + 1
    assert f"study.toml:{line}: student_generate.prompts: " in done.stderr


def test_keys_that_came_later_leave_the_hash_of_a_recipe_without_them_alone(tmp_path: Path) -> None:
    """Taken before `[student_generate]` had them."""
    recipe = load_recipe(RECIPE)
    assert recipe.settings_sha256 == "f4b40b0ab49d33ed77019bb6c0335a76dfe898bac5e843dd23aa47496223c9cf"
    assert load_recipe(RECIPE, ["student_generate.prompts=corpus"]).settings_sha256 == recipe.settings_sha256
    other = load_recipe(RECIPE, [f"{STUDENT}=path:{tmp_path}/asked.jsonl"])
    assert other.settings_sha256 != recipe.settings_sha256
    assert other.resolved()["student_generate"]["prompts"] == f"path:{tmp_path}/asked.jsonl"
