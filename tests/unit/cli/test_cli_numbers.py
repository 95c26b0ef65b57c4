"""Numbers on the command line are numbers: `nan` lies within any bounds as click compares, and decides nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
import pytest
from click.testing import CliRunner
from click.types import FloatParamType

from stillwatt.cli.main import cli
from stillwatt.cli.options import Number, NumberRange


def commands(group: click.Group, *names: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        yield (*names, name), command
        if isinstance(command, click.Group):
            yield from commands(command, *names, name)


def parts(kind: click.ParamType[Any]) -> tuple[click.ParamType[Any], ...]:
    return tuple(kind.types) if isinstance(kind, click.Tuple) else (kind,)


NUMBERS = [
    (" ".join(names), parameter.name, kind)
    for names, command in commands(cli)
    for parameter in command.params
    for kind in parts(parameter.type)
    if isinstance(kind, FloatParamType)
]


def test_there_are_numbers_to_look_at() -> None:
    assert len(NUMBERS) > 10


@pytest.mark.parametrize(("command", "name", "kind"), NUMBERS, ids=[f"{c} {n}" for c, n, _ in NUMBERS])
def test_every_number_of_every_command_is_finite(command: str, name: str, kind: click.ParamType[Any]) -> None:
    assert isinstance(kind, Number | NumberRange), f"{command} {name}: take the types of stillwatt.cli.options"
    for text in ("nan", "inf", "-inf", "1e999"):
        with pytest.raises(click.BadParameter):
            kind.convert(text, None, None)


@pytest.mark.parametrize(
    "arguments",
    [
        ("rules", "test", "--table", "paper", "--kgco2e-per-kwh", "nan"),
        ("rules", "mine", "--table", "paper", "--rate", "nan"),
        ("analyse", "--table", "paper", "--pue", "inf"),
    ],
    ids=" ".join,
)
def test_misuse_is_told_with_the_option(arguments: tuple[str, ...]) -> None:
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 2
    assert f"'{arguments[-2]}'" in done.stderr
    assert "is not a number that can be reckoned with" in done.stderr
