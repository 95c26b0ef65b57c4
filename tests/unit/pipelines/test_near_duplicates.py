from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stillwatt.pipelines.near_duplicates import KeptTexts, grams_of, similarity

TEXTS = st.lists(st.integers(0, 2), max_size=14)
THRESHOLDS = st.sampled_from([0.1, 0.25, 1 / 3, 0.5, 0.7, 0.9, 1.0])


def by_hand(text: list[int], other: list[int]) -> float:
    """The measure with sets of tuples."""
    grams, others = ({tuple(t[i : i + 5]) for i in range(max(len(t) - 4, 1))} if t else set() for t in (text, other))
    return len(grams & others) / len(grams | others) if grams | others else 0.0


@given(TEXTS, TEXTS)
@settings(deadline=None)
def test_it_is_jaccards_measure_and_symmetric(text: list[int], other: list[int]) -> None:
    one, two = grams_of(text), grams_of(other)
    assert similarity(one, two) == similarity(two, one) == by_hand(text, other)
    assert similarity(one, one) == float(bool(text))


@given(st.lists(TEXTS, max_size=25), THRESHOLDS, st.integers(2, 9))
@settings(deadline=None)
def test_it_finds_what_a_look_at_every_kept_text_finds(texts: list[list[int]], threshold: float, count_at: int) -> None:
    kept, seen = KeptTexts(threshold, _count_next_at=count_at), list[list[int]]()
    for text in texts:
        expected = any(by_hand(text, other) >= threshold for other in seen)
        assert kept.has_near(grams_of(text)) == expected
        if not expected:
            kept.keep(grams_of(text))
            seen.append(text)
    assert all(by_hand(a, b) < threshold for i, a in enumerate(seen) for b in seen[:i])


def test_a_threshold_that_is_reached_exactly_counts_as_near() -> None:
    # ten grams, seven of them shared with eight: 7 / 11; of ten and ten with seven shared: 7 / 13
    kept = KeptTexts(7 / 13)
    kept.keep(grams_of(range(14)))
    assert kept.has_near(grams_of([*range(11), 50, 51, 52]))
    assert not kept.has_near(grams_of([*range(10), 50, 51, 52, 53]))


def test_a_phrase_that_all_texts_share_leads_to_few_of_them() -> None:
    rng = np.random.default_rng(1)
    kept = KeptTexts(0.7, _count_next_at=64)
    for _ in range(200):
        kept.keep(grams_of([*range(40), *rng.integers(100, 50_000, 60).tolist()]))
    # without the counting, near half of all texts would stand under a gram of the phrase
    assert max(map(len, kept._holders.values())) <= 64
