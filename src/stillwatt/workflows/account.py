"""Use case: from runs in the ledger to a life-cycle account, and from a report to the same account again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stillwatt.config.account_options import GivenDevice, Pretraining, Range, Serving
from stillwatt.errors import ConfigError, NoSuchInputError, ReportError, UnknownNameError, UsageError
from stillwatt.factors.catalog import Catalog, choose, choose_for_device
from stillwatt.factors.host import Host
from stillwatt.factors.making import Cell, make_factor
from stillwatt.factors.places import find_place
from stillwatt.impact.inputs import Inputs
from stillwatt.impact.site import site_at
from stillwatt.impact.stages import Mapper, without_makers
from stillwatt.impact.whole import assess
from stillwatt.records.factor import Choice, Place
from stillwatt.records.impact import LifeStage
from stillwatt.records.lifecycle import Found, Lack, TimeShare, Tried
from stillwatt.records.run import RunRecord
from stillwatt.workflows.account_downloads import downloads_of
from stillwatt.workflows.account_hardware import DRIVES, check_known, hardware_of, storage_of
from stillwatt.workflows.account_scenarios import counts_of, pretraining_use, scenario_of
from stillwatt.workflows.beside import counted_twice
from stillwatt.workflows.books import list_runs, show_run
from stillwatt.workflows.command_names import is_interpreter
from stillwatt.workflows.factors import open_catalog

GOAL = "Impacts of making, trying and serving students distilled from a teacher, over the eight stages of a life cycle."


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What an account is asked for."""

    region: str = ""
    provider: str = ""
    cloud_region: str = ""
    factor_files: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    student: str | None = None
    """The arm whose student is the product; what others alone needed was tried."""
    stages: Mapping[str, LifeStage] = field(default_factory=dict)
    devices: tuple[GivenDevice, ...] = ()
    machine: Host | None = None
    """What the user says of the hosts."""
    downloaded: tuple[tuple[str, float], ...] = ()
    stored: tuple[tuple[str, float], ...] = ()
    drive: str = "ssd"
    keep_days: float = 365.0
    lifetime: Range | None = None
    time_share: TimeShare = TimeShare.CALENDAR
    charge_idle: bool = False
    charge_hydro: bool = True
    pretraining: Pretraining | None = None
    serving: Serving | None = None
    request_tokens: float | None = None
    draws: int = 10_000
    seed: int = 0
    grid: str = ""
    """A live grid service for the runs' own hours, with its zone after a colon; empty asks nobody."""


def account(references: Sequence[str], wanted: Wanted, *, runs_dir: str | Path = "runs") -> dict[str, Any]:
    """The life-cycle report of some runs.

    Raises:
        RunNotFoundError: no such run.
        UnknownNameError: no such place, or no such arm.
        ConfigError: what was asked for cannot be meant.
    """
    from stillwatt.report.lifecycle import lifecycle_dict

    inputs = gather(references, wanted, runs_dir=runs_dir)
    return lifecycle_dict(inputs, assess(inputs))


def gather(references: Sequence[str], wanted: Wanted, *, runs_dir: str | Path = "runs") -> Inputs:
    """Everything that the account of some runs is computed from.

    Raises:
        UnknownNameError: a place, or a device that is named, is not known.
    """
    records = {record.run_id: record for record in (show_run(runs_dir, one) for one in references)}
    runs = [records[run_id] for run_id in sorted(records)]
    place = place_of(wanted)
    catalog = open_catalog(wanted.factor_files, wanted.overrides)
    check_known(wanted.devices, catalog)
    inputs = inputs_of(runs, wanted, catalog, place, Path(runs_dir))
    left = tuple(_left_aside(runs, runs_dir))
    inputs = replace(inputs, lacks=(*inputs.lacks, *left), tried=_tried(inputs, runs_dir))
    if not wanted.grid:
        return inputs
    from stillwatt.workflows.grids import site_by_the_hour

    return replace(inputs, site=site_by_the_hour(inputs.site, runs, wanted.grid))


def _left_aside(runs: Sequence[RunRecord], runs_dir: str | Path) -> Iterator[Lack]:
    """Other runs of these names in the ledger: what was tried before and failed, or was thrown away.

    Runs that are called after their interpreter share that name by chance, and are not looked for.
    """
    named, inside = {run.name for run in runs if not is_interpreter(run.name)}, {run.run_id for run in runs}
    others = sorted(line.run_id for line in list_runs(runs_dir) if line.name in named and line.run_id not in inside)
    if others:
        said = f"runs of the same name that are in the ledger and not in the account: {', '.join(others)}"
        yield Lack(stage=LifeStage.EXPERIMENTATION, reason=f"{said}; name them too")


def _tried(inputs: Inputs, runs_dir: str | Path) -> Tried:
    """Where attempts were looked for."""
    attempts = sum(use.stage is LifeStage.EXPERIMENTATION for use in inputs.uses)
    means = "runs of this ledger, by name; every stage of the runs of the account, failed and discarded ones too"
    return Tried(runs_looked_at=sum(1 for _ in list_runs(runs_dir)), attempts=attempts, means=means)


