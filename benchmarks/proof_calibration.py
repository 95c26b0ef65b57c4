"""How often the true gain of a simulated card lies inside the interval that a calibration gives it.

    python benchmarks/proof_calibration.py [--trials 200] [--seed 1] [--every 0.1]

Each trial: a card whose counter (1 mJ, every 100 ms) or power reading (every 100 ms) is wrong by a gain of -8 % to
+13 %, under a load of steps and ramps at random times for five minutes; a meter that gives mean power once a second,
with white noise of 0.5 % and a zero that wanders slowly; its clock 37 s off, and up to 20 ppm fast or slow. Prints how
many trials were refused, in how many of the others the truth lies inside the interval, and how wide that is.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from stillwatt.metering.calibrate import GainFit, Refused
from stillwatt.records.channel import Quantity

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from calibration_trials import UPDATE_S, tried


def main() -> None:
    """Run the trials and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=float, default=UPDATE_S, help="seconds between the card's readings")
    arguments = parser.parse_args()
    for quantity in Quantity:
        print(summary(quantity, arguments.trials, arguments.seed, arguments.every))


def summary(quantity: Quantity, trials: int, seed: int, every_s: float) -> str:
    """A line about many trials of one kind of reading."""
    found = [tried(quantity, seed * 100_000 + number, every_s) for number in range(trials)]
    fits = [(trial, fit) for trial, fit in found if isinstance(fit, GainFit)]
    held = sum(abs(fit.gain - trial.gain) <= fit.gain_half for trial, fit in fits)
    halves = [fit.gain_half / fit.gain for _, fit in fits]
    errors = [abs(fit.gain / trial.gain - 1.0) for trial, fit in fits]
    reasons = sorted({fit.reasons[0][:60] for _, fit in found if isinstance(fit, Refused)})
    return (
        f"{quantity.value}: {trials - len(fits)} of {trials} refused; truth inside in {held} of {len(fits)} "
        f"({100 * held / max(1, len(fits)):.1f} %); half-width {100 * np.median(halves):.2f} % (median), error "
        f"{100 * np.median(errors):.2f} % (median), {100 * np.max(errors):.2f} % (largest)"
        f"{'; '.join(['', *reasons])}"
    )


if __name__ == "__main__":
    main()
