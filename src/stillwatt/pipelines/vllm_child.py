"""A program of its own that holds one vLLM engine: settings and batches come in as lines of JSON, results go out.

A batch is prompts, whose completions are in the answer; or texts, whose most probable tokens follow it as bytes.
Started by `pipelines.vllm_engine` as a file, so it imports nothing of Stillwatt. Whatever vLLM changes in a process
(its threads, their cores, its memory) it changes here, and all of it is gone when this process is.

The engine runs inside this process, not in one that vLLM starts: its order of work is then the same for the same
batches. The process ends at once when its input does, so it never outlives the one that asked.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "HF_HUB_OFFLINE": "1",
    # a text as long as the model takes is one too long with the token that is drawn behind it and never read
    "VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1",
}


def main() -> None:
    """Read requests from standard input and answer on the file descriptor that the first argument names."""
    requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    os.environ.update(_ENVIRONMENT)
    with os.fdopen(int(sys.argv[1]), "wb") as answers:
        settings = requests.get()
        engine = _answer(answers, lambda: (_open(settings), {"ready": True}, b""))
        while engine is not None:
            _answer(answers, lambda: (engine, *_work(engine, requests.get())))


def _listen(requests: queue.SimpleQueue[dict[str, Any]]) -> None:
    for line in sys.stdin:
        requests.put(json.loads(line))
    os._exit(0)  # whoever asked has closed the pipe, or is dead: nothing here is worth a clean end


def _answer(answers: Any, work: Callable[[], tuple[Any, Mapping[str, Any], bytes]]) -> Any:
    """Do the work and answer; what it raises is the answer too, in words. Gives what the work made, or None."""
    made, payload = None, b""
    try:
        made, answer, payload = work()
    except Exception as err:  # noqa: BLE001  # another's library: whatever it raises is told to the one who asked
        answer = {"error": f"{type(err).__name__}: {err}"}
    answers.write(json.dumps({**answer, "bytes": len(payload)}).encode() + b"\n" + payload)
    answers.flush()
    return made


def _open(settings: Mapping[str, Any]) -> Any:
    import vllm
    from vllm.platforms import current_platform

    return vllm.LLM(
        model=settings["directory"],
        dtype=settings["dtype"],
        max_model_len=settings["max_model_len"],
        max_num_seqs=settings["batch_size"],
        max_logprobs=settings["max_logprobs"],
        kv_cache_memory_bytes=settings["kv_cache_bytes"],
        seed=0,
        skip_tokenizer_init=True,
        generation_config="vllm",  # the checkpoint's own sampling settings stay out
        enable_prefix_caching=False,  # a batch must not depend on those before it
        enforce_eager=current_platform.is_cpu(),  # compiling for a processor takes longer than it saves here
    )


def _work(engine: Any, request: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
    if "texts" in request:
        return _read(engine, request["texts"], request["count"])
    return {"completions": _write(engine, request)}, b""


def _read(engine: Any, texts: Sequence[Sequence[int]], count: int) -> tuple[dict[str, Any], bytes]:
    """Ids (int32), then log-probabilities (float32) of the most probable tokens at each position of each text.

    A text of n tokens has n - 1 rows: what was said before its first token is nothing, and what would follow its last
    one is in no text. vLLM lets nobody ask without writing, so it draws one token that nobody reads.
    """
    import numpy as np
    from vllm import SamplingParams

    parameters = SamplingParams(
        temperature=0.0, max_tokens=1, ignore_eos=True, detokenize=False, prompt_logprobs=count, flat_logprobs=True
    )
    outputs = engine.generate([{"prompt_token_ids": text} for text in texts], parameters, use_tqdm=False)
    ids, values = [], []
    for text, output in zip(texts, outputs, strict=True):
        found = output.prompt_logprobs
        # the text's own token stands first in a row, whether or not it is one of the most probable
        shape = len(text) - 1, count + 1
        if len(found) != len(text) or len(found.token_ids) != shape[0] * shape[1]:
            raise ValueError(f"{len(found.token_ids)} log-probabilities came back for {shape[0]} positions")
        ids.append(np.array(found.token_ids, dtype="<i4").reshape(shape)[:, 1:])
        values.append(np.array(found.logprobs, dtype="<f4").reshape(shape)[:, 1:])
    return {}, b"".join(part.tobytes() for part in (*ids, *values))


def _write(engine: Any, request: Mapping[str, Any]) -> list[list[int]]:
    from vllm import SamplingParams

    # top_k = 0: every token may be drawn; ignore_eos: the ends are those that are named
    fixed: dict[str, Any] = {"top_k": 0, "ignore_eos": True, "detokenize": False}
    if request["num_tokens"] is not None:
        fixed["allowed_token_ids"] = list(range(request["num_tokens"]))
    parameters = [SamplingParams(seed=seed, **fixed, **request["sampling"]) for seed in request["seeds"]]
    prompts = [{"prompt_token_ids": prompt} for prompt in request["prompts"]]
    outputs = engine.generate(prompts, parameters, use_tqdm=False)
    return [list(output.outputs[0].token_ids) for output in outputs]


if __name__ == "__main__":
    main()
