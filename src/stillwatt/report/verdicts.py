"""A comparison of trainings in plain words: what is on the frontier, what reuse repays, and how sure that is.

Words follow the verdicts; nothing is claimed that an interval does not carry, and nothing significant on one seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from stillwatt.records.comparison import Comparison, Matched, Ratio, ReuseFinding, SweepFinding
from stillwatt.records.finding import Verdict
from stillwatt.report.format import MISSING, percent_text, rounded, significant, students_text, times_text
from stillwatt.units import Joules, to_kwh

_MOST_ROWS = 30
"""Labels, and sentences of a kind, that are printed; of more, how many."""
_SURE = 0.95


def title(found: Comparison) -> str:
    """The shortest true answer."""
    entries = found.n_star
    if not entries:
        return "Nothing was distilled here, or nothing can be held against a baseline"
    paid = [entry for entry in entries if entry.found.verdict in (Verdict.VALUE, Verdict.ALWAYS)]
    if not paid:
        if all(entry.found.verdict is Verdict.NEVER for entry in entries):
            return "No reuse repays any teacher here: training the distilled students saved nothing"
        return "Whether reuse repays the teacher cannot be told from these trainings"
    best = min(paid, key=lambda entry: entry.found.value or 0.0)
    times = max(math.ceil(best.found.value or 0.0), 1)
    hedge = "On one seed, " if best.seeds < 2 else ""
    if len(paid) == 1:
        return f"{hedge}{best.label} repays its teacher from {times:,} {_students(times)} on"
    count = f"{len(paid)} of {len(entries)} distilled labels repay their teacher"
    return f"{hedge}{count}; {best.label} from {times:,} {_students(times)} on"


def sentences(found: Comparison) -> Iterator[str]:
    """One sentence a verdict."""
    yield from _limited([_frontier_sentence(found)] if found.fronts[0].placed else [])
    yield from _limited([_reuse_sentence(entry) for entry in found.n_star])
    yield from _limited([_matched_reuse_sentence(entry) for entry in found.n_star_matched if _says_something(entry)])
    yield from _limited([_sweep_sentence(entry) for entry in found.sweeps])
    yield from _limited([_serving_sentence(entry) for entry in found.t_star])
    one_off = found.fronts[0].allocation
    yield from _limited([_matched_sentence(entry) for entry in found.matched if entry.allocation == one_off])
    yield from _limited(
        [_lever_sentence(label, found) for label in dict.fromkeys(lever.label for lever in found.levers)]
    )


def frontier_rows(found: Comparison) -> list[list[str]]:
    """A table: energy of each label under each allocation, `*` where it is on the frontier, with the probability."""
    header = ["label", "quality", "seeds", *(f"{front.allocation} [kWh]" for front in found.fronts)]
    by_label: dict[str, list[str]] = {}
    for column, front in enumerate(found.fronts):
        for point in front.placed:
            row = by_label.setdefault(
                point.label, [point.label, f"{point.quality:.3g}", str(point.seeds), *([MISSING] * len(found.fronts))]
            )
            mark = "*" if point.is_on_frontier else ""
            sure = "" if point.probability is None else f" p={_probability(point.probability)}"
            row[3 + column] = f"{significant(to_kwh(Joules(point.energy_j)))}{mark}{sure}"
    rows = list(by_label.values())
    more = [[f"… {len(rows) - _MOST_ROWS:,} more labels", *[""] * (len(header) - 1)]] if len(rows) > _MOST_ROWS else []
    return [header, *rows[:_MOST_ROWS], *more] if rows else []


def stage_rows(found: Comparison) -> list[list[str]]:
    """A table: each label's energies by stage, the total with the whole teacher, and the teacher's share of it."""
    header = ["label", "teacher [kWh]", "student [kWh]", "other [kWh]", "total [kWh]", "teacher's share"]
    rows = [
        [
            entry.label,
            *(_kwh(energy_j) for energy_j in (entry.teacher_j, entry.student_j, entry.other_j, entry.total_j)),
            MISSING if entry.teacher_share is None else percent_text(entry.teacher_share),
        ]
        for entry in found.stages[:_MOST_ROWS]
    ]
    return [header, *rows]


def unbilled_rows(found: Comparison) -> list[list[str]]:
    """A table: energy that is on no label's bill, with the reason; none where everything is."""
    if not found.unbilled:
        return []
    rows = [[entry.run_id, entry.stage, _kwh(entry.energy_j), entry.reason] for entry in found.unbilled[:_MOST_ROWS]]
    if len(found.unbilled) > _MOST_ROWS:
        rows.append([f"… {len(found.unbilled) - _MOST_ROWS:,} more", "", "", ""])
    return [["on no bill", "stage", "[kWh]", "because"], *rows]


