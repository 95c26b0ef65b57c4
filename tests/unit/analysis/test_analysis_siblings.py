"""Labels that differ in their seed alone are repeats for break-evens, and points of their own on a frontier."""

from __future__ import annotations

import pytest

from observations import observation, seeds
from stillwatt.analysis.compare import compare
from stillwatt.analysis.siblings import merge_siblings
from stillwatt.analysis.trainings import gather_labels
from stillwatt.analysis.words import listed
from stillwatt.records.comparison import Observation

SFT, KD = [6.2, 6.3, 6.4], [5.1, 5.2, 5.3]


def named_apart(pattern: str) -> list[Observation]:
    return [
        observation(kind, label=pattern.format(kind=kind, seed=seed), seed=str(seed), student_j=student_j)
        for kind, energies in (("sft-1b", SFT), ("kd-1b", KD))
        for seed, student_j in enumerate(energies, start=1)
    ]


@pytest.mark.parametrize("pattern", ["{kind}-s{seed}", "{kind} seed {seed}", "{kind}_seed={seed}", "{kind}.{seed}"])
def test_however_seeds_are_named_break_evens_are_the_same(pattern: str) -> None:
    together = compare([*seeds("sft-1b", SFT), *seeds("kd-1b", KD)], source="x")
    apart = compare(named_apart(pattern), source="x")
    assert apart.n_star == together.n_star
    assert apart.curves == together.curves
    assert [point.seeds for point in apart.fronts[0].placed] == [1] * 6
    assert any("labels of sft-1b and kd-1b differ in their seed alone" in warning for warning in apart.warnings)
    assert not any("one seed" in warning for warning in apart.warnings)


@pytest.mark.parametrize(
    "rows",
    [
        [observation("kd-1b", label="kd-s1", seed="1"), observation("kd-7b", label="kd-s2", seed="2")],
        [observation("kd-1b", label="kd-s1", seed="1"), observation("kd-1b", label="kd", seed="2")],
        [observation("kd-1b", label="kd-s1", seed="1"), observation("kd-1b", label="kd-1", seed="1")],
        [observation("kd-1b", label="kd-T1", seed="7"), observation("kd-1b", label="kd-T2", seed="8")],
        [
            observation("kd-1b", label="kd-1", seed="1", settings={"alpha": 0.3}),
            observation("kd-1b", label="kd-2", seed="2", settings={"alpha": 0.8}),
        ],
        [observation("kd-1b", label="a", seed=""), observation("kd-1b", label="b", seed="")],
        [observation("kd-1b", label="1", seed="1"), observation("kd-1b", label="2", seed="2")],
        seeds("kd-1b", KD),
    ],
    ids=[
        "students",
        "stem is a label",
        "same seed",
        "settings",
        "unlike settings",
        "no seeds",
        "nothing left of the name",
        "one label",
    ],
)
def test_what_differs_in_more_than_its_seed_stays_apart(rows: list[Observation]) -> None:
    labels = gather_labels(rows)
    assert merge_siblings(labels) == labels


def test_of_many_names_the_first_are_listed() -> None:
    assert listed("abcdefgh") == "a, b, c, d, e, f and 2 more"
    assert listed([]) == ""
