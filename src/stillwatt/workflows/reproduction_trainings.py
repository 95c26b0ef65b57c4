"""Published accounts of trainings, computed again: BLOOM, OLMo and Olmo 3."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from stillwatt.units import KG_PER_G, KG_PER_T, KWH_PER_MWH, L_PER_M3, S_PER_DAY, S_PER_H
from stillwatt.workflows.reproduction import Reproduction, case_of
from stillwatt.workflows.reproduction_sums import BLOOM_HOURS, gwp_t, made_t, made_water_m3, water_m3

_BLOOM = "Luccioni et al. 2022, [BLOOM](https://arxiv.org/abs/2211.02001)"
_OLMO = "Morrison et al. 2025, [OLMo](https://arxiv.org/abs/2503.05804)"
_OLMO3 = "Morrison et al. 2026, [Olmo 3](https://arxiv.org/abs/2605.01158)"
_OLMO_HOURS = 1.65e6
"""H100-hours of the OLMo series, as their account of the hardware has them."""
_MWH_PER_GWH = 1_000.0
_ROUNDED = "they round to one digit: between 7.5 and 10.5 MWh would give it"
_ELSEWHERE = "an earlier model: 0.61 kg/kWh and 4.3 l/kWh would give it, which is neither of the two places"
_REMAINDER = "not printed: the total less the groups that are"
_RUNS = (
    ("OLMoE, final run", 54.0, 18.0, 70.0, ""),
    ("OLMo 1B, final run", 30.0, 10.0, 39.0, ""),
    ("OLMo 7B 0424, final run", 95.0, 32.0, 122.0, ""),
    ("OLMo 700M, final run", 8.0, 3.0, 10.0, _ROUNDED),
    ("OLMo 7B Twin, final run", 114.0, 70.0, 487.0, _ELSEWHERE),
    ("development, 7B group", 196.0, 65.0, 252.0, ""),
    ("development, 1B group", 109.0, 36.0, 141.0, _REMAINDER),
)
"""Name, MWh, tonnes, cubic metres, and why they differ."""


def bloom() -> Sequence[Reproduction]:
    """BLOOM: its training."""
    dynamic = gwp_t(433_196.0, 0.057)
    idle = gwp_t(256_646.0, 0.057)
    making = made_t({"embodied_gwp": (150.0 + 2500.0 / 8.0, "kgCO2e/device")}, BLOOM_HOURS, years=6.0, busy=0.85)
    case = case_of(_BLOOM, "t", 0.02)
    return (
        case(
            "training, dynamic power",
            "433,196 kWh at 0.057 kg/kWh, no PUE applied",
            24.7,
            dynamic,
            "the energy is hours times 400 W, not telemetry",
            "bloom/dynamic_gwp",
        ),
        case(
            "idle nodes and network",
            "256,646 kWh at 0.057 kg/kWh",
            14.6,
            idle,
            "measured by its authors",
            "bloom/idle_gwp",
        ),
        case(
            "making of GPUs and servers",
            "1,082,990 A100-hours, 150 kg a GPU and an eighth of 2,500 kg, 6 years, 85 % busy",
            11.2,
            making,
            "years and usage are recalled, and fit together",
        ),
        case("total", "the three above", 50.5, dynamic + idle + making, "their sum", "bloom/total_gwp"),
        *_bloom_energy(),
    )


def bloom_beside() -> Sequence[Reproduction]:
    """BLOOM: all runs of the project, its serving, its nodes, and what others made of it."""
    case = case_of(_BLOOM, "t", 0.02)
    return (
        case(
            "all runs of the project, dynamic power",
            "3.46 million hours of 400 W at 0.057 kg/kWh",
            66.29,
            gwp_t(3.46e6 * 0.4, 0.057),
            "not all of those hours drew 400 W; 336 W would give it",
        ),
        case_of(_BLOOM, "kg", 0.02)(
            "18 days of serving",
            "914 kWh at 0.394 kg/kWh",
            340.0,
            gwp_t(914.0, 0.394) * KG_PER_T,
            "theirs fits 0.372 kg/kWh: another year of the same grid, or another energy",
        ),
        case_of(_BLOOM, "kg", 0.02)(
            "making of a node of eight A100",
            "2,500 kg and eight times 150 kg",
            3700.0,
            2500.0 + 8 * 150.0,
            "a sum, as a later paper took it",
        ),
        case_of("Touvron et al. 2023, [LLaMA](https://arxiv.org/abs/2302.13971)", "t", 0.02)(
            "BLOOM-175B, recomputed by others",
            "1,082,880 A100-hours of 400 W, PUE 1.1, 0.385 kg/kWh",
            183.0,
            gwp_t(1_082_880.0 * 0.4 * 1.1, 0.385),
            "another grid than the one that it ran on, which is their convention",
        ),
    )


def _bloom_energy() -> Sequence[Reproduction]:
    """What BLOOM's carbon was computed from, held against its other figures."""
    kwh, hours = case_of(_BLOOM, "kWh", 0.02), case_of(_BLOOM, "h", 0.02)
    return (
        kwh(
            "energy of the cards",
            "1,082,990 A100-hours of 400 W",
            433_196.0,
            BLOOM_HOURS * 0.4,
            "to the last digit: rated power, and no meter",
            "bloom/dynamic_energy",
        ),
        kwh(
            "energy of idle nodes and network",
            "14.6 t at 0.057 kg/kWh",
            256_646.0,
            14.6 / gwp_t(1.0, 0.057),
            "what it was measured from is not published; its own carbon has three digits",
            "bloom/idle_energy",
            is_backwards=True,
        ),
        hours(
            "hours of the cards",
            "384 A100 for 118 days",
            BLOOM_HOURS,
            384.0 * 118.0 * S_PER_DAY / S_PER_H,
            "days are rounded, and some cards stood still",
            "bloom/gpu_hours",
        ),
    )


