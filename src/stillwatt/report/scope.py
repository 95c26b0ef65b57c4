"""What a report does not count, and the equations it rests on."""

from __future__ import annotations

from collections.abc import Mapping

from stillwatt.records.channel import Boundary
from stillwatt.records.energy import Absent, Total
from stillwatt.records.run import RunRecord

_REST_OF_NODE: Mapping[str, str] = {
    "what": "The rest of the node: fans, power supply losses, network cards, disks",
    "why": "only the parts listed under provenance are read; the wall draws more",
}
_COOLING: Mapping[str, str] = {
    "what": "Cooling and other overhead of the facility (PUE)",
    "why": "no factor is applied",
}
_ALWAYS: tuple[Mapping[str, str], ...] = (
    {
        "what": "Pre-training of the teacher and of the student's starting point",
        "why": "treated as spent before the run; whoever made the models booked it",
    },
    {
        "what": "Making and disposing of the hardware and the building",
        "why": "no embodied share is added; joules here are of the use phase alone",
    },
    _REST_OF_NODE,
    _COOLING,
    {
        "what": "Downloads and storage of models, data and teacher artefacts",
        "why": "network and storage energy lies outside the machine that was read",
    },
    {"what": "Greenhouse gases, water and money", "why": "no grid, water or price factor is applied to the joules"},
    {
        "what": "Work before and beside this run: earlier attempts, tuning, the authors' own machines",
        "why": "a run books what happened inside it, its failed attempts included",
    },
)

_METHOD: tuple[Mapping[str, str], ...] = (
    {
        "equation": "9 to 11",
        "text": "Brackets are 95 % intervals. Random parts (sampling, counter steps, edges) add in quadrature; "
        "systematic parts (gain, a model's parameters) add linearly within one driver and in quadrature between "
        "drivers.",
    },
    {
        "equation": "12",
        "text": "Every joule of the run is in one row of the stage table or unallocated; rows and unallocated add up "
        "to the total.",
    },
)

_ARM_METHOD: tuple[Mapping[str, str], ...] = (
    {
        "equation": "20",
        "text": "One-off bills all of the teacher's work to one student, reuse:N one N-th of it, marginal none. A "
        "point at part of the token budget bears that part of the artefact; with several passes, all of it after one.",
    },
    {
        "equation": "22",
        "text": "Quality Q is the unweighted mean over tasks of student score over teacher score (inverted where lower "
        "is better); 1 is as good as the teacher, or as the first student before training where no teacher was "
        "evaluated. The ± is a 95 % interval from the items alone.",
    },
    {
        "equation": "23, 24",
        "text": "A point is on the frontier if no other needs less energy and is at least as good. The probability "
        "beside it takes the random errors of energy and quality as independent; it knows nothing of other seeds.",
    },
    {
        "equation": "25, 27",
        "text": "N* is the teacher's energy over what one student saves against the baseline: at the same token budget "
        "(25), or at the same quality, read off the baseline's checkpoints (27). Intervals are Fieller's and use "
        "random parts and repeatability (28) only, since a gain error multiplies both energies and cancels. They have "
        "no upper end where "
        "the saving cannot be told from zero.",
    },
    {
        "equation": "26",
        "text": "T* is the student's one-off bill over the joules per token it saves against serving the teacher under "
        "this run's own small serving load; another load gives another T*.",
    },
)


def method_notes(*, has_arms: bool) -> list[dict[str, str]]:
    """The equations that a report of this kind rests on."""
    return [dict(note) for note in (*_METHOD, *(_ARM_METHOD if has_arms else ()))]


def not_counted(run: RunRecord) -> list[dict[str, str]]:
    """What is outside the numbers: the parts of this machine without energy first, then what is never in a report."""
    gone: dict[str, set[str]] = {}
    for stage in run.stages:
        for part in stage.energies:
            if isinstance(part, Absent):
                gone.setdefault(part.part, set()).add(part.reason)
    listed = [
        {"what": f"{part}, where it could not be read", "why": "; ".join(sorted(why))}
        for part, why in sorted(gone.items())
    ]
    if isinstance(run.total, Total):
        listed += [
            {"what": part, "why": "absent from the run's total"} for part in run.total.absent if part not in gone
        ]
    boundary = run.total.boundary if isinstance(run.total, Total) else Boundary.COMPONENTS
    read = {
        _REST_OF_NODE["what"]: boundary is not Boundary.COMPONENTS,
        _COOLING["what"]: boundary is Boundary.FACILITY,
    }
    return listed + [dict(entry) for entry in _ALWAYS if not read.get(entry["what"], False)]
