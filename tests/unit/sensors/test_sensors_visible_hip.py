"""The lists by which AMD's runtimes choose cards, in all the ways that people write them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatt.records import Card
from stillwatt.sensors.choice import UsedParts
from stillwatt.sensors.visible import used_parts

ROCR, HIP, CUDA = "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"
ORDER = (2, 0, 1, 3)
"""HIP's number of each card of the library's list: the kernel's nodes do not follow the bus here."""
CARDS = tuple(
    Card(part=f"gpu_amd{place}", index=number, uuid=f"GPU-{number}{'0' * 14}d", runtime="hip")
    for place, number in enumerate(ORDER)
)
NVIDIA = tuple(Card(part=f"gpu{n}", index=n, uuid=f"GPU-{n}") for n in range(2))


def _used(*cards: Card, **environment: str) -> UsedParts:
    return used_parts(environment, cards or CARDS)


def _numbers(**environment: str) -> list[int]:
    """HIP's numbers of the cards that are used."""
    used = _used(**environment)
    assert used.is_certain
    return sorted(number for place, number in enumerate(ORDER) if f"gpu_amd{place}" in used.parts)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("", []),
        ("0", [0]),
        ("3,1", [1, 3]),
        (" 2 , 0 ", [0, 2]),
        ("1,1,2", [1]),
        ("0,9,1", [0]),
        ("0,-1,1", [0]),
        ("-1", []),
        ("0,,1", [0]),
        ("2,", [2]),
        ("0x1,02", [1, 2]),
        ("1x", []),
        ("GPU-1,GPU-3", [1, 3]),
        ("gpu-2,0", [0, 2]),
        ("GPU-100000000000000d", [1]),
        ("GPU-100000000000000d0", []),
        ("GPU-", []),
        ("GPU-7,0", []),
        ("all", []),
    ],
)
def test_what_rocr_leaves(text: str, numbers: list[int]) -> None:
    assert _numbers(**{ROCR: text}) == numbers


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("", [0, 1, 2, 3]),
        ("0", [0]),
        ("3,1", [1, 3]),
        ("1,1,2", [1, 2]),
        ("0,9,1", [0]),
        ("-1", []),
        ("0,,1", [0]),
        ("2,", [2]),
        ("0, 1", [0]),
        ("01", []),
        ("0x1", []),
        ("GPU-1,GPU-300", [1, 3]),
        ("GPU-7", []),
        ("NoDevFiles", []),
    ],
)
@pytest.mark.parametrize("name", [HIP, CUDA])
def test_what_hip_leaves(name: str, text: str, numbers: list[int]) -> None:
    assert _numbers(**{name: text}) == numbers


def test_no_list_leaves_all_and_says_so() -> None:
    used = _used()
    assert (len(used.parts), used.is_chosen) == (4, False)
    assert used.reason == "ROCR_VISIBLE_DEVICES and HIP_VISIBLE_DEVICES choose none"
    untold = [replace(card, index=None) for card in CARDS]
    assert _used(*untold, **{HIP: "", CUDA: ""}).is_certain, "empty lists of HIP leave all, in whatever order"


def test_hip_counts_what_rocr_left_in_the_order_of_its_list() -> None:
    assert _numbers(**{ROCR: "3,1", HIP: "0"}) == [3]
    assert _numbers(**{ROCR: "3,1", HIP: "1"}) == [1]
    assert _numbers(**{ROCR: "3,1", HIP: "2"}) == []
    assert _numbers(**{ROCR: "GPU-2,0", HIP: "GPU-2"}) == [2]
    assert _numbers(**{ROCR: "", HIP: "0"}) == []


def test_hips_own_list_comes_before_cudas_where_it_holds_anything() -> None:
    assert _numbers(**{HIP: "1", CUDA: "2"}) == [1]
    assert _numbers(**{HIP: "", CUDA: "2"}) == [2]
    used = _used(**{ROCR: "0,1", HIP: "", CUDA: "1"})
    assert used.reason == "ROCR_VISIBLE_DEVICES='0,1', CUDA_VISIBLE_DEVICES='1'"