def olmo() -> Sequence[Reproduction]:
    """Final runs as one, and the two models that are reported by themselves."""
    t, m3 = case_of(_OLMO, "t", 0.02), case_of(_OLMO, "m³", 0.1)
    mixed = "913 MWh at the middle of Texas and Iowa (0.332 and 0.351 kg/kWh; 1.29 and 3.10 l/kWh)"
    chance = (
        "the middle is a guess that happens to fit: the models' own rows hold 688 of the 913 MWh, one of them at "
        "0.61 kg/kWh, and where the other 225 were used is not public"
    )
    iowa, cards_kwh = "230 MWh in Iowa (0.351 kg/kWh, 3.10 l/kWh), PUE 1.12", 230.0 * KWH_PER_MWH
    twice = "theirs fits the PUE twice (289 MWh: 101.3 t, 894 m³), or 257 MWh at the cards instead of 230"
    back_mwh = 101.0 / gwp_t(1.0, 0.351) / 1.12 / KWH_PER_MWH
    return (
        t("final runs, GWP", mixed, 312.0, gwp_t(913e3, (0.332 + 0.351) / 2.0), chance, "olmo/training_gwp"),
        m3("final runs, water", mixed, 1921.0, water_m3(913e3, (1.29 + 3.10) / 2.0), chance),
        t("OLMo 2 7B, GWP", "157 MWh in Texas", 52.0, gwp_t(157e3, 0.332), "one place"),
        m3("OLMo 2 7B, water", "157 MWh in Texas", 202.0, water_m3(157e3, 1.29), "one place"),
        t("OLMo 2 13B, GWP", iowa, 101.0, gwp_t(cards_kwh * 1.12, 0.351), twice),
        case_of(_OLMO, "m³", 0.02)("OLMo 2 13B, water", iowa, 892.0, water_m3(cards_kwh * 1.12, 3.10), twice),
        case_of(_OLMO, "MWh", 0.02)(
            "OLMo 2 13B, energy",
            "101 t at 0.351 kg/kWh and a PUE of 1.12",
            230.0,
            back_mwh,
            twice,
            "olmo/training_energy_13b",
            is_backwards=True,
        ),
    )


def olmo_hardware() -> Sequence[Reproduction]:
    """Making of what the OLMo series was trained on."""
    return (
        case_of(_OLMO, "kg/GPU-hour", 0.02)(
            "making of an H100 with its part of the server",
            "463 kg over 4 years",
            0.013,
            made_t({"embodied_gwp": (463.0, "kgCO2e/device")}, 1.0, years=4.0) * KG_PER_T,
            "their figure has two digits",
        ),
        case_of(_OLMO, "t", 0.02)(
            "making, all hardware",
            "1.65 million H100-hours, 463 kg over 4 years",
            22.0,
            made_t({"embodied_gwp": (463.0, "kgCO2e/device")}, _OLMO_HOURS, years=4.0),
            "their hours are rounded",
            "olmo/manufacturing_gwp",
        ),
        case_of(_OLMO, "m³", 0.02)(
            "water of making, all hardware",
            "1.65 million H100-hours, 100.4 and 2.2 l a card over 4 years",
            4.8,
            made_water_m3(102.6, _OLMO_HOURS, years=4.0),
            "the server's other parts have no figure, with them or with us",
        ),
    )


