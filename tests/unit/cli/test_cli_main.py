"""Errors are one sentence and an exit status; help is light; output fits any terminal."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from stillwatt import __version__
from stillwatt.cli.main import Verbs, cli
from stillwatt.cli.reference import commands
from stillwatt.cli.screen import columns, show_meter_warnings_plainly
from stillwatt.errors import (
    AmbiguousRunError,
    ConfigError,
    IncompleteEnergyError,
    MissingExtraError,
    MissingInputError,
    StillwattError,
)
from stillwatt.metering.meter import MeterWarning

Stillwatt = Callable[..., Result]


def _failing(error: BaseException) -> click.Group:
    group = Verbs("stillwatt", params=[click.Option(["--debug"], is_flag=True)], callback=lambda debug: None)

    @group.command()
    def work() -> None:
        raise error

    return group


def test_an_interrupt_while_the_command_is_loaded_ends_it_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n", encoding="utf-8")
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    ask = [sys.executable, "-m", "stillwatt", "--version"]
    ended = subprocess.run(ask, capture_output=True, check=False, timeout=60, env={**os.environ, "PYTHONPATH": paths})
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, b"", b"")


def test_the_console_script_is_what_hears_that_interrupt() -> None:
    with (Path(__file__).parents[3] / "pyproject.toml").open("rb") as stream:
        assert tomllib.load(stream)["project"]["scripts"] == {"stillwatt": "stillwatt.__main__:main"}


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (StillwattError("it broke"), 1, "error: it broke\n"),
        (MissingInputError("the model", "/m", "get it"), 1, "error: the model not found at /m; get it\n"),
        (
            MissingExtraError("torch", "distill"),
            1,
            "error: torch is not installed; run: pip install 'stillwatt[distill]'\n",
        ),
        (ConfigError("r.toml", "no", line=3), 2, "error: r.toml:3: no\n"),
        (AmbiguousRunError("2", ["20", "21"]), 2, "error: '2' fits 2 runs: 20, 21; give more of the id\n"),
        (PermissionError(errno.EACCES, "Permission denied", "/runs"), 1, "error: Permission denied: /runs\n"),
        (OSError("odd"), 1, "error: odd\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_an_error_is_a_sentence_on_stderr_and_a_status(error: BaseException, status: int, message: str) -> None:
    result = CliRunner().invoke(_failing(error), ["work"])
    assert (result.exit_code, result.stdout, result.stderr) == (status, "", message)


def test_an_incomplete_energy_has_a_status_of_its_own() -> None:
    assert CliRunner().invoke(_failing(IncompleteEnergyError("s", ["gpu0"])), ["work"]).exit_code == 3


def test_debug_shows_the_error_itself() -> None:
    error = StillwattError("it broke")
    result = CliRunner().invoke(_failing(error), ["--debug", "work"])
    assert result.exception is error


def test_a_bug_is_not_dressed_up() -> None:
    result = CliRunner().invoke(_failing(ZeroDivisionError()), ["work"])
    assert isinstance(result.exception, ZeroDivisionError)


def test_a_reader_who_leaves_ends_it_quietly() -> None:
    result = CliRunner().invoke(_failing(BrokenPipeError(errno.EPIPE, "Broken pipe")), ["work"])
    assert (result.exit_code, result.stderr) == (1, "")


def test_version_and_help(stillwatt: Stillwatt) -> None:
    assert stillwatt("--version").stdout == f"stillwatt {__version__}\n"
    for path, _ in commands():
        words = path.split()[1:]
        assert stillwatt(*words, "-h").stdout == stillwatt(*words, "--help").stdout != ""
    assert all(
        verb in stillwatt("--help").stdout for verb in ("doctor", "ledger", "measure", "recipe", "report", "run")
    )


@pytest.mark.parametrize("arguments", [("mesure",), ("run",), ("ledger", "show"), ("--what",), ("recipe", "check")])
def test_misuse_exits_with_2(arguments: tuple[str, ...], stillwatt: Stillwatt) -> None:
    result = stillwatt(*arguments)
    assert result.exit_code == 2
    assert "Usage:" in result.stderr
    assert result.stdout == ""


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from stillwatt.cli.main import cli\n"
        "for words in ([], ['measure'], ['run'], ['recipe'], ['recipe', 'check'], ['ledger', 'show']):\n"
        "    try: cli([*words, '--help'])\n"
        "    except SystemExit: pass\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    heavy = {"torch", "transformers", "pyarrow", "numpy", "pydantic", "rich", "msgspec", "sqlite3", "jinja2", "psutil"}
    assert not heavy & set(done.stderr.split())


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_that_cannot_show_a_character_still_gets_an_answer(encoding: str) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "stillwatt", "run", "no-such-recipe-\u2603"],
        capture_output=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: unknown recipe 'no-such-recipe-")


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "stillwatt", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"stillwatt {__version__}\n"


def test_the_console_script_is_the_command(tmp_path: Path) -> None:
    script = Path(sys.executable).parent / "stillwatt"
    if not script.exists():
        pytest.skip("not installed with its console script")
    done = subprocess.run(
        [script, "recipe", "check", "nothing.toml"], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: nothing.toml: no such file")
    assert "Traceback" not in done.stderr


def test_the_meters_warnings_are_one_line_and_others_as_ever(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    others: list[str] = []
    monkeypatch.setattr(warnings, "showwarning", lambda message, *rest: others.append(str(message)))
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        show_meter_warnings_plainly()
        warnings.warn("the journal is gone", MeterWarning, stacklevel=1)
        warnings.warn("something else", UserWarning, stacklevel=1)
    assert capsys.readouterr().err == "stillwatt: the journal is gone\n"
    assert others == ["something else"]


def test_columns_line_up() -> None:
    lines = columns([["a", "bb", "c"], ["aaaa", "b", ""]])
    assert lines == ["a     bb  c", "aaaa  b"]
    assert columns([]) == []


def test_every_verb_is_one_of_the_rooms_commands() -> None:
    assert sorted(cli.commands) == [
        "account",
        "advise",
        "analyse",
        "cache",
        "doctor",
        "export",
        "factors",
        "figures",
        "import",
        "ledger",
        "literature",
        "measure",
        "plan",
        "recipe",
        "report",
        "rules",
        "run",
        "serve-metrics",
        "sweep",
        "validate",
    ]


@pytest.mark.parametrize(
    ("asked", "kind", "status"),
    [
        (("ledger", "show", "nobody", "--runs", "gone", "--json"), "RunNotFoundError", 2),
        (("ledger", "show", "--json"), "UsageError", 2),
        (("ledger", "frobnicate", "--json"), "UsageError", 2),
        (("recipe", "check", "--json", "nosuch"), "UnknownNameError", 2),
        (("advise", "--budget", "5", "--json"), "UsageError", 2),
        (("validate", "gone.json", "--json"), "NoSuchInputError", 2),
    ],
)
def test_where_json_is_asked_for_an_error_is_json_too(
    asked: tuple[str, ...], kind: str, status: int, stillwatt: Stillwatt
) -> None:
    result = stillwatt(*asked)
    error = json.loads(result.stdout)["error"]
    assert (error["kind"], error["exit_status"], result.exit_code) == (kind, status, status)
    assert error["message"] in result.stderr
    assert not error["message"].startswith("error")


@pytest.mark.parametrize(
    "asked", [("measure", "--json", "--period-ms", "0", "--", "true"), ("ledger", "show", "--", "--json")]
)
def test_what_is_no_wish_for_json_leaves_stdout_empty(asked: tuple[str, ...], stillwatt: Stillwatt) -> None:
    result = stillwatt(*asked)
    assert (result.exit_code, result.stdout) == (2, "")


def test_an_interrupt_is_json_and_says_what_comes_next() -> None:
    found = CliRunner().invoke(_failing(KeyboardInterrupt("interrupted: go on")), ["work", "--json"])
    assert found.exit_code == 2  # the command has no such option
    group = _failing(KeyboardInterrupt("interrupted: go on"))
    group.commands["work"].params.append(click.Option(["--json", "as_json"], is_flag=True, expose_value=False))
    found = CliRunner().invoke(group, ["work", "--json"])
    assert json.loads(found.stdout)["error"]["message"] == "interrupted: go on"
    assert (found.exit_code, found.stderr) == (130, "interrupted: go on\n")