def inputs_of(runs: Sequence[RunRecord], wanted: Wanted, catalog: Catalog, place: Place, runs_dir: Path) -> Inputs:
    """The inventory of runs at a place."""
    year = min((int(run.start_utc[:4]) for run in runs if run.start_utc[:4].isdigit()), default=None)
    kept, has_scenario = _kept_arms(runs, wanted.student), wanted.serving is not None
    mappers = [Mapper(run, named=wanted.stages, kept=kept, has_scenario=has_scenario) for run in runs]
    uses = without_makers([use for mapper in mappers for use in mapper.uses()], runs)
    devices = hardware_of(runs, catalog, given=wanted.devices, time_share=wanted.time_share, machine=wanted.machine)
    stored = storage_of(runs, runs_dir, catalog, drive=wanted.drive, days=wanted.keep_days, given=wanted.stored)
    scenario = scenario_of(runs, wanted.serving, catalog, wanted.devices, kept, wanted.machine)
    fetched = downloads_of(runs, catalog, wanted.downloaded)
    made = pretraining_use(wanted.pretraining)
    twice = tuple(counted_twice(runs))
    return Inputs(
        uses=(*uses, *made.uses, *scenario.uses),
        site=site_at(catalog, place, charge_hydro=wanted.charge_hydro, year=year),
        shared=_shared(catalog, wanted, place),
        held=(*devices.held, *scenario.held),
        kept=stored.kept,
        moved=fetched.moved,
        lacks=(*devices.lacks, *stored.lacks, *fetched.lacks, *made.lacks, *scenario.lacks),
        counts=counts_of(runs, kept, wanted.serving, wanted.request_tokens, runs_dir),
        time_share=wanted.time_share,
        charge_idle=wanted.charge_idle,
        charge_hydro=wanted.charge_hydro,
        draws=wanted.draws,
        seed=wanted.seed,
        about={
            **_about(runs, wanted, mappers, (*made.assumptions, *scenario.assumptions, *twice)),
            **({"counted_twice": list(twice)} if twice else {}),
            **({"served": scenario.served.as_dict()} if scenario.served else {}),
        },
    )


def recompute(path: str | Path) -> tuple[str, str]:
    """The report's text computed anew from its own inputs, and the first place where it differs; empty where none.

    Raises:
        NoSuchInputError: there is no such file.
        ReportError: it does not hold what an account is computed from.
    """
    from stillwatt.report.data import report_json
    from stillwatt.report.lifecycle import lifecycle_dict
    from stillwatt.report.lifecycle_inputs import read_inputs

    text = read_text(path)
    data = parse_report(text, str(path))
    try:
        inputs = read_inputs(data)
        anew = lifecycle_dict(inputs, assess(inputs))
    except (LookupError, TypeError, ValueError, AttributeError, MemoryError) as err:
        raise ReportError(
            str(path), f"it does not hold what an account is computed from ({err!r}): `stillwatt validate` says more"
        ) from err
    again = report_json(anew)
    return again, "" if again == text else first_difference(data, anew) or "$ (the same values, written otherwise)"


def energy_is_whole(data: Mapping[str, Any]) -> bool:
    """Whether every energy of a report's inventory is known and complete."""
    return all(use["energy_j"].get("complete", False) for use in data["inventory"]["uses"])


def read_text(path: str | Path) -> str:
    """A report's text.

    Raises:
        NoSuchInputError: there is no such file.
        UsageError: it is a folder.
        ReportError: it is not UTF-8.
    """
    try:
        return Path(path).read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise NoSuchInputError(
            "report", str(path), "`stillwatt account RUN --region PLACE -o FILE` writes one"
        ) from None
    except IsADirectoryError:
        raise UsageError(f"{path} is a folder; name a report's file, such as {Path(path) / 'report.json'}") from None
    except UnicodeDecodeError as err:
        raise ReportError(str(path), f"it is not UTF-8 text ({err.reason})") from err


