"""A recipe file and overrides to a checked `Recipe`; every error says which line, and what was probably meant."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from stillwatt.config.bundled import find_recipe
from stillwatt.config.lines import Place, key_lines, line_of
from stillwatt.config.model_files import model_problems
from stillwatt.config.models import Recipe
from stillwatt.config.overrides import Override, apply_override
from stillwatt.config.shape import dotted, known_keys, table_name
from stillwatt.config.teachers import MAY_HOLD_KEYS
from stillwatt.config.text_files import look_into
from stillwatt.config.tomlvalue import toml_value
from stillwatt.errors import ConfigError, suggest

_AT_LINE = re.compile(r" \(at line (\d+), column (\d+)\)$")
_WORDS = (
    ("Input should be an object", "should be a table"),
    ("Input should be a valid dictionary or instance of", "should be a table:"),
    ("Input should be a valid tuple", "should be an array"),
    ("Input should be a valid array", "should be an array"),
    ("Tuple should have", "should have"),
    (" after validation", ""),
    ("Input should be a valid integer", "should be a whole number"),
    ("Input should be a finite number", "should be a finite number"),
    ("Input should be a valid", "should be a"),
    ("Input should be", "should be"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fault:
    """One thing wrong, with where it was written."""

    origin: str
    line: int | None
    message: str

    def text(self) -> str:
        return f"{self.origin}{'' if self.line is None else f':{self.line}'}: {self.message}"


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read, change and check a recipe.

    Args:
        path: a TOML file.
        overrides: changes of the form `train.seeds=[1,2]`, later ones winning.

    Raises:
        ConfigError: the file cannot be read, is not TOML, or says something that cannot be meant; the message lists
            everything that is wrong, and `line` is the line of the first.
    """
    text = _read(Path(path))
    return _checked(path, text, _parse(str(path), text), overrides)


def check_recipe(path: str | Path, overrides: Sequence[str] = ()) -> tuple[Recipe, tuple[str, ...]]:
    """Read a recipe as `load_recipe` does, and look into the files of text and models that it names and that are here.

    Returns:
        The recipe, and what is to be known of those files though nothing is wrong.

    Raises:
        ConfigError: as `load_recipe`, or a file's rows are not as they should be, or too few for the budget, or the
            models' configurations rule out what is asked of them.
    """
    recipe = load_recipe(path, overrides)
    spec = recipe.to_spec()
    found = look_into(spec)
    problems = [*found.problems, *model_problems(spec)]
    if problems:
        lines, settings = key_lines(_read(Path(path))), _parse(str(path), _read(Path(path)))
        changes = [apply_override(settings, override) for override in overrides]
        _raise(
            _placed(each.place, f"{dotted(each.place)}: {each.message}", str(path), lines, changes) for each in problems
        )
    return recipe, found.cautions


def sweep_recipe(path: Path, overrides: Sequence[str] = ()) -> tuple[Path, Recipe]:
    """Read a recipe with its table `[sweep]`, or a file with that table alone that names its recipe.

    Returns:
        The recipe's own file, and the recipe with the table.

    Raises:
        ConfigError: as `load_recipe`.
        UnknownNameError: the file names a recipe that does not exist.
    """
    text = _read(path)
    settings = _parse(str(path), text)
    named = settings["sweep"].get("recipe") if isinstance(settings.get("sweep"), dict) else None
    if set(settings) != {"sweep"} or not isinstance(named, str):
        return path, _checked(path, text, settings, overrides)
    beside = path.parent / named
    base = beside if beside.is_file() else find_recipe(named)
    load_recipe(base, overrides)  # what is wrong there is said of that file
    return base, _checked(path, text, {**_parse(str(base), _read(base)), **settings}, overrides)


