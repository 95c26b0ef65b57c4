"""Other published accounts, computed again: the A100's life cycle, Gemini's prompt, Mistral Large 2, TPUs."""

from __future__ import annotations

from collections.abc import Sequence

from stillwatt.factors.tables import shipped_factors
from stillwatt.impact.whole import assess
from stillwatt.records.channel import Boundary
from stillwatt.records.impact import Impact
from stillwatt.units import KG_PER_G, KG_PER_T, KWH_PER_MWH, L_PER_M3, ML_PER_L
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
_OF_ALL = {
    "gwp": "the energy of training and of all answers, the grid, and the hardware with its years",
    "water": "the energy of training and of all answers, litres per kWh at the site and at the power plants",
    "adpe": "the hardware, its hours and its years, whose elements are most of it",
}
"""What is not published, by impact."""
_NO_ANSWER = "neither the energy of an answer, nor where it was made, nor what it bears of the hardware is public"


def a100() -> Sequence[Reproduction]:
    """The life cycle of an A100, and of trainings on it."""
    kg, share = case_of(_FALK, "kg", 0.02), case_of(_FALK, "of it", 0.02)
    cards = {factor.id: factor for factor in shipped_factors()}
    use, making = gwp_t(433_196.0, 0.057), made_t({"embodied_gwp": (127.6, "kgCO2e/device")}, BLOOM_HOURS, years=2.0)
    adpe = next(factor for factor in cards.values() if (factor.quantity, factor.where) == ("embodied_adpe", "a100-sxm"))
    elements = share_of_adpe(adpe, 433_196.0, 4.86e-8)
    return (
        kg(
            "making of an A100 SXM",
            "another life-cycle study of the same card (ADEME)",
            127.6,
            _ademe("a100-sxm"),
            "its row for the printed board looks damaged; another teardown, another database",
        ),
        share(
            "use in the GWP of BLOOM's training",
            "1,082,990 A100-hours, 127.6 kg, 2 years; 433,196 kWh at BLOOM's 0.057 kg/kWh",
            0.96,
            use / (use + making),
            "the electricity that the study took could not be read; about 0.44 kg/kWh would give it",
            "a100/use_share_gwp",
        ),
        share(
            "making in the ADPe of BLOOM's training",
            "the same with 4.86e-8 kg Sb/kWh (France, as ecologits has it)",
            0.85,
            elements,
            "the grid again: about 2.0e-7 kg Sb/kWh would give it",
            "a100/manufacturing_share_adpe",
        ),
    )


