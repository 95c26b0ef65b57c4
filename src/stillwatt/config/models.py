"""The recipe as strict models: what each key means, its unit, its limits; and the way to a `PipelineSpec`.

A key without a default is one that a reader of the results must know (a method, a budget, a seed): the recipe
states it. Validate text through JSON (`Recipe.model_validate_json`): strict models refuse a TOML array where a
tuple is meant in Python mode, and take it in JSON mode without taking `"50"` for a number.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, JsonValue, model_validator
from pydantic_core import PydanticCustomError

from stillwatt.config.arms import ArmSettings
from stillwatt.config.budgets import BudgetSettings, BudgetText
from stillwatt.config.caches import CacheSettings, LogitsSettings
from stillwatt.config.data import DataSettings
from stillwatt.config.evaluate import EvaluateSettings
from stillwatt.config.names import Name, StudentSource
from stillwatt.config.own_text import OwnTextSettings
from stillwatt.config.reading import AnalysisSettings, RunSettings
from stillwatt.config.rules import problems
from stillwatt.config.settings import Count, Seed, Settings, Share, at_defaults, unit
from stillwatt.config.sweep import SweepSettings
from stillwatt.config.teachers import Dtype, EndpointSettings, TeacherSettings
from stillwatt.config.texts import TextSettings
from stillwatt.config.training import TrainSettings
from stillwatt.ledger.rundir import settings_hash
from stillwatt.pipelines.spec import GenerateSpec, Limit, PipelineSpec, StudentSpec
from stillwatt.pipelines.spec_evaluate import ServeSpec
from stillwatt.units import S_PER_H


class MeterSettings(Settings):
    """What is read while the run goes on, and how often."""

    sensors: tuple[str, ...] = Field(
        default=("auto",),
        min_length=1,
        description="Instruments to read, in order; `auto` takes what this machine has and models the rest of the "
        "host, saying so.",
    )
    sample_period_ms: int = Field(
        default=100, ge=1, le=60_000, description="Time between two readings.", json_schema_extra=unit("ms")
    )
    slow_after_s: float | None = Field(
        default=None,
        gt=0.0,
        description="Read once a second where no stage began or ended for so long, until one does.",
        json_schema_extra=unit("s"),
    )
    idle_baseline_s: float = Field(
        default=10.0,
        ge=0.0,
        le=S_PER_H,
        description="How long the idle machine is measured before anything else, so that net energies can be given; "
        "0 leaves it out, and then there are no net energies.",
        json_schema_extra=unit("s"),
    )
    idle_after_s: float | None = Field(
        default=None,
        ge=0.0,
        le=S_PER_H,
        description="How long the idle machine is measured again after everything else, so that a drift shows; "
        "as long as before where it is left out.",
        json_schema_extra=unit("s"),
    )
    options: dict[str, dict[str, JsonValue]] = Field(
        default_factory=dict,
        description="Options of single drivers, each in a table `[meter.options.DRIVER]`; the driver's page lists "
        "them.",
    )

    @property
    def rest_after_s(self) -> float:
        """Seconds of the idle machine after everything else."""
        return self.idle_baseline_s if self.idle_after_s is None else self.idle_after_s


class StudentSettings(Settings):
    """One starting point; every arm starts from each student."""

    name: Name = Field(description="What the student is called in stages and figures.")
    source: StudentSource = Field(
        description="`prune-teacher` (the teacher without a block of its layers), `tiny-random`, `path:DIR` or "
        "`hf:ORG/NAME`."
    )
    revision: str | None = Field(default=None, description="Hub revision: a commit, tag or branch; `hf:` only.")
    dtype: Dtype = Field(description="Number format of the weights.")
    drop_layers: int = Field(
        default=0,
        ge=0,
        description="`prune-teacher` only, needed there: how many consecutive layers are left out.",
        json_schema_extra=unit("layers"),
    )
    candidate_starts: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default=(),
        description="`prune-teacher` only, needed there: first layers of the blocks tried (0 is the lowest); the "
        "block whose absence costs the least loss on training text is left out.",
    )
    selection_tokens: int = Field(
        default=0,
        ge=0,
        description="`prune-teacher` only, needed there: training tokens on which the blocks are compared.",
        json_schema_extra=unit("tokens"),
    )

    def to_spec(self) -> StudentSpec:
        """The student, for the runner."""
        return StudentSpec(
            name=self.name,
            source=self.source,
            revision=self.revision,
            dtype=self.dtype,
            drop_layers=self.drop_layers,
            candidate_starts=self.candidate_starts,
            selection_tokens=self.selection_tokens,
        )


class GenerateSettings(TextSettings):
    """How the teacher writes text; needed by arms of method `synthetic_sft`."""

    prompt_tokens: Count = Field(
        description="Tokens of training text the teacher continues; of other prompts, how many they have at most.",
        json_schema_extra=unit("tokens"),
    )
    max_new_tokens: Count = Field(description="Longest continuation.", json_schema_extra=unit("tokens"))
    min_new_tokens: int = Field(
        ge=0, description="Shorter continuations are rejected, and billed.", json_schema_extra=unit("tokens")
    )
    max_repeat_share: Share = Field(
        description="Continuations whose most frequent 4-gram makes up more than this share of their 4-grams are "
        "rejected, and billed."
    )
    temperature: float = Field(
        ge=0.0, le=100.0, description="Sampling temperature; at 0 the most probable token is always taken."
    )
    top_p: Share = Field(description="Nucleus sampling: the smallest set of tokens with this probability.")
    batch_size: Count = Field(description="Continuations written together.", json_schema_extra=unit("sequences"))
    max_rounds: Count = Field(
        description="Passes over the prompts, at most, to reach the token budget.", json_schema_extra=unit("passes")
    )
    seed: Seed = Field(description="Seed of the sampling.")
    engine: Literal["transformers", "vllm"] = Field(
        default="transformers", description="What runs the teacher; `vllm` wants that package installed."
    )

    def to_spec(self) -> GenerateSpec:
        """The generation, for the runner."""
        return GenerateSpec(**self.model_dump())


class ServeSettings(Settings):
    """A small serving load, so that joules per generated token are known for teacher and students."""

    prompts: Count = Field(description="Prompts served.", json_schema_extra=unit("prompts"))
    prompt_tokens: Count = Field(description="Length of a prompt.", json_schema_extra=unit("tokens"))
    new_tokens: Count = Field(
        description="Tokens generated for each prompt, exactly.", json_schema_extra=unit("tokens")
    )
    batch_size: Count = Field(description="Prompts served together.", json_schema_extra=unit("prompts"))

    def to_spec(self) -> ServeSpec:
        """The serving load, for the runner."""
        return ServeSpec(**self.model_dump())


class Recipe(Settings):
    """A whole study: one teacher, some students, some arms, the same budget for each."""

    name: Name = Field(description="Name of the study and of its run.")
    description: str = Field(default="", description="What the study is for, in a sentence.")
    budget: BudgetText | None = Field(
        default=None,
        description="Where the run ends, such as `0.2 kWh`, `0.1 kgCO2e`, `2 EUR`, `3 h` or `100000 tokens`: training "
        "stops so that its last evaluation still fits, and what would follow is left out.",
    )
    budgets: BudgetSettings = Field(default_factory=BudgetSettings, description="What budgets are reckoned with.")
    meter: MeterSettings = Field(default_factory=MeterSettings, description="What is read while the run goes on.")
    teacher: TeacherSettings = Field(description="The model that is distilled.")
    teacher_endpoint: EndpointSettings | None = Field(default=None, description="The teacher's server.")
    students: tuple[StudentSettings, ...] = Field(min_length=1, description="Starting points.")
    data: DataSettings = Field(description="The text.")
    teacher_logits: LogitsSettings | None = Field(default=None, description="The teacher's cache of logits.")
    logit_cache: CacheSettings | None = Field(default=None, description="How it is coded; fixed rows where absent.")
    teacher_generate: GenerateSettings | None = Field(default=None, description="The teacher's text.")
    student_generate: OwnTextSettings | None = Field(default=None, description="The students' own text.")
    train: TrainSettings = Field(description="How every arm trains.")
    arms: tuple[ArmSettings, ...] = Field(min_length=1, description="Ways of making the student.")
    evaluate: EvaluateSettings = Field(description="How quality is taken.")
    serve: ServeSettings | None = Field(default=None, description="The serving load; none where the table is absent.")
    analysis: AnalysisSettings = Field(default_factory=AnalysisSettings, description="How arms are compared.")
    sweep: SweepSettings | None = Field(
        default=None, description="What `stillwatt sweep` tries; `stillwatt run` takes no notice of it."
    )
    run: RunSettings = Field(default_factory=RunSettings, description="The process that does the work.")

    @model_validator(mode="after")
    def _obey_the_rules(self) -> Self:
        broken = tuple(problems(self))
        if broken:
            text = "; ".join(problem.message for problem in broken)
            raise PydanticCustomError("rules", "{text}", {"text": text, "problems": broken})
        return self

    def to_spec(self) -> PipelineSpec:
        """The study as the runner takes it."""
        return PipelineSpec(
            name=self.name,
            teacher=self.teacher.to_spec(self.teacher_endpoint),
            students=tuple(student.to_spec() for student in self.students),
            data=self.data.to_spec(),
            logits=self.teacher_logits.to_spec(self.logit_cache) if self.teacher_logits else None,
            given_cache=self.teacher_logits.to_given() if self.teacher_logits else None,
            generate=self.teacher_generate.to_spec() if self.teacher_generate else None,
            own_text=self.student_generate.to_spec() if self.student_generate else None,
            train=self.train.to_spec(),
            arms=tuple(arm.to_spec(self._limit(arm.budget or self.budgets.each_arm)) for arm in self.arms),
            evaluate=self.evaluate.to_spec(),
            serve=self.serve.to_spec() if self.serve else None,
            idle_baseline_s=self.meter.idle_baseline_s,
            idle_after_s=self.meter.rest_after_s,
            threads=self.run.threads,
            sharding=self.run.sharding,
            budget=self._limit(self.budget),
            teacher_factor=self.budgets.teacher_factor,
        )

    def _limit(self, text: str | None) -> Limit | None:
        return None if text is None else self.budgets.limit(text)

    def resolved(self) -> dict[str, Any]:
        """Every setting with its value as JSON values; what the manifest keeps.

        Defaults are included, but for those of keys that came later (`Settings.later_keys`).
        """
        return self.model_dump(mode="json", exclude=at_defaults(self))

    @property
    def sensors(self) -> tuple[str, ...]:
        """Instruments to read."""
        return self.meter.sensors

    @property
    def settings_sha256(self) -> str:
        """Hash of the resolved settings: the same for recipes that differ in layout and comments only."""
        return settings_hash(self.resolved())
