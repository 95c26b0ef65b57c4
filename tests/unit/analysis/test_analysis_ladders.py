"""Ladders of labels that differ in one setting, sums over them, and sizes of students."""

from __future__ import annotations

import itertools

from observations import observation
from stillwatt.analysis.ladders import ends, ladders, rise, settings_of
from stillwatt.analysis.sizes import parameters_from, size_text
from stillwatt.analysis.trainings import Label, gather_labels


def labels(*settings: dict[str, float], student: str = "1b") -> tuple[Label, ...]:
    return gather_labels(
        observation(f"kd-{student}", label=f"{student}-{number}", settings=own) for number, own in enumerate(settings)
    )


def test_labels_that_differ_in_one_setting_alone_stand_on_one_ladder() -> None:
    found = ladders(
        labels({"alpha": 0.9, "t": 1.0}, {"alpha": 0.1, "t": 1.0}, {"alpha": 0.5, "t": 2.0}, {"alpha": 0.1, "t": 3.0}),
        "alpha",
    )
    (ladder,) = found
    assert ladder.levels == (0.1, 0.9)
    assert [label.name for label in ladder.labels] == ["1b-1", "1b-0"]


def test_labels_alike_in_all_settings_are_on_no_ladder_in_any_order() -> None:
    """They differ in something that nobody says, so neither may stand for its level."""
    made = labels({"alpha": 0.9}, {"alpha": 0.1}, {"alpha": 0.5}, {"alpha": 0.1})
    for order in itertools.permutations(made):
        (ladder,) = ladders(order, "alpha")
        assert ladder.levels == (0.5, 0.9)


def test_a_setting_that_is_not_said_is_on_no_ladder() -> None:
    assert ladders(labels({}, {"alpha": 0.1}), "alpha") == ()


def test_the_size_of_the_student_is_no_setting() -> None:
    assert settings_of(labels({"student_parameters": 1e9, "t": 1.0}, {"alpha": 0.1})) == ("alpha", "t")


def test_sums_over_ladders_weigh_them_alike() -> None:
    small = ladders(labels({"alpha": 0.1}, {"alpha": 0.5}, {"alpha": 0.9}), "alpha")
    large = ladders(labels({"alpha": 0.1}, {"alpha": 0.9}, student="7b"), "alpha")
    assert ends([*small, *large]).weights == {"1b-2": 0.5, "1b-0": -0.5, "7b-1": 0.5, "7b-0": -0.5}
    # the large student has no label between
    assert rise([*small, *large], 0.1, 0.5).weights == {"1b-1": 0.5, "1b-0": -0.5}


def test_weights_that_cancel_are_no_term() -> None:
    (ladder,) = ladders(labels({"alpha": 0.1}, {"alpha": 0.5}), "alpha")
    mix = ends([ladder])
    mix.add_mix(ends([ladder]), -1.0)
    assert mix.terms("quality") == []


def test_sizes_are_read_off_names() -> None:
    assert parameters_from("SmolLM2-135M-Instruct") == 135_000_000.0
    assert parameters_from("1.5b") == 1_500_000_000.0
    assert parameters_from("gpt2") is None
    assert parameters_from("b2b") is None
    assert [size_text(size) for size in (7_000_000_000.0, 999.0)] == ["7B", "999"]


def test_a_number_of_tokens_or_positions_beside_the_size_is_none() -> None:
    assert parameters_from("Qwen-7B-128k") == 7_000_000_000.0
    assert parameters_from("Phi-3-mini-4k-3.8b") == 3_800_000_000.0
    assert parameters_from("OLMo-1B-3T") == 1_000_000_000.0
    assert parameters_from("SmolLM2-135M-10k") == 135_000_000.0
    # where nothing else is said it may be the size: a model of a laptop's tests
    assert parameters_from("tiny-100k") == 100_000.0