def a100_shares() -> Sequence[Reproduction]:
    """Shares of stages and parts, of which only the chips' can be computed."""
    share = case_of(_FALK, "of it", 0.02)
    return (
        share(
            "chips in the making of an A100",
            "85.7 kg of chips, and the whole of another study's PCIe card (ADEME)",
            0.81,
            85.7 / _ademe("a100-pcie"),
            "another card, another teardown: the parts of theirs could not be read",
            "a100/chip_share_gwp",
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


def _ademe(card: str) -> float:
    """Kilograms of making a card, in the ADEME's table."""
    made = [one for one in shipped_factors() if (one.quantity, one.where) == ("embodied_gwp", card)]
    return next(factor.value for factor in made if "ADEME" in factor.source)


def gemini() -> Sequence[Reproduction]:
    """A prompt to Gemini: its energy, by contract as its maker has it and by location beside it."""
    kwh = 0.24 / KWH_PER_MWH
    market_g = market_kg(kwh, 0.094) / KG_PER_G
    usa = next(one.value for one in shipped_factors() if (one.quantity, one.where) == ("grid_gwp_location", "USA"))
    g, wh = case_of(_GEMINI, "g", 0.05), case_of(_GEMINI, "Wh", 0.02)
    second = "94 g/kWh is recalled from the paper, not read in it"
    return (
        wh(
            "energy of a prompt",
            "58 % accelerators, 25 % host and 10 % idle machines of it, PUE 1.09",
            0.24,
            _facility_kwh(kwh * (0.58 + 0.25 + 0.10), 1.09) * KWH_PER_MWH,
            "parts of the same figure: they fit each other, and nobody else can measure them",
            "gemini/prompt_energy",
            is_backwards=True,
        ),
        g("electricity of a prompt, GWP by contract", "0.24 Wh at 94 g/kWh by contract", 0.023, market_g, second),
        g(
            "GWP of a prompt, all scopes",
            "the same and 0.010 g of scopes 1 and 3, which is theirs",
            0.033,
            market_g + 0.010,
            f"{second}; the headline of 0.03 g is this, rounded",
            "gemini/prompt_gwp",
        ),
        g(
            "GWP of a prompt, accelerators alone",
            "0.10 Wh at 94 g/kWh by contract, and 0.010 g",
            0.02,
            market_kg(0.10 / KWH_PER_MWH, 0.094) / KG_PER_G + 0.010,
            f"{second}; theirs has one digit",
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
    """A prompt's water, as its maker has it and as somebody else rebuilt it."""
    kwh = 0.24 / KWH_PER_MWH
    onsite_ml, offsite_ml = _onsite_ml(kwh / 1.09), water_m3(kwh, 1.80) * L_PER_M3 * ML_PER_L
    ml, theirs_ml = case_of(_GEMINI, "ml", 0.05), case_of(_SHARMA, "ml", 0.05)
    return (
        ml(
            "water at the site of a prompt",
            "0.24 Wh with a PUE of 1.09 in it, WUE 1.15 l/kWh of IT",
            0.26,
            onsite_ml,
            "their figure has two digits",
            "gemini/prompt_water_onsite",
        ),
        ml(
            "water of a prompt, accelerators alone",
            "0.10 Wh of IT, WUE 1.15 l/kWh",
            0.12,
            _onsite_ml(0.10 / KWH_PER_MWH),
            "their figure has two digits",
        ),
        theirs_ml(
            "the same prompt, water of power plants",
            "0.24 Wh at 1.80 l/kWh",
            0.471,
            offsite_ml,
            "theirs multiplies by the PUE of 1.09 once more, which 0.24 Wh already holds",
        ),
        theirs_ml(
            "the same prompt, water in all",
            "at the site and at power plants, as above",
            0.725,
            onsite_ml + offsite_ml,
            "the PUE twice, as above",
        ),
    )


def mistral() -> Sequence[Reproduction]:
    """Mistral Large 2: results without inputs, so that nothing is computed, and what is lacking for each."""
    t, m3, adpe = case_of(_MISTRAL, "t", 0.1), case_of(_MISTRAL, "m³", 0.1), case_of(_MISTRAL, "kg Sb", 0.1)
    g, ml, mg = case_of(_MISTRAL, "g", 0.1), case_of(_MISTRAL, "ml", 0.1), case_of(_MISTRAL, "mg Sb", 0.1)
    share, both = case_of(_MISTRAL, "of it", 0.1), "training and 18 months of use"
    gone = {name: f"lacking: {what}" for name, what in _OF_ALL.items()}
    split = "how much of the total is training, how much answers and how much the rest is not public apart from this"
    than = "times that of the total, so that the two differ in more than scale"
    return (
        t(f"{both}, GWP", "none", 20400.0, None, gone["gwp"], "mistral/total_gwp"),
        m3(f"{both}, water", "none", 281000.0, None, gone["water"], "mistral/total_water"),
        adpe(f"{both}, ADPe", "none", 660.0, None, gone["adpe"], "mistral/total_adpe"),
        g("an answer of 400 tokens, GWP", "none", 1.14, None, _NO_ANSWER, "mistral/answer_gwp"),
        ml(
            "an answer of 400 tokens, water",
            "none",
            45.0,
            None,
            f"{_NO_ANSWER}; its water for each kg CO2e is 2.9 {than}",
            "mistral/answer_water",
        ),
        mg(
            "an answer of 400 tokens, ADPe",
            "none",
            0.16,
            None,
            f"{_NO_ANSWER}; its ADPe for each kg CO2e is 4.3 {than}",
            "mistral/answer_adpe",
        ),
        share("training and answers in the GWP", "none", 0.855, None, split, "mistral/use_share_gwp"),
        share("training and answers in the water", "none", 0.91, None, split, "mistral/use_share_water"),
    )


def tpu() -> Sequence[Reproduction]:
    """What part operation has in a TPU's life, by contract and by location."""
    share = case_of("Schneider et al. 2025, [TPU](https://arxiv.org/abs/2502.01671)", "of it", 0.075)
    return (
        share(
            "operation in the GWP of a TPU's life, least",
            "v5e, by contract: 1,154 kg a chip over six years, and 402 kg of making, building and end",
            0.70,
            1154.0 / (1154.0 + 402.0),
            "theirs is a range over generations, to ten per cent",
            "tpu/operational_share_low",
        ),
        share(
            "operation in the GWP of a TPU's life, most",
            "v6e, by location: 5,759 kg a chip over six years, and 692 kg of making, building and end",
            0.90,
            5759.0 / (5759.0 + 692.0),
            "the same",
            "tpu/operational_share_high",
        ),
    )


def _onsite_ml(it_kwh: float) -> float:
    """Millilitres at the site for so much energy of the IT."""
    found = assess(inputs_of(it_kwh, Boundary.NODE, {"wue": (1.15, "L/kWh")}))
    return cell_value(found, Impact.WATER_ONSITE) * ML_PER_L


def _facility_kwh(it_kwh: float, pue: float) -> float:
    found = assess(inputs_of(it_kwh, Boundary.NODE, {"pue": (pue, "1")}))
    return cell_value(found, Impact.ENERGY_FACILITY)
