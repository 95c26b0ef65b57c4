"""The words of the corpus: stages, metrics and functional units, with what each means and whose definition it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from stillwatt.records.impact import LifeStage
from stillwatt.records.literature import Counts, Reach


@dataclass(frozen=True, slots=True, kw_only=True)
class StageMeaning:
    """A life-cycle stage: the review's name, and where it begins and ends, which is ours."""

    stage: LifeStage
    name: str
    """As the review (arXiv 2605.05416) calls it."""
    ours: str
    """This project's working definition: the review's own was not to hand when the corpus was coded."""


_MEANINGS = (
    (LifeStage.HARDWARE, "hardware manufacturing", "raw materials to finished accelerators and servers, and their way"),
    (LifeStage.INFRASTRUCTURE, "infrastructure construction", "buildings, power, cooling, network plant"),
    (LifeStage.DATA, "data gathering and preprocessing", "crawling, keeping, cleaning, tokenising, synthetic text"),
    (LifeStage.EXPERIMENTATION, "model experimentation", "ablations, sweeps, failed runs, pilot models"),
    (LifeStage.TRAINING, "training", "the final run of pre-training"),
    (
        LifeStage.POST_TRAINING,
        "post-training adaptation",
        "fine-tuning, distillation with its teacher's work, preference learning, quantisation",
    ),
    (LifeStage.DEPLOYMENT, "deployment, inference", "serving, with idle capacity and overhead"),
    (LifeStage.END_OF_LIFE, "end-of-life", "reuse, recycling and disposal of hardware"),
)
STAGES: Mapping[LifeStage, StageMeaning] = {
    stage: StageMeaning(stage=stage, name=name, ours=ours) for stage, name, ours in _MEANINGS
}
_LONG_NAMES = {
    "data_gathering_preprocessing": LifeStage.DATA,
    "model_experimentation": LifeStage.EXPERIMENTATION,
    "post_training_adaptation": LifeStage.POST_TRAINING,
    "deployment_inference": LifeStage.DEPLOYMENT,
    "hardware": LifeStage.HARDWARE,
    "infrastructure": LifeStage.INFRASTRUCTURE,
    "inference": LifeStage.DEPLOYMENT,
}
STAGE_NAMES: Mapping[str, LifeStage] = {**{stage.value: stage for stage in LifeStage}, **_LONG_NAMES}
"""Every way in which a stage may be written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What a published figure is a figure of."""

    name: str
    title: str
    dimension: str
    """Of `stillwatt.units.SCALES`; empty where it may be any."""
    is_coded: bool = False
    """Whether works are coded by it, so that it is a row of the coverage map."""
    has_reach: bool = False
    """Whether a figure must say how far it reaches."""
    counts: tuple[Counts, ...] = ()
    """Kinds that must be told apart, where there are any."""


_CARBON = (Counts.LOCATION, Counts.MARKET, Counts.NET, Counts.UNSTATED)
_WATER = (Counts.ONSITE, Counts.OFFSITE, Counts.ONSITE_OFFSITE, Counts.UNSTATED)
_CODED = (
    Metric(name="energy", title="energy", dimension="energy", is_coded=True, has_reach=True),
    Metric(name="co2e", title="CO2e", dimension="mass", is_coded=True, has_reach=True, counts=_CARBON),
    Metric(name="water", title="water", dimension="volume", is_coded=True, has_reach=True, counts=_WATER),
    Metric(name="adpe", title="ADPe", dimension="depletion of elements", is_coded=True, has_reach=True),
    Metric(name="primary_energy", title="primary energy", dimension="energy", is_coded=True, has_reach=True),
    Metric(name="ewaste", title="e-waste", dimension="mass", is_coded=True),
    Metric(name="accelerator_hours", title="accelerator hours", dimension="accelerator time", is_coded=True),
    Metric(name="compute", title="computing", dimension="computing", is_coded=True),
    Metric(name="cost", title="cost", dimension="money", is_coded=True),
    Metric(name="other", title="other", dimension="", is_coded=True),
)
_RATIOS = (
    *("adpe_share", "co2e_ratio", "co2e_share", "compute_ratio", "compute_share", "disclosure_share", "duty_cycle"),
    *("energy_increase", "energy_ratio", "energy_reduction", "energy_share", "eutroph_share", "ewaste_reduction"),
    *("htc_share", "method_error", "power_growth", "power_share", "water_ratio", "water_share"),
)
_BESIDE = {
    "co2e_intensity": "mass",
    "co2e_reduction": "",
    "grid_factor": "mass",
    "mass": "mass",
    "nox": "mass",
    "pm25": "mass",
    "so2": "mass",
    "water_factor": "volume",
    "water_capacity": "volume",
    "primary_energy_fossil": "energy",
    "water_withdrawal": "volume",
    "count": "number",
    "deaths": "number",
    "hardware_units": "number",
    "inferences": "number",
    "tokens": "number",
    "health_cost": "money",
    "power": "power",
    "land": "area",
}
_REACHING = frozenset({"primary_energy_fossil", "water_withdrawal"})
METRICS: Mapping[str, Metric] = {
    **{metric.name: metric for metric in _CODED},
    **{name: Metric(name=name, title=name.replace("_", " "), dimension="ratio") for name in _RATIOS},
    **{
        name: Metric(name=name, title=name.replace("_", " "), dimension=dimension, has_reach=name in _REACHING)
        for name, dimension in sorted(_BESIDE.items())
    },
}
"""Every metric by name."""
CODED_METRICS = tuple(metric.name for metric in _CODED)
"""The rows of the map of metrics."""

OPERATION = (
    Reach.BOARD,
    Reach.COMPONENTS,
    Reach.NODE,
    Reach.BOARD_X_PUE,
    Reach.COMPONENTS_X_PUE,
    Reach.FACILITY,
)
"""Boundaries of one job's operation, which factors join."""
PRODUCT = (Reach.DIE, Reach.CRADLE_TO_GATE, Reach.CRADLE_TO_GRAVE, Reach.BUILDING)
"""Boundaries of things that are made; no factor joins them to operation."""

_COUNT_AND_NOUN = re.compile(r"(?:(\d[\d,_ ]*)\s+)?([a-z][\w ,.-]*)", re.IGNORECASE)
_SAME_NOUN = {"query": "request", "prompt": "request", "gpu": "accelerator", "chip": "accelerator"}
"""A query, a prompt and a request are one functional unit here; that is our choice, and their lengths differ."""


@dataclass(frozen=True, slots=True)
class Per:
    """A functional unit: so many of something; an absolute figure is per one of nothing."""

    count: float
    noun: str


def parse_per(text: str) -> Per:
    """What a figure is per.

    >>> parse_per("2400 prompts"), parse_per("")
    (Per(count=2400.0, noun='request'), Per(count=1.0, noun=''))
    """
    said = text.strip().removeprefix("per ").replace("_", " ")
    match = _COUNT_AND_NOUN.fullmatch(said)
    if match is None:
        return Per(1.0, said.casefold())
    count = float(re.sub(r"[,_ ]", "", match[1])) if match[1] else 1.0
    noun = _singular(match[2].strip().casefold())
    return Per(count, _SAME_NOUN.get(noun, noun))


def _singular(noun: str) -> str:
    if noun.endswith("ies"):
        return noun[:-3] + "y"
    return noun[:-1] if noun.endswith("s") and not noun.endswith("ss") else noun
