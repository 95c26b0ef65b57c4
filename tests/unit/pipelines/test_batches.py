"""Which prompts are written together: laws over any lengths and yields, and what it does to the text."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from stillwatt.errors import ArtifactError
from stillwatt.pipelines import teacher_generate
from stillwatt.pipelines.batches import Batch, Schedule
from stillwatt.pipelines.spec import GenerateSpec
from tiny_models import Tally

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
class Echo:
    """Writes each prompt's last token and an end; keeps what it was asked."""

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


@given(lengths=LENGTHS, batch_size=st.integers(1, 9), kept=st.integers(0, 30))
def test_every_prompt_comes_once_a_round_and_batches_are_numbered_in_order(
    lengths: list[int], batch_size: int, kept: int
) -> None:
    spec = replace(SPEC, batch_size=batch_size)
    windows = drained(Schedule(lengths, spec), kept, 10**9)
    flat = [batch for window in windows for batch in window]
    for number in range(spec.max_rounds):
        batches = [batch for batch in flat if batch.round_number == number]
        assert sorted(prompt for batch in batches for prompt in batch.prompts) == list(range(len(lengths)))
        assert [batch.number for batch in batches] == list(range(len(batches)))
    assert all(1 <= len(batch.prompts) <= batch_size for batch in flat)


@given(lengths=LENGTHS, batch_size=st.integers(1, 9))
@example(lengths=[5, 5, 9, 9, 1, 1], batch_size=2)
def test_full_batches_of_neighbours_in_length_are_never_padded_more(lengths: list[int], batch_size: int) -> None:
    """One that is not full may pad more than the file's order: 2 beside 1 where 1, 1, 1, 1, 2 go by twos."""
    lengths = lengths[: len(lengths) // batch_size * batch_size]
    assume(lengths)
    spec = replace(SPEC, batch_size=batch_size, max_rounds=1)
    windows = drained(Schedule(lengths, spec), 1, 10**9)
    found = [[lengths[number] for number in batch.prompts] for window in windows for batch in window]
    in_order = [lengths[start : start + batch_size] for start in range(0, len(lengths), batch_size)]
    assert padded_share(found) <= padded_share(in_order) + 1e-12


@given(lengths=LENGTHS, needed=st.integers(1, 2000), kept=st.integers(1, 30), batch_size=st.integers(1, 9))
def test_no_more_prompts_are_used_than_the_missing_tokens_ask_for(
    lengths: list[int], needed: int, kept: int, batch_size: int
) -> None:
    windows = drained(Schedule(lengths, replace(SPEC, batch_size=batch_size)), kept, needed)
    used = sum(len(batch.prompts) for window in windows for batch in window)
    assert used <= max(batch_size, math.ceil(needed / kept))  # of the first batch's yield nothing is known


@given(lengths=LENGTHS, batch_size=st.integers(1, 9), needed=st.integers(1, 3000), steps=st.integers(0, 2**32 - 1))
def test_texts_twice_as_long_as_foreseen_make_no_batch_vain(
    lengths: list[int], batch_size: int, needed: int, steps: int
) -> None:
    """Each window's yield a prompt is up to twice that of all before it; then no whole batch was too much."""
    stream, spec = random.Random(steps), replace(SPEC, batch_size=batch_size, max_rounds=50)
    schedule, kept, tried = Schedule(lengths, spec), 0.0, 0
    while kept < needed and (window := schedule.next(math.ceil(kept), needed)):
        count = sum(len(batch.prompts) for batch in window)
        each = kept / tried * stream.uniform(0.2, 2.0) if tried else stream.uniform(1.0, 20.0)
        if len(window) > 1:
            assert kept + each * (count - batch_size) < needed
        kept, tried = kept + each * count, tried + count


@given(length=st.integers(1, 60), count=st.integers(1, 60), needed=st.integers(1, 500))
def test_prompts_of_one_length_come_in_their_order(length: int, count: int, needed: int) -> None:
    windows = drained(Schedule([length] * count, SPEC), 5, needed)
    numbers = [prompt for window in windows for batch in window for prompt in batch.prompts]
    assert numbers == [number % count for number in range(len(numbers))]


def test_a_window_by_hand() -> None:
    lengths = [9, 1, 8, 2, 7, 3, 6, 4]
    schedule = Schedule(lengths, replace(SPEC, batch_size=2))
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


def test_texts_of_a_sorted_window_are_judged_as_soon_as_those_before_them_are_there(tmp_path: Path) -> None:
    prompts, seen = prompts_of([1, 1, 3, 3, 2, 2, 9, 1]), Tally()
    progress: list[float] = []

    class Watched(Echo):
        def write(self, prompts: Sequence[Sequence[int]], seed: int) -> list[list[int]]:
            progress.append(seen.progress)
            return Echo.write(self, prompts, seed)

    spec = replace(SPEC, batch_size=2, max_rounds=1)
    teacher_generate.make(Watched(), prompts, spec, 10**9, tmp_path, task=seen, stage=seen)
    # the first batch; then 9 and 3, 3 and 2, 2 and 1: what is judged is the first, then the second and third
    assert progress == [0, 6, 6 + 5, 6 + 5 + 5 + 4]


def test_batches_of_other_windows_are_not_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts, tally = prompts_of([3, 1, 2, 5, 4, 9, 8, 7, 6]), Tally()
    with pytest.raises(KeyboardInterrupt):
        teacher_generate.make(Echo(calls_left=2), prompts, SPEC, 10**9, tmp_path, task=tally, stage=tally)
    monkeypatch.setattr(teacher_generate, "WINDOW_BATCHES", 2)
    with pytest.raises(ArtifactError, match="other prompts or settings"):
        teacher_generate.make(Echo(), prompts, SPEC, 10**9, tmp_path, task=tally, stage=tally)
