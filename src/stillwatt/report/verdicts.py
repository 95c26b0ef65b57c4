"""A comparison of trainings in plain words: what is on the frontier, what reuse repays, and how sure that is.

Words follow the verdicts; nothing is claimed that an interval does not carry, and nothing significant on one seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from stillwatt.analysis.missing import missing_text
from stillwatt.analysis.stopped import EQUAL_JOULES
from stillwatt.records.comparison import Comparison, Matched, Ratio, ReuseFinding, StageSums, SweepFinding
from stillwatt.records.finding import Verdict
from stillwatt.report.comparison_tables import REUSE_WORDS, ends_text, impact_name, is_shown, plus_minus_text, sure_text
from stillwatt.report.format import (
    MISSING,
    Unit,
    least_students_text,
    percent_text,
    pick_unit,
    rounded,
    significant,
    students_text,
    times_interval_text,
    times_text,
)

_MOST_ROWS = 30
"""Labels, and sentences of a kind, that are printed; of more, how many."""
_SURE = 0.95
_STAGES = {"teacher": "its teacher's work", "student": "its own training", "baseline": "the baseline's training"}
_REPAID = (Verdict.VALUE, Verdict.ALWAYS)


def title(found: Comparison) -> str:
    """The shortest true answer."""
    entries = found.n_star
    if not entries:
        return "Nothing was distilled here, or nothing can be held against a baseline"
    matched = {entry.label: entry for entry in found.n_star_matched}
    hedge = "On one seed, " if min(entry.seeds for entry in entries) < 2 else ""
    paid = [entry for entry in entries if entry.found.verdict in _REPAID]
    as_good = [entry for entry in matched.values() if entry.found.verdict in _REPAID]
    if as_good:
        return f"{hedge}{_matched_title(as_good, entries)}"
    if paid:
        return f"{hedge}{_equal_budget_title(paid, entries, matched)}"
    if all(entry.found.verdict is Verdict.NEVER for entry in entries):
        if all(entry.has_nothing_to_share for entry in entries):
            return "No reuse repays any teacher here: each ran beside its student's training and left nothing to share"
        if any(entry.has_nothing_to_share for entry in entries):
            return "No reuse repays any teacher here"
        return "No reuse repays any teacher here: training the distilled students saved nothing"
    if all(entry.found.verdict is Verdict.NOT_AT_THIS_BUDGET for entry in entries):
        return f"No N* at an equal token budget: {entries[0].found.reason}"
    return "Whether reuse repays the teacher cannot be told from these trainings"


def whole_title(found: Comparison) -> str:
    """The answer, with the arms that it says nothing of since they are missing."""
    return f"{title(found)}; {missing_text(found.missing)}" if found.missing else title(found)


def _matched_title(as_good: Sequence[ReuseFinding], entries: Sequence[ReuseFinding]) -> str:
    """Who repays its teacher against a baseline that is as good: what the question is about."""
    best = min(as_good, key=_least)
    text = (
        f"{_count(as_good, entries)} at matched quality: {_whose(best, as_good)} N* is {_number(best.found)} "
        f"against {best.baseline}"
    )
    other = next(entry for entry in entries if entry.label == best.label)
    if other.baseline in ("", best.baseline):
        return text
    return f"{text}; at an equal token budget {_equal_budget(other)}"


def _equal_budget_title(
    paid: Sequence[ReuseFinding], entries: Sequence[ReuseFinding], matched: Mapping[str, ReuseFinding]
) -> str:
    """Nobody is shown to repay at matched quality: that first, and what an equal budget says of the best of them."""
    best = min(paid, key=lambda entry: (_is_worse(entry), _least(entry)))
    other = matched[best.label].found
    if other.verdict is Verdict.NOT_AT_THIS_QUALITY and not _is_worse(best):
        never = "no baseline is as good as " + best.label
    else:
        never = "no distilled label is shown to repay its teacher at matched quality"
    return (
        f"{never}; at an equal token budget {_count(paid, entries)}: {_whose(best, paid)} N* is "
        f"{_number(best.found)} against {best.baseline}{_gap(best)}"
    )


def _equal_budget(entry: ReuseFinding) -> str:
    if entry.found.value is None:
        return f"it is {REUSE_WORDS[entry.found.verdict.value]}"
    return f"it is {_number(entry.found)} against {entry.baseline}{_gap(entry)}"


def _count(some: Sequence[ReuseFinding], entries: Sequence[ReuseFinding]) -> str:
    if len(entries) == 1:
        return f"{entries[0].label} repays its teacher"
    repay = "repays its" if len(some) == 1 else "repay their"
    return f"{len(some)} of {len(entries)} distilled labels {repay} teacher"


def _whose(best: ReuseFinding, some: Sequence[ReuseFinding]) -> str:
    return f"{best.label}'s" if len(some) == 1 else f"the smallest, {best.label}'s,"


def _gap(entry: ReuseFinding) -> str:
    """How much worse the students are that an equal budget makes."""
    return f", a student worse by {-entry.quality_gap:.2g}" if _is_worse(entry) and entry.quality_gap else ""


def _is_worse(entry: ReuseFinding) -> bool:
    return entry.quality_gap is not None and entry.quality_gap < 0.0


def _least(entry: ReuseFinding) -> float:
    return entry.found.value or 0.0


def _sharing(found: Comparison) -> str:
    count = found.reuse_students
    return "the whole teacher on one student" if count == 1 else f"{count:,} students sharing the teacher's work"


def sentences(found: Comparison) -> Iterator[str]:
    """One sentence a verdict."""
    yield from _limited([_frontier_sentence(found)] if found.fronts[0].placed else [])
    yield from _limited([_matched_reuse_sentence(entry) for entry in found.n_star_matched if _says_something(entry)])
    yield from _limited([_reuse_sentence(entry) for entry in found.n_star])
    yield from _limited([_sweep_sentence(entry) for entry in found.sweeps])
    yield from _limited([_serving_sentence(entry) for entry in found.t_star])
    one_off = found.fronts[0].allocation
    yield from _limited([_matched_sentence(entry) for entry in found.matched if entry.allocation == one_off])
    yield from _limited(
        [_lever_sentence(label, found) for label in dict.fromkeys(lever.label for lever in found.levers)]
    )


def frontier_rows(found: Comparison) -> list[list[str]]:
    """A table: quality and energies of each label, ± 95 %; `*` where it is on that frontier, with the probability."""
    fronts = [front for front in found.fronts if is_shown(front.allocation)]
    unit = pick_unit(point.energy_j for front in fronts for point in front.placed)
    header = ["label", "quality", "seeds", *(f"{front.allocation} [{unit.symbol}]" for front in fronts)]
    by_label: dict[str, list[str]] = {}
    for column, front in enumerate(fronts):
        for point in front.placed:
            quality = plus_minus_text(point.quality, point.quality_half_width)
            begun = [point.label, quality, str(point.seeds), *([MISSING] * len(fronts))]
            row = by_label.setdefault(point.label, begun)
            half = None if point.energy_half_width_j is None else unit.of(point.energy_half_width_j)
            mark = "*" if point.is_on_frontier else ""
            sure = "" if point.probability is None else f" {_surely(point.probability)}"
            row[3 + column] = f"{plus_minus_text(unit.of(point.energy_j), half)}{mark}{sure}"
    rows = list(by_label.values())
    more = [[f"… {len(rows) - _MOST_ROWS:,} more labels", *[""] * (len(header) - 1)]] if len(rows) > _MOST_ROWS else []
    return [header, *rows[:_MOST_ROWS], *more] if rows else []


def _surely(probability: float) -> str:
    """One word, which no terminal folds in two.

    >>> _surely(0.42), _surely(1.0)
    ('p=0.42', 'p>0.99')
    """
    text = sure_text(probability)
    return f"p{text}" if text[0] in "<>" else f"p={text}"


def stage_rows(found: Comparison) -> list[list[str]]:
    """A table: each label's energies by stage, the total with the whole teacher, and the teacher's share of it.

    With the total's whole interval and its basis, where the source says how energies came to be known.
    """
    unit = pick_unit(entry.total_j for entry in found.stages if entry.total_j is not None)
    names = ("teacher", "student", "other", "total")
    is_told = any(entry.basis is not None for entry in found.stages)
    header = [
        "label",
        *(f"{name} [{unit.symbol}]" for name in names),
        *(["95 %", "basis"] if is_told else []),
        "teacher's share",
    ]
    rows = [
        [
            entry.label,
            *(_in(unit, energy_j) for energy_j in (entry.teacher_j, entry.student_j, entry.other_j, entry.total_j)),
            *([_whole(unit, entry), entry.basis.value if entry.basis else MISSING] if is_told else []),
            MISSING if entry.teacher_share is None else percent_text(entry.teacher_share),
        ]
        for entry in found.stages[:_MOST_ROWS]
    ]
    return [header, *rows]


def _whole(unit: Unit, entry: StageSums) -> str:
    """The ends of the total's interval, the systematic part with it."""
    value_j, low_j, high_j = entry.total_j, entry.total_low_j, entry.total_high_j
    if value_j is None or low_j is None or high_j is None:
        return MISSING
    return ends_text(unit.of(value_j), unit.of(low_j), unit.of(high_j))


