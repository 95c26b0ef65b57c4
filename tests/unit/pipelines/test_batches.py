"""Which prompts are written together: laws over any lengths and yields, and what it does to the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stillwatt.errors import ArtifactError
from stillwatt.pipelines import teacher_generate
from stillwatt.pipelines.batches import Batch, Schedule
from stillwatt.pipelines.spec import GenerateSpec

SPEC = GenerateSpec(
    prompt_tokens=64,
    max_new_tokens=4,
    min_new_tokens=1,
    max_repeat_share=1.0,
    temperature=1.0,
    top_p=1.0,
    batch_size=4,
    max_rounds=2,
    seed=3,
)
END = 1
LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=120)


@dataclass
class Tally:
    """A stage and a bar that keep what they are told."""

    counts: dict[str, float] = field(default_factory=dict)
    progress: float = 0.0

    def add(self, **counts: float) -> None:
        for name, amount in counts.items():
            self.counts[name] = self.counts.get(name, 0) + amount

    def advance(self, amount: float = 1) -> None:
        self.progress += amount


@dataclass
class Echo:
    """Writes each prompt's last token and an end; keeps what it was asked."""

    pads_batches: bool = True
    calls_left: int = 10_000
    asked: list[list[list[int]]] = field(default_factory=list)
    end_ids: frozenset[int] = frozenset({END})

    def write(self, prompts: Sequence[Sequence[int]], seed: int) -> list[list[int]]:
        if not self.calls_left:
            raise KeyboardInterrupt
        self.calls_left -= 1
        self.asked.append([list(prompt) for prompt in prompts])
        return [[prompt[-1], END] for prompt in prompts]


def prompts_of(lengths: list[int]) -> list[list[int]]:
    """Prompts of these lengths that tell their own number."""
    return [[2] * (length - 1) + [10 + number] for number, length in enumerate(lengths)]


def drained(schedule: Schedule, kept_of_prompt: float, needed: int) -> list[list[Batch]]:
    """All windows of a schedule where each prompt gives as much kept text."""
    windows: list[list[Batch]] = []
    tried = 0
    while tried * kept_of_prompt < needed and (window := schedule.next(int(tried * kept_of_prompt), needed)):
        windows.append(window)
        tried += sum(len(batch.prompts) for batch in window)
    return windows


def padded_share(batches: list[list[int]]) -> float:
    """Share of what is read that is padding, by the lengths of the prompts of each batch."""
    read = sum(len(lengths) * max(lengths) for lengths in batches)
    return 1.0 - sum(map(sum, batches)) / read


@given(lengths=LENGTHS, pads=st.booleans(), batch_size=st.integers(1, 9), kept=st.integers(0, 30))
def test_every_prompt_comes_once_a_round_and_batches_are_numbered_in_order(
    lengths: list[int], pads: bool, batch_size: int, kept: int
) -> None:
    spec = replace(SPEC, batch_size=batch_size)
    windows = drained(Schedule(lengths, spec, pads_batches=pads), kept, 10**9)
    flat = [batch for window in windows for batch in window]
    for number in range(spec.max_rounds):
        batches = [batch for batch in flat if batch.round_number == number]
        assert sorted(prompt for batch in batches for prompt in batch.prompts) == list(range(len(lengths)))
        assert [batch.number for batch in batches] == list(range(len(batches)))
    assert all(1 <= len(batch.prompts) <= batch_size for batch in flat)


@given(lengths=LENGTHS, batch_size=st.integers(1, 9))
@example(lengths=[5, 5, 9, 9, 1], batch_size=2)
def test_neighbours_in_length_are_never_padded_more(lengths: list[int], batch_size: int) -> None:
    spec = replace(SPEC, batch_size=batch_size, max_rounds=1)
    shares = []
    for pads in (False, True):
        windows = drained(Schedule(lengths, spec, pads_batches=pads), 1, 10**9)
        shares.append(padded_share([[lengths[p] for p in batch.prompts] for window in windows for batch in window]))
    assert shares[1] <= shares[0] + 1e-12


@given(lengths=LENGTHS, needed=st.integers(1, 2000), kept=st.integers(1, 30), batch_size=st.integers(1, 9))
def test_no_more_prompts_are_used_than_without_windows(
    lengths: list[int], needed: int, kept: int, batch_size: int
) -> None:
    spec = replace(SPEC, batch_size=batch_size)
    used = [
        sum(
            len(b.prompts)
            for window in drained(Schedule(lengths, spec, pads_batches=pads), kept, needed)
            for b in window
        )
        for pads in (False, True)
    ]
    assert used[1] <= used[0] + batch_size - 1


