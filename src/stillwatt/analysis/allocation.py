"""Whose account shared teacher work goes on (method.md, eq. 20)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stillwatt.records.allocation import Allocation, AllocationKind

ONE_OFF = Allocation(kind=AllocationKind.ONE_OFF)
TOKENS = Allocation(kind=AllocationKind.TOKENS)
MARGINAL = Allocation(kind=AllocationKind.MARGINAL)


def reuse(students: int) -> Allocation:
    """The allocation `reuse:N`.

    >>> reuse(10).label
    'reuse:10'
    """
    return Allocation(kind=AllocationKind.REUSE, students=students)


def named(label: str) -> Allocation:
    """The allocation that has this label.

    >>> named("reuse:4").students, named("marginal") == MARGINAL
    (4, True)
    """
    kind, _, students = label.partition(":")
    return Allocation(kind=AllocationKind(kind), students=int(students) if students else None)


def choose_allocations(hypothetical: Sequence[int], consumers: Sequence[int]) -> tuple[Allocation, ...]:
    """The allocations a study shows: one-off, reuse at the actual and at the asked-for N, by tokens, marginal.

    `reuse:1` is one-off and is not repeated; by tokens is shown only where an artefact has more than one consumer.

    >>> [a.label for a in choose_allocations([10, 1], [1, 2])]
    ['one-off', 'reuse:2', 'reuse:10', 'tokens', 'marginal']
    """
    most = max(consumers, default=0)
    counts = sorted({n for n in (*hypothetical, most) if n > 1})
    by_tokens = (TOKENS,) if most > 1 else ()
    return (ONE_OFF, *(reuse(n) for n in counts), *by_tokens, MARGINAL)


def token_shares(tokens: Mapping[str, float | None]) -> dict[str, float] | None:
    """Each consumer's share of the tokens taken from one artefact; shares sum to 1.

    None where a consumer's tokens were not counted, or nobody took any.

    >>> token_shares({"kd": 300.0, "kd.s2": 100.0})
    {'kd': 0.75, 'kd.s2': 0.25}
    """
    counted = {arm: count for arm, count in tokens.items() if count is not None and count >= 0.0}
    total = sum(counted.values())
    if len(counted) < len(tokens) or total <= 0.0:
        return None
    return {arm: count / total for arm, count in counted.items()}


def teacher_share(allocation: Allocation, token_share: float | None) -> float | None:
    """The share of an artefact's energy that one student bears (method.md, eq. 20), dimensionless.

        one-off: 1     reuse:N: 1/N     tokens: tokens taken / tokens taken by all     marginal: 0

    Returns:
        The share; None for `tokens` where tokens were not counted.

    >>> teacher_share(reuse(4), None)
    0.25
    """
    if allocation.students is not None:
        return 1.0 / allocation.students
    if allocation.kind is AllocationKind.TOKENS:
        return token_share
    return 1.0 if allocation.kind is AllocationKind.ONE_OFF else 0.0
