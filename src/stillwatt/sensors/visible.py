"""Which cards a program may use: CUDA_VISIBLE_DEVICES, and HIP's variables, held against the cards that there are.

What a process may use and what its node draws are different questions: the node's cards are all measured, and those
that a program cannot use are reported beside its energy, not in it. Where the choice cannot be told for certain, every
card counts as used and the reason is given: to bill a card too many can be seen in the record, a card too few cannot.

NVIDIA_VISIBLE_DEVICES is not followed: the container toolkit acts on it before the program starts, and NVML does not
list what it left out. Outside containers, and in privileged ones, it limits nobody.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from stillwatt.records import Card
from stillwatt.sensors.choice import UnclearError, UsedParts, shown
from stillwatt.sensors.visible_hip import used_of_hip

__all__ = ["used_parts"]

_VARIABLE = "CUDA_VISIBLE_DEVICES"
_ORDER = "CUDA_DEVICE_ORDER"
_BY_PLACE = "PCI_BUS_ID"
_NUMBER = re.compile(r"\s*([+-]?\d+)")
_OLD_INSTANCE = re.compile(r"MIG-(GPU-[^/]+)/(\d+)/(\d+)")


def used_parts(environment: Mapping[str, str], cards: Sequence[Card]) -> UsedParts:
    """The cards that a program with this environment may use.

    CUDA's list ends at its first entry that names no card, and a card that is named twice leaves none. Numbers are
    places on the PCI bus only with `CUDA_DEVICE_ORDER=PCI_BUS_ID` or where all cards are alike; otherwise CUDA puts
    the fastest first, by an order that NVML does not know. AMD's cards are chosen as `used_of_hip` says.

    >>> cards = [Card(part="gpu0", index=0, uuid="GPU-a1"), Card(part="gpu1", index=1, uuid="GPU-b2")]
    >>> sorted(used_parts({"CUDA_VISIBLE_DEVICES": "1"}, cards).parts)
    ['gpu1']
    >>> sorted(used_parts({"CUDA_VISIBLE_DEVICES": "GPU-a"}, cards).parts)
    ['gpu0']
    >>> sorted(used_parts({}, cards).parts)
    ['gpu0', 'gpu1']
    """
    of_hip = tuple(card for card in cards if card.runtime == "hip")
    of_cuda = tuple(card for card in cards if card.runtime != "hip")
    if not of_hip:
        return _used_of_cuda(environment, of_cuda)
    found = used_of_hip(environment, of_hip)
    return _used_of_cuda(environment, of_cuda).and_also(found) if of_cuda else found


def _used_of_cuda(environment: Mapping[str, str], cards: Sequence[Card]) -> UsedParts:
    every = frozenset(card.part for card in cards)
    text = environment.get(_VARIABLE)
    if text is None:
        return UsedParts(parts=every, reason=f"{_VARIABLE} is not set", is_chosen=False)
    said = f"{_VARIABLE}={shown(text)}"
    try:
        chosen = _chosen(text, environment, cards)
    except UnclearError as err:
        return UsedParts(parts=every, reason=f"{said}: {err}; every card counts", is_certain=False)
    if len(set(chosen)) < len(chosen) and not text.lstrip().startswith("MIG-"):
        return UsedParts(parts=frozenset(), reason=f"{said} names a card twice, so CUDA shows none")
    return UsedParts(parts=frozenset(chosen), reason=said)


def _chosen(text: str, environment: Mapping[str, str], cards: Sequence[Card]) -> list[str]:
    """The parts in the list's order, up to the first entry that names none."""
    find = _finder(text, environment, cards)
    chosen: list[str] = []
    for entry in text.split(","):
        part = find(entry.strip())
        if part is None:
            break
        chosen.append(part)
    return chosen


def _finder(text: str, environment: Mapping[str, str], cards: Sequence[Card]) -> Callable[[str], str | None]:
    """How the entries of this list are looked up: the first entry says what all are."""
    first = text.partition(",")[0].strip()
    if first.startswith("MIG-"):
        return lambda entry: _instance(entry, cards)
    if first.startswith("GPU-"):
        return lambda entry: _by_uuid(entry, cards)
    if _number(first) is not None:
        _check_order(text, environment, cards)
    return lambda entry: _by_index(entry, cards)


def _by_uuid(entry: str, cards: Sequence[Card]) -> str | None:
    if not entry.startswith("GPU-"):
        return None
    found = [card.part for card in cards if card.uuid.startswith(entry)]
    if len(found) > 1:
        raise UnclearError(f"{entry} fits {len(found)} cards")
    if not found and any(not card.uuid for card in cards):
        raise UnclearError(f"{entry} is not among the UUIDs that can be read")
    return found[0] if found else None


def _instance(entry: str, cards: Sequence[Card]) -> str | None:
    """The card of an instance, by the instance's own UUID or by the older form that names the card."""
    if not entry.startswith("MIG-"):
        return None
    old = _OLD_INSTANCE.fullmatch(entry)
    if old is not None:
        return _by_uuid(old.group(1), cards)
    found = [card.part for card in cards if any(uuid.startswith(entry) for uuid in card.instances)]
    if len(found) != 1:
        raise UnclearError(f"{entry} fits {len(found)} instances that can be seen" if found else f"{entry} is not seen")
    return found[0]


def _by_index(entry: str, cards: Sequence[Card]) -> str | None:
    number = _number(entry)
    return next((card.part for card in cards if card.index == number), None)


def _number(entry: str) -> int | None:
    """A number as CUDA reads it: digits at the beginning, whatever follows."""
    found = _NUMBER.match(entry)
    return int(found.group(1)) if found else None


def _check_order(text: str, environment: Mapping[str, str], cards: Sequence[Card]) -> None:
    """See that numbers can be told to be places on the bus, or that the list takes all cards in any order."""
    if environment.get(_ORDER) == _BY_PLACE or len({card.model for card in cards}) <= 1:
        return
    numbers = [_number(entry) for entry in text.split(",")]
    if {card.index for card in cards} != set(numbers[: len(cards)]):
        models = ", ".join(sorted({card.model or "a card that cannot be read" for card in cards}))
        raise UnclearError(f"the cards differ ({models}) and CUDA numbers the fastest first; set {_ORDER}={_BY_PLACE}")
