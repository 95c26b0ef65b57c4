"""What is typed for an account, and what is said where it cannot be meant."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stillwatt.config import account_options as options
from stillwatt.errors import UsageError
from stillwatt.records.channel import Boundary
from stillwatt.records.lifecycle import Role


def test_devices() -> None:
    assert options.parse_device("H100 SXM*8") == options.GivenDevice(role=Role.ACCELERATOR, name="H100 SXM", count=8.0)
    assert options.parse_device("network:our switch*0.05").role is Role.NETWORK


def test_pretraining() -> None:
    assert options.parse_pretraining("excluded") is None
    found = options.parse_pretraining("200..260MWh,tokens:1e9/4e9,node")
    assert found is not None
    assert found.share == 0.25
    assert found.energy_j.low == pytest.approx(200 * 3.6e9)
    assert found.boundary is Boundary.NODE


def test_serving() -> None:
    assert options.parse_serving("1e6,365").token_j is None
    given = options.parse_serving("1e6,10,0.3..0.5J,facility")
    assert given.token_j == options.Range(low=0.3, value=0.4, high=0.5)
    assert given.boundary is Boundary.FACILITY
    assert options.parse_serving("1e6,10,ecologits:8").model == (8.0, 8.0)
    assert options.parse_serving("1e6,10,ecologits:8/70").model == (8.0, 70.0)


@pytest.mark.parametrize(
    ("parse", "text", "says"),
    [
        (options.parse_device, "H100*0", "not above 0"),
        (options.parse_device, "H100*-2", "not above 0"),
        (options.parse_device, "", "ROLE"),
        (options.parse_device, "horse:H100", "role of a device"),
        (options.parse_pretraining, "230MWh", "write excluded, or"),
        (options.parse_pretraining, "230,use:2,node", "in J or kWh or MWh"),
        (options.parse_pretraining, "230kgCO2e,use:2,node", "in J or kWh or MWh"),
        (options.parse_pretraining, "-5MWh,use:2,node", "is no number"),
        (options.parse_pretraining, "5MWh,use:0.5,node", "more than all of it"),
        (options.parse_pretraining, "5MWh,luck:2,node", "use:N"),
        (options.parse_pretraining, "5MWh,use:2,moon", "unknown boundary 'moon'"),
        (options.parse_pretraining, "9..5MWh,use:2,node", "low end is above"),
        (options.parse_serving, "1e6", "TOKENS_PER_DAY"),
        (options.parse_serving, "0,365", "not above 0"),
        (options.parse_serving, "many,365", "is not a number"),
        (options.parse_serving, "1e6,365,0.4J", "needs its boundary"),
        (options.parse_serving, "1e6,365,ledger,node", "'node' is one part too many"),
        (options.parse_serving, "1e6,365,ecologits:8,node", "'node' is one part too many"),
        (options.parse_serving, "1e6,365,0.4J,node,more", "TOKENS_PER_DAY"),
        (options.parse_serving, "1e6,365,0.4kWh,node", "in J"),
        (options.parse_stage, "training", "NAME=STAGE"),
        (options.parse_stage, "fit=trainin", "did you mean 'training'"),
        (options.parse_stored, "12.5", "NAME=GIGABYTES"),
        (options.parse_stored, "corpus=much", "is not a number"),
    ],
)
def test_what_cannot_be_meant_is_refused(parse: Callable[[str], object], text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says.replace("(", r"\(")):
        parse(text)


def test_a_number_above_0() -> None:
    with pytest.raises(UsageError, match="--keep-days"):
        options.parse_positive(float("nan"), "--keep-days")
