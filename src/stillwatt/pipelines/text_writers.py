"""Which engine writes the teacher's text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager

from stillwatt.pipelines.bench import Bench
from stillwatt.pipelines.endpoint_writer import EndpointWriter
from stillwatt.pipelines.model_fit import cut_rows, num_tokens
from stillwatt.pipelines.sampling import TextWriter, Writer, end_ids
from stillwatt.pipelines.spec import GenerateSpec
from stillwatt.pipelines.vllm_writer import VllmWriter, end_ids_of_folder

__all__ = ["open_writer"]


@contextmanager
def open_writer(
    bench: Bench, settings: GenerateSpec, *, is_complete: Callable[[Sequence[int]], bool] | None = None
) -> Iterator[TextWriter]:
    """The teacher as a writer of text; its model is loaded by whoever asks first, and billed to that stage.

    Args:
        bench: The study's tools.
        settings: How tokens are drawn, and by which engine.
        is_complete: Told what has been written after a prompt; True where more would be thrown away. A writer may
            take no notice of it: what it writes beyond is cut off, and billed.
    """
    teacher = bench.spec.teacher
    if teacher.endpoint is not None:
        stage = bench.meter.current_stage
        assert stage is not None  # text is written in a stage, which an endpoint's tokens are billed to
        yield EndpointWriter(teacher.endpoint, bench.tokenizer(), settings, stage)
    elif settings.engine == "vllm":
        bench.drop_teacher()  # the engine loads the teacher once more, beside this process
        directory = bench.teacher_place().directory
        ends = end_ids_of_folder(directory, bench.tokenizer().eos_token_id)
        dtype = teacher.dtype or "float32"
        writer = VllmWriter(
            directory,
            dtype,
            settings,
            ends,
            threads=bench.spec.threads,
            stage=bench.meter.current_stage,
            num_tokens=cut_rows(bench, num_tokens(bench.tokenizer())),
        )
        with closing(writer):
            yield writer
    else:
        model, tokenizer = bench.teacher(), bench.tokenizer()
        yield Writer(model, tokenizer, settings, end_ids(model, tokenizer), is_complete, num_tokens(tokenizer))
