"""Other published accounts, computed again: the A100's life cycle, Gemini's prompt, Mistral Large 2, TPUs."""

from __future__ import annotations

from collections.abc import Sequence

from stillwatt.factors.tables import shipped_factors
from stillwatt.impact.whole import assess
from stillwatt.records.channel import Boundary
from stillwatt.records.impact import Impact
from stillwatt.units import KG_PER_G, KG_PER_T, KWH_PER_MWH, L_PER_M3
from stillwatt.workflows.reproduction import Reproduction, case_of
from stillwatt.workflows.reproduction_sums import (
    BLOOM_HOURS,
    cell_value,
    gwp_t,
    inputs_of,
    made_t,
    market_kg,
    share_of_adpe,
    water_m3,
)

_FALK = "Falk et al. 2025, [A100](https://arxiv.org/abs/2509.00093)"
_MISTRAL = (
    "Mistral, Carbone 4, ADEME 2025, "
    "[Mistral Large 2](https://mistral.ai/news/our-contribution-to-a-global-environmental-standard-for-ai)"
)
_GEMINI = "Elsworth et al. 2025, [Gemini prompt](https://arxiv.org/abs/2508.15734)"
_SHARMA = "Sharma 2026, The Hidden Thirst of AI, Green 1(2):8"
_NO_INPUTS = "neither energy, nor hours, nor place are public, so there is nothing to compute it from"


def a100() -> Sequence[Reproduction]:
    """The life cycle of an A100, and of trainings on it."""
    kg, share = case_of(_FALK, "kg", 0.02), case_of(_FALK, "of it", 0.02)
    cards = {factor.id: factor for factor in shipped_factors()}
    ademe = next(
        factor.value
        for factor in cards.values()
        if (factor.quantity, factor.where) == ("embodied_gwp", "a100-sxm") and "ADEME" in factor.source
    )
    use, making = gwp_t(433_196.0, 0.057), made_t({"embodied_gwp": (127.6, "kgCO2e/device")}, BLOOM_HOURS, years=2.0)
    adpe = next(factor for factor in cards.values() if (factor.quantity, factor.where) == ("embodied_adpe", "a100-sxm"))
    elements = share_of_adpe(adpe, 433_196.0, 4.86e-8)
    return (
        kg(
            "making of an A100 SXM",
            "another life-cycle study of the same card (ADEME)",
            127.6,
            ademe,
            "its row for the printed board looks damaged; another teardown, another database",
        ),
        share(
            "use in the GWP of BLOOM's training",
            "1,082,990 A100-hours, 127.6 kg, 2 years; 433,196 kWh at BLOOM's 0.057 kg/kWh",
            0.96,
            use / (use + making),
            "the electricity that the study took could not be read; about 0.44 kg/kWh would give it",
        ),
        share(
            "making in the ADPe of BLOOM's training",
            "the same with 4.86e-8 kg Sb/kWh (France, as ecologits has it)",
            0.85,
            elements,
            "the grid again: about 2.0e-7 kg Sb/kWh would give it",
        ),
    )


def a100_shares() -> Sequence[Reproduction]:
    """Shares of stages and parts, of which only the chips' can be computed."""
    share = case_of(_FALK, "of it", 0.02)
    return (
        share(
            "chips in the making of an A100",
            "85.7 of 120.5 kg, from another study's rows for the PCIe card (ADEME)",
            0.81,
            85.7 / 120.5,
            "another card, another teardown",
        ),
        share(
            "making in human toxicity (cancer) of BLOOM's training",
            "none",
            0.99,
            None,
            "toxicity is none of the impacts that are accounted for here",
        ),
        share(
            "use in the GWP of a training of GPT-4's size",
            "none",
            0.96,
            None,
            "its cards, hours and place are the study's own assumptions, and could not be read",
        ),
    )