def olmo3() -> Sequence[Reproduction]:
    """Olmo 3: the whole development, and runs of it."""
    why = "their energy is rounded, or some of it ran elsewhere: 0.346 kg/kWh would give it"
    return (
        case_of(_OLMO3, "t", 0.05)(
            "whole development, GWP",
            "12.3 GWh of the facility at 0.332 kg/kWh",
            4251.0,
            gwp_t(12.3e6, 0.332),
            why,
            "olmo3/total_gwp",
        ),
        case_of(_OLMO3, "GWh", 0.02)(
            "whole development, energy",
            "15,887 m³ at 1.29 l/kWh",
            12.3,
            15887.0 / water_m3(1.0, 1.29) / KWH_PER_MWH / _MWH_PER_GWH,
            "by its GWP it would be 12.8",
            "olmo3/total_energy",
            is_backwards=True,
        ),
        case_of(_OLMO3, "m³", 0.02)(
            "whole development, water",
            "12.3 GWh at 1.29 l/kWh, none on site",
            15887.0,
            water_m3(12.3e6, 1.29),
            "water of power plants alone",
            "olmo3/total_water",
        ),
        case_of(_OLMO3, "t", 0.02)(
            "final runs, GWP", "1,947,330 kWh at 0.332 kg/kWh", 646.512, gwp_t(1_947_330.0, 0.332), "one place"
        ),
        case_of(_OLMO3, "m³", 0.02)(
            "final runs, water", "1,947,330 kWh at 1.29 l/kWh", 2512.0, water_m3(1_947_330.0, 1.29), "one place"
        ),
        case_of(_OLMO3, "t", 0.02)(
            "32B Think, post-training, GWP", "98,464 kWh at 0.332 kg/kWh", 32.690, gwp_t(98_464.0, 0.332), "one place"
        ),
        case_of(_OLMO3, "m³", 0.02)(
            "32B Think, post-training, water", "98,464 kWh at 1.29 l/kWh", 127.0, water_m3(98_464.0, 1.29), "one place"
        ),
    )


def olmo_runs() -> Iterator[Reproduction]:
    """Runs and groups of runs, each in the place that its own figures name."""
    t, m3 = case_of(_OLMO, "t", 0.05), case_of(_OLMO, "m³", 0.05)
    for name, mwh, tonnes, water, note in _RUNS:
        inputs = f"{mwh:g} MWh in Texas (0.332 kg/kWh, 1.29 l/kWh)"
        why, rest = note or "one place", note == _REMAINDER
        yield t(f"{name}, GWP", inputs, tonnes, gwp_t(mwh * KWH_PER_MWH, 0.332), why, is_backwards=rest)
        yield m3(f"{name}, water", inputs, water, water_m3(mwh * KWH_PER_MWH, 1.29), why, is_backwards=rest)
    facility_kwh = 116.0 * KWH_PER_MWH * 1.12
    iowa = "116 MWh in Iowa (0.351 kg/kWh, 3.10 l/kWh), PUE 1.12"
    fits = "here the PUE is applied, and it fits"
    yield t("development, 13B group, GWP", iowa, 46.0, gwp_t(facility_kwh, 0.351), fits)
    yield m3("development, 13B group, water", iowa, 402.0, water_m3(facility_kwh, 3.10), fits)


def olmo_totals() -> Sequence[Reproduction]:
    """The paper's abstract: sums of the stages."""
    texas, iowa = 343.0 * KWH_PER_MWH, 116.0 * KWH_PER_MWH * 1.12
    development_t = gwp_t(texas, 0.332) + gwp_t(iowa, 0.351)
    development_m3 = water_m3(texas, 1.29) + water_m3(iowa, 3.10)
    final_t, final_m3 = gwp_t(913e3, (0.332 + 0.351) / 2.0), water_m3(913e3, (1.29 + 3.10) / 2.0)
    making_t = made_t({"embodied_gwp": (463.0, "kgCO2e/device")}, _OLMO_HOURS, years=4.0)
    making_m3 = made_water_m3(102.6, _OLMO_HOURS, years=4.0)
    groups = "343 MWh in Texas without PUE, 116 MWh in Iowa with 1.12"
    parts = "making, development by its groups, final runs at the middle of the two places"
    return (
        case_of(_OLMO, "t", 0.02)(
            "development by its groups, GWP", groups, 159.0, development_t, "the split decides", "olmo/development_gwp"
        ),
        case_of(_OLMO, "m³", 0.02)("development by its groups, water", groups, 843.0, development_m3, "the same"),
        case_of(_OLMO, "t", 0.02)(
            "all stages, GWP",
            parts,
            493.0,
            making_t + development_t + final_t,
            "the final runs' split is not public",
            "olmo/total_gwp",
        ),
        case_of(_OLMO, "m³", 0.05)(
            "all stages, water",
            parts,
            2769.0,
            making_m3 + development_m3 + final_m3,
            "the same; the final runs are all of the difference",
            "olmo/total_water",
        ),
    )


def olmo_answers() -> Sequence[Reproduction]:
    """What serving a model took on one card."""
    prompts = "0.358 kWh for 2,400 prompts"
    return (
        case_of(_OLMO, "g", 0.02)(
            "2,400 prompts to OLMo 2 7B, GWP",
            f"{prompts} at 0.332 kg/kWh",
            118.9,
            gwp_t(0.358, 0.332) * KG_PER_T / KG_PER_G,
            "energy of GPU processes alone",
        ),
        case_of(_OLMO, "l", 0.02)(
            "2,400 prompts to OLMo 2 7B, water",
            f"{prompts} at 1.29 l/kWh",
            0.533,
            water_m3(0.358, 1.29) * L_PER_M3,
            "theirs fits 1.49 l/kWh, which is 1.24 with a PUE of 1.2 in it",
        ),
    )
