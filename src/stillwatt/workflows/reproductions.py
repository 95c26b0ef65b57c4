"""Published accounts computed again from their published inputs, with our own machinery; those that do not fit stay.

Each case says what went in, what its authors found, what we find, and why the two differ.
"""

from __future__ import annotations

from stillwatt.workflows.reproduction import Reproduction
from stillwatt.workflows.reproduction_others import a100, a100_shares, gemini, gemini_water, mistral, tpu
from stillwatt.workflows.reproduction_trainings import (
    bloom,
    bloom_beside,
    olmo,
    olmo3,
    olmo_answers,
    olmo_hardware,
    olmo_runs,
    olmo_totals,
)


def reproductions() -> tuple[Reproduction, ...]:
    """Every case, computed now."""
    return (
        *(
            *bloom(),
            *bloom_beside(),
            *olmo(),
            *olmo_runs(),
            *olmo_hardware(),
            *olmo_totals(),
            *olmo_answers(),
            *olmo3(),
        ),
        *(*a100(), *a100_shares(), *gemini(), *gemini_water(), *mistral(), *tpu()),
    )


def reproductions_markdown() -> str:
    """The page, generated."""
    cases = reproductions()
    held = [case for case in cases if case.is_reproduced]
    backwards = sum(case.is_backwards for case in held)
    none = sum(case.ours is None for case in cases)
    lines = [
        "# Published accounts, computed again",
        "",
        "From the inputs that their authors published, through the same code as any account here. Many inputs are",
        "known at second hand only; the row says what was taken.",
        f"{len(held)} of {len(cases)} figures come out the same, {backwards} of them backwards, from another figure of",
        f"the same account, which shows that the two fit each other and no more. {none} cannot be computed at all. All",
        "stay, with the reason. Figures that an account is quoted for are in bold.",
        "Written by `make golden`; do not edit.",
        "",
        "| account | figure | inputs | theirs | ours | deviation | the same? | why |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case in cases:
        ours = "–" if case.ours is None else f"{case.ours:.4g} {case.unit}"
        deviation = "–" if case.deviation is None else f"{100.0 * case.deviation:+.1f} %"
        what = f"**{case.what}**" if case.key else case.what
        same = "no" if not case.is_reproduced else "yes, backwards" if case.is_backwards else "yes"
        lines.append(
            f"| {case.source} | {what} | {case.inputs} | {case.theirs:g} {case.unit} | {ours} | {deviation} "
            f"| {same} | {case.why} |"
        )
    return "\n".join(lines) + "\n"
