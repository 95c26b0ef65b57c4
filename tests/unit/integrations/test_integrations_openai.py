"""The OpenAI client with the real library, against a real server on loopback; and vLLM's outputs with a stand-in."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

import stillwatt
from chat_server import CACHED, GENERATED, PROMPT, REASONING, chat_server
from integration_runs import message_without, stages, synthetic_run, value_j
from stillwatt.errors import UsageError
from stillwatt.integrations import openai_client, vllm
from stillwatt.metering.measured import open_run
from stillwatt.records import StageStatus

openai = pytest.importorskip("openai", reason="the extra 'integrations' is not installed")

KNOWN = {
    "prompt_tokens": PROMPT,
    "generated_tokens": GENERATED,
    "tokens": PROMPT + GENERATED,
    "cached_prompt_tokens": CACHED,
    "reasoning_tokens": REASONING,
}
ASK: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}]}
WITH_USAGE: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}


def times(count: int, **more: float) -> dict[str, float]:
    """The counts of `count` requests that all said what they took."""
    return {"requests": count, **{name: value * count for name, value in KNOWN.items()}, **more}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with chat_server() as url:
        yield url


@pytest.fixture
def run(runs_dir: Path) -> Iterator[stillwatt.Run]:
    """An open run; `finished` closes it."""
    opened = synthetic_run(runs_dir)
    opened.__enter__()
    yield opened
    if open_run() is opened:
        opened.__exit__(None, None, None)


@pytest.fixture
def client(address: str, run: stillwatt.Run) -> Iterator[Any]:
    with openai.OpenAI(base_url=address, api_key="none", max_retries=0) as made:
        yield openai_client.count_tokens(made, run)


def finished(run: stillwatt.Run, name: str = "ask") -> stillwatt.StageRecord:
    run.__exit__(None, None, None)
    (stage,) = stages(run.result, name)
    return stage


def test_every_interface_counts_what_the_server_says(client: Any, run: stillwatt.Run) -> None:
    with run.stage("ask", kind="teacher_generate"):
        assert client.chat.completions.create(**ASK).choices[0].message.content == "four words of answer"
        client.completions.create(model="tiny", prompt="hello")
        assert client.responses.create(model="tiny", input="hello").output_text == "four words of answer"
        client.chat.completions.parse(**ASK)
    stage = finished(run)
    assert stage.workload == times(4)
    assert value_j(stage.gross) > 0


def test_streams_count_at_their_end(client: Any, run: stillwatt.Run) -> None:
    with run.stage("ask"):
        stream = client.chat.completions.create(**ASK, **WITH_USAGE)
        assert isinstance(stream, openai.Stream)
        assert stream.response.status_code == 200
        assert len(list(stream)) == 4
        with client.completions.create(model="tiny", prompt="hello", **WITH_USAGE) as other:
            assert len([chunk for chunk in other]) == 4
        assert len(list(client.responses.create(model="tiny", input="hello", stream=True))) == 4
        with client.chat.completions.stream(**ASK, stream_options={"include_usage": True}) as events:
            assert events.get_final_completion().usage.completion_tokens == GENERATED
    assert finished(run).workload == times(4)


def test_the_async_client_counts_the_same(address: str, run: stillwatt.Run) -> None:
    async def ask(client: Any) -> None:
        with run.stage("ask"):
            await client.chat.completions.create(**ASK)
            stream = await client.chat.completions.create(**ASK, **WITH_USAGE)
            assert isinstance(stream, openai.AsyncStream)
            assert len([chunk async for chunk in stream]) == 4
            async with await client.responses.create(model="tiny", input="hello", stream=True) as events:
                assert len([event async for event in events]) == 4
            async with client.chat.completions.stream(**ASK, stream_options={"include_usage": True}) as helper:
                await helper.get_final_completion()
            with pytest.raises(openai.InternalServerError):
                await client.chat.completions.create(**{**ASK, "model": "500"})
            left = await client.chat.completions.create(**ASK, **WITH_USAGE)
            await anext(left)
            await left.close()
            with pytest.raises(openai.APIError):
                async for _ in await client.chat.completions.create(**{**ASK, "model": "x-dies"}, **WITH_USAGE):
                    pass

    async def main() -> None:
        async with openai.AsyncOpenAI(base_url=address, api_key="none", max_retries=0) as client:
            await ask(openai_client.count_tokens(client, run))

    asyncio.run(main())
    assert finished(run).workload == times(4) | {"requests": 7, "failed_requests": 2, "requests_without_usage": 3}


def read_in_pieces(client: Any) -> None:
    with client.chat.completions.with_streaming_response.create(**ASK, **WITH_USAGE) as answer:
        assert list(answer.iter_lines())


def parsed_twice(client: Any) -> Any:
    answer = client.chat.completions.with_raw_response.create(**ASK, **WITH_USAGE)
    stream = answer.parse()
    assert answer.parse() is stream
    return list(stream)


def read_whole(client: Any) -> Any:
    with client.responses.with_streaming_response.create(model="tiny", input="hello") as answer:
        return answer.json()


def parsed_inside(client: Any) -> Any:
    with client.chat.completions.with_streaming_response.create(**ASK) as answer:
        return answer.parse()


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.chat.completions.with_raw_response.create(**ASK),
        lambda client: client.chat.completions.with_raw_response.create(**ASK).parse(),
        lambda client: list(client.chat.completions.with_raw_response.create(**ASK, **WITH_USAGE).parse()),
        parsed_twice,
        read_whole,
        parsed_inside,
    ],
    ids=["unread", "parsed", "streamed", "parsed twice", "read whole", "parsed inside"],
)
def test_answers_that_are_taken_raw_are_counted(client: Any, run: stillwatt.Run, ask: Any) -> None:
    """As langchain-openai takes them, for instance."""
    with run.stage("ask"):
        assert ask(client)
    assert finished(run).workload == times(1)


def test_raw_answers_of_the_async_client_are_counted(address: str, run: stillwatt.Run) -> None:
    async def main() -> None:
        async with openai.AsyncOpenAI(base_url=address, api_key="none", max_retries=0) as client:
            openai_client.count_tokens(client, run)
            raw = client.chat.completions.with_raw_response
            with run.stage("ask"):
                assert (await raw.create(**ASK)).parse().choices
                assert len([chunk async for chunk in (await raw.create(**ASK, **WITH_USAGE)).parse()]) == 4
                async with client.chat.completions.with_streaming_response.create(**ASK) as answer:
                    assert (await answer.parse()).choices

    asyncio.run(main())
    assert finished(run).workload == times(3)


def test_embeddings_are_counted(client: Any, run: stillwatt.Run) -> None:
    with run.stage("ask"):
        assert client.embeddings.create(model="tiny", input="hello").data[0].embedding == [0.5, 0.25]
    assert finished(run).workload == {"requests": 1, "prompt_tokens": PROMPT, "tokens": PROMPT}


@pytest.mark.parametrize(
    ("ask", "reason"),
    [
        (lambda client: client.chat.completions.create(**{**ASK, "model": "silent"}), "answer has no usage"),
        (lambda client: list(client.chat.completions.create(**ASK, stream=True)), "include_usage"),
        (lambda client: client.chat.completions.create(**ASK, **WITH_USAGE).close(), "left before"),
        (lambda client: next(client.chat.completions.create(**ASK, **WITH_USAGE)), "left before"),
        (lambda client: client.chat.completions.with_raw_response.create(**ASK, **WITH_USAGE), "taken raw"),
        (lambda client: read_in_pieces(client), "taken raw"),
    ],
    ids=["silent", "streamed", "closed", "dropped", "raw", "in pieces"],
)
def test_a_request_without_usage_is_counted_as_such(client: Any, run: stillwatt.Run, ask: Any, reason: str) -> None:
    with run.stage("ask"):
        ask(client)
    stage = finished(run)
    assert stage.workload == {"requests": 1, "requests_without_usage": 1}
    assert reason in stage.results["usage_absent"]


@pytest.mark.parametrize(("model", "error"), [("429", "RateLimitError"), ("500", "InternalServerError")])
def test_errors_are_counted_and_their_energy_stays(client: Any, run: stillwatt.Run, model: str, error: str) -> None:
    with run.stage("ask"):
        with pytest.raises(getattr(openai, error)):
            client.chat.completions.create(**{**ASK, "model": model})
        client.chat.completions.create(**ASK)
    stage = finished(run)
    assert stage.workload == times(1) | {"requests": 2, "failed_requests": 1, "requests_without_usage": 1}
    assert error in stage.results["last_failure"]
    assert stage.status is StageStatus.ENDED
    assert value_j(stage.gross) > 0


def test_a_stream_that_is_read_after_the_run_says_that_its_counts_are_lost(client: Any, run: stillwatt.Run) -> None:
    with run.stage("ask"):
        stream = client.chat.completions.create(**ASK, **WITH_USAGE)
    assert finished(run).workload == {"requests": 1}
    with pytest.warns(stillwatt.MeterWarning, match="the run has ended; what it is told now .workload. is not kept"):
        assert len(list(stream)) == 4


def test_a_broken_stream_is_a_failed_request(client: Any, run: stillwatt.Run) -> None:
    got = []
    with run.stage("ask"), pytest.raises(openai.APIError):
        for chunk in client.chat.completions.create(**{**ASK, "model": "x-dies"}, **WITH_USAGE):
            got.append(chunk)
    stage = finished(run)
    assert len(got) == 2
    assert stage.workload == {"requests": 1, "failed_requests": 1, "requests_without_usage": 1}
    assert value_j(stage.gross) > 0


def test_repeats_of_the_client_are_one_request(address: str, run: stillwatt.Run) -> None:
    with openai.OpenAI(base_url=address, api_key="none", max_retries=2) as client, run.stage("ask"):
        with pytest.raises(openai.InternalServerError):
            openai_client.count_tokens(client, run).chat.completions.create(**{**ASK, "model": "500"})
    assert finished(run).workload == {"requests": 1, "failed_requests": 1, "requests_without_usage": 1}


def test_threads_count_into_the_stage_around_the_client(address: str, run: stillwatt.Run) -> None:
    with openai.OpenAI(base_url=address, api_key="none") as client, run.stage("ask"):
        openai_client.count_tokens(client)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: client.chat.completions.create(**ASK), range(8)))
        with run.stage("inner"), ThreadPoolExecutor(1) as pool:
            pool.submit(contextvars.copy_context().run, lambda: client.chat.completions.create(**ASK)).result()
    assert finished(run).workload == times(8)
    assert stages(run.result, "inner")[0].workload == times(1)


def test_a_pool_of_threads_asks_for_the_only_stage_that_is_open(address: str, run: stillwatt.Run) -> None:
    with openai.OpenAI(base_url=address, api_key="none") as client:
        openai_client.count_tokens(client, run)
        with run.stage("all"), run.stage("ask"), ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: client.chat.completions.create(**ASK), range(8)))
    assert stages(run.result, "ask")[0].workload == times(8)


def test_where_several_stages_are_open_the_runs_record_says_that_requests_are_not_counted(
    address: str, run: stillwatt.Run
) -> None:
    """Of two threads beside each other none is known to have asked the third."""
    both = threading.Barrier(3, timeout=60)

    def beside(name: str) -> None:
        with run.stage(name):
            both.wait()
            both.wait()

    with openai.OpenAI(base_url=address, api_key="none") as client, ThreadPoolExecutor(1) as pool:
        openai_client.count_tokens(client, run)
        threads = [threading.Thread(target=beside, args=(name,)) for name in ("one", "two")]
        with pytest.warns(stillwatt.MeterWarning) as seen:
            for thread in threads:
                thread.start()
            both.wait()
            pool.submit(lambda: client.chat.completions.create(**ASK)).result()
            both.wait()
            for thread in threads:
                thread.join()
    assert any("outside any stage" in str(each.message) for each in seen)
    assert all(not stage.workload for stage in run.result.stages)
    run.__exit__(None, None, None)
    assert any("outside any stage" in warning for warning in run.result.warnings)


def test_a_request_measured_in_a_pool_counts_for_itself_and_one_beside_it_for_what_holds_both(
    address: str, run: stillwatt.Run
) -> None:
    with openai.OpenAI(base_url=address, api_key="none") as client, ThreadPoolExecutor(2) as pool:
        openai_client.count_tokens(client, run)

        def measured() -> None:
            with run.stage("request"):
                client.chat.completions.create(**ASK)
                pool.submit(lambda: client.chat.completions.create(**ASK)).result()

        with run.stage("teacher"):
            pool.submit(measured).result()
    record = finished(run, "teacher")
    assert record.workload == times(1)
    (request,) = stages(run.result, "request")
    assert (request.workload, request.parent_id) == (times(1), record.stage_id)


def test_a_stage_that_is_over_gets_no_more_requests(address: str, run: stillwatt.Run) -> None:
    with openai.OpenAI(base_url=address, api_key="none") as client:
        with run.stage("ask"):
            openai_client.count_tokens(client, run)
            client.chat.completions.create(**ASK)
        with pytest.warns(stillwatt.MeterWarning, match="outside any stage"):
            client.chat.completions.create(**ASK)
    assert finished(run).workload == times(1)


def test_a_client_that_is_given_again_counts_once(address: str, run: stillwatt.Run) -> None:
    with openai.OpenAI(base_url=address, api_key="none") as client, run.stage("ask"):
        for _ in range(3):
            openai_client.count_tokens(client)
        client.chat.completions.create(**ASK)
        client.with_options(timeout=5).with_options(max_retries=0).chat.completions.create(**ASK)
    assert finished(run).workload == times(2)


@pytest.mark.parametrize("is_made_before", [True, False])
def test_what_the_client_has_in_beta_counts_too(address: str, run: stillwatt.Run, is_made_before: bool) -> None:
    with openai.OpenAI(base_url=address, api_key="none") as client, run.stage("ask"):
        asked = [client.beta.chat, client.beta.responses] if is_made_before else []
        openai_client.count_tokens(client, run)
        client.beta.chat.completions.create(**ASK)
        client.beta.responses.create(model="tiny", input="hello")
        assert len(asked) in (0, 2)
    assert finished(run).workload == times(2)


def test_outside_any_stage_a_warning_says_that_nothing_is_counted(client: Any) -> None:
    with pytest.warns(stillwatt.MeterWarning, match="outside any stage"):
        assert client.chat.completions.create(**ASK).usage.prompt_tokens == PROMPT


def test_what_has_no_such_interface_is_refused() -> None:
    with pytest.raises(UsageError, match="object has none of chat"):
        openai_client.count_tokens(object())


def test_a_client_of_the_same_shape_will_do(run: stillwatt.Run) -> None:
    class Completions:
        def create(self, **asked: Any) -> dict[str, Any]:
            return {"usage": {"prompt_tokens": 3, "completion_tokens": 2}}

    class Client:
        completions = Completions()
        responses = "not one"

    client = openai_client.count_tokens(Client(), run)
    with run.stage("ask"):
        client.completions.create(prompt="x")
    assert finished(run).workload == {"requests": 1, "prompt_tokens": 3, "generated_tokens": 2, "tokens": 5}


@dataclass
class Completion:
    token_ids: list[int] | None
    index: int = 0


@dataclass
class RequestOutput:
    """The fields that vLLM documents for one prompt's outputs."""

    prompt_token_ids: list[int] | None
    outputs: list[Completion]
    num_cached_tokens: int | None = None


