"""Which engine writes the teacher's text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stillwatt.pipelines.bench import Bench
from stillwatt.pipelines.endpoint_writer import EndpointWriter
from stillwatt.pipelines.sampling import TextWriter, Writer, end_ids
from stillwatt.pipelines.spec import GenerateSpec

__all__ = ["open_writer"]


def open_writer(
    bench: Bench, settings: GenerateSpec, *, is_complete: Callable[[Sequence[int]], bool] | None = None
) -> TextWriter:
    """The teacher as a writer of text; its model is loaded by whoever asks first, and billed to that stage.

    Args:
        bench: The study's tools.
        settings: How tokens are drawn.
        is_complete: Told what has been written after a prompt; True where more would be thrown away. A writer may
            take no notice of it: what it writes beyond is cut off, and billed.
    """
    endpoint = bench.spec.teacher.endpoint
    if endpoint is not None:
        stage = bench.meter.current_stage
        assert stage is not None  # text is written in a stage, which an endpoint's tokens are billed to
        return EndpointWriter(endpoint, bench.tokenizer(), settings, stage)
    teacher, tokenizer = bench.teacher(), bench.tokenizer()
    return Writer(teacher, tokenizer, settings, end_ids(teacher, tokenizer), is_complete)
