"""The interface is frozen in a golden file and every word of it is explained on the page."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from stillwatt.cli.main import cli
from stillwatt.cli.reference import commands, option_list, reference_markdown

ROOT = Path(__file__).resolve().parents[3]
HOW = "run: python -m stillwatt.cli.reference docs/reference/cli.md tests/golden/cli_help.txt, and read the diff"
COMMANDS = dict(commands())


def test_the_options_are_those_of_the_golden_file() -> None:
    assert (ROOT / "tests" / "golden" / "cli_help.txt").read_text(encoding="utf-8") == option_list(), HOW


def test_the_page_is_current() -> None:
    assert (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8") == reference_markdown(), HOW


@pytest.mark.parametrize("path", sorted(COMMANDS))
def test_every_command_and_option_is_explained(path: str) -> None:
    command = COMMANDS[path]
    assert command.help
    assert all(option.help for option in command.params if isinstance(option, click.Option))
    assert f"## `{path}`" in reference_markdown()


def test_writing_the_page_leaves_the_commands_as_they_were() -> None:
    reference_markdown()
    assert CliRunner().invoke(cli, ["-h"]).stdout.startswith("Usage:")


@pytest.mark.parametrize("path", sorted(COMMANDS))
def test_every_answer_can_be_had_as_json(path: str) -> None:
    command = COMMANDS[path]
    if isinstance(command, click.Group) or path == "stillwatt recipe schema":
        return
    assert "--json" in [spelling for parameter in command.params for spelling in parameter.opts]
