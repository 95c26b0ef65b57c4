"""The register of named losses: equation, paper, unit, range of the parameter, and what each cannot see.

Imports the standard library only, so that recipes can be checked and listed without a training stack.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from stillwatt.errors import UnknownNameError, UsageError

__all__ = [
    "DEFAULT_LOSS",
    "OBJECTIVES",
    "Objective",
    "Paper",
    "Parameter",
    "Source",
    "check_parameter",
    "described",
    "find_objective",
]

DEFAULT_LOSS = "top_k_tail"
"""What `method = "kd"` means where no loss is named."""


class Source(StrEnum):
    """What a loss asks of the teacher."""

    ONLINE = "online"
    """All logits: the teacher runs beside the student."""
    TOP_K = "top_k cache"
    """The k most probable tokens, as `[teacher_logits]` writes them."""
    TOP_P = "top_p cache"
    """The smallest set of a given mass; another number of tokens at every position."""
    SAMPLES = "sample cache"
    """Tokens drawn from the teacher's distribution, with weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paper:
    """Where a loss was proposed or is best described."""

    title: str
    year: int
    arxiv: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """The one number some losses have; it lies strictly between `low` and `high`."""

    symbol: str
    low: float
    high: float
    at_the_ends: str
    """What the loss becomes at the ends, and which name to use there instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """One named loss."""

    name: str
    title: str
    equation: str
    """Number in docs/method.md."""
    formula: str
    """Per position; p teacher, q student, both at temperature T."""
    papers: tuple[Paper, ...]
    source: Source
    unit: str
    """`nats`, or `1` for a distance without unit."""
    scale: str
    """Range of values, and what they may be compared with."""
    temperature_power: int
    """The divergence is multiplied by T to this power, so that its gradient keeps its size over temperatures."""
    parameter: Parameter | None = None
    cannot_see: str | None = None
    """What a student may do without this loss noticing; None where nothing escapes it."""
    is_cut_off: bool = False
    """Whether it stands for a divergence without being one of whole distributions; a run then says what it misses."""

    @property
    def is_online(self) -> bool:
        """Whether the teacher must run beside the student."""
        return self.source is Source.ONLINE


_HINTON = Paper(title="Distilling the Knowledge in a Neural Network", year=2015, arxiv="1503.02531")
_MINILLM = Paper(title="MiniLLM: Knowledge Distillation of Large Language Models", year=2023, arxiv="2306.08543")
_GKD = Paper(
    title="On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes",
    year=2023,
    arxiv="2306.13649",
)
_DISTILLM = Paper(title="DistiLLM: Towards Streamlined Distillation for LLMs", year=2024, arxiv="2402.03898")
_FDISTILL = Paper(
    title="f-Divergence Minimization for Sequence-Level Knowledge Distillation", year=2023, arxiv="2307.15190"
)
_JEFFREYS = Paper(title="An invariant form for the prior probability in estimation problems", year=1946)
_RSKD = Paper(title="Sparse Logit Sampling: Accelerating Knowledge Distillation in LLMs", year=2025, arxiv="2503.16870")
_PRETRAINING = Paper(
    title="Pre-training Distillation for Large Language Models: A Design Space Exploration",
    year=2024,
    arxiv="2410.16215",
)
_INSIDE_TAIL = "how the student spreads its mass inside the tail, among tokens the cache does not hold"

_ALL = (
    Objective(
        name="forward_kl",
        title="Forward Kullback-Leibler divergence",
        equation="40",
        formula="sum_v p_v (log p_v - log q_v)",
        papers=(_HINTON,),
        source=Source.ONLINE,
        unit="nats",
        scale="0 to infinity; the cross-entropy from the teacher's distribution less the teacher's entropy",
        temperature_power=2,
    ),
    Objective(
        name="reverse_kl",
        title="Reverse Kullback-Leibler divergence",
        equation="48",
        formula="sum_v q_v (log q_v - log p_v)",
        papers=(_MINILLM,),
        source=Source.ONLINE,
        unit="nats",
        scale="0 to infinity; not the forward divergence's values, though both are nats",
        temperature_power=2,
    ),
    Objective(
        name="symmetric_kl",
        title="Symmetric Kullback-Leibler divergence",
        equation="49",
        formula="(KL(p || q) + KL(q || p)) / 2",
        papers=(_JEFFREYS,),
        source=Source.ONLINE,
        unit="nats",
        scale="0 to infinity; half of Jeffreys' sum, so a mean of eqs. 40 and 48",
        temperature_power=2,
    ),
    Objective(
        name="jsd",
        title="Generalised Jensen-Shannon divergence",
        equation="50",
        formula="beta KL(p || m) + (1 - beta) KL(q || m),  m = beta p + (1 - beta) q",
        papers=(_GKD,),
        source=Source.ONLINE,
        unit="nats",
        scale="0 to -beta ln beta - (1 - beta) ln(1 - beta), at most ln 2; beta sets the scale, and near its ends "
        "both loss and gradient vanish",
        temperature_power=2,
        parameter=Parameter(
            symbol="beta",
            low=0.0,
            high=1.0,
            at_the_ends="at 0 and 1 it is 0 whatever the student does; use forward_kl or reverse_kl, which other "
            "tools mean by these values",
        ),
    ),
    Objective(
        name="skew_kl",
        title="Skew forward Kullback-Leibler divergence",
        equation="51",
        formula="KL(p || alpha p + (1 - alpha) q)",
        papers=(_DISTILLM,),
        source=Source.ONLINE,
        unit="nats",
        scale="0 to -ln alpha; alpha sets the scale",
        temperature_power=2,
        parameter=Parameter(
            symbol="alpha", low=0.0, high=1.0, at_the_ends="at 0 it is forward_kl, at 1 it is 0 for every student"
        ),
    ),
    Objective(
        name="skew_reverse_kl",
        title="Skew reverse Kullback-Leibler divergence",
        equation="52",
        formula="KL(q || alpha q + (1 - alpha) p)",
        papers=(_DISTILLM,),
        source=Source.ONLINE,
        unit="nats",
        scale="0 to -ln alpha; alpha sets the scale",
        temperature_power=2,
        parameter=Parameter(
            symbol="alpha", low=0.0, high=1.0, at_the_ends="at 0 it is reverse_kl, at 1 it is 0 for every student"
        ),
    ),
    Objective(
        name="tvd",
        title="Total variation distance",
        equation="53",
        formula="1/2 sum_v |p_v - q_v|",
        papers=(_FDISTILL,),
        source=Source.ONLINE,
        unit="1",
        scale="0 to 1, no nats; its gradient does not shrink as the student comes near",
        temperature_power=1,
    ),
    Objective(
        name="top_k_tail",
        title="Top-k with a tail bucket",
        equation="41",
        formula="sum_K p (log p - log q) + p_r (log p_r - log q_r)",
        papers=(),
        source=Source.TOP_K,
        unit="nats",
        scale="0 to infinity; never above forward_kl, equal to it at k = V",
        temperature_power=2,
        cannot_see=_INSIDE_TAIL,
    ),
    Objective(
        name="top_p_tail",
        title="Top-p with a tail bucket",
        equation="55",
        formula="eq. 41 on the smallest K with sum_K p >= P",
        papers=(_PRETRAINING,),
        source=Source.TOP_P,
        unit="nats",
        scale="0 to infinity; never above forward_kl",
        temperature_power=2,
        cannot_see=_INSIDE_TAIL,
    ),
    Objective(
        name="sampled_kl",
        title="Random sampling, importance-weighted",
        equation="56",
        formula="sum_S w (log p - log q),  E[w_v] = p_v",
        papers=(_RSKD,),
        source=Source.SAMPLES,
        unit="nats",
        scale="its expectation is forward_kl and so is its gradient's; one draw may be negative",
        temperature_power=2,
    ),
    Objective(
        name="truncated_top_k",
        title="Top-k cut off, without a tail",
        equation="57",
        formula="sum_K p (log p - log q)",
        papers=(),
        source=Source.TOP_K,
        unit="nats",
        scale="kept mass times its logarithm, which is below 0, to infinity; no divergence",
        temperature_power=2,
        cannot_see="that the student must leave mass to the tail: it is negative for a student surer than its teacher, "
        "and least where all mass lies on the kept tokens",
        is_cut_off=True,
    ),
    Objective(
        name="renormalised_top_k",
        title="Top-k, both sides renormalised on it",
        equation="58",
        formula="sum_K p' (log p' - log q'),  p' = p / sum_K p,  q' = q / sum_K q",
        papers=(),
        source=Source.TOP_K,
        unit="nats",
        scale="0 to infinity; of distributions over the kept tokens only",
        temperature_power=2,
        cannot_see="any mass outside the kept tokens: a student that gives them nearly none has the same loss as one "
        "that gives them all",
        is_cut_off=True,
    ),
)

OBJECTIVES = {objective.name: objective for objective in _ALL}
"""Every named loss, those of the whole vocabulary first."""


def find_objective(name: str) -> Objective:
    """The loss of that name.

    Raises:
        UnknownNameError: There is none.

    >>> find_objective("jsd").equation
    '50'
    """
    if name not in OBJECTIVES:
        raise UnknownNameError("loss", name, OBJECTIVES)
    return OBJECTIVES[name]


def check_parameter(objective: Objective, value: float | None) -> None:
    """Refuse a parameter that is missing, not wanted, or out of range.

    Raises:
        UsageError: With what to set instead.

    >>> check_parameter(OBJECTIVES["jsd"], 0.5)
    """
    wanted = objective.parameter
    if wanted is None:
        if value is not None:
            raise UsageError(f"loss {objective.name!r} has no parameter, so {value} has no meaning; leave it out")
        return
    if value is None:
        raise UsageError(f"loss {objective.name!r} needs {wanted.symbol}, between {wanted.low:g} and {wanted.high:g}")
    if not wanted.low < value < wanted.high:
        raise UsageError(
            f"loss {objective.name!r}: {wanted.symbol} = {value:g} must lie between {wanted.low:g} and "
            f"{wanted.high:g}, ends excluded; {wanted.at_the_ends}"
        )


def described(name: str, *, alpha: float, temperature: float, parameter: float | None = None) -> str:
    """What is minimised, as one line; runs whose lines differ minimise different things (method.md, eq. 54).

    >>> described("jsd", alpha=0.25, temperature=2.0, parameter=0.5)
    '0.25 CE + 0.75 T^2 jsd(beta=0.5), T=2'
    >>> described("tvd", alpha=0.0, temperature=1.0)
    '0 CE + 1 T tvd, T=1'
    """
    objective = find_objective(name)
    if alpha == 1.0:
        return "cross-entropy"
    power = "T" if objective.temperature_power == 1 else f"T^{objective.temperature_power}"
    symbol = "" if objective.parameter is None else f"({objective.parameter.symbol}={parameter:g})"
    return f"{alpha:g} CE + {1.0 - alpha:g} {power} {name}{symbol}, T={temperature:g}"
