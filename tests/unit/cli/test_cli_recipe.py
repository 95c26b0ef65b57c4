"""Recipes are listed, shown and checked without running anything."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

from click.testing import Result

from stillwatt.cli.recipe import size_text
from stillwatt.config.bundled import bundled_recipes
from stillwatt.config.load import load_recipe
from stillwatt.pipelines.objectives.registry import OBJECTIVES

Stillwatt = Callable[..., Result]

STUDY = Path(__file__).parents[2] / "golden" / "recipes" / "study.toml"


def test_list_names_every_recipe(stillwatt: Stillwatt) -> None:
    lines = stillwatt("recipe", "list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == sorted(bundled_recipes())
    entries = json.loads(stillwatt("recipe", "list", "--json").stdout)
    assert [entry["name"] for entry in entries] == sorted(bundled_recipes())
    assert all(Path(entry["path"]).is_file() and entry["description"] for entry in entries)


def test_check_says_what_would_run(stillwatt: Stillwatt) -> None:
    result = stillwatt("recipe", "check", str(STUDY))
    assert result.exit_code == 0
    assert "train.synthetic.1.0" in result.stdout
    assert "tokens through students in training: 24,576" in result.stdout
    assert "teacher's logit cache, estimated: 2.1 MB (3.2 MB where" in result.stdout
    assert "from the hub" not in result.stdout


def test_check_needs_no_hub_and_says_what_would_be_fetched(stillwatt: Stillwatt) -> None:
    result = stillwatt("recipe", "check", "paper_tulu3")
    assert result.exit_code == 0
    assert "from the hub: hf:allenai/OLMo-2-0325-32B-SFT" in result.stdout


def test_check_takes_changes(stillwatt: Stillwatt) -> None:
    answer = json.loads(stillwatt("recipe", "check", "quickstart", "--set", "data.train_tokens=16384", "--json").stdout)
    assert answer["student_tokens"] == 4 * 16384
    changed = load_recipe(bundled_recipes()["quickstart"], ["data.train_tokens=16384"])
    assert answer["settings_sha256"] == changed.settings_sha256
    assert [stage["kind"] for stage in answer["stages"]][:3] == ["idle_baseline", "other", "prepare_data"]


def test_check_refuses_with_the_line(stillwatt: Stillwatt, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "x"\n[meter]\nsample_perid_ms = 5\n', encoding="utf-8")
    result = stillwatt("recipe", "check", str(path))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert f"{path}:3: unknown key 'sample_perid_ms' in [meter]; did you mean 'sample_period_ms'?" in result.stderr


def test_show_prints_the_file_to_copy_from(stillwatt: Stillwatt) -> None:
    text = stillwatt("recipe", "show", "quickstart").stdout
    assert text == bundled_recipes()["quickstart"].read_text(encoding="utf-8")
    assert tomllib.loads(text)["name"] == "quickstart"


def test_show_json_is_every_setting(stillwatt: Stillwatt) -> None:
    answer = json.loads(stillwatt("recipe", "show", "quickstart", "--json", "--set", "run.threads=2").stdout)
    assert answer == load_recipe(bundled_recipes()["quickstart"], ["run.threads=2"]).model_dump(mode="json")
    assert stillwatt("recipe", "show", "quickstart", "--set", "run.threads=2").exit_code == 2


def test_schema_is_json_schema(stillwatt: Stillwatt) -> None:
    schema = json.loads(stillwatt("recipe", "schema").stdout)
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert schema["additionalProperties"] is False


def test_sizes_are_in_powers_of_ten() -> None:
    assert [size_text(n) for n in (0, 999, 1000, 2_500_000, 30_000_000_000, 10**16)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "2.5 MB",
        "30.0 GB",
        "10000.0 TB",
    ]


def test_losses_are_listed_with_equations_and_papers(stillwatt: Stillwatt) -> None:
    lines = stillwatt("recipe", "losses").stdout.splitlines()
    assert any(line.startswith("jsd") and "50" in line and "arXiv 2306.13649" in line for line in lines)
    assert lines[-1].startswith("renormalised_top_k cannot see any mass outside the kept tokens")
    entries = {entry["name"]: entry for entry in json.loads(stillwatt("recipe", "losses", "--json").stdout)}
    assert list(entries) == list(OBJECTIVES)
    assert [name for name, entry in entries.items() if entry["is_default"]] == ["top_k_tail"]
    assert entries["jsd"]["parameter"]["symbol"] == "beta"
    assert entries["skew_kl"]["papers"][0]["arxiv"] == "2402.03898"


def test_check_says_what_a_cut_off_loss_misses(stillwatt: Stillwatt) -> None:
    result = stillwatt("recipe", "check", str(STUDY), "--set", "arms.kd.loss=renormalised_top_k")
    assert result.exit_code == 0
    assert "arm 'kd': loss renormalised_top_k cannot see any mass" in result.stdout