class FakeLLM:
    """Generates twice as many tokens as a prompt has characters."""

    def generate(self, prompts: list[str], sampling_params: object = None) -> list[RequestOutput]:
        if "fail" in prompts:
            raise RuntimeError("out of memory")
        return [
            RequestOutput(
                prompt_token_ids=None if prompt == "ids?" else [1] * len(prompt),
                outputs=[Completion([1] * len(prompt)), Completion([2] * len(prompt))],
                num_cached_tokens=1,
            )
            for prompt in prompts
        ]

    def chat(self, messages: list[str]) -> list[RequestOutput]:
        return self.generate(messages)


def test_vllm_outputs_are_counted_once(run: stillwatt.Run) -> None:
    llm = vllm.count_tokens(FakeLLM(), run)
    with run.stage("ask", kind="teacher_generate"):
        assert len(llm.generate(["abc", "de"])) == 2
        llm.chat(["ab"])
        llm.generate(["ids?"])
        with pytest.raises(RuntimeError, match="out of memory"):
            llm.generate(["fail"])
    stage = finished(run)
    assert stage.workload == {
        "requests": 5,
        "prompt_tokens": 7,
        "generated_tokens": 14,
        "tokens": 21,
        "cached_prompt_tokens": 3,
        "requests_without_usage": 2,
        "failed_requests": 1,
    }
    with pytest.raises(UsageError, match="neither generate nor chat"):
        vllm.count_tokens(object())