@given(length=st.integers(1, 60), count=st.integers(1, 60), needed=st.integers(1, 500))
def test_prompts_of_one_length_come_in_their_order_batch_by_batch(length: int, count: int, needed: int) -> None:
    plain, padded = (drained(Schedule([length] * count, SPEC, pads_batches=pads), 5, needed) for pads in (False, True))
    assert padded == plain
    numbers = [prompt for window in padded for batch in window for prompt in batch.prompts]
    assert numbers == [number % count for number in range(len(numbers))]


def test_a_window_by_hand() -> None:
    lengths = [9, 1, 8, 2, 7, 3, 6, 4]
    schedule = Schedule(lengths, replace(SPEC, batch_size=2), pads_batches=True)
    assert schedule.next(0, 1000) == [Batch(0, 0, (0, 1))]  # of the yield nothing is known yet
    assert schedule.next(10, 1000) == [Batch(0, 1, (2, 4)), Batch(0, 2, (6, 7)), Batch(0, 3, (5, 3))]
    assert schedule.next(40, 55) == [Batch(1, 0, (0, 1))]  # 5 kept of a prompt, 15 missing: half of three is no batch
    assert schedule.next(50, 55) == [Batch(1, 1, (2,))]


def test_texts_are_kept_in_the_order_of_their_prompts(tmp_path: Path) -> None:
    prompts = prompts_of([9, 1, 8, 2, 7, 3, 6, 4, 5, 9, 1, 8])
    spec, tally, writer = replace(SPEC, batch_size=2, max_rounds=1), Tally(), Echo()
    found = teacher_generate.make(writer, prompts, spec, 10**9, tmp_path, task=tally, stage=tally)
    assert teacher_generate.load(tmp_path).sequences == tuple((*prompt, prompt[-1], END) for prompt in prompts)
    lengths = [sorted(len(prompt) for prompt in batch) for batch in writer.asked[1:]]
    assert lengths == sorted(lengths, reverse=True)
    assert found["samples"] == 12
    processed = sum(map(len, prompts)) + 2 * len(prompts)
    assert tally.counts == {
        "tokens": processed,
        "generated_tokens": 24,
        "accepted_tokens": processed,
        "accepted_samples": 12,
        "rejected_samples": 0,
    }
    assert tally.progress == processed


@pytest.mark.parametrize("calls", [1, 2, 4])
def test_an_attempt_stopped_within_a_window_is_continued_and_billed_once(tmp_path: Path, calls: int) -> None:
    prompts = prompts_of([9, 1, 8, 2, 7, 3, 6, 4, 5, 9, 1, 8])
    spec = replace(SPEC, batch_size=2)
    bill, first, second = Tally(), Tally(), Tally()
    whole = teacher_generate.make(Echo(), prompts, spec, 10**9, tmp_path / "whole", task=bill, stage=bill)
    with pytest.raises(KeyboardInterrupt):
        teacher_generate.make(Echo(calls_left=calls), prompts, spec, 10**9, tmp_path / "cut", task=first, stage=first)
    again = Echo()
    assert whole == teacher_generate.make(again, prompts, spec, 10**9, tmp_path / "cut", task=second, stage=second)
    assert first.counts["tokens"] == second.counts["taken_over_tokens"]
    assert first.counts["tokens"] + second.counts["tokens"] == bill.counts["tokens"]
    assert second.progress == bill.progress
    for place in (tmp_path / "whole").iterdir():
        assert place.read_bytes() == (tmp_path / "cut" / place.name).read_bytes()


def test_batches_in_another_order_are_not_continued(tmp_path: Path) -> None:
    prompts, tally = prompts_of([3, 1, 2, 5, 4, 9, 8, 7, 6]), Tally()
    with pytest.raises(KeyboardInterrupt):
        teacher_generate.make(
            Echo(pads_batches=False, calls_left=2), prompts, SPEC, 10**9, tmp_path, task=tally, stage=tally
        )
    with pytest.raises(ArtifactError, match="other prompts or settings"):
        teacher_generate.make(Echo(), prompts, SPEC, 10**9, tmp_path, task=tally, stage=tally)