def unbilled_rows(found: Comparison) -> list[list[str]]:
    """A table: energy that is on no label's bill, with the reason; none where everything is."""
    if not found.unbilled:
        return []
    unit = pick_unit(entry.energy_j for entry in found.unbilled if entry.energy_j is not None)
    rows = [
        [entry.run_id, entry.stage, _in(unit, entry.energy_j), entry.reason] for entry in found.unbilled[:_MOST_ROWS]
    ]
    if len(found.unbilled) > _MOST_ROWS:
        rows.append([f"… {len(found.unbilled) - _MOST_ROWS:,} more", "", "", ""])
    return [["on no bill", "stage", f"[{unit.symbol}]", "because"], *rows]


def view_tables(found: Comparison) -> Iterator[list[list[str]]]:
    """A table for each other boundary and impact: what one student of each label takes, in the unit of the view."""
    for view in found.views:
        fronts = [front for front in view.fronts if is_shown(front.allocation)]
        rows: dict[str, list[str]] = {}
        for column, front in enumerate(fronts):
            for point in front.points:
                row = rows.setdefault(point.label, [point.label, *[MISSING] * len(fronts)])
                mark = "*" if point.is_on_frontier else ""
                row[1 + column] = f"{plus_minus_text(point.amount, point.half_width)}{mark}"
        if rows:
            name = impact_name(view.name)
            titles = (f"{front.allocation} [{view.unit}]" for front in fronts)
            left = len(rows) - _MOST_ROWS
            more = [[f"… {left:,} more labels", *[""] * len(fronts)]] if left > 0 else []
            yield [[f"{name} of one student", *titles], *list(rows.values())[:_MOST_ROWS], *more]