class Kind(Enum):
    CUMULATIVE = 0
    DELTA = 1


@dataclass
class Params:
    output_kind: Kind = Kind.CUMULATIVE


class FakeAsyncLLM:
    """Streams two completions of each prompt in turns, a token at a time, as many as the prompt has characters."""

    def __init__(self) -> None:
        self.closed: list[str] = []

    async def generate(self, prompt: str, params: Params, request_id: str) -> AsyncGenerator[RequestOutput, None]:
        try:
            for length in range(1, len(prompt) + 1):
                if prompt[length - 1] == "!":
                    raise RuntimeError("out of memory")
                for index in (0, 1):
                    new = [7] if params.output_kind is Kind.DELTA else [7] * length
                    yield RequestOutput([1, 2, 3], [Completion(new, index)])
        finally:
            self.closed.append(request_id)


@pytest.mark.parametrize("kind", Kind)
def test_vllm_streams_are_counted_whichever_way_they_tell(run: stillwatt.Run, kind: Kind) -> None:
    llm = vllm.count_tokens(FakeAsyncLLM(), run)

    async def read() -> None:
        llm.generate("never asked", Params(kind), "none")
        assert len([out async for out in llm.generate("abcd", params=Params(kind), request_id="whole")]) == 8
        with pytest.raises(RuntimeError, match="out of memory"):
            async for _ in llm.generate("ab!", Params(kind), "failed"):
                pass

    with run.stage("ask"):
        asyncio.run(read())
    stage = finished(run)
    assert stage.workload == {
        "requests": 2,
        "prompt_tokens": 6,
        "generated_tokens": 8 + 4,
        "tokens": 18,
        "failed_requests": 1,
    }


def test_a_vllm_stream_that_is_left_ends_the_request_and_counts_what_came(run: stillwatt.Run) -> None:
    llm = vllm.count_tokens(FakeAsyncLLM(), run)

    async def leave() -> None:
        stream = llm.generate("abcdef", Params(), "left")
        await anext(stream)
        await anext(stream)
        await stream.aclose()
        assert llm.closed == ["left"]

    with run.stage("ask"):
        asyncio.run(leave())
    stage = finished(run)
    assert stage.workload == {"requests": 1, "prompt_tokens": 3, "generated_tokens": 2, "tokens": 5}
    assert "left before its end" in stage.results["usage_absent"]


@pytest.mark.parametrize("module", ["openai_client", "vllm"])
def test_neither_needs_its_library(module: str) -> None:
    statement = f"from stillwatt.integrations.{module} import count_tokens; count_tokens(object())"
    assert message_without(["openai", "vllm"], statement).startswith("UsageError: object has n")
