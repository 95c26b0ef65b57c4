"""The house rules that a linter does not know."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "src" / "stillwatt").rglob("*.py"))
_STRAY_NUMBER = re.compile(r"(?<![\w.])(3600|3_600|3\.6e6|3_600_000|3600000|1e-3|1e-6|1e-9|1e9|1_000_000_000)(?![\w.])")


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_have_one_job(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_functions_fit_on_a_screen(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    too_long = [
        f"{node.name} ({length} lines)"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (length := _body_lines(node)) > 40
    ]
    assert not too_long


@pytest.mark.parametrize("path", [p for p in SOURCES if p.name != "units.py"], ids=lambda p: str(p.relative_to(ROOT)))
def test_conversions_live_in_units(path: Path) -> None:
    """Unit conversions outside `units.py` are how millijoules end up in a field that says joules."""
    code = [line for line in _code_lines(path) if _STRAY_NUMBER.search(line)]
    assert not code


def test_no_drawer_for_odds_and_ends() -> None:
    names = {p.stem for p in SOURCES} | {p.parent.name for p in SOURCES}
    assert not names & {"utils", "helpers", "common", "core", "misc"}


@pytest.mark.parametrize(
    "module",
    [
        "stillwatt",
        "stillwatt.workflows.live",
        "stillwatt.workflows.sampler_start",
        "stillwatt.ledger.recorder",
        "stillwatt.metering.measured",
        "stillwatt.integrations.openai_client",
        "stillwatt.integrations.vllm",
    ],
)
def test_light_modules_stay_light(module: str) -> None:
    """What runs in the measured program or in its sampling process imports nothing heavy."""
    script = f"import {module}, sys; print(*sorted(m.partition('.')[0] for m in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    heavy = {
        "numpy",
        "pyarrow",
        "pandas",
        "torch",
        "pydantic",
        "msgspec",
        "click",
        "rich",
        "sqlite3",
        "jinja2",
        "openai",
        "vllm",
    }
    assert not heavy & set(loaded)


REACH_RUN = """
import sys
before = set(sys.modules)
import stillwatt
stillwatt.Run
{then}
print(*sorted(set(sys.modules) - before))
"""
ENTER = """
with stillwatt.Run("light", runs_dir=sys.argv[1]) as run:
    with run.stage("work"):
        pass
"""
OWN_LIGHT = {
    "stillwatt",
    "stillwatt.clock",
    "stillwatt.errors",
    "stillwatt.ledger",
    "stillwatt.ledger.environment",
    "stillwatt.ledger.ancestors",
    "stillwatt.ledger.group",
    "stillwatt.ledger.joining",
    "stillwatt.ledger.journal",
    "stillwatt.ledger.launched",
    "stillwatt.ledger.rundir",
    "stillwatt.metering",
    "stillwatt.metering.measured",
    "stillwatt.metering.thread_parents",
    "stillwatt.metering.meter",
    "stillwatt.metering.resting",
    "stillwatt.records",
    "stillwatt.records.kinds",
    "stillwatt.units",
    "stillwatt.workflows",
    "stillwatt.workflows.asked",
    "stillwatt.workflows.home",
    "stillwatt.workflows.live",
    "stillwatt.workflows.sampler_start",
    "stillwatt.workflows.sampling_process",
}
COSTLY = {"asyncio", "ctypes", "dataclasses", "difflib", "email", "http", "inspect", "logging", "multiprocessing"} | {
    "socket",
    "ssl",
    "tempfile",
    "zipfile",
}
"""Of the standard library: what takes milliseconds or megabytes that the meter can do without."""


@pytest.mark.parametrize("then", ["", ENTER], ids=["reached", "entered"])
def test_a_run_brings_nothing_along(then: str, tmp_path: Path) -> None:
    """What a measured program pays for before its first stage: a few of our modules, and cheap ones of Python's."""
    script = REACH_RUN.format(then=then)
    command = [sys.executable, "-c", script, str(tmp_path)]
    loaded = set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    own = {name for name in loaded if name.partition(".")[0] == "stillwatt"}
    others = {name.partition(".")[0] for name in loaded - own}
    assert own <= OWN_LIGHT
    assert others <= sys.stdlib_module_names
    assert not others & COSTLY
    assert "importlib.metadata" not in loaded


def _body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of code of a function: its docstring and signature are a contract, not length."""
    body = node.body
    if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]
    if not body:
        return 0
    return (body[-1].end_lineno or 0) - body[0].lineno + 1


def _code_lines(path: Path) -> list[str]:
    """Lines with strings and comments taken out, so that prose may say 3600."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            for number in range(node.lineno - 1, node.end_lineno or node.lineno):
                lines[number] = ""
    return [line.partition("#")[0] for line in lines]
