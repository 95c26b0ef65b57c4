"""The table `[evaluate]`: how a model's quality is taken, by our own scores and by those of lm-evaluation-harness."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from stillwatt.config.judge import JudgeEndpointSettings, JudgeSettings
from stillwatt.config.settings import Count, Seed, Settings, Share, unit
from stillwatt.pipelines.spec_evaluate import EvaluateSpec, HarnessWriting


class HarnessWritingSettings(Settings):
    """How models write in tasks of lm-evaluation-harness that let them, in the place of what each task says itself."""

    max_gen_toks: Count | None = Field(
        default=None,
        description="Longest answer; each task's own where not given.",
        json_schema_extra=unit("tokens"),
    )
    temperature: float | None = Field(
        default=None,
        ge=0.0,
        le=100.0,
        description="Sampling temperature; at 0 the most probable token is always taken. Each task's own where not "
        "given.",
    )
    top_p: Share | None = Field(
        default=None, description="Nucleus sampling, with a temperature above 0; each task's own where not given."
    )


class EvaluateSettings(Settings):
    """How a model's quality is taken, on held-out text only."""

    later_keys: ClassVar[frozenset[str]] = frozenset(
        {
            "lm_eval_few_shot",
            "lm_eval_chat_template",
            "lm_eval_system",
            "lm_eval_few_shot_as_turns",
            "lm_eval_generation",
            "judge_endpoint",
        }
    )

    perplexity_tokens: Count = Field(
        description="Held-out tokens for the perplexity.", json_schema_extra=unit("tokens")
    )
    choice_items: int = Field(
        ge=0,
        description="Questions that ask which of four continuations is the real one; 0 leaves them out.",
        json_schema_extra=unit("questions"),
    )
    choice_context_tokens: Count = Field(description="Text shown before the choice.", json_schema_extra=unit("tokens"))
    choice_continuation_tokens: Count = Field(
        description="Length of each continuation.", json_schema_extra=unit("tokens")
    )
    batch_size: Count = Field(description="Sequences per forward pass.", json_schema_extra=unit("sequences"))
    lm_eval_tasks: tuple[str, ...] = Field(
        default=(),
        description="Tasks, groups and tags of lm-evaluation-harness, `*` in a name for any letters; needs the "
        "`evaluate` extra.",
    )
    lm_eval_include_path: str | None = Field(
        default=None, description="Directory with task definitions, in the place of the harness' own."
    )
    lm_eval_limit: int | None = Field(
        default=None,
        ge=1,
        description="Questions per task, at most; all where not given.",
        json_schema_extra=unit("questions"),
    )
    lm_eval_few_shot: int | None = Field(
        default=None,
        ge=0,
        description="Solved examples before each question; each task's own number where not given. Tasks that say 0 "
        "themselves keep it.",
        json_schema_extra=unit("examples"),
    )
    lm_eval_chat_template: bool = Field(
        default=False, description="Whether questions are put into the tokenizer's chat template, which it must have."
    )
    lm_eval_system: str | None = Field(
        default=None, min_length=1, description="System message before each question; with the chat template only."
    )
    lm_eval_few_shot_as_turns: bool = Field(
        default=True,
        description="With the chat template: whether each example is a turn of user and assistant of its own; else all "
        "stand in one message of the user.",
    )
    lm_eval_generation: HarnessWritingSettings | None = Field(
        default=None, description="How models write in the harness' tasks; as each task says where the table is absent."
    )
    seed: Seed = Field(description="Seed of the choice of questions, and of the harness' examples and sampling.")
    judge: JudgeSettings | None = Field(
        default=None, description="A model that judges what the others write; none where the table is absent."
    )

    judge_endpoint: JudgeEndpointSettings | None = Field(default=None, description="The judge's server.")

    def to_spec(self) -> EvaluateSpec:
        """The evaluation, for the runner.

        Raises:
            MissingExtraError: The energy of a judge's server is to be modelled, and ecologits is not installed.
            UsageError: ecologits does not know its model.
        """
        judge = self.judge.to_spec(self.judge_endpoint) if self.judge else None
        writing = HarnessWriting(**self.lm_eval_generation.model_dump()) if self.lm_eval_generation else None
        told = self.model_dump(exclude={"judge", "judge_endpoint", "lm_eval_generation"})
        return EvaluateSpec(**told, lm_eval_generation=writing, judge=judge)
