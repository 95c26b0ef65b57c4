"""A user's own factors: what is read, and how each mistake is named."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from stillwatt.config.factor_file import load_factors, parse_override, schema_text
from stillwatt.errors import ConfigError
from stillwatt.records.factor import Water

GOOD = """
# our supplier
[[factor]]
quantity = "grid_gwp_market"
where = "France"
value = 12
unit = "gCO2e/kWh"
year = 2025
source = "supplier's statement"

[[factor]]
quantity = "embodied_gwp"
where = "NVIDIA H100 80GB HBM3"
value = 170
low = 120
high = 240
unit = "kgCO2e/device"
year = 2025
source = "our own assessment"
verified = true
"""


def write(folder: Path, text: str, name: str = "factors.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_toml(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    market, board = load_factors(path)
    assert (market.where, market.value, market.unit, market.year) == ("FRA", 0.012, "kgCO2e/kWh", 2025)
    assert market.origin == "user, factors.toml:3"  # a report that is passed on names no folder
    assert (board.where, board.low, board.verified) == ("h100-sxm", 120, True)


def test_csv_says_the_same(tmp_path: Path) -> None:
    text = (
        "quantity,where,value,low,high,unit,year,source,verified\n"
        "grid_gwp_market,France,12,,,gCO2e/kWh,2025,supplier's statement,\n"
        "embodied_gwp,NVIDIA H100 80GB HBM3,170,120,240,kgCO2e/device,2025,our own assessment,true\n"
    )
    from_csv = load_factors(write(tmp_path, text, "factors.csv"))
    from_toml = load_factors(write(tmp_path, GOOD))
    assert [(f.id, f.value, f.low, f.high, f.year, f.verified) for f in from_csv] == [
        (f.id, f.value, f.low, f.high, f.year, f.verified) for f in from_toml
    ]


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("year = 2025\nsource = \"supplier's", "source = \"supplier's", 3, "no year; The year that the figure is for"),
        ("value = 12", 'value = "a few"', 3, "value: "),
        ("value = 12", "valu = 12", 3, "unknown key 'valu'; did you mean 'value'?"),
        ("value = 12", "value = 12\nzzzz = 1", 3, "unknown key 'zzzz'; docs/reference/factors.md"),
        ("value = 12", "value = -12", 3, "is below 0"),
        ("value = 12", "value = 12000", 3, "is above 2.5: is its unit right?"),
        ("gCO2e/kWh", "g", 3, "'g' is no unit of grid_gwp_market; it is one of kgCO2e/kWh"),
        ("grid_gwp_market", "grid_gwp_markt", 3, "did you mean 'grid_gwp_market'?"),
        ('"France"', '"Frnace"', 3, "did you mean 'France'?"),
        ('"France"', '"Georgia"', 3, "means several"),
        ("value = 170", "value = 1700", 11, "lies outside"),
        ("value = 170\nlow = 120\nhigh = 240", "value = 1700", 11, "10.4 times the vendor's 164"),
        ("year = 2025\nsource = \"our", "year = 25\nsource = \"our", 11, "year: Input should be greater than"),
        ("[[factor]]\nquantity = \"emb", "[[factors]]\nquantity = \"emb", 11, "unknown key 'factors'"),
        ("value = 12", "value = ", 6, "not valid TOML"),
    ],
)  # fmt: skip
def test_each_mistake_names_file_line_and_next_step(
    tmp_path: Path, old: str, new: str, line: int, message: str
) -> None:
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        load_factors(path)
    assert message in str(caught.value)
    assert (caught.value.path, caught.value.line) == (str(path), line)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("quantity,wher\n", 1, "did you mean 'where'?"),
        ("quantity,zzzz\n", 1, "known: quantity, where"),
        ("quantity,where,value,unit,year,source\npue,world,1.2,1,2024,me,more\n", 2, "more cells"),
        ("quantity,where,value,unit,year,source\n\npue,world,0.8,1,2024,me\n", 3, "at least what its machines take"),
        ("quantity,where,value,unit,year,source\n", None, "has no factor"),
        ('quantity,where\n"pue,world', 2, "cannot be read"),
    ],
)
def test_mistakes_in_csv(tmp_path: Path, text: str, line: int | None, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_factors(write(tmp_path, text, "factors.csv"))
    assert message in str(caught.value)
    assert caught.value.line == line


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_factors(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match=r"ends in \.toml or \.csv"):
        load_factors(write(tmp_path, GOOD, "factors.json"))
    (tmp_path / "latin.toml").write_bytes(b"\xe9 = 1")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_factors(tmp_path / "latin.toml")
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        load_factors(tmp_path / "folder.toml")
    with pytest.raises(ConfigError, match="has no factor"):
        load_factors(write(tmp_path, "", "empty.toml"))
    with pytest.raises(ConfigError, match=r"stand in \[\[factor\]\] tables"):
        load_factors(write(tmp_path, "factor = 3\n"))


def test_one_factor_twice_is_refused(tmp_path: Path) -> None:
    twice = GOOD + GOOD.replace('"France"', '"FR"')
    with pytest.raises(ConfigError, match="stands there twice"):
        load_factors(write(tmp_path, twice))


@pytest.mark.parametrize(
    ("text", "where", "value", "water"),
    [
        ("grid_gwp_location@france=56gCO2e/kWh", "FRA", 0.056, None),
        ("grid_gwp_location@FRA = 0.056", "FRA", 0.056, None),
        ("pue@AWS us-east-1=1.2", "aws/us-east-1", 1.2, None),
        ("wue@aws=0.3L/kWh:consumption", "aws", 0.3, Water.CONSUMPTION),
        ("embodied_gwp@NVIDIA H100 PCIe=1.5e2", "h100-pcie", 150, None),
        ("dram_gwp@our DDR5=0.1kgCO2e/GB", "our DDR5", 0.1, None),
    ],
)
def test_overrides(text: str, where: str, value: float, water: Water | None) -> None:
    factor = parse_override(text)
    assert (factor.where, factor.water) == (where, water)
    assert factor.value == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("grid_gwp_location=56", "is not quantity@place=VALUE unit"),
        ("pue@world=0.5", "at least what its machines take"),
        ("pue@world=1.2kg", "'kg' is no unit of pue"),
        ("pu@world=1.2", "did you mean 'pue'?"),
        ("wue@aws=0.3L/kWh:beer", "unknown kind of water"),
        ("pue@world=1.2.3", "not a number"),
    ],
)
def test_overrides_that_cannot_be_meant(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_override(text)
    assert message in str(caught.value)
    assert caught.value.path == "--factor"


def test_the_schema_takes_what_the_reader_takes(tmp_path: Path) -> None:
    schema = json.loads(schema_text())
    row = {"quantity": "pue", "where": "world", "value": 1.2, "unit": "1", "year": 2024, "source": "me"}
    jsonschema.validate({"factor": [row]}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"factor": [{**row, "year": None}]}, schema)
