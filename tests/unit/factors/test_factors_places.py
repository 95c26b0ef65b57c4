"""Places and boards by any usual name."""

from __future__ import annotations

import sys

import pytest

from stillwatt.errors import AmbiguousNameError, UnknownNameError
from stillwatt.factors.devices import device_code
from stillwatt.factors.places import all_places, find_place


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("FRA", "FRA"),
        ("fr", "FRA"),
        ("France", "FRA"),
        ("Deutschland", "DEU"),
        ("UK", "GBR"),
        ("U.S.A.", "USA"),
        ("United States of America", "USA"),
        ("Holland", "NLD"),
        ("cote d'ivoire", "CIV"),
        ("South Korea", "KOR"),
        ("Texas", "US-TX"),
        ("us-tx", "US-TX"),
        ("TX", "US-TX"),
        ("Hebei", "CN-HE"),
        ("SE3", "SE3"),
        ("us-east-1", "aws/us-east-1"),
        ("AWS us-east-1", "aws/us-east-1"),
        ("amazon/eu-central-1", "aws/eu-central-1"),
        ("AWS Frankfurt", "aws/eu-central-1"),
        ("Azure West Europe", "azure/westeurope"),
        ("westeurope", "azure/westeurope"),
        ("gcp europe-west1", "gcp/europe-west1"),
        ("Google Cloud", "gcp"),
        ("Facebook", "meta"),
        ("worldwide", "world"),
        ("WOR", "world"),
    ],
)
def test_usual_names(name: str, code: str) -> None:
    assert find_place(name).code == code


@pytest.mark.parametrize(("name", "code"), [("Niemcy", "DEU"), ("CA-ON", "CA-ON"), ("276", "DEU"), ("GRL", "GRL")])
def test_pycountry_knows_the_rest(name: str, code: str) -> None:
    pytest.importorskip("pycountry")
    assert find_place(name).code == code


def test_without_pycountry_the_tables_stand_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycountry", None)
    assert find_place("Suomi").code == "FIN"
    with pytest.raises(UnknownNameError):
        find_place("Niemcy")


def test_a_cloud_region_lies_in_its_grid() -> None:
    place = find_place("us-east-1")
    assert (place.kind, place.provider, place.within) == ("cloud region", "aws", ("US-VA", "USA"))


def test_two_letters_are_a_country_and_say_what_else_they_could_be() -> None:
    place = find_place("CA")
    assert place.code == "CAN"
    assert "US-CA" in place.caution


def test_georgia_is_refused() -> None:
    with pytest.raises(AmbiguousNameError, match=r"GEO.*US-GA"):
        find_place("Georgia")


@pytest.mark.parametrize(("name", "meant"), [("Frnace", "France"), ("us-esat-1", "us-west-1"), ("Texsa", "Texas")])
def test_misspelt_names_are_guessed(name: str, meant: str) -> None:
    with pytest.raises(UnknownNameError, match=f"did you mean '{meant}'"):
        find_place(name)


@pytest.mark.parametrize("name", ["", "  ", "zzqqxx", "-"])
def test_a_name_like_no_other_says_what_may_be_written(name: str) -> None:
    with pytest.raises(UnknownNameError, match="a code as in FRA or US-TX"):
        find_place(name)


def test_every_place_is_found_by_its_code() -> None:
    assert len(all_places()) == 409
    assert [place for place in all_places() if find_place(place.code).code != place.code] == []


def test_every_place_lies_in_places_that_exist() -> None:
    codes = {place.code for place in all_places()}
    assert [place for place in all_places() if not set(place.within) <= codes] == []


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("NVIDIA H100 80GB HBM3", "h100-sxm"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA A100-SXM4-80GB", "a100-sxm"),
        ("NVIDIA A100-PCIE-40GB", "a100-pcie"),
        ("A100", "a100-sxm"),
        ("Tesla T4", "t4"),
        ("NVIDIA H200", "h200-sxm"),
        ("NVIDIA GeForce RTX 4090", "geforce rtx 4090"),
    ],
)
def test_boards_by_the_drivers_name(name: str, code: str) -> None:
    assert device_code(name) == code