def view_sentences(found: Comparison) -> Iterator[str]:
    """The frontier under the first and the last allocation, by every other boundary and impact."""
    for view in found.views:
        for front in dict.fromkeys((view.fronts[0], view.fronts[-1])):
            on = [point.label for point in front.points if point.is_on_frontier]
            names = f"{', '.join(on[:_MOST_ROWS])}{' and more' if len(on) > _MOST_ROWS else ''}"
            yield f"By {view.name} [{view.unit}] under {front.allocation}, on the frontier: {names or 'nothing'}."


def reuse_rows(found: Comparison) -> list[list[str]]:
    """A table: N* of each distilled label at equal budget and at matched quality."""
    if not found.n_star:
        return []
    header = ["label", "against", "N*", "verdict", "at matched quality", "against"]
    matched = {entry.label: entry for entry in found.n_star_matched}
    rows = []
    for entry in found.n_star[:_MOST_ROWS]:
        other = matched[entry.label]
        rows.append(
            [
                entry.label,
                entry.baseline or MISSING,
                _number(entry.found),
                entry.found.verdict.value.replace("_", " "),
                _number(other.found) if other.found.value is not None else other.found.verdict.value.replace("_", " "),
                other.baseline or MISSING,
            ]
        )
    return [header, *rows]


def _limited(texts: Sequence[str]) -> Iterator[str]:
    yield from texts[:_MOST_ROWS]
    if len(texts) > _MOST_ROWS:
        yield f"{len(texts) - _MOST_ROWS:,} more like these are in the JSON alone."


def _frontier_sentence(found: Comparison) -> str:
    front = found.fronts[0]
    on = [point for point in front.placed if point.is_on_frontier]
    repeated = [point for point in on if point.seeds > 1 and point.probability is not None]
    sure = sum(1 for point in repeated if (point.probability or 0.0) >= _SURE)
    names = ", ".join(point.label for point in on[:_MOST_ROWS])
    text = f"On the energy-quality frontier under {front.allocation}: {names}."
    if not repeated:
        return f"{text} None of them rests on several seeds with known errors, so none is sure."
    verb = "is" if sure == 1 else "are"
    return f"{text} {sure} of {len(on)} {verb} sure (p of {percent_text(_SURE)} or more, several seeds)."


def _reuse_sentence(entry: ReuseFinding) -> str:
    found, name = entry.found, entry.label
    if found.verdict is Verdict.ALWAYS:
        return f"{name} is worth it from the first student: N* {_number(found)} against {entry.baseline}."
    if found.verdict is Verdict.VALUE:
        return f"Reuse repays the teacher of {name} at {_number(found)} students, against {entry.baseline}."
    if found.verdict is Verdict.NEVER:
        return f"No reuse repays the teacher of {name}: {found.reason}."
    if found.value is not None and found.low is not None:
        return (
            f"Reuse repays the teacher of {name} from {significant(found.low, 2)} students on, or never "
            f"(at best guess {significant(found.value)}): {found.reason}."
        )
    return f"N* of {name} is not known: {found.reason}."