@pytest.mark.parametrize("numbers", [(None, None, None, None), (0, 1, 2, None), (0, 1, 1, 2), (1, 2, 3, 4)])
def test_an_order_that_is_not_told_makes_every_card_count(numbers: tuple[int | None, ...]) -> None:
    cards = [replace(card, index=number) for card, number in zip(CARDS, numbers, strict=True)]
    used = _used(*cards, **{HIP: "0"})
    assert (len(used.parts), used.is_certain) == (4, False)
    assert used.reason == (
        "HIP_VISIBLE_DEVICES='0': amdsmi does not tell in which order HIP counts the cards (ROCm 6.4 and newer do); "
        "every card counts"
    )


def test_a_uuid_that_may_be_one_that_cannot_be_read_makes_every_card_count() -> None:
    used = _used(*CARDS[1:], replace(CARDS[0], uuid=""), **{ROCR: "GPU-1"})
    assert (len(used.parts), used.is_certain) == (4, False)
    assert "'GPU-1' may be a card whose UUID cannot be read" in used.reason
    assert _used(*CARDS[1:], replace(CARDS[0], uuid=""), **{ROCR: "1"}).parts == {"gpu_amd2"}


def test_partitions_are_their_sockets_part_and_a_part_with_a_cpu_is_always_used() -> None:
    halves = [
        Card(part=f"gpu_amd{2 * n}", index=2 * n + half, uuid="", runtime="hip") for n in range(2) for half in (0, 1)
    ]
    assert _used(*halves, **{HIP: "3"}).parts == {"gpu_amd2"}
    assert _used(*halves, **{HIP: "0,1"}).parts == {"gpu_amd0"}
    apus = [Card(part=f"cpu{n}", index=n, uuid="", runtime="hip", holds_cpu=True) for n in range(2)]
    assert _used(*apus, **{HIP: "0"}).parts == {"cpu0", "cpu1"}


def test_each_makers_cards_follow_their_own_lists() -> None:
    used = _used(*NVIDIA, *CARDS, **{CUDA: "1", ROCR: "2"})
    assert used.parts == {"gpu1"}, "HIP reads CUDA's list too, and one card is left to count"
    used = _used(*NVIDIA, *CARDS, **{CUDA: "1", HIP: "0"})
    assert used.parts == {"gpu1", "gpu_amd1"}
    assert used.reason == "CUDA_VISIBLE_DEVICES='1'; HIP_VISIBLE_DEVICES='0'"
    mixed = [replace(NVIDIA[0], model="T4"), replace(NVIDIA[1], model="H100")]
    unclear = _used(*mixed, *CARDS, **{CUDA: "0", HIP: "0"})
    assert unclear.parts == {"gpu0", "gpu1", "gpu_amd1"}
    assert not unclear.is_certain


@given(
    rocr=st.none() | st.lists(st.integers(-1, 5)) | st.text(max_size=20),
    hip=st.none() | st.lists(st.integers(-1, 5)) | st.text(max_size=20),
)
def test_nothing_is_chosen_that_is_not_there_and_rocr_bounds_hip(
    rocr: list[int] | str | None, hip: list[int] | str | None
) -> None:
    def written(value: list[int] | str) -> str:
        return value if isinstance(value, str) else ",".join(map(str, value))

    told = {name: written(value) for name, value in ((ROCR, rocr), (HIP, hip)) if value is not None}
    every = {card.part for card in CARDS}
    both = _used(**told).parts
    assert both <= every
    assert both <= _used(**{name: text for name, text in told.items() if name == ROCR}).parts
    if isinstance(hip, list) and rocr is None and -1 not in hip and all(number < 4 for number in hip) and hip:
        assert {ORDER[int(part.removeprefix("gpu_amd"))] for part in both} == set(hip)
