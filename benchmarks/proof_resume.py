"""Kills at random moments of every stage of small studies: is what then is gone on with the same, and on the books?

    python benchmarks/proof_resume.py [--kills 4] [--times 2] [--seed 1] [--tokens 4096] [--save]

Each study is killed with SIGKILL (every fourth one twice; with `--times`, each so often), gone on with, and compared
with one that nobody disturbed:
caches, text and students to the byte, each step's loss and each score exactly; all attempts on the books with what
they took, and no second twice. What counts as a fault is in tests/study_outcome.py. Exit status 1 where there was one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from kill_stage import StageKill, Studies  # noqa: E402 - tests/ is no package

AIMS = {
    "fixed rows": (
        "prepare_data", "evaluate.teacher", "evaluate.start", "teacher_logits", "teacher_generate", "train.sft.0.5",
        "evaluate.sft.0.5", "train.sft.1.0", "train.kd.0.5", "train.kd.1.0", "evaluate.kd.1.0", "train.synthetic.1.0",
        "train.gkd.0.5", "train.gkd.1.0", "evaluate.gkd.1.0", "",
    ),
    "coded rows": ("teacher_logits", "train.kd.0.5", "train.kd.1.0", "evaluate.kd.1.0", ""),
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=4, help="studies killed for each stage")
    parser.add_argument("--times", type=int, help="kills of each study; a stage that is over is not killed again")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=4096, help="of the training text")
    parser.add_argument("--save", action="store_true", help="keep a dated summary beside this file")
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    kills: list[StageKill] = []
    with tempfile.TemporaryDirectory() as name:
        os.environ.setdefault("STILLWATT_HOME", str(Path(name) / "home"))
        for study, aims in AIMS.items():
            with Studies(Path(name) / study, tokens=arguments.tokens) as studies:
                whole = studies.whole(study)
                for aim in aims:
                    for number in range(arguments.kills):
                        times = arguments.times or (2 if number % 4 == 3 else 1)
                        kill = studies.killed(whole, study, aim, chance, times=times)
                        kills.append(kill)
                        print(study, aim or "anywhere", kill.hit, f"{kill.lost_j:.1f} J lost", *kill.faults, flush=True)
    summary = {
        "date": datetime.now(UTC).date().isoformat(),
        "seed": arguments.seed,
        **({} if arguments.times is None else {"times": arguments.times}),
        "tokens": arguments.tokens,
        "studies": {study: _of_study([kill for kill in kills if kill.study == study]) for study in AIMS},
        "faults": [fault for kill in kills for fault in kill.faults],
    }
    print(json.dumps(summary, indent=1))
    if arguments.save:
        kind = "" if arguments.times is None else f"-{arguments.times}-kills"
        path = HERE / f"proof-resume{kind}-{summary['date']}.json"
        path.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    return 1 if summary["faults"] else 0


def _of_study(kills: list[StageKill]) -> dict[str, Any]:
    hit = Counter(stage or "between stages" for kill in kills for stage in kill.hit)
    return {
        "studies_killed": len(kills),
        "kills": sum(hit.values()),
        "killed_twice": sum(len(kill.hit) > 1 for kill in kills),
        "kills_by_stage": dict(sorted(hit.items())),
        "lost_j": {"all": round(sum(kill.lost_j for kill in kills), 1), "most": round(max(k.lost_j for k in kills), 1)},
        "faults": sum(len(kill.faults) for kill in kills),
    }


if __name__ == "__main__":
    sys.exit(main())
