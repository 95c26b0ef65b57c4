"""A user's own factors: a TOML or CSV file, or `quantity@place=VALUE unit` on the command line, to checked factors.

Every error names the file, the line and the next step. What is read here is still tested for what is physically
possible when the catalogue is built.
"""

from __future__ import annotations

import csv
import io
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stillwatt.config.lines import key_lines, line_of
from stillwatt.errors import ConfigError, StillwattError, suggest
from stillwatt.factors.devices import device_code
from stillwatt.factors.making import make_factor
from stillwatt.factors.places import find_place
from stillwatt.factors.quantities import QUANTITIES
from stillwatt.factors.sanity import check_factor, vendor_footprints
from stillwatt.factors.tables import shipped_factors
from stillwatt.records.factor import Factor

_OVERRIDE = re.compile(
    r"(?P<quantity>[\w-]+)@(?P<where>[^=]+)=\s*(?P<value>[-+.\d][-+.\deE]*)\s*(?P<unit>[^\s:]*)(?::(?P<water>\w+))?"
)
_NUMBERS = ("value", "low", "high", "year")
_NEXT = "docs/reference/factors.md says what a row holds"


class FactorRow(BaseModel):
    """One factor of a factor file."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    quantity: str = Field(description="One of the quantities of docs/reference/factors.md.")
    where: str = Field(description="A place, provider, device or technology, by any usual name.")
    value: float | None = Field(default=None, description="The figure; may be left out where low and high are given.")
    low: float | None = Field(default=None, description="Lower end of its 90 % interval.")
    high: float | None = Field(default=None, description="Upper end of its 90 % interval.")
    distribution: Literal["", "exact", "lognormal", "normal", "triangular", "uniform"] = Field(
        default="", description="What low and high mean (docs/method.md, eq. 61)."
    )
    unit: str = Field(description="The unit of the figure; it is converted.")
    year: Annotated[int, Field(ge=1990, le=2100)] = Field(description="The year that the figure is for.")
    boundary: str = Field(default="", description="What the figure covers.")
    water: Literal["", "consumption", "withdrawal", "aware", "unstated"] = Field(
        default="", description="Which water it counts."
    )
    source: Annotated[str, Field(min_length=1)] = Field(description="Where the figure can be looked up.")
    source_url: str = Field(default="", description="The source's address.")
    licence: str = Field(default="", description="Under which the figure may be passed on.")
    verified: bool = Field(default=False, description="Whether you have read the figure in that source yourself.")
    note: str = Field(default="", description="Anything that must be known.")


class FactorFile(BaseModel):
    """A factor file in TOML: `[[factor]]` tables."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    factor: tuple[FactorRow, ...] = Field(min_length=1, description="The factors.")


def schema_text() -> str:
    """JSON Schema of a factor file."""
    return json.dumps(FactorFile.model_json_schema(), indent=2, ensure_ascii=False) + "\n"


def load_factors(path: str | Path) -> tuple[Factor, ...]:
    """Every factor of a file.

    Args:
        path: a `.toml` with `[[factor]]` tables, or a `.csv` with the same names as columns.

    Raises:
        ConfigError: the file cannot be read or says something that cannot be meant, with the line.
    """
    path = Path(path)
    readers = {".toml": _toml_rows, ".csv": _csv_rows}
    if path.suffix.casefold() not in readers:
        raise ConfigError(str(path), "a factor file ends in .toml or .csv")
    try:
        text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except FileNotFoundError:
        raise ConfigError(str(path), f"no such file; {_NEXT}") from None
    except UnicodeDecodeError as err:
        raise ConfigError(str(path), f"is not UTF-8 text (byte {err.start})") from err
    except OSError as err:
        raise ConfigError(str(path), f"cannot be read: {err.strerror}") from err
    made = [_factor(str(path), line, said) for line, said in readers[path.suffix.casefold()](str(path), text)]
    if not made:
        raise ConfigError(str(path), f"has no factor; {_NEXT}")
    _no_twins(str(path), made)
    return tuple(made)