def _says_something(entry: ReuseFinding) -> bool:
    return entry.found.verdict is not Verdict.UNDETERMINED or entry.found.value is not None


def _matched_reuse_sentence(entry: ReuseFinding) -> str:
    found, name = entry.found, entry.label
    if found.verdict is Verdict.NOT_AT_THIS_QUALITY:
        return f"At the quality of {name} there is nothing to hold it against: {found.reason}."
    against = f"{entry.baseline}, the cheapest baseline at least as good"
    if found.verdict is Verdict.NEVER:
        return f"At matched quality no reuse repays the teacher of {name}: {against}, took less energy."
    hedge = ", or never: the saving cannot be told from 0" if found.verdict is Verdict.UNDETERMINED else ""
    return f"At matched quality, N* of {name} is {_number(found)} against {against}{hedge}."


def _sweep_sentence(entry: SweepFinding) -> str:
    who = f"One {entry.method} cache shared by {' and '.join(entry.students)}"
    found = entry.found
    if entry.saving_j is None or not entry.teacher_j:
        return f"{who}: not known, {found.reason}."
    if found.verdict is Verdict.NEVER:
        return f"{who} is never repaid: {found.reason}."
    share = percent_text(max(entry.saving_j / entry.teacher_j, 0.0))
    sure = "" if found.verdict is not Verdict.UNDETERMINED else f"; {found.reason}"
    return f"{who}: one sweep over them earns back {share} of it{sure}."


def _serving_sentence(entry: ReuseFinding) -> str:
    found, name = entry.found, entry.label
    if found.verdict is Verdict.NEVER:
        return f"Serving {name} instead of the teacher never repays its making: {found.reason}."
    if found.value is None or found.verdict is Verdict.UNDETERMINED:
        return f"T* of {name} is not known: {found.reason}."
    return f"Served instead of the teacher, {name} has repaid its making after {_number(found)} tokens."


def _matched_sentence(entry: Matched) -> str:
    parts = []
    if entry.energy_ratio is not None:
        interval = _interval(entry.ratio_low, entry.ratio_high)
        parts.append(
            f"takes {times_text(entry.energy_ratio)}{interval} times the energy of {entry.as_good}, the cheapest "
            "baseline at least as good"
        )
    if entry.quality_difference is not None:
        noise = "" if entry.difference_half_width is None else f" ± {rounded(entry.difference_half_width, 3)}"
        sure = " (significant)" if entry.is_significant else ""
        parts.append(
            f"has a quality of {entry.quality_difference:+.3f}{noise} against {entry.as_cheap}, the best baseline no "
            f"dearer{sure}"
        )
    return f"With the whole teacher on one student, {entry.label} {'; it '.join(parts) or 'has no baseline beside it'}."


def _lever_sentence(label: str, found: Comparison) -> str:
    own = [lever for lever in found.levers if lever.label == label and lever.turning_factor]
    if not own:
        return f"No change of one stage alone turns the verdict on {label} with {found.reuse_students} sharing."
    first = min(own, key=lambda lever: abs(math.log(lever.turning_factor or 1.0)))
    return (
        f"The verdict on {label} with {found.reuse_students} sharing turns first with its {first.stage} energy: at "
        f"{times_text(first.turning_factor or 1.0)} times what it is."
    )


def _number(found: Ratio) -> str:
    return MISSING if found.value is None else students_text(found.value, found.low, found.high)


def _interval(low: float | None, high: float | None) -> str:
    if low is None:
        return ""
    return f" [{times_text(low)}, {'no upper end' if high is None else times_text(high)}]"


def _kwh(energy_j: float | None) -> str:
    return MISSING if energy_j is None else significant(to_kwh(Joules(energy_j)))


def _probability(p: float) -> str:
    return ">0.99" if p > 0.99 else "<0.01" if p < 0.01 else f"{p:.2f}"


def _students(count: int) -> str:
    return "student" if count == 1 else "students"
