"""Which of AMD's cards a program may use: the lists that ROCr and HIP read, one after the other.

ROCR_VISIBLE_DEVICES is read first and numbers what it leaves anew; HIP_VISIBLE_DEVICES, or where that is empty
CUDA_VISIBLE_DEVICES, chooses among those (ROCr's `amd_filter_device.cpp` and ROCclr's `rocdevice.cpp`). Cards are
counted in the order of the kernel's nodes, which is not that of the bus: `amdsmi` tells it from ROCm 6.4 on. Without it
every card counts. GPU_DEVICE_ORDINAL is OpenCL's alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from stillwatt.records import Card
from stillwatt.sensors.choice import UnclearError, UsedParts, shown

__all__ = ["used_of_hip"]

_ROCR = "ROCR_VISIBLE_DEVICES"
_HIP = "HIP_VISIBLE_DEVICES"
_CUDA = "CUDA_VISIBLE_DEVICES"
_UUID = "GPU-"
_LEAST_UUID, _MOST_UUID = 5, 20
_NUMBER = re.compile(r"([+-]?)(?:0x([0-9a-f]+)|(0[0-7]*)|([1-9][0-9]*))", re.IGNORECASE)
"""A number as C reads one of any base."""


def used_of_hip(environment: Mapping[str, str], cards: Sequence[Card]) -> UsedParts:
    """The parts of AMD's cards that a program with this environment may use; a part may be several cards of HIP's.

    >>> cards = [Card(part=f"gpu_amd{n}", index=n, uuid=f"GPU-{n}a", runtime="hip") for n in range(4)]
    >>> sorted(used_of_hip({"ROCR_VISIBLE_DEVICES": "2,3", "HIP_VISIBLE_DEVICES": "1"}, cards).parts)
    ['gpu_amd3']
    """
    every, list_of_hip = frozenset(card.part for card in cards), _list_of_hip(environment)
    by = [_ROCR] * (_ROCR in environment) + [list_of_hip] * bool(environment.get(list_of_hip))
    if not by:
        return UsedParts(parts=every, reason=f"{_ROCR} and {_HIP} choose none", is_chosen=False)
    said = ", ".join(f"{name}={shown(environment[name])}" for name in by)
    try:
        chosen = _left_by_hip(environment, _left_by_rocr(environment, _in_order(cards)))
    except UnclearError as err:
        return UsedParts(parts=every, reason=f"{said}: {err}; every card counts", is_certain=False)
    always = {card.part for card in cards if card.holds_cpu}
    return UsedParts(parts=frozenset({card.part for card in chosen} | always), reason=said)


def _list_of_hip(environment: Mapping[str, str]) -> str:
    return _HIP if environment.get(_HIP) else _CUDA


def _in_order(cards: Sequence[Card]) -> list[Card]:
    """As HIP counts them."""
    found = {card.index: card for card in cards}
    if set(found) != set(range(len(cards))):
        raise UnclearError("amdsmi does not tell in which order HIP counts the cards (ROCm 6.4 and newer do)")
    return [found[number] for number in range(len(cards))]


def _left_by_rocr(environment: Mapping[str, str], cards: list[Card]) -> list[Card]:
    """The list ends at its first entry that names no card, or one that it named before."""
    text = environment.get(_ROCR)
    return cards if text is None else _chosen(text.removesuffix(","), cards, _place_of_rocr)


def _left_by_hip(environment: Mapping[str, str], cards: list[Card]) -> list[Card]:
    """The same, but that naming a card again changes nothing; an empty list is none."""
    text = environment.get(_list_of_hip(environment), "")
    return _chosen(text.removesuffix(","), cards, _place_of_hip, may_repeat=True) if text else cards


def _chosen(
    text: str, cards: list[Card], place_of: Callable[[str, list[Card]], int | None], *, may_repeat: bool = False
) -> list[Card]:
    chosen: list[Card] = []
    for entry in text.split(","):
        place = place_of(entry, cards)
        if place is None or not 0 <= place < len(cards):
            break
        if cards[place] not in chosen:
            chosen.append(cards[place])
        elif not may_repeat:
            break
    return chosen


def _place_of_rocr(entry: str, cards: list[Card]) -> int | None:
    entry = entry.strip()
    if entry[:1].upper() == _UUID[0]:
        if not _LEAST_UUID <= len(entry) <= _MOST_UUID:
            return None
        found = _places(entry, cards, str.startswith)
        return found[0] if len(found) == 1 else None
    number = _NUMBER.fullmatch(entry)
    if number is None:
        return None
    sign, of_16, of_8, of_10 = number.groups()
    size = int(of_16, 16) if of_16 else int(of_8, 8) if of_8 else int(of_10)
    return -size if sign == "-" else size


def _place_of_hip(entry: str, cards: list[Card]) -> int | None:
    """A UUID or any piece of one that begins with `GPU-`; a number only as it would be printed."""
    if _UUID in entry.upper():
        found = _places(entry, cards, str.__contains__)
        return found[0] if found else None
    return int(entry) if entry.isascii() and entry.isdigit() and str(int(entry)) == entry else None


def _places(entry: str, cards: list[Card], fits: Callable[[str, str], bool]) -> list[int]:
    """Where the cards stand whose UUID fits; in capitals or not, as nobody is to be billed too little for a letter."""
    if any(not card.uuid for card in cards):
        raise UnclearError(f"{shown(entry)} may be a card whose UUID cannot be read")
    return [place for place, card in enumerate(cards) if fits(card.uuid.upper(), entry.upper())]
