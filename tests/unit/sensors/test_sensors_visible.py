"""CUDA_VISIBLE_DEVICES in all the ways that people write it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillwatt.records import Card
from stillwatt.sensors.choice import UsedParts
from stillwatt.sensors.visible import used_parts

ALIKE = tuple(
    Card(part=f"gpu{i}", index=i, uuid=f"GPU-{i}{i}ab-cd", model="H100", instances=(f"MIG-{i}a", f"MIG-{i}b"))
    for i in range(4)
)
MIXED = tuple(
    Card(part=f"gpu{i}", index=i, uuid=f"GPU-{i}{i}ab-cd", model=model) for i, model in enumerate(["T4", "H100", "T4"])
)


def _parts(text: str | None, cards: tuple[Card, ...] = ALIKE, **more: str) -> list[str]:
    return sorted(_used(text, cards, **more).parts)


def _used(text: str | None, cards: tuple[Card, ...] = ALIKE, **more: str) -> UsedParts:
    return used_parts(more if text is None else {"CUDA_VISIBLE_DEVICES": text, **more}, cards)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (None, ["gpu0", "gpu1", "gpu2", "gpu3"]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("all", []),
        ("2", ["gpu2"]),
        ("3,0", ["gpu0", "gpu3"]),
        (" 1 , 2 ", ["gpu1", "gpu2"]),
        ("0,-1,2", ["gpu0"]),
        ("0,2,9,1", ["gpu0", "gpu2"]),
        ("0,,1", ["gpu0"]),
        ("1x,2y", ["gpu1", "gpu2"]),
        ("+1", ["gpu1"]),
        ("1,1", []),
        ("GPU-11ab-cd", ["gpu1"]),
        ("GPU-1,GPU-3", ["gpu1", "gpu3"]),
        ("GPU-1,GPU-1", []),
        ("GPU-1,GPU-77,GPU-2", ["gpu1"]),
        ("GPU-1,2", ["gpu1"]),
        ("2,GPU-1", ["gpu2"]),
        ("MIG-2a", ["gpu2"]),
        ("MIG-2a,MIG-2b", ["gpu2"]),
        ("MIG-2a,1", ["gpu2"]),
        ("MIG-GPU-33ab-cd/1/0", ["gpu3"]),
        ("MIG-GPU-33ab-cd/1/0,MIG-0b", ["gpu0", "gpu3"]),
        ("MIG-GPU-77/1/0", []),
    ],
)
def test_what_cuda_would_show(text: str | None, parts: list[str]) -> None:
    used = _used(text)
    assert sorted(used.parts) == parts
    assert used.is_certain
    assert used.reason


@pytest.mark.parametrize(
    ("text", "cards", "words"),
    [
        ("GPU-", ALIKE, "GPU- fits 4 cards"),
        ("MIG-", ALIKE, "MIG- fits 4 instances"),
        ("MIG-77", ALIKE, "MIG-77 is not seen"),
        ("MIG-GPU-/1/0", ALIKE, "MIG-GPU-/1/0 is not seen"),
        (
            "0",
            MIXED,
            "the cards differ (H100, T4) and CUDA numbers the fastest first; set CUDA_DEVICE_ORDER=PCI_BUS_ID",
        ),
        ("1,0", MIXED, "the cards differ"),
        ("GPU-9", (*ALIKE, Card(part="gpu4", index=4, uuid="")), "GPU-9 is not among the UUIDs that can be read"),
    ],
)
def test_what_cannot_be_told_counts_every_card_and_says_why(text: str, cards: tuple[Card, ...], words: str) -> None:
    used = _used(text, cards)
    assert used.parts == {card.part for card in cards}
    assert not used.is_certain
    assert words in used.reason
    assert used.reason.endswith("; every card counts")


def test_numbers_are_places_where_cuda_is_told_so_or_takes_all() -> None:
    assert _parts("0", MIXED, CUDA_DEVICE_ORDER="PCI_BUS_ID") == ["gpu0"]
    assert not _used("0", MIXED, CUDA_DEVICE_ORDER="FASTEST_FIRST").is_certain
    assert _used("2,0,1", MIXED) == UsedParts(
        parts=frozenset({"gpu0", "gpu1", "gpu2"}),
        reason="CUDA_VISIBLE_DEVICES='2,0,1'",
    )
    assert _parts("", MIXED) == _parts("-1", MIXED, CUDA_DEVICE_ORDER="PCI_BUS_ID") == []


def test_what_the_container_toolkit_reads_is_not_followed() -> None:
    for text in ("void", "none", "all", "0", "GPU-1"):
        assert _parts(None, NVIDIA_VISIBLE_DEVICES=text) == [card.part for card in ALIKE]
        assert _parts("1", NVIDIA_VISIBLE_DEVICES=text) == ["gpu1"]


def test_a_machine_without_cards_has_none_to_use() -> None:
    assert _used("0", ()) == UsedParts(parts=frozenset(), reason="CUDA_VISIBLE_DEVICES='0'")


@given(st.text(max_size=200), st.sampled_from([ALIKE, MIXED, ()]))
def test_any_text_gives_cards_that_there_are_and_a_reason_on_one_line(text: str, cards: tuple[Card, ...]) -> None:
    used = _used(text, cards)
    assert used.parts <= {card.part for card in cards}
    assert used.reason.isprintable()
    assert used.is_certain or used.parts == {card.part for card in cards}
