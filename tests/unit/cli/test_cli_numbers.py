"""Options that take a number take a finite one: NaN lies on neither side of an end, so a range lets it by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import click
import pytest
from click.testing import Result

from stillwatt.cli.main import cli
from stillwatt.cli.options import Number

Stillwatt = Callable[..., Result]


def numbers(
    command: click.Command, *names: str
) -> Iterator[tuple[tuple[str, ...], click.Option, click.ParamType[Any]]]:
    """Every option of a command and those below it that takes a number with a fraction; of a pair each one."""
    for option in command.params:
        for kind in option.type.types if isinstance(option.type, click.Tuple) else [option.type]:
            is_float = kind is click.FLOAT or isinstance(kind, click.FloatRange)
            if isinstance(option, click.Option) and is_float:
                yield names, option, kind
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from numbers(below, *names, name)


FOUND = list(numbers(cli))


def test_every_option_with_a_number_has_the_one_type() -> None:
    assert len(FOUND) > 15
    assert {" ".join(names) for names, *_ in FOUND} >= {"analyse", "rules test", "rules mine", "literature compare"}
    assert [(names, option.name) for names, option, kind in FOUND if not isinstance(kind, Number)] == []


@pytest.mark.parametrize("names", sorted({names for names, *_ in FOUND}), ids=" ".join)
def test_help_says_no_end_that_there_is_not(stillwatt: Stillwatt, names: tuple[str, ...]) -> None:
    assert "None" not in stillwatt(*names, "--help").stdout


def test_a_least_quality_below_nothing_is_refused(stillwatt: Stillwatt) -> None:
    done = stillwatt("advise", "--budget", "1 kWh", "--quality", "-1")
    assert done.exit_code == 2
    assert "--quality" in done.stderr


@pytest.mark.parametrize("said", ["nan", "inf", "-inf", "NaN"])
@pytest.mark.parametrize(
    ("names", "option"),
    [pytest.param(names, option, id=f"{'-'.join(names)}{option.opts[0]}") for names, option, _ in FOUND],
)
def test_no_option_takes_what_is_not_finite(
    stillwatt: Stillwatt, names: tuple[str, ...], option: click.Option, said: str
) -> None:
    done = stillwatt(*names, f"{option.opts[0]}={said}", *[said] * (option.nargs - 1), *["x"] * (names == ("measure",)))
    assert done.exit_code == 2
    assert "not a finite number" in done.stderr or "is not in the range" in done.stderr


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("nan", "nan is not a finite number"),
        ("-1", "-1.0 is not in the range x>=0.0"),
        ("x", "'x' is not a valid float"),
    ],
)
def test_a_number_says_why_it_is_none(said: str, why: str) -> None:
    with pytest.raises(click.BadParameter, match=why):
        Number(min=0.0).convert(said, None, None)
    assert Number(min=0.0).convert("1.5", None, None) == 1.5
