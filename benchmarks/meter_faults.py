"""Cards whose calls fail, counters that lie or begin anew, drivers that are loaded again, clocks that jump, sleep."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from meter_loads import SLOW, random_steps
from meter_scenarios import COUNTERLESS, SENSORS, Happening, Measured, RaplRig, Rig

H100 = "H100 counter 100 ms, power 100/25"
H200 = "H200 counter 100 ms (2.6 ms a call), buffer 20/25"
P100, P100_BUFFER = "P100 20/10, polled", "P100 20/10, driver's buffer"
FAILURES: Mapping[str, str] = {
    "20 % of calls fail": "fail_every=5",
    "all calls fail from 18 s to 22 s": "fail_from_s=18 fail_until_s=22",
    "the driver is loaded again, 18-20 s": "fail_from_s=18 fail_until_s=20 uninit_s=18.5 reset_s=18",
    "the card is lost at 25 s": "die_s=25",
}
OF_COUNTER: Mapping[str, str] = {
    "the counter resets at 20 s": "reset_s=20",
    "the counter stands 15 to 22 s": "stand_from_s=15 stand_until_s=22",
    "it stands, and has lost the joules": "stand_from_s=15 stand_until_s=22 stand_loses=1",
    "it shows 0 once": "offset_mj=22e9 glitch_from_s=20 glitch_until_s=20.1",
    "it shows 0 for 1.2 s": "offset_mj=22e9 glitch_from_s=20 glitch_until_s=21.2",
    "it shows 200 J once": "offset_mj=22e9 glitch_from_s=20 glitch_until_s=20.1 glitch_mj=2e5",
    "it shows 2^63 once": "glitch_from_s=20 glitch_until_s=20.1 glitch_mj=9223372036854775807",
    "the counter never moves": "counter_step_ms=1e9",
}
CLOCKS: Mapping[str, Happening] = {
    "wall clock an hour forward at 20 s": Happening(at_s=20, wall_set_s=3600),
    "wall clock an hour back at 20 s": Happening(at_s=20, wall_set_s=-3600),
    "asleep for 5 minutes at 20 s": Happening(at_s=20, asleep_s=300),
}
AFTER_SLEEP = "asleep, and the counter begins anew"


def faults(rig: Rig, rounds: int) -> Iterator[tuple[str, str, list[list[Measured]]]]:
    """Random steps on cards with a counter, with a buffer of power, and with neither."""
    for name, words in {**FAILURES, **OF_COUNTER}.items():
        yield name, H100, random_steps(rig, f"{SENSORS[H100]} limit_w=700 {words}", rounds, SLOW)
    for name, words in FAILURES.items():
        yield name, P100, random_steps(rig, f"{COUNTERLESS[P100]} limit_w=700 {words}", rounds, SLOW)
    for sensor, card in ((H100, SENSORS[H100]), (H200, SENSORS[H200]), (P100_BUFFER, COUNTERLESS[P100_BUFFER])):
        for name, happening in CLOCKS.items():
            yield name, sensor, random_steps(rig, f"{card} limit_w=700", rounds, SLOW, happenings=[happening])
    asleep = CLOCKS["asleep for 5 minutes at 20 s"]
    words = f"{SENSORS[H100]} limit_w=700 reset_s=20"
    yield AFTER_SLEEP, H100, random_steps(rig, words, rounds, SLOW, happenings=[asleep])
    with tempfile.TemporaryDirectory(prefix="stillwatt-bench-") as folder:
        packages = RaplRig(rig.simulator, rig.rng, Path(folder))
        yield (
            "the counter wraps at about 20 s",
            "RAPL, files of powercap",
            random_steps(packages, "arch=9", rounds, SLOW),
        )
        packages.shows_zero_s = 0.12
        yield "it wraps, and shows 0 at 10 s", "RAPL, files of powercap", random_steps(packages, "arch=9", rounds, SLOW)
