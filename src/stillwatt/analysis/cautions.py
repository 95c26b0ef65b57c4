"""What a reader must know before believing a comparison: one sentence each, worst first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stillwatt.analysis.card_gains import card_caution
from stillwatt.analysis.contrast import paired_or_not
from stillwatt.analysis.pairing import Roles, assign_roles
from stillwatt.analysis.reuse import quality_gap
from stillwatt.analysis.siblings import merge_siblings
from stillwatt.analysis.trainings import NAMES, Label, has_quality_error, repeat_rel, repeats_within
from stillwatt.analysis.views import FACILITY, has_one_factor
from stillwatt.analysis.whole_rows import lacks_of, name_of
from stillwatt.analysis.words import listed
from stillwatt.errors import suggest
from stillwatt.records.channel import Basis, worst_basis
from stillwatt.records.comparison import Comparison, Front, ReuseFinding, View

_MOST_ALIKE = 20
"""Cautions of one kind that are given one by one."""
_LACKING = {"gpu": "the boards' own energy", FACILITY: "the power usage effectiveness"}
_MEANS = {
    Basis.MODELLED: "the joules are rough, the ratios between trainings firmer",
    Basis.ASSUMED: "the joules are no better than what was assumed",
}
_ALIKE = 0.01
"""Share of a quality within which two qualities without errors are called alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What break-evens rest on: labels with their seeds as repeats, whatever the seeds were called."""

    labels: tuple[Label, ...]
    roles: Roles
    rel: float
    """Repeatability that single trainings were given."""

    @classmethod
    def of(cls, labels: Sequence[Label], baseline: str) -> Trained:
        """The labels with their seeds merged, by what they are."""
        repeats = merge_siblings(labels)
        return cls(labels=repeats, roles=assign_roles(repeats, baseline), rel=repeat_rel(repeats))


def find_cautions(found: Comparison, trained: Trained, labels: Sequence[Label], *, asked_draws: int) -> tuple[str, ...]:
    """Everything to beware of.

    Args:
        found: The findings so far.
        trained: What they rest on.
        labels: All labels as the source names them, which are the points of the frontiers.
        asked_draws: Draws that were asked for.
    """
    by_name = {label.name: label for label in trained.labels}
    return (
        *training_cautions(found.baseline, trained, labels),
        *_left_out(found.fronts),
        *_first_few(list(_unlike_quality(found.n_star, by_name, trained.rel)), "more N* are at unlike quality"),
        *_point_cautions(found.fronts, labels),
        *_view_cautions(found, labels),
        *_size_cautions(found, trained.roles, asked_draws),
    )


def training_cautions(baseline: str, trained: Trained, labels: Sequence[Label]) -> Iterator[str]:
    """What lies in the trainings themselves: no baseline, energies that nobody measured, one seed, hidden repeats."""
    yield from _partial_cautions(trained.labels)
    yield from _baseline_cautions(baseline, trained)
    yield from _basis_cautions(labels)
    yield from _seed_cautions(trained)
    yield from _token_cautions(trained.labels)
    yield from _beside_cautions(labels)
    yield from card_caution(row for label in labels for row in label.rows)
    yield from _sibling_cautions(trained, labels)


def _first_few(sentences: Sequence[str], more: str) -> Iterator[str]:
    yield from sentences[:_MOST_ALIKE]
    if len(sentences) > _MOST_ALIKE:
        yield f"{len(sentences) - _MOST_ALIKE:,} {more}"


def _baseline_cautions(baseline: str, trained: Trained) -> Iterator[str]:
    roles, labels = trained.roles, trained.labels
    if len(labels) == 1:
        yield f"{labels[0].name} is alone: there is nothing to compare it with"
    if not roles.baselines:
        methods = sorted({label.method for label in labels})
        near = suggest(baseline, methods)
        hint = f"did you mean {near!r}?" if near else f"methods here: {listed(methods)}"
        yield f"no row has method {baseline!r}: there is no baseline, so no N*; {hint}"
    borne = [label.name for label in roles.baselines if label.mean("teacher_j")]
    if borne:
        yield f"baseline {listed(borne)} bears a teacher's energy: is it a baseline?"
    counts = Counter(label.student for label in roles.baselines)
    distilled = {label.student for label in roles.distilled}
    several = sorted(student for student, count in counts.items() if count > 1 and student in distilled)
    if several:
        budgets = any(len(roles.by_budget.get(student, ())) > 1 for student in several)
        which = "the best of those whose token budget is nearest" if budgets else "the best of them"
        yield f"student {listed(several)} has several baselines: N* is held against {which}"


def _partial_cautions(labels: Sequence[Label]) -> Iterator[str]:
    """Trainings that are in no mean, by what they lack (method.md, eq. 145)."""
    found: dict[tuple[str, ...], list[str]] = {}
    for label in labels:
        for row in label.left_out:
            found.setdefault(lacks_of(row, label.rows), []).append(name_of(row))
    for lacks, names in found.items():
        what = listed(NAMES[name] for name in lacks)
        verb = "is" if len(lacks) == 1 else "are"
        yield (
            f"in no mean, count or frontier: {listed(names)}, because {what} {verb} unknown there and known of the "
            "label's other trainings"
        )


def _basis_cautions(labels: Sequence[Label]) -> Iterator[str]:
    """Energies that nobody measured, as far as the source says how they came to be known."""
    for basis in (Basis.MODELLED, Basis.ASSUMED):
        names = [label.name for label in labels if basis in _bases(label)]
        if names:
            of = "all energies" if len(names) == len(labels) else f"energies of {listed(names)}"
            yield (
                f"{of} are {basis.value}, not measured: {_MEANS[basis]}; the intervals of ratios and differences leave "
                "out what moves all energies of a machine together"
            )


def _bases(label: Label) -> list[Basis]:
    known = [row.basis for row in label.rows if row.basis is not None]
    return [worst_basis(known)] if known else []


def _beside_cautions(labels: Sequence[Label]) -> Iterator[str]:
    names = [label.name for label in labels if label.mean("online_j")]
    if names:
        of = "its" if len(names) == 1 else "their"
        yield (
            f"a teacher ran beside the training of {listed(names)}: what it took is in {of} student's energy, since "
            "every further student takes it anew"
        )


def _sibling_cautions(trained: Trained, labels: Sequence[Label]) -> Iterator[str]:
    named = {label.name for label in labels}
    merged = [label for label in trained.labels if label.name not in named]
    if merged:
        yield (
            f"labels of {listed(label.name for label in merged)} differ in their seed alone: break-evens take them as "
            "repeats, frontiers show each by itself; one label for all seeds gives a probability from their spread"
        )


def _view_cautions(found: Comparison, labels: Sequence[Label]) -> Iterator[str]:
    impacts = [view for view in found.views if not view.is_boundary]
    alike = [view.name for view in impacts if has_one_factor(labels, view.name)]
    if alike:
        verb = "is" if len(alike) == 1 else "are"
        yield f"{listed(alike)} {verb} the energy times one factor for all rows: the frontier is the energy's again"
    if impacts and found.boundary in ("node", "") and not any(view.name == FACILITY for view in found.views):
        yield "no power usage effectiveness is known: impacts are those of the energies as they are, without cooling"
    for view in found.views:
        if view.seeds_left_out:
            names = listed(view.seeds_left_out)
            yield f"in no mean of {view.name}: {names}, because {_lacking(view)} is unknown there"
        everywhere = sorted({(label, reason) for front in view.fronts for label, reason in front.left_out})
        known = {label for front in found.fronts for label, _ in front.left_out}
        lost = list(dict.fromkeys(label for label, _ in everywhere if label not in known))
        if lost:
            yield f"in no frontier of {view.name}: {listed(lost)}, because {_lacking(view)} is unknown"


def _lacking(view: View) -> str:
    return _LACKING.get(view.name, f"what a kWh costs in {view.unit}")


def _seed_cautions(trained: Trained) -> Iterator[str]:
    labels, roles, repeats = trained.labels, trained.roles, repeats_within(trained.labels)
    single = [label.name for label in labels if len(label.rows) == 1]
    within = f"a single training is taken to repeat within ±{repeats.rel:.0%} ({repeats.how})"
    if len(labels) > 1 and len(single) == len(labels):
        yield f"one seed: each label was trained once, so no difference here is a significance; {within}"
    elif len(labels) > 1 and single:
        yield f"one seed of {listed(single)}: nothing that rests on it is a significance; {within}"
    rerun = [label.name for label in labels if label.num_seeds < len(label.rows)]
    if rerun:
        yield (
            f"runs of {listed(rerun)} had one and the same seed, or named none: their energies are repeats, their "
            "qualities are not, and one seed is no significance"
        )
    same = [
        label.name
        for label in labels
        if len(known := [row.student_j for row in label.rows if row.student_j is not None]) > 1 and len(set(known)) == 1
    ]
    if same:
        yield f"all seeds of {listed(same)} have the same student energy to the last digit: taken as one training"
    unpaired = [
        label.name
        for label in roles.distilled
        if (other := roles.baseline_of(label)) is not None
        and min(len(label.rows), len(other.rows)) > 1
        and not paired_or_not([frozenset(row.seed for row in one.rows) for one in (label, other)])
    ]
    if unpaired:
        yield f"{listed(unpaired)} and the baseline have different seeds: compared as independent, not seed by seed"


def _token_cautions(labels: Sequence[Label]) -> Iterator[str]:
    """Where seeds of one budget came to unlike numbers of tokens: what varies is an outcome, as energy is."""
    told = []
    for label in labels:
        known = [row.tokens for row in label.rows if row.tokens is not None]
        if len(set(known)) > 1:
            told.append(f"{label.name} {label.mean('tokens'):,.0f} ({min(known):,.0f} to {max(known):,.0f})")
    if told:
        yield (
            f"seeds of one budget trained on unlike numbers of tokens, mean (least to most): {', '.join(told)}; they "
            "are repeats of one training all the same"
        )


def _left_out(fronts: Sequence[Front]) -> Iterator[str]:
    """Labels by the reason why and the allocations where they could not be placed."""
    where: dict[tuple[str, str], list[str]] = {}
    for front in fronts:
        for label, reason in front.left_out:
            where.setdefault((label, reason), []).append(front.allocation)
    grouped: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (label, reason), allocations in where.items():
        grouped.setdefault((reason, tuple(allocations)), []).append(label)
    for (reason, under), names in grouped.items():
        place = "any allocation" if len(under) == len(fronts) else ", ".join(under)
        yield f"in no frontier under {place}: {listed(names)}, because {reason}"


def _unlike_quality(found: Sequence[ReuseFinding], by_name: dict[str, Label], rel: float) -> Iterator[str]:
    """N* asks for equal energy, not for equal students."""
    for entry in found:
        baseline = by_name.get(entry.baseline)
        if baseline is None or entry.quality_gap is None or entry.found.value is None:
            continue
        own, other = by_name[entry.label].mean("quality"), baseline.mean("quality")
        _, half_width, _ = quality_gap(by_name[entry.label], baseline, rel)
        margin = _ALIKE * abs(other or 0.0) if half_width is None else half_width
        if own is not None and other is not None and abs(entry.quality_gap) > margin:
            yield (
                f"N* of {entry.label} is at unlike quality: {own:.3g} against {other:.3g} of {baseline.name}; "
                "see N* at matched quality"
            )


def _point_cautions(fronts: Sequence[Front], labels: Sequence[Label]) -> Iterator[str]:
    without = [label.name for label in labels if label.mean("quality") is not None and not has_quality_error(label)]
    if without:
        yield (
            f"the quality of {listed(without)} has neither seeds nor a standard error: it is drawn as exact, and no "
            "probability is given for it"
        )
    placed = {label for front in fronts for label in (point.label for point in front.placed)}
    out = {label for front in fronts for label, _ in front.left_out}
    if len(placed | out) < len(labels):
        yield (
            f"{len(labels):,} labels: only those that may be on a frontier are listed with it, and have a probability"
        )
    for front in fronts:
        twins = Counter((point.energy_j, point.quality) for point in front.placed)
        equal = [point.label for point in front.placed if twins[point.energy_j, point.quality] > 1]
        if equal:
            yield f"{listed(equal)} are equal points under {front.allocation}: they do not beat each other"
    lacking = [point.label for point in fronts[0].placed if point.throughput is None]
    if lacking and fronts[0].with_throughput is not None:
        yield f"the throughput of {listed(lacking)} is unknown: it is not in the frontier with throughput"
    counted = [label.name for label in labels if label.mean("teacher_tokens") is not None]
    if counted and not any(front.allocation == "tokens" for front in fronts):
        yield "tokens taken from the teacher are not counted for every distilled label: no allocation by tokens"


def _size_cautions(found: Comparison, roles: Roles, asked_draws: int) -> Iterator[str]:
    if found.draws == 0:
        yield "too many labels may be on the frontier to draw them all: no probability is given"
    elif found.draws < asked_draws:
        yield f"probabilities rest on {found.draws} draws, because there are so many labels"
    if roles.distilled and not found.t_star:
        yield "the energy of a served token is unknown for every label: no T*"
    if len(found.n_star) < len(roles.distilled):
        yield f"break-evens are given for the first {len(found.n_star):,} of {len(roles.distilled):,} distilled labels"