def parse_override(text: str) -> Factor:
    """One factor from the command line.

    A colon and a kind of water may follow: `wue@aws=0.3L/kWh:consumption`.

    Raises:
        ConfigError: it is not `quantity@place=VALUE unit`, or cannot be meant.

    >>> parse_override("pue@world=1.3").value
    1.3
    """
    match = _OVERRIDE.fullmatch(text.strip())
    if match is None:
        raise ConfigError(
            "--factor", f"{text!r} is not quantity@place=VALUE unit, as in grid_gwp_location@FRA=56gCO2e/kWh"
        )
    said: dict[str, Any] = match.groupdict()
    quantity = QUANTITIES.get(said["quantity"])
    if quantity is not None and not said["unit"]:
        said["unit"] = quantity.unit
    said["source"] = "given on the command line"
    return _make("--factor", None, said)


def _factor(path: str, line: int | None, said: Mapping[str, Any]) -> Factor:
    try:
        row = FactorRow.model_validate(said)
    except ValidationError as err:
        raise ConfigError(path, "; ".join(_messages(err)), line=line) from err
    return _make(path, line, row.model_dump())


def _make(path: str, line: int | None, said: Mapping[str, Any]) -> Factor:
    place = path if line is None else f"{path}:{line}"
    try:
        where = _where(str(said["quantity"]), str(said["where"]).strip())
        origin = f"user, {place.removeprefix(f'{Path(path).parent}/')}"  # a report that is passed on names no folder
        factor = make_factor({**said, "where": where, "id": f"user/{said['quantity']}/{where}"}, origin=origin)
    except StillwattError as err:
        raise ConfigError(path, str(err), line=line) from err
    for fault in check_factor(factor, vendor_footprints(shipped_factors())):
        if fault.severity == "fault":
            raise ConfigError(path, f"{factor.quantity} of {factor.where}: {fault.message}", line=line)
    return factor


def _where(quantity: str, name: str) -> str:
    """The code of what a name means for this quantity; technologies are called as they are written."""
    known = QUANTITIES.get(quantity)
    if known is None or known.of == "technology":
        return name
    return device_code(name) if known.of == "device" else find_place(name).code


def _toml_rows(path: str, text: str) -> Iterator[tuple[int | None, Mapping[str, Any]]]:
    try:
        said = tomllib.loads(text)
    except tomllib.TOMLDecodeError as err:
        found = re.search(r"\(at line (\d+)", str(err))
        line = int(found[1]) if found else max(1, len(text.splitlines()))
        raise ConfigError(path, f"not valid TOML: {re.sub(r' [(]at .*[)]$', '', str(err))}", line=line) from err
    lines = key_lines(text)
    for key in said:
        if key != "factor":
            raise ConfigError(
                path, f"unknown key {key!r}; factors stand in [[factor]] tables", line=line_of((key,), lines)
            )
    tables = said.get("factor", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ConfigError(path, "factors stand in [[factor]] tables", line=line_of(("factor",), lines))
    for number, table in enumerate(tables):
        yield line_of(("factor", number), lines), table


def _csv_rows(path: str, text: str) -> Iterator[tuple[int | None, Mapping[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text), restkey="", strict=True)
    for name in reader.fieldnames or ():
        if name not in FactorRow.model_fields:
            near = suggest(name, FactorRow.model_fields)
            hint = f"did you mean {near!r}?" if near else f"known: {', '.join(FactorRow.model_fields)}"
            raise ConfigError(path, f"unknown column {name!r}; {hint}", line=1)
    try:
        for row in reader:
            if row.get(""):
                raise ConfigError(path, "more cells than the header has names", line=reader.line_num)
            yield reader.line_num, {key: cell.strip() for key, cell in row.items() if cell and cell.strip()}
    except csv.Error as err:
        raise ConfigError(path, f"cannot be read: {err}", line=reader.reader.line_num) from err


def _messages(err: ValidationError) -> Iterator[str]:
    for detail in err.errors(include_url=False):
        key = str(detail["loc"][0]) if detail["loc"] else "row"
        if detail["type"] == "missing":
            yield f"no {key}; {FactorRow.model_fields[key].description}"
        elif detail["type"] == "extra_forbidden":
            near = suggest(key, FactorRow.model_fields)
            yield f"unknown key {key!r}; " + (f"did you mean {near!r}?" if near else _NEXT)
        else:
            yield f"{key}: {detail['msg']}; it is {detail['input']!r}"


def _no_twins(path: str, made: list[Factor]) -> None:
    seen: dict[str, Factor] = {}
    for factor in made:
        first = seen.setdefault(factor.id, factor)
        if first is not factor:
            raise ConfigError(
                path,
                f"{factor.quantity} of {factor.where} stands there twice ({first.origin}; {factor.origin}); keep one",
            )
