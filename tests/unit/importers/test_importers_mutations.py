"""Logs that were cut, scrambled and filled with what is no number: an error of ours or a run, never a traceback."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from import_files import (
    OUTPUT_LOG,
    STANDARD_LOG,
    START_S,
    carbon_row,
    harness_stage,
    write_carbon,
    write_harness,
    write_table,
)
from run_dirs import FixedClock
from stillwatt.errors import StillwattError
from stillwatt.importers.detect import find_runs
from stillwatt.importers.intake import take_in
from stillwatt.importers.write import content_hash
from stillwatt.workflows.books import verify
from stillwatt.workflows.import_logs import import_logs

CASES = 150
"""Mutations of each kind of log."""
WHOLE_IMPORTS = 6
TOKENS = (
    *(
        b"nan",
        b"inf",
        b"-1",
        b"-0",
        b"0",
        b"1e",
        b"1e400",
        b"1e308",
        b"1e-320",
        b"1e18",
        b"4e9",
        b"9" * 400,
        b"9" * 5000,
    ),
    *(b"", b'"', b",", b"\n", b"\xff", b"\x00", b"\xc2\xb2", b'"\\ud800"', b"..", b"true", b"null", b"[]", b"{}"),
)
WORD = re.compile(rb'[0-9.eE+-]+|"[^"]*"|\w+')


def logs(folder: Path) -> dict[str, Path]:
    """A folder for each kind of log, by the file of it that is mutated."""
    write_carbon(folder / "emissions.csv" / "emissions.csv", [carbon_row(end_s=50.0, duration_s=50.0), carbon_row()])
    windows = [[START_S, "outer", 10, 1000], [START_S + 2, "inner", 3, 300], [START_S + 9, "across", 3, 300]]
    header = ["start_time", "window_name", "elapsed_time", "gpu0_energy"]
    write_table(folder / "zeus.csv" / "zeus.csv", header, windows)
    rows = [[START_S + second, card, "A100", f"{300 - card} W"] for second in range(12) for card in (0, 1)]
    write_table(folder / "smi.csv" / "smi.csv", ["timestamp", "index", "name", "power.draw [W]"], rows)
    power = [[START_S + second, 300] for second in range(20)]
    marks = folder / "log.stages.csv"
    write_table(marks / "log.csv", ["timestamp", "gpu0_w"], power)
    mark = ["train", START_S, START_S + 10, "student_train", 1000]
    write_table(marks / "log.stages.csv", ["name", "start", "end", "kind", "tokens"], [mark])
    for name, text in (
        ("x_carbontracker.log", STANDARD_LOG.format(gpu="[300.0]", cpu="50.0", devices="A100")),
        ("x_carbontracker_output.log", OUTPUT_LOG.format(kwh=0.01)),
    ):
        (folder / name).mkdir()
        (folder / name / name).write_text(text)
    stage = harness_stage(samples_w=(100.0, *(600.0,) * 6, 200.0))
    for name in ("sft_demo.json", "experiment_summary.json", "environment_sft_demo__sft_demo.json"):
        write_harness(folder / name, stage)
    return {found.name: found for found in folder.iterdir()}


def mutations(data: bytes, rng: random.Random) -> Iterator[bytes]:
    """The log with one to three of: a word replaced, an end cut off, a byte replaced, a line said again."""
    for _ in range(CASES):
        text = data
        for _ in range(rng.randint(1, 3)):
            kind, place = rng.random(), rng.randrange(len(text) + 1)
            words = list(WORD.finditer(text))
            if kind < 0.7 and words:
                word = rng.choice(words)
                text = text[: word.start()] + rng.choice(TOKENS) + text[word.end() :]
            elif kind < 0.8:
                text = text[:place]
            elif kind < 0.9:
                text = text[:place] + bytes([rng.randrange(256)]) + text[place + 1 :]
            else:
                lines = text.split(b"\n")
                lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))
                text = b"\n".join(lines)
        yield text


NAMES = (
    "emissions.csv",
    "zeus.csv",
    "smi.csv",
    "log.stages.csv",
    "x_carbontracker.log",
    "x_carbontracker_output.log",
    "sft_demo.json",
    "experiment_summary.json",
    "environment_sft_demo__sft_demo.json",
)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """One folder for each of NAMES."""
    found = logs(tmp_path_factory.mktemp("logs"))
    assert set(found) == set(NAMES)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_mutated_log_gives_runs_or_an_error_of_ours(kinds: Mapping[str, Path], tmp_path: Path, name: str) -> None:
    rng = random.Random(name)
    path = next(kinds[name].rglob(name))
    data = path.read_bytes()
    said: list[str] = []
    try:
        for number, text in enumerate(mutations(data, rng)):
            path.write_bytes(text)
            try:
                files, _ = take_in([kinds[name]])
                for run in find_runs(files).runs:
                    content_hash(run)
                if number < WHOLE_IMPORTS:
                    import_logs([kinds[name]], runs_dir=tmp_path / "runs", clock=FixedClock())
            except StillwattError as err:
                said.append(str(err))
        if (tmp_path / "runs").is_dir():
            assert not [finding for finding in verify(tmp_path / "runs") if finding.severity.value == "error"]
    finally:
        path.write_bytes(data)
    assert not [message for message in said if name not in message and kinds[name].name not in message]


def test_text_that_no_file_can_hold_is_written_as_something_else(kinds: Mapping[str, Path], tmp_path: Path) -> None:
    shutil.copytree(kinds["sft_demo.json"], tmp_path / "logs")
    for path in (tmp_path / "logs").rglob("*.json"):
        path.write_text(path.read_text().replace("sft_demo", "sft_\\ud800demo").replace("node7", "\\udfff"))
    report = import_logs([tmp_path / "logs"], runs_dir=tmp_path / "runs", clock=FixedClock())
    (line,) = report.lines
    assert line.record is not None