def _checked(path: str | Path, text: str, settings: dict[str, Any], overrides: Sequence[str]) -> Recipe:
    changes = [apply_override(settings, override) for override in overrides]
    try:
        document = json.dumps(settings, allow_nan=True)
    except TypeError as err:
        raise ConfigError(str(path), "dates and times have no meaning in a recipe; write them as text") from err
    try:
        return Recipe.model_validate_json(document)
    except ValidationError as err:
        faults = tuple(_faults(err, str(path), key_lines(text), changes))
    _raise(faults)


def _raise(faults: Iterable[_Fault]) -> NoReturn:
    first, *others = sorted(faults, key=lambda fault: fault.line or 0)
    message = "\n".join([first.message, *(fault.text() for fault in others)])
    raise ConfigError(first.origin, message, line=first.line)


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except FileNotFoundError:
        raise ConfigError(
            str(path), "no such file; `stillwatt recipe list` shows the recipes that come along"
        ) from None
    except UnicodeDecodeError as err:
        raise ConfigError(str(path), f"is not UTF-8 text (byte {err.start})") from err
    except OSError as err:
        raise ConfigError(str(path), f"cannot be read: {err.strerror}") from err


def _parse(path: str, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as err:
        message = str(err)
        found = _AT_LINE.search(message)
        line = int(found.group(1)) if found else max(1, len(text.splitlines()))
        raise ConfigError(path, f"not valid TOML: {_AT_LINE.sub('', message)}", line=line) from err
    except (ValueError, RecursionError) as err:  # a number of thousands of digits, brackets by the thousand
        raise ConfigError(path, f"TOML that cannot be read: {err}") from err


def _faults(err: ValidationError, path: str, lines: dict[Place, int], changes: Sequence[Override]) -> Iterator[_Fault]:
    for detail in err.errors(include_url=False):
        if detail["type"] == "rules":
            for problem in detail["ctx"]["problems"]:
                yield _placed(problem.place, f"{dotted(problem.place)}: {problem.message}", path, lines, changes)
        else:
            yield _placed(detail["loc"], _message(detail), path, lines, changes)


def _placed(place: Place, message: str, path: str, lines: dict[Place, int], changes: Sequence[Override]) -> _Fault:
    for change in reversed(changes):
        # the override wrote the key itself, or what it is in, or something in a table that the file does not have
        is_inside = place[: len(change.place)] == change.place
        if is_inside or (place not in lines and place and change.place[: len(place)] == place):
            return _Fault(origin=change.origin, line=None, message=message)
    return _Fault(origin=path, line=line_of(place, lines), message=message)


def _message(detail: ErrorDetails) -> str:
    place, kind = detail["loc"], detail["type"]
    if kind == "extra_forbidden":
        known = known_keys(place[:-1])
        near = suggest(str(place[-1]), known)
        hint = f"did you mean {near!r}?" if near else f"known: {', '.join(known)}"
        return f"unknown key {str(place[-1])!r} in {table_name(place[:-1])}; {hint}"
    if kind == "missing":
        return f"{table_name(place[:-1])} needs {_needed(place)}"
    text = detail["msg"]
    for pydantic_words, ours in _WORDS:
        text = text.replace(pydantic_words, ours)
    if kind in MAY_HOLD_KEYS:
        return f"{dotted(place)}: {text}"
    return f"{dotted(place)}: {text}{_meant(detail)}; it is {toml_value(detail['input'])}"


def _needed(place: Place) -> str:
    """A missing key by name, and as a table where it is one."""
    if known_keys(place):
        return f"the table [{dotted(place)}]"
    if known_keys((*place, 0)):
        return f"at least one table [[{dotted(place)}]]"
    return f"the key {str(place[-1])!r}"


def _meant(detail: ErrorDetails) -> str:
    """A "did you mean" for a value that must be one of a few."""
    context: Mapping[str, Any] = detail.get("ctx") or {}
    given = detail["input"]
    if detail["type"] not in ("literal_error", "enum") or not isinstance(given, str):
        return ""
    near = suggest(given, re.findall(r"'([^']*)'", str(context.get("expected", ""))))
    return f" (did you mean {near!r}?)" if near else ""
