"""Which engine writes the teacher's text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from stillwatt.pipelines.bench import Bench
from stillwatt.pipelines.sampling import TextWriter, Writer, end_ids
from stillwatt.pipelines.spec import GenerateSpec
from stillwatt.pipelines.vllm_writer import VllmWriter, end_ids_of_folder

__all__ = ["open_writer"]


@contextmanager
def open_writer(bench: Bench, settings: GenerateSpec) -> Iterator[TextWriter]:
    """The teacher as a writer of text; its model is loaded by whoever asks first, and billed to that stage."""
    if settings.engine == "vllm":
        bench.drop_teacher()  # the engine loads the teacher once more, beside this process
        directory, ends = bench.teacher_place().directory, bench.tokenizer().eos_token_id
        with closing(
            VllmWriter(
                directory,
                bench.spec.teacher.dtype,
                settings,
                end_ids_of_folder(directory, ends),
                threads=bench.spec.threads,
            )
        ) as writer:
            yield writer
        return
    teacher, tokenizer = bench.teacher(), bench.tokenizer()
    yield Writer(teacher, tokenizer, settings, end_ids(teacher, tokenizer))