def parse_report(text: str, path: str) -> dict[str, Any]:
    """A report's JSON.

    Raises:
        ReportError: it is no JSON, or no object.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as err:
        raise ReportError(path, f"it is not JSON ({err})") from err
    if not isinstance(data, dict):
        raise ReportError(path, "it is not a JSON object")
    return data


def first_difference(one: Any, other: Any, path: str = "$") -> str:
    """Where two JSON values first differ; empty where they do not.

    >>> first_difference({"a": [1, 2]}, {"a": [1, 3]})
    '$.a[1]'
    """
    if isinstance(one, dict) and isinstance(other, dict):
        for key in [*one, *(key for key in other if key not in one)]:
            if key not in one or key not in other:
                return f"{path}.{key}"
            if found := first_difference(one[key], other[key], f"{path}.{key}"):
                return found
        return ""
    if isinstance(one, list) and isinstance(other, list):
        for number, (left, right) in enumerate(zip(one, other, strict=False)):
            if found := first_difference(left, right, f"{path}[{number}]"):
                return found
        return "" if len(one) == len(other) else f"{path}[{min(len(one), len(other))}]"
    return "" if one == other and type(one) is type(other) else path


def place_of(wanted: Wanted) -> Place:
    """The narrowest place that is named, with its provider.

    Raises:
        ConfigError: no place, or a provider that is none.
        UnknownNameError: a name that nothing has.
    """
    named = wanted.cloud_region or wanted.region or wanted.provider
    if not named:
        raise ConfigError("--region", "no place is named: give --region FRA or --cloud-region aws/us-east-1")
    place = find_place(named)
    if not wanted.provider:
        return place
    provider = find_place(wanted.provider)
    if provider.kind != "provider":
        raise ConfigError("--provider", f"{wanted.provider} is a {provider.kind}, not a provider")
    if place.provider and place.provider != provider.code:
        raise ConfigError("--provider", f"{place.name} is run by {place.provider}, not by {provider.code}")
    return replace(place, provider=provider.code)


def _kept_arms(runs: Sequence[RunRecord], student: str | None) -> frozenset[str] | None:
    """The arms whose students are the product: the one of that name, or all seeds of the recipe's arm of that name."""
    if student is None:
        return None
    marks = [stage.labels for run in runs for stage in run.stages if "arm" in stage.labels]
    arms = {labels["arm"] for labels in marks}
    if student in arms:
        return frozenset({student})
    of_seeds = frozenset(labels["arm"] for labels in marks if student == _without_seed(labels))
    if not of_seeds:
        raise UnknownNameError("arm", student, {*arms, *map(_without_seed, marks)}, place="--student")
    return of_seeds


def _without_seed(labels: Mapping[str, str]) -> str:
    """The arm of a study, whose trainings have their seed behind its name.

    >>> _without_seed({"arm": "small.kd.s2", "seed": "2"}), _without_seed({"arm": "kd", "seed": "2"})
    ('small.kd', 'kd')
    """
    return labels["arm"].removesuffix(f".s{labels['seed']}") if labels.get("seed") else labels["arm"]


def _shared(catalog: Catalog, wanted: Wanted, place: Place) -> dict[str, Found]:
    life = _lifetime(catalog, wanted, place)
    return {
        "lifetime": life,
        "storage_lifetime": life,
        "utilisation": _first(catalog, "utilisation", ("any", "bloom")),
        "building_gwp": choose_for_device(catalog, "building_gwp", "data centre"),
        "building_lifetime": _first(catalog, "lifetime", ("data centre", "data centre (CyrusOne)")),
        "recycling_rate": choose(catalog, "recycling_rate", place),
    }


def _lifetime(catalog: Catalog, wanted: Wanted, place: Place) -> Found:
    if wanted.lifetime is None:
        return _first(catalog, "lifetime", (*([place.provider] if place.provider else []), "any"))
    said: dict[str, Cell] = {
        "quantity": "lifetime",
        "where": "any",
        "unit": "years",
        "id": "user/lifetime@any",
        "value": wanted.lifetime.value,
        "low": wanted.lifetime.low,
        "high": wanted.lifetime.high,
        "source": "given by the user with --lifetime",
    }
    return Choice(factor=make_factor(said, origin="user --lifetime"))


def _first(catalog: Catalog, quantity: str, devices: Sequence[str]) -> Found:
    found = [choose_for_device(catalog, quantity, device) for device in devices]
    return next((one for one in found if isinstance(one, Choice)), found[-1])


def _about(
    runs: Sequence[RunRecord], wanted: Wanted, mappers: Sequence[Mapper], assumptions: Sequence[str]
) -> dict[str, Any]:
    from stillwatt import __version__

    return {
        "goal": GOAL,
        "made_by": {"name": "stillwatt", "version": __version__},
        "runs": [
            {
                "run_id": run.run_id,
                "name": run.name,
                "start_utc": run.start_utc,
                "status": run.status.value,
                "complete": run.complete,
                "settings_sha256": run.settings_sha256,
            }
            for run in runs
        ],
        "student": wanted.student,
        "booked": [
            {
                "run": run.run_id,
                "stage": booked.stage.name,
                "attempt": booked.stage.attempt,
                "booked_in": booked.life.value,
                "why": booked.why,
            }
            for run, mapper in zip(runs, mappers, strict=True)
            for booked in mapper.booked()
        ],
        "assumptions": [
            f"devices are charged by {wanted.time_share.value} time over their lifetime, the fleet's idle hours "
            f"{'charged' if wanted.charge_idle else 'not charged'} (method eq. 71)",
            f"what was stored is kept for {wanted.keep_days:g} days on {DRIVES[wanted.drive]}",
            f"what evaporates from reservoirs is {'charged' if wanted.charge_hydro else 'not charged'} to hydro power",
            *assumptions,
        ],
    }