def gemini() -> Sequence[Reproduction]:
    """A prompt to Gemini: by contract as its maker has it, by location beside it, and its water."""
    kwh = 0.24 / KWH_PER_MWH
    found = assess(inputs_of(kwh / 1.09, Boundary.NODE, {"wue": (1.15, "L/kWh")}))
    onsite_ml = cell_value(found, Impact.WATER_ONSITE) * L_PER_M3
    market_g = market_kg(kwh, 0.094) / KG_PER_G
    usa = next(one.value for one in shipped_factors() if (one.quantity, one.where) == ("grid_gwp_location", "USA"))
    g, ml = case_of(_GEMINI, "g", 0.05), case_of(_GEMINI, "ml", 0.05)
    second = "94 g/kWh is recalled from the paper, not read in it"
    return (
        ml(
            "water at the site of a prompt",
            "0.24 Wh with a PUE of 1.09 in it, WUE 1.15 l/kWh of IT",
            0.26,
            onsite_ml,
            "their figure has two digits",
        ),
        g("electricity of a prompt, GWP by contract", "0.24 Wh at 94 g/kWh by contract", 0.023, market_g, second),
        g(
            "GWP of a prompt, all scopes",
            "the same and 0.010 g of scopes 1 and 3, which is theirs",
            0.033,
            market_g + 0.010,
            f"{second}; the headline of 0.03 g is this, rounded",
        ),
        g(
            "GWP of a prompt, by location",
            f"0.24 Wh at {usa / KG_PER_G:.0f} g/kWh, the mean of the United States, and 0.010 g",
            0.033,
            gwp_t(kwh, usa) * KG_PER_T / KG_PER_G + 0.010,
            "theirs is by contract: what was bought is the difference, and where it ran is not public",
        ),
    )


def gemini_water() -> Sequence[Reproduction]:
    """A prompt's water, as somebody else rebuilt it."""
    kwh = 0.24 / KWH_PER_MWH
    found = assess(inputs_of(kwh / 1.09, Boundary.NODE, {"wue": (1.15, "L/kWh")}))
    onsite_ml = cell_value(found, Impact.WATER_ONSITE) * L_PER_M3
    offsite_ml = water_m3(kwh, 1.80) * L_PER_M3 * L_PER_M3
    return (
        case_of(_SHARMA, "ml", 0.05)(
            "the same prompt, water of power plants",
            "0.24 Wh at 1.80 l/kWh",
            0.471,
            offsite_ml,
            "theirs multiplies by the PUE of 1.09 once more, which 0.24 Wh already holds",
        ),
        case_of(_SHARMA, "ml", 0.05)(
            "the same prompt, water in all",
            "the two above",
            0.725,
            onsite_ml + offsite_ml,
            "the PUE twice, as above",
        ),
    )


def mistral() -> Sequence[Reproduction]:
    """Mistral Large 2: results without inputs."""
    t, m3, adpe = case_of(_MISTRAL, "t", 0.1), case_of(_MISTRAL, "m³", 0.1), case_of(_MISTRAL, "kg Sb", 0.1)
    g, ml, mg = case_of(_MISTRAL, "g", 0.1), case_of(_MISTRAL, "ml", 0.1), case_of(_MISTRAL, "mg Sb", 0.1)
    share = case_of(_MISTRAL, "of it", 0.1)
    return (
        t("training and 18 months of use, GWP", "none", 20400.0, None, _NO_INPUTS),
        m3("the same, water", "none", 281000.0, None, _NO_INPUTS),
        adpe("the same, ADPe", "none", 660.0, None, _NO_INPUTS),
        g("an answer of 400 tokens, GWP", "none", 1.14, None, _NO_INPUTS),
        ml("an answer of 400 tokens, water", "none", 45.0, None, _NO_INPUTS),
        mg("an answer of 400 tokens, ADPe", "none", 0.16, None, _NO_INPUTS),
        share("training and answers in the GWP", "none", 0.855, None, _NO_INPUTS),
        share("training and answers in the water", "none", 0.91, None, _NO_INPUTS),
    )


def tpu() -> Sequence[Reproduction]:
    """A TPU's life cycle: a share without its power."""
    source = "Schneider et al. 2025, [TPU](https://arxiv.org/abs/2502.01671)"
    why = "between 0.7 and 0.9 by generation; power, place and load of a TPU are not public"
    return (case_of(source, "of it", 0.125)("operation in the GWP of a TPU's life", "none", 0.8, None, why),)
