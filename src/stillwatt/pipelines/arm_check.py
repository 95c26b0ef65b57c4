"""Whether arms' losses, temperatures, caches and texts can be meant together."""

from __future__ import annotations

from stillwatt.errors import StillwattError, UsageError
from stillwatt.pipelines.given_cache import check_length, read_head
from stillwatt.pipelines.objectives.registry import Source, check_parameter
from stillwatt.pipelines.spec import ArmSpec, Method, PipelineSpec

__all__ = ["check_arm", "check_arms", "check_text_only"]


def check_arms(spec: PipelineSpec) -> None:
    """Refuse a study one of whose arms lacks what it needs, or cannot be meant.

    Raises:
        StillwattError: With the arm's name.
    """
    temperature, source = _cache_of(spec)
    for arm in spec.arms:
        check_arm(arm, temperature, source)
        cache = spec.logits or spec.given_cache
        settings = {"logits": cache, "text": spec.generate}.get(arm.artifact_kind or "", spec)
        if settings is None:
            raise StillwattError(f"arm {arm.name!r}: method {arm.method.value} needs settings for its teacher artefact")
        if arm.own_text_share is None:
            continue
        if spec.own_text is None:
            raise StillwattError(f"arm {arm.name!r}: method {arm.method.value} needs settings for the student's text")
        if spec.data.packing == "documents" and not spec.own_text.has_file:
            raise StillwattError(
                f"arm {arm.name!r}: own text goes on from beginnings of packed sequences, which may hold several "
                'documents, so they cannot be kept apart; set data.packing = "stream", or name a file of prompts'
            )


def _cache_of(spec: PipelineSpec) -> tuple[float | None, Source]:
    """Temperature of the cache that arms read, and what a loss finds in it: as it will be written, or says itself."""
    if spec.given_cache is not None:
        head = read_head(spec.given_cache)
        check_length(head, spec.given_cache, spec.data.sequences)
        return head.temperature, head.source
    return (spec.logits.temperature, spec.logits.source) if spec.logits else (None, Source.TOP_K)


def check_arm(arm: ArmSpec, cache_temperature: float | None, source: Source = Source.TOP_K) -> None:
    """Refuse an arm whose settings cannot be meant; `source` is what the cache holds.

    Raises:
        StillwattError: A KD arm without alpha or temperature, with a loss or parameter there is none of, or at another
            temperature than the cache's.
    """
    objective = arm.objective
    if objective is None:
        return
    if arm.alpha is None or arm.temperature is None:
        raise StillwattError(f"arm {arm.name!r}: {arm.method.value} needs alpha and temperature")
    try:
        check_parameter(objective, arm.loss_parameter)
    except UsageError as err:
        raise StillwattError(f"arm {arm.name!r}: {err}") from err
    if objective.is_online:
        return
    if arm.method is Method.GKD:
        raise StillwattError(
            f"arm {arm.name!r}: no cache can hold what the student has yet to write; gkd needs a loss of the whole "
            f"vocabulary, and {objective.name} is none"
        )
    if objective.source is not source:
        reads = f"{objective.name} reads a {objective.source.value}"
        raise StillwattError(f"arm {arm.name!r}: {reads}, and the logit cache is a {source.value}")
    if arm.temperature != cache_temperature:
        raise StillwattError(
            f"arm {arm.name!r}: temperature {arm.temperature} differs from the logit cache's {cache_temperature}; "
            "a cache that is cut off cannot be re-tempered, so set both alike"
        )


def check_text_only(spec: PipelineSpec) -> None:
    """Refuse a study that asks more than text of a teacher behind an address, or anything of none."""
    absence = spec.teacher.absence
    for arm in spec.arms:
        if arm.is_online or (arm.artifact_kind == "logits" and spec.given_cache is None):
            raise StillwattError(f"arm {arm.name!r}: {absence}, and nobody gives distributions")
        if arm.artifact_kind == "text" and spec.teacher.endpoint is None:
            raise StillwattError(f"arm {arm.name!r}: {absence}, and nobody writes text")
    for student in spec.students:
        if student.source == "prune-teacher":
            raise StillwattError(f"student {student.name!r}: {absence}, so there are no layers to leave out")
