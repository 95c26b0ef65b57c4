"""What the simulated cards draw, and where the stages lie: random steps, bursts, square waves, loads that beat."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from meter_scenarios import Happening, Measured, Rig

from stillwatt.metering.totals import sum_part

CARDS = 8
LENGTH_S = 40.0
SLOW, FAST = "dwell_min_ms=200 dwell_max_ms=3000", "dwell_min_ms=50 dwell_max_ms=300"


def draws(rig: Rig, card: str) -> str:
    """What differs from card to card: phase, jitter, noise, latency."""
    step_ms = 20.0 if "step_ms=20" in card else 100.0
    rng = rig.rng
    return (
        f"phase_ms={rng.uniform(0, step_ms):.2f} jitter_ms={rng.choice([0, 0.01, 0.02]) * step_ms:.1f} "
        f"noise_w=1.5 latency_ms={rng.uniform(0, 0.02) * step_ms:.2f}"
    )


def random_steps(
    rig: Rig, card: str, rounds: int, dwell: str, *, happenings: Sequence[Happening] = ()
) -> list[list[Measured]]:
    """Levels of 20 to 700 W; stages of 2-6 s, 100 ms and 1-2 s with edges anywhere; what befalls the clocks beside."""
    found: list[list[Measured]] = []
    for _ in range(rounds):
        gpus = [
            f"gpu {card} random={rig.rng.integers(1, 10**6)} watts=700 low=20 {dwell} {draws(rig, card)}"
            for _ in range(CARDS)
        ]
        text = ";".join(["driver=550.54", *gpus])
        found += rig.measure(text, CARDS, list(anywhere(rig)), LENGTH_S, happenings=happenings)
    return found


def anywhere(rig: Rig) -> Iterator[tuple[float, float]]:
    start_s = 1.0
    while start_s < LENGTH_S - 10:
        for length_s in (rig.rng.uniform(2, 6), 0.1, rig.rng.uniform(1, 2)):
            yield start_s, start_s + length_s
            start_s += length_s + rig.rng.uniform(0, 0.3)


def bursts(rig: Rig, card: str, rounds: int) -> list[list[Measured]]:
    """100 ms at 400 W each second, 80 W between; every burst is a stage, off the counter's steps."""
    found: list[list[Measured]] = []
    for _ in range(rounds):
        begins_s = rig.rng.uniform(1.1, 1.3)
        windows_s = [(second - begins_s, second - begins_s + 0.1) for second in range(2, 12)]
        text = f"driver=550.54;gpu {card} watts=400 low=80 hz=1 duty=0.1 {draws(rig, card)}"
        found += rig.measure(text, 1, windows_s, 12.5, begins_s=begins_s)
    return found


def added_up(trace: list[Measured]) -> Measured:
    """All stages of a card as the account adds them up (method.md, eq. 10)."""
    lengths_s = [one.length_s for one in trace]
    true_j, peer_j = (math.fsum(numbers) for numbers in zip(*((one.true_j, one.peer_j) for one in trace), strict=True))
    return Measured(true_j, sum_part([one.energy for one in trace], lengths_s), math.fsum(lengths_s), peer_j)


def periodic(rig: Rig, card: str, rounds: int) -> list[list[Measured]]:
    """Square waves of 0.5 to 5 Hz and constant loads; stages of 2 to 8 s anywhere."""
    found: list[list[Measured]] = []
    for _ in range(rounds):
        gpus = []
        for _ in range(CARDS):
            hz = rig.rng.uniform(0.5, 5) if rig.rng.random() < 0.8 else 0
            levels = f"watts={rig.rng.uniform(200, 700):.0f} low={rig.rng.uniform(20, 150):.0f}"
            gpus.append(f"gpu {card} {levels} hz={hz:.3f} duty={rig.rng.uniform(0.2, 0.8):.2f} {draws(rig, card)}")
        windows_s = [(start_s, start_s + rig.rng.uniform(2, 8)) for start_s in (1.3, 10.2, 19.7, 29.1)]
        found += rig.measure(";".join(["driver=550.54", *gpus]), CARDS, windows_s, LENGTH_S)
    return found


def beats(rig: Rig, card: str, rounds: int) -> list[list[Measured]]:
    """A load of 10 Hz and 1 to 5 % more, under an instrument that looks ten times a second."""
    found: list[list[Measured]] = []
    for _ in range(rounds):
        gpus = [
            f"gpu {card} watts=400 low=80 hz={10 * rig.rng.uniform(1.01, 1.05):.4f} duty=0.5 {draws(rig, card)}"
            for _ in range(CARDS)
        ]
        windows_s = [(start_s, start_s + rig.rng.uniform(2, 8)) for start_s in (1.3, 10.2, 19.7, 29.1)]
        found += rig.measure(";".join(["driver=550.54", *gpus]), CARDS, windows_s, LENGTH_S)
    return found
