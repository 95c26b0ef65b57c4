"""Which grid services there are, what opens each, and how one is made."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from stillwatt.clock import Clock
from stillwatt.errors import UnknownNameError, UsageError
from stillwatt.grids import electricitymaps, entsoe, ukcarbon, watttime
from stillwatt.grids.answers import AnswerStore
from stillwatt.grids.source import GridSource
from stillwatt.grids.web import Access, GridWeb
from stillwatt.records.factor import Factor
from stillwatt.records.grid import Signal


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service, before anything is asked of it."""

    name: str
    means: str
    signal: Signal
    url: str
    keys: tuple[str, ...]
    """Environment variables that hold its key; their values are read once and shown nowhere."""


SERVICES: Mapping[str, Service] = {
    service.name: service
    for service in (
        Service(
            name="electricitymaps",
            means="hourly life-cycle intensity of electricity consumed, most of the world",
            signal=Signal.AVERAGE,
            url=electricitymaps.URL,
            keys=(electricitymaps.KEY,),
        ),
        Service(
            name="entsoe",
            means="generation by source in Europe, made an intensity with this project's factors",
            signal=Signal.AVERAGE,
            url=entsoe.URL,
            keys=(entsoe.KEY,),
        ),
        Service(
            name="ukcarbon",
            means="half-hourly CO2 of generation in Great Britain and its regions",
            signal=Signal.AVERAGE,
            url=ukcarbon.URL,
            keys=(),
        ),
        Service(
            name="watttime",
            means="marginal intensity, five minutes by five; not an account's factor",
            signal=Signal.MARGINAL,
            url=watttime.URL,
            keys=(watttime.USER, watttime.PASSWORD),
        ),
    )
}


def find_service(name: str) -> Service:
    """The service of a name.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in SERVICES:
        raise UnknownNameError("grid source", name, SERVICES)
    return SERVICES[name]


def open_source(
    name: str,
    *,
    by_source: Mapping[str, Factor],
    store: AnswerStore | None = None,
    url: str = "",
    is_offline: bool = False,
    environment: Mapping[str, str] | None = None,
    clock: Clock | None = None,
    sleep: Callable[[float], None] = time.sleep,
    timeout_s: float = 30.0,
) -> GridSource:
    """A service, ready to be asked.

    Args:
        name: one of `SERVICES`.
        by_source: GWP of a kWh by source of electricity, for services that give generation.
        store: where answers are kept.
        url: another address of the same API, e.g. a proxy of your own.
        is_offline: answer from kept answers alone; no key is needed then.
        environment: where keys are; the process's own where None.
        clock: gives the time of answers.
        sleep: waits between tries.
        timeout_s: of each try.

    Raises:
        UnknownNameError: no such service.
        UsageError: a key is not set, or the address cannot be meant.
    """
    service = find_service(name)
    found = os.environ if environment is None else environment
    keys = tuple(found.get(key, "").strip() for key in service.keys)
    if odd := [
        key for key, value in zip(service.keys, keys, strict=True) if not (value.isascii() and value.isprintable())
    ]:
        raise UsageError(
            f"grid source {name!r}: {' and '.join(odd)} holds marks that no key has; set it anew, on one line"
        )
    unset = [key for key, value in zip(service.keys, keys, strict=True) if not value]
    if unset and not is_offline:
        raise UsageError(f"grid source {name!r} wants a key: set the environment variable {' and '.join(unset)}")
    cure = f"look at {' and '.join(service.keys)}" if service.keys else ""
    access = Access(cure=cure, secrets=keys[-1:])
    if name == electricitymaps.ElectricityMaps.name and keys[0]:
        access.headers["auth-token"] = keys[0]
    elif name == entsoe.EntsoE.name and keys[0]:
        access.query = (("securityToken", keys[0]),)
    web = GridWeb(
        name,
        url or service.url,
        access=access,
        store=store,
        is_offline=is_offline,
        clock=clock,
        sleep=sleep,
        timeout_s=timeout_s,
    )
    return _made(name, web, by_source, keys)


def _made(name: str, web: GridWeb, by_source: Mapping[str, Factor], keys: tuple[str, ...]) -> GridSource:
    if name == entsoe.EntsoE.name:
        return entsoe.EntsoE(web, by_source)
    if name == watttime.WattTime.name:
        return watttime.WattTime(web, user=keys[0], password=keys[1])
    if name == ukcarbon.UkCarbon.name:
        return ukcarbon.UkCarbon(web)
    return electricitymaps.ElectricityMaps(web)
