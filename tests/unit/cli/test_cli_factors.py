"""`stillwatt factors`: what it prints, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from stillwatt.cli.main import cli
from stillwatt.factors import catalog as catalog_module
from stillwatt.factors.making import make_factor
from stillwatt.workflows.factors import open_catalog, show_factors


def ask(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["factors", *arguments])


def answer(*arguments: str) -> Any:
    result = ask(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_show_a_place() -> None:
    result = ask("show", "aws/us-east-1")
    assert result.exit_code == 0
    assert "in US-VA, USA" in result.stdout
    assert "grid_gwp_location" in result.stdout
    assert "note: grid_gwp_location of US-VA stands in for aws/us-east-1" in result.stdout


def test_show_as_json_says_null_and_why() -> None:
    shown = answer("show", "france")
    assert shown["place"]["code"] == "FRA"
    assert shown["factors"]["grid_gwp_market"]["factor"] is None
    assert "contract" in shown["factors"]["grid_gwp_market"]["reason"]
    location = shown["factors"]["grid_gwp_location"]["factor"]
    assert len(location["hash"]) == 64
    assert {"low", "high", "distribution", "unit", "year", "boundary", "source", "licence", "verified"} <= set(location)


def test_show_a_device() -> None:
    assert "device h100-sxm" in ask("show", "NVIDIA H100 80GB HBM3").stdout
    shown = answer("show", "NVIDIA H100 80GB HBM3")
    assert shown["device"] == "h100-sxm"
    assert shown["factors"]["embodied_gwp"]["factor"]["value"] == 164


def test_whatever_is_listed_can_be_shown() -> None:
    catalog = open_catalog()
    for name in sorted({factor.where for factor in catalog.factors}):
        shown = show_factors(catalog, name)
        kinds = {factor.quantity for factor in catalog.factors if factor.where == name}
        assert kinds & {quantity for quantity, _ in shown.found}, name
        assert [bool(shown.place), bool(shown.device), bool(shown.other)].count(True) == 1, name
        assert name in (shown.place.code if shown.place else "", shown.device, shown.other)


def test_show_what_is_neither_place_nor_device() -> None:
    assert ask("show", "coal").stdout.startswith("coal\n")
    shown = answer("show", "nand_10nm")
    assert (shown["place"], shown["device"], shown["other"]) == (None, None, "nand_10nm")
    assert shown["factors"]["ssd_gwp"]["factor"]["where"] == "nand_10nm"


def test_a_factor_of_ones_own_goes_before_the_shipped_one_of_a_device() -> None:
    shown = answer("show", "Dell R640", "--factor", "embodied_gwp@dell-r640=1234kgCO2e/device")
    assert shown["device"] == "dell-r640"
    assert shown["factors"]["embodied_gwp"]["factor"]["value"] == 1234


def test_list() -> None:
    rows = answer("list", "--quantity", "pue", "--where", "google")["factors"]
    assert {row["where"] for row in rows} == {"gcp"}
    assert all(row["usable"] for row in rows)
    lines = ask("list", "--where", "h100-sxm").stdout.splitlines()
    assert lines[0].split()[:2] == ["quantity", "where"]
    assert any("embodied_gwp" in line for line in lines)
    assert len(answer("list")["factors"]) >= 1091
    unknown = ask("list", "--where", "Germny")
    assert (unknown.exit_code, unknown.stdout) == (2, "")
    assert "unknown place 'Germny'; did you mean 'Germany'?" in unknown.stderr


def test_the_users_own_is_on_top(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("quantity,where,value,unit,year,source\npue,FR,1.2,1,2025,ours\n", encoding="utf-8")
    assert answer("show", "FRA", "--factor-file", str(path))["factors"]["pue"]["factor"]["value"] == 1.2
    both = answer("show", "FRA", "--factor-file", str(path), "--factor", "pue@FRA=1.3")
    assert both["factors"]["pue"]["factor"]["value"] == 1.3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "Frnace"), "did you mean 'France'?"),
        (("show", "Georgia"), "US-GA"),
        (("list", "--quantity", "peu"), "did you mean 'pue'?"),
        (("list", "--quantity", "grid_gwp"), "did you mean 'grid_gwp_market'?"),
        (("list", "--quantity", "Grid_GWP_loc"), "did you mean 'grid_gwp_location'?"),
        (("show", "Pairs"), "Paris'?"),
        (("check", "--factor", "pue@world=0.9"), "at least what its machines take"),
        (("show", "FRA", "--factor-file", "none.toml"), "none.toml: no such file"),
    ],
)
def test_misuse_is_one_sentence_and_2(arguments: tuple[str, ...], message: str) -> None:
    result = ask(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_check_finds_nothing_wrong_with_what_is_shipped() -> None:
    result = ask("check")
    assert result.exit_code == 0
    assert "1,127 factors of stillwatt" in result.stdout
    checked = answer("check")
    assert checked["factors"] >= 1091
    assert {fault["severity"] for fault in checked["faults"]} <= {"fault", "caution"}


def test_check_fails_where_a_shipped_factor_has_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = make_factor({"id": "bad", "quantity": "pue", "where": "world", "value": 0.9, "unit": "1"})
    monkeypatch.setattr(catalog_module, "shipped_factors", lambda: (bad,))
    result = ask("check")
    assert result.exit_code == 1
    assert "bad: 0.9 1 is below 1" in result.stdout
    assert "(faulty)" in ask("list", "--quantity", "pue").stdout
