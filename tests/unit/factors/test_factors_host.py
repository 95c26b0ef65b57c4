"""Making a host from what a run recorded of it (docs/method.md, eq. 113)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatt.errors import ConfigError
from stillwatt.factors import tables
from stillwatt.factors.catalog import build_catalog, choose_for_device
from stillwatt.factors.host import MOST_MEMORY_GB, Host, host_of, making_of_host, mass_of_host
from stillwatt.factors.making import make_factor
from stillwatt.factors.sanity import VENDOR_RATIO, check_factor, vendor_footprints
from stillwatt.factors.tables import shipped_factors
from stillwatt.records.factor import Choice, Factor, NoFactor

CATALOG = build_catalog()
MAKERS = {name: one for name, one in vendor_footprints(shipped_factors()).items() if name.startswith("dell-")}
RECORD = {"cpu_model": "Intel(R) Xeon(R) Processor", "logical_cpus": 2, "memory_bytes": 25_276_063_744}


def made(host: Host) -> Factor:
    found = making_of_host(CATALOG, host)
    assert isinstance(found, Choice), found
    return found.factor


def test_the_record_of_a_virtual_machine_is_a_part_of_a_server_within_a_wide_interval() -> None:
    factor = made(host_of(RECORD))
    assert factor.low == pytest.approx(2 / 256 * 560 + (25.276 - 16.0) * 0.065, rel=1e-3)
    share = (2 / 256) ** 0.5
    assert factor.value == pytest.approx(share * 1100 + (25.276 - share * 16.0) * 0.4, rel=1e-3)
    assert factor.high > 1400 + 4000 * 0.16
    assert not check_factor(factor)


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_a_host_of_two_processors_lies_within_the_ratio_of_each_makers_own(name: str) -> None:
    maker = MAKERS[name]
    sockets, memory = maker.note.split("; ")[1].split(", ")[:2]
    host = Host(sockets=int(sockets.split()[0]), memory_gb=float(memory.removesuffix(" GB")), disk_gb=0.0)
    ratio = made(host).value / maker.value
    assert 1.0 / VENDOR_RATIO <= ratio <= VENDOR_RATIO


def test_a_figure_ten_times_a_makers_own_is_a_fault() -> None:
    said: dict[str, Any] = {
        "quantity": "embodied_gwp",
        "where": "dell-r640",
        "unit": "kgCO2e/device",
        "value": 12_830.0,
    }
    (fault,) = (one for one in check_factor(make_factor(said), MAKERS) if one.severity == "fault")
    assert fault.check == "vendor-footprint"


def test_rows_made_of_several_makers_are_nobodys_own() -> None:
    assert not {"server-1-socket", "server-2-socket", "dell-r750"} & set(MAKERS)


def test_a_processor_that_is_no_servers_has_no_table() -> None:
    for host in (Host(processor="AMD Ryzen 9 7950X", logical_cpus=32, memory_gb=64.0), Host()):
        for found in (making_of_host(CATALOG, host), mass_of_host(CATALOG, host)):
            assert isinstance(found, NoFactor)
            assert "--device host:NAME" in found.reason


def test_what_is_not_recorded_is_said_and_what_is_stated_is_not() -> None:
    unknown = making_of_host(CATALOG, host_of(RECORD))
    assert isinstance(unknown, Choice)
    assert len(unknown.cautions) == 2
    stated = making_of_host(CATALOG, Host(sockets=2, memory_gb=512.0, disk_gb=2000.0))
    assert isinstance(stated, Choice)
    assert not stated.cautions
    assert stated.factor.value == pytest.approx(1200 + 496 * 0.4 + 2000 * 0.16)


def test_memory_that_nobody_recorded_widens_the_interval() -> None:
    host = host_of(RECORD)
    without = made(replace(host, memory_gb=None))
    assert without.high > made(host).high
    assert host_of({}).memory_gb is None
    assert host_of({"logical_cpus": "many", "memory_bytes": 0}) == Host()


def test_without_memorys_figure_there_is_none() -> None:
    some = [one for one in shipped_factors() if one.quantity != "dram_gwp"]
    assert isinstance(making_of_host(build_catalog(shipped=some), Host(sockets=1)), NoFactor)


def test_the_mass_goes_by_the_same_share() -> None:
    found = mass_of_host(CATALOG, Host(sockets=3))
    assert isinstance(found, Choice)
    assert (found.factor.low, found.factor.value, found.factor.high) == (31.0, 40.0, 59.0)
    assert isinstance(choose_for_device(CATALOG, "embodied_adpe", "server-2-socket"), NoFactor)


@given(
    cpus=st.integers(1, 512),
    memory=st.floats(1.0, 4096.0),
    more=st.floats(0.0, 4096.0),
    sockets=st.sampled_from([None, 1, 2, 4]),
)
def test_more_memory_never_costs_less_and_ends_hold_the_value(
    cpus: int, memory: float, more: float, sockets: int | None
) -> None:
    one, other = (
        made(Host(processor="AMD EPYC 7763", logical_cpus=cpus, memory_gb=size, sockets=sockets))
        for size in (memory, memory + more)
    )
    for factor in (one, other):
        assert 0.0 < factor.low <= factor.value <= factor.high
    assert (one.low, one.value, one.high) <= (other.low, other.value, other.high)


def test_a_shipped_row_of_another_length_is_refused_and_not_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "odd.csv").write_text("id,note\na,one, two\n", encoding="utf-8")
    monkeypatch.setattr(tables, "DATA", tmp_path)
    with pytest.raises(ConfigError, match=r"odd\.csv:2: .*more or fewer cells than columns"):
        list(tables.rows("odd"))


def test_memory_that_is_not_known_is_a_range_of_its_own() -> None:
    little, unknown, much = (
        made(Host(processor="Xeon", logical_cpus=2, memory_gb=memory)) for memory in (16.0, None, MOST_MEMORY_GB)
    )
    assert unknown.low <= little.low
    assert unknown.high == pytest.approx(much.high, rel=0.01)
