"""What can be said of the models that a recipe names, from configurations that are on this machine."""

from __future__ import annotations

from collections.abc import Iterator

from stillwatt.config.model_size import size_of_student, size_of_teacher
from stillwatt.config.problem import Problem
from stillwatt.pipelines.spec import PipelineSpec

__all__ = ["model_problems"]


def model_problems(spec: PipelineSpec) -> Iterator[Problem]:
    """What the models cannot do that is asked of them; one that is not here, or guessed from its name, is let be."""
    sizes = [size_of_teacher(spec), *(size_of_student(spec, student) for student in spec.students)]
    known = [int(size.vocabulary) for size in sizes if size is not None and not size.is_guess]
    if spec.logits is None or not known:
        return
    if (problem := spec.logits.too_many_kept(min(known))) is not None:
        yield Problem(place=("teacher_logits", "top_k"), message=problem)
