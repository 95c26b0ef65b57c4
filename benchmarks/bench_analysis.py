"""How fast frontiers of a million points and comparisons of a thousand runs are, and how large pages of many labels.

    python benchmarks/bench_analysis.py [--save]

Wall seconds, best of three, one process. Points are drawn uncorrelated (few on the frontier) and rising (all
on it).
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from stillwatt.analysis.compare import compare
from stillwatt.analysis.design_rules import try_rules
from stillwatt.analysis.mining import mine
from stillwatt.analysis.plane import frontier_mask, hypervolume, throughput_mask
from stillwatt.records.comparison import CardEnergy, Observation, Site
from stillwatt.report.comparison_html import comparison_html
from stillwatt.workflows.analyse import analyse_table
from stillwatt.workflows.rules import list_rules
from stillwatt.workflows.table import COLUMNS

HERE = Path(__file__).resolve().parent
POINTS, RUNS, DRAWS = 1_000_000, 1_000, 1_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", action="store_true", help="keep a dated summary beside this file")
    arguments = parser.parse_args()
    summary = {"date": datetime.now(UTC).date().isoformat(), **measure()}
    print(json.dumps(summary, indent=1))
    if arguments.save:
        path = HERE / f"analysis-{summary['date']}.json"
        path.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")


def measure() -> dict[str, Any]:
    stream = np.random.default_rng(20261125)
    energy, quality, throughput = stream.normal(size=(3, POINTS))
    rising = np.sort(energy), np.sort(quality)
    with tempfile.TemporaryDirectory() as folder:
        tables = {count: Path(folder) / f"{count}.csv" for count in (2_000, 20_000, 100_000, POINTS)}
        for count, table in tables.items():
            _write_table(table, stream, count=count)
        said = Path(folder) / "said.csv"
        _write_table(said, stream, count=POINTS, more={"boundary": "node", "quality_definition": "mean of 5"})
        return {
            "points": POINTS,
            "frontier_s": best(lambda: frontier_mask(energy, quality)),
            "frontier_all_on_it_s": best(lambda: frontier_mask(*rising)),
            "frontier_with_throughput_s": best(lambda: throughput_mask(energy, quality, throughput)),
            "hypervolume_s": best(lambda: hypervolume(energy, quality, reference=(3.0, -3.0))),
            "runs": RUNS,
            "draws": DRAWS,
            "compare_1000_labels_of_one_seed_s": best(lambda: compare(study(stream, seeds=1), source="bench")),
            "compare_333_labels_of_3_seeds_s": best(lambda: compare(study(stream, seeds=3), source="bench")),
            "compare_1000_labels_and_5_views_s": best(
                lambda: compare(everywhere(study(stream, seeds=1)), source="bench")
            ),
            "rules_of_333_labels_of_3_seeds_s": best(lambda: rules_of(study(stream, seeds=3)), times=1),
            **table_costs(tables[100_000], "table_of_100000_rows"),
            **table_costs(tables[POINTS], "table_of_a_million_rows"),
            **table_costs(said, "table_of_a_million_rows_that_say_more"),
            "page_of_2000_labels_mb": page_mb(tables[2_000]),
            "page_of_20000_labels_mb": page_mb(tables[20_000]),
        }


def best(work: Callable[[], object], *, times: int = 3) -> float:
    """Shortest wall time of some tries."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return round(min(taken), 3)


def table_costs(table: Path, name: str) -> dict[str, float]:
    """A table, read and compared: wall and CPU seconds, as the one depends on what else the machine does."""
    wall, cpu = time.perf_counter(), time.process_time()
    analyse_table(table)
    return {
        f"{name}_s": round(time.perf_counter() - wall, 3),
        f"{name}_cpu_s": round(time.process_time() - cpu, 3),
    }


def page_mb(table: Path) -> float:
    """Megabytes of a comparison's page."""
    return round(len(comparison_html(analyse_table(table).comparison).encode()) / 1_000_000, 2)


def rules_of(rows: list[Observation]) -> None:
    """Test the seven rules and mine others."""
    found = compare(rows, source="bench")
    try_rules(list_rules(), rows, found)
    mine(rows, found, rate=0.05)


def study(stream: np.random.Generator, *, seeds: int) -> list[Observation]:
    """A thousand runs: baselines and distilled labels of many students."""
    rows = []
    for index in range(RUNS // seeds):
        is_baseline = index % 3 == 0
        for seed in range(seeds):
            student_j = float(stream.normal(20.0, 1.0))
            rows.append(
                Observation(
                    label=f"label-{index}",
                    method="sft" if is_baseline else "kd",
                    student=f"student-{index // 3}",
                    seed=str(seed),
                    place="bench",
                    quality=float(stream.normal(0.7, 0.1)),
                    quality_se=0.01,
                    teacher_j=0.0 if is_baseline else float(stream.normal(10.0, 0.1)),
                    student_j=student_j,
                    own_j=student_j + 1.0,
                    throughput=float(stream.uniform(10.0, 100.0)),
                )
            )
    return rows


def everywhere(rows: list[Observation]) -> list[Observation]:
    """The same with boards, cooling, carbon, water and price: all the views there are."""
    site = Site(pue=1.2, kgco2e_per_kwh=0.3, water_l_per_kwh=2.0, price_per_kwh=0.1)
    teacher = replace(site, kgco2e_per_kwh=0.1)
    return [
        replace(
            row,
            site=site,
            teacher_site=teacher,
            cards=CardEnergy(teacher_j=row.teacher_j, student_j=row.student_j, own_j=row.own_j),
        )
        for row in rows
    ]


def _write_table(path: Path, stream: np.random.Generator, *, count: int, more: Mapping[str, str] | None = None) -> None:
    said = more or {}
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow((*COLUMNS, *said))
        for index, (quality, student) in enumerate(stream.normal((0.7, 20.0), (0.1, 1.0), (count, 2)).tolist()):
            method = "kd" if index % 2 else "sft"
            teacher = 10.0 if index % 2 else 0.0
            writer.writerow((f"l{index}", method, "1B", "", quality, 0.01, teacher, student, 1.0, "", *said.values()))


if __name__ == "__main__":
    main()