def view_sentences(found: Comparison) -> Iterator[str]:
    """The frontier under the first and the last allocation, by every other boundary and impact."""
    for view in found.views:
        for front in dict.fromkeys((view.fronts[0], view.fronts[-1])):
            on = [point.label for point in front.points if point.is_on_frontier]
            names = f"{', '.join(on[:_MOST_ROWS])}{' and more' if len(on) > _MOST_ROWS else ''}"
            by = f"By {impact_name(view.name)} [{view.unit}] under {front.allocation}"
            yield f"{by}, on the frontier: {names or 'nothing'}."


def reuse_rows(found: Comparison) -> list[list[str]]:
    """A table: N* of each distilled label at equal budget and at matched quality."""
    if not found.n_star:
        return []
    header = ["label", "against", "N*", "reuse repays", "at matched quality", "against"]
    matched = {entry.label: entry for entry in found.n_star_matched}
    rows = []
    for entry in found.n_star[:_MOST_ROWS]:
        other = matched[entry.label]
        rows.append(
            [
                entry.label,
                entry.baseline or MISSING,
                _number(entry.found),
                REUSE_WORDS[entry.found.verdict.value],
                _number(other.found) if other.found.value is not None else REUSE_WORDS[other.found.verdict.value],
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
    if found.verdict is Verdict.NOT_AT_THIS_BUDGET:
        return f"{name} has no N* at an equal token budget: {found.reason}{_quality_words(entry)}."
    if found.value is not None and found.low is not None:
        return (
            f"Reuse repays the teacher of {name} from {least_students_text(found.low)} on at the earliest, or never "
            f"(N* {_number(found)}): {found.reason}."
        )
    return f"N* of {name} is not known: {found.reason}."


def _quality_words(entry: ReuseFinding) -> str:
    """The quality beside the baseline's, where that alone can be compared."""
    if entry.quality_gap is None or not entry.found.reason.endswith(EQUAL_JOULES):
        return ""
    sure = "significant" if entry.is_significant else "no significance"
    return f"; its quality is {entry.quality_gap:+.3f} beside that of {entry.baseline} ({sure})"


def _says_something(entry: ReuseFinding) -> bool:
    return entry.found.verdict is not Verdict.UNDETERMINED or entry.found.value is not None


def _matched_reuse_sentence(entry: ReuseFinding) -> str:
    found, name = entry.found, entry.label
    if found.verdict is Verdict.NOT_AT_THIS_QUALITY:
        return f"At the quality of {name} there is nothing to hold it against: {found.reason}."
    against = f"{entry.baseline}, {_as_good_words(entry.quality_gap)}"
    if entry.has_nothing_to_share:
        return f"At matched quality, against {against}, no reuse repays the teacher of {name}: {found.reason}."
    if found.verdict is Verdict.NEVER:
        return f"At matched quality no reuse repays the teacher of {name}: {against}, took less energy."
    hedge = ", or never: the saving cannot be told from 0" if found.verdict is Verdict.UNDETERMINED else ""
    return f"At matched quality, N* of {name} is {_number(found)} against {against}{hedge}."


def _as_good_words(lacks: float | None) -> str:
    """Which baseline is meant at matched quality, from what its quality lacks."""
    if not lacks or lacks < 0.0:
        return "the cheapest baseline at least as good"
    return f"the best baseline, worse by {lacks:.2g}, which is within the error"


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
        times = times_text(entry.energy_ratio)
        if entry.ratio_low is not None:
            times = times_interval_text(entry.energy_ratio, entry.ratio_low, entry.ratio_high)
        parts.append(f"takes {times} times the energy of {entry.as_good}, {_as_good_words(entry.as_good_lacks)}")
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
        return f"With {_sharing(found)}, no change of one stage alone makes {label} take what its baseline does."
    first = min(own, key=lambda lever: abs(math.log(lever.turning_factor or 1.0)))
    return (
        f"With {_sharing(found)}, {label} takes just what its baseline does where {_STAGES[first.stage]} "
        f"takes {times_text(first.turning_factor or 1.0)} times its energy; no other stage need change as little."
    )


def _number(found: Ratio) -> str:
    return MISSING if found.value is None else students_text(found.value, found.low, found.high)


def _in(unit: Unit, energy_j: float | None) -> str:
    return MISSING if energy_j is None else significant(unit.of(energy_j))
