"""What a client of a server owes: a bounded number of tries, patience as told, no key in any text."""

from __future__ import annotations

import json
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endpoint_server import OK, Asked, Behaviour, EndpointServer, endpoint_server, written
from fakes import FakeClock
from stillwatt.errors import EndpointError, RequestRefusedError, UsageError
from stillwatt.pipelines.endpoint_client import LONGEST_PAUSE_S, Answer, EndpointClient, check_answer, read_key
from stillwatt.pipelines.spec_endpoint import LEAVABLE, EndpointSpec
from stillwatt.units import NS_PER_S

KEY = "sk-never-to-be-seen-0123456789"
SPEC = EndpointSpec(url="", model="m", api="completions", api_key_env=None, concurrency=2, timeout_s=5.0, max_retries=3)
ASK = {"max_tokens": 8, "temperature": 1.0, "top_p": 0.9, "seed": 7}


class Client:
    """A client of a scripted server whose pauses are kept and not waited for."""

    def __init__(
        self, server: EndpointServer, *, key: str = "", clock: FakeClock | None = None, **changes: Any
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.pauses_s: list[float] = []
        self.clock = clock or FakeClock()
        self.client = EndpointClient(
            replace(SPEC, url=server.url, **changes),
            key=key,
            count=lambda **counts: self.counts.update(counts),
            sleep=self.pauses_s.append,
            clock=self.clock,
            chance=lambda: 1.0,
        )

    def ask(self, prompt: str = "once upon a time") -> Answer:
        return self.client.ask(prompt, **ASK)  # type: ignore[arg-type]  # the settings' types differ by name


def always(how: Behaviour) -> Callable[[int, Asked], Behaviour]:
    return lambda _number, _asked: how


def first(count: int, how: Behaviour) -> Callable[[int, Asked], Behaviour]:
    return lambda number, _asked: how if number < count else OK


@pytest.mark.parametrize("api", ["completions", "chat"])
def test_both_ways_of_asking_give_text_usage_and_why_it_ended(api: str) -> None:
    with endpoint_server() as server:
        found = Client(server, api=api).ask("say it")
    (asked,) = server.asked
    assert asked.path == ("/v1/completions" if api == "completions" else "/v1/chat/completions")
    assert asked.prompt == "say it"
    assert {name: asked.body[name] for name in ASK} == ASK
    assert (asked.body["n"], asked.body["stream"], asked.body["model"]) == (1, False, "m")
    assert "Authorization" not in asked.headers
    text = written("say it", 7, 8)
    assert found == Answer(text=text, finish="stop", prompt_tokens=3, generated_tokens=9, model="m-0001")


@pytest.mark.parametrize(
    "how",
    [
        *(Behaviour(status=status) for status in (408, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529)),
        Behaviour(breaks="reset"),
        Behaviour(breaks="torn"),
        Behaviour(body="<html>a proxy's page</html>"),
        Behaviour(body='{"choices": []}'),
        Behaviour(body='{"choices": [{"message": 1}]}'),
        Behaviour(body="[1]"),
    ],
    ids=lambda how: f"{how.status}{how.breaks}{(how.body or '')[:14]}",
)
def test_what_may_pass_is_asked_again_and_counted(how: Behaviour) -> None:
    with endpoint_server(first(2, how)) as server:
        client = Client(server)
        assert client.ask().text == written("once upon a time", 7, 8)
    assert len(server.asked) == 3
    assert client.pauses_s == [1.0, 2.0]
    worked = 0 if how.status in (408, 429) else 2
    assert client.counts == Counter({"requests": 1, "retries": 2, "unanswered_tries": worked})


@settings(max_examples=12, deadline=None)
@given(max_retries=st.integers(0, 9), chance=st.floats(0.0, 1.0), status=st.sampled_from([429, 500, 503]))
def test_tries_are_bounded_and_pauses_lie_under_a_doubling_ceiling(
    max_retries: int, chance: float, status: int
) -> None:
    with endpoint_server(always(Behaviour(status=status))) as server:
        client = Client(server, max_retries=max_retries)
        client.client._chance = lambda: chance
        with pytest.raises(EndpointError, match=f"status {status}"):
            client.ask()
    assert len(server.asked) == max_retries + 1
    assert client.pauses_s == [chance * min(LONGEST_PAUSE_S, 2.0**number) for number in range(max_retries)]
    assert client.counts["failed_requests"] == 1
    assert client.counts["retries"] == max_retries


@pytest.mark.parametrize(
    ("status", "cure"),
    [
        (400, "check teacher_endpoint.model"),
        (401, "name its environment variable in teacher_endpoint.api_key_env"),
        (403, "name its environment variable"),
        (404, "as a rule it ends in /v1"),
        (422, "does not take the request"),
        (302, "points to another address, which is not followed"),
    ],
)
def test_a_refusal_is_final_and_says_what_to_do(status: int, cure: str) -> None:
    headers = {"Location": "http://127.0.0.1:9/v1/completions"} if status == 302 else {}
    with endpoint_server(always(Behaviour(status=status, headers=headers))) as server:
        client = Client(server)
        with pytest.raises(EndpointError) as caught:
            client.ask()
    assert len(server.asked) == 1
    assert client.pauses_s == []
    is_of_the_request = status in (400, 422)
    assert isinstance(caught.value, RequestRefusedError) is is_of_the_request
    assert client.counts == Counter({"requests": 1, "refused_requests" if is_of_the_request else "failed_requests": 1})
    assert str(caught.value).startswith(f"endpoint {server.url}/completions: status {status}: ")
    assert cure in str(caught.value)


@pytest.mark.parametrize(
    ("mine", "other"), [("max_tokens", "max_completion_tokens"), ("max_completion_tokens", "max_tokens")]
)
def test_a_server_that_bounds_answers_under_the_other_name_says_what_to_write(mine: str, other: str) -> None:
    def behave(_number: int, asked: Asked) -> Behaviour:
        said = f"Unsupported parameter: '{mine}'. Use '{other}' instead."
        return OK if other in asked.body else Behaviour(status=400, body=json.dumps({"error": {"message": said}}))

    with endpoint_server(behave) as server:
        with pytest.raises(EndpointError, match=f"length_field = '{other}'"):
            Client(server, length_field=mine).ask()
        found = Client(server, length_field=other).ask("say it")
    assert found.text == written("say it", 7, 8)
    assert server.asked[-1].body[other] == 8
    assert mine not in server.asked[-1].body


CONVERSATION = (
    {"role": "system", "content": "You are terse."},
    {"role": "user", "content": "1 plus 1?"},
    {"role": "assistant", "content": "2"},
    {"role": "user", "content": "2 plus 2?", "name": "ann"},
)


def test_a_conversation_is_sent_message_by_message_and_never_as_a_text() -> None:
    with endpoint_server() as server:
        Client(server, api="chat").client.ask(CONVERSATION, **ASK)  # type: ignore[arg-type]  # ASK's types differ by name
        with pytest.raises(ValueError, match="cannot be put to a server that goes on from text"):
            Client(server).client.ask(CONVERSATION, **ASK)  # type: ignore[arg-type]  # ASK's types differ by name
    (asked,) = server.asked
    assert asked.body["messages"] == list(CONVERSATION)


@given(left_out=st.sets(st.sampled_from(LEAVABLE)), extra=st.sampled_from([{}, {"reasoning_effort": "low", "a": [1]}]))
@settings(max_examples=10, deadline=None)
def test_a_request_has_its_own_fields_but_those_left_out_and_the_extra_ones(
    left_out: set[str], extra: dict[str, Any]
) -> None:
    with endpoint_server() as server:
        Client(server).ask()
        Client(server, leave_out=tuple(left_out), extra_body=extra).ask()
    usual, asked = (each.body for each in server.asked)
    assert set(LEAVABLE) < set(usual)
    assert asked == {**{name: value for name, value in usual.items() if name not in left_out}, **extra}


def test_no_extra_field_stands_in_the_place_of_the_requests_own() -> None:
    with endpoint_server() as server:
        Client(server, extra_body={"model": "other", "prompt": "other", "seed": 1, "max_tokens": 1}).ask("mine")
    body = server.asked[0].body
    assert (body["model"], body["prompt"], body["seed"], body["max_tokens"]) == ("m", "mine", 7, 8)


@pytest.mark.parametrize(
    ("status", "said", "cure"),
    [
        (422, '{"detail":[{"type":"extra_forbidden","loc":["body","seed"]}]}', 'write leave_out = ["n", "seed"]'),
        (422, '{"detail":["' + "x" * 300 + '","top_p"]}', 'write leave_out = ["n", "top_p"]'),
        (400, "Unsupported parameter: 'temperature' is not supported", 'write leave_out = ["n", "temperature"]'),
        (400, "stream must be set", 'write leave_out = ["n", "stream"]'),
        (400, "n prompts in 'reasoning_effort' are bad", "remove reasoning_effort from teacher_endpoint.extra_body"),
        (400, "seeds of n temperatures", "it does not take the request: check teacher_endpoint.model"),
    ],
)
def test_a_refusal_that_names_a_field_says_how_to_be_rid_of_it(status: int, said: str, cure: str) -> None:
    extra = {"reasoning_effort": "low"}
    with endpoint_server(always(Behaviour(status=status, body=said))) as server:
        with pytest.raises(RequestRefusedError) as caught:
            Client(server, leave_out=("n",), extra_body=extra).ask()
    assert cure in str(caught.value)


def test_retry_after_is_waited_for_in_seconds_and_until_a_date() -> None:
    clock = FakeClock(utc_offset_ns=1_800_000_000 * NS_PER_S)
    date = format_datetime(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=1_800_000_031), usegmt=True)
    said = [{"Retry-After": "17"}, {"Retry-After": date}, {"Retry-After": "soon"}]
    with endpoint_server(
        lambda number, _asked: Behaviour(status=429, headers=said[number]) if number < 3 else OK
    ) as server:
        client = Client(server, clock=clock)
        client.ask()
    assert client.pauses_s == [17.0, 30.0, 4.0]


def test_a_date_without_a_zone_is_utc_and_a_past_one_no_pause() -> None:
    said = [{"Retry-After": "Thu, 01 Jan 1970 00:00:00 -0000"}]
    with endpoint_server(lambda number, _: Behaviour(status=503, headers=said[0]) if number < 1 else OK) as server:
        client = Client(server)
        client.ask()
    assert client.pauses_s == [1.0]


def test_a_longer_pause_than_anybody_has_patience_for_ends_it() -> None:
    with endpoint_server(always(Behaviour(status=429, headers={"Retry-After": "86400"}))) as server:
        client = Client(server)
        with pytest.raises(EndpointError, match="asks for a pause of 86400 s"):
            client.ask()
    assert len(server.asked) == 1


def test_a_server_that_says_nothing_is_left_after_the_timeout() -> None:
    with endpoint_server(always(Behaviour(breaks="hang"))) as server:
        client = Client(server, timeout_s=0.05, max_retries=1)
        with pytest.raises(EndpointError, match=r"no answer within 0\.05 s \(asked 2 times\)"):
            client.ask()
    assert client.counts["unanswered_tries"] == 2


def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        server = EndpointServer(url=f"http://127.0.0.1:{free.getsockname()[1]}/v1")
        client = Client(server, max_retries=0)
        with pytest.raises(EndpointError, match=r"the connection failed .*ConnectionRefusedError.*asked once"):
            client.ask()
    assert client.counts["unanswered_tries"] == 0


def test_who_is_told_to_stop_asks_no_more() -> None:
    with endpoint_server(always(Behaviour(status=500))) as server:
        client = Client(server)
        client.client.stop()
        with pytest.raises(EndpointError, match="asked once"):
            client.ask()


def test_the_key_travels_in_a_header_and_stands_in_no_message() -> None:
    said = Behaviour(status=401, body=json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}"}}))
    with endpoint_server(always(said)) as server:
        client = Client(server, key=KEY, api_key_env="TEACHER_KEY")
        with pytest.raises(EndpointError, match="check the key in the environment variable TEACHER_KEY") as caught:
            client.ask()
    assert server.asked[0].headers["Authorization"] == f"Bearer {KEY}"
    error: BaseException | None = caught.value
    while error is not None:
        assert KEY not in repr(error) + str(error)
        error = error.__cause__ or error.__context__


def test_a_text_that_repeats_the_key_is_not_taken() -> None:
    with endpoint_server(always(Behaviour(text=f"the key is {KEY}"))) as server:
        with pytest.raises(EndpointError, match="repeats the key"):
            Client(server, key=KEY).ask()


def test_a_chat_without_content_is_no_text() -> None:
    answer = {"choices": [{"message": {"role": "assistant", "content": None}, "finish_reason": "tool_calls"}]}
    with endpoint_server(always(Behaviour(body=json.dumps(answer)))) as server:
        found = Client(server, api="chat").ask()
    assert (found.text, found.finish, found.generated_tokens) == ("", "tool_calls", None)


@given(
    found=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["choices", "text", "message", "content", "usage"]), inner, max_size=3)
        ),
        max_leaves=8,
    ),
    api=st.sampled_from(["completions", "chat"]),
)
def test_whatever_json_comes_it_holds_text_or_says_what_it_lacks(found: Any, api: str) -> None:
    problem = check_answer(found, api)
    if not problem:
        choice = found["choices"][0]
        text = choice["text"] if api == "completions" else (choice["message"].get("content") or "")
        assert isinstance(text, str)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (Behaviour(body="[" * 100_000), r"is not JSON: '\[\[\["),
        (Behaviour(status=400, body="[" * 100_000), r"status 400: \[\[\["),
        (Behaviour(body='{"error": {"message": "out of credit", "code": 402}}'), "holds no choices: out of credit"),
    ],
)
def test_what_a_server_says_is_told_whatever_it_is(how: Behaviour, said: str) -> None:
    with endpoint_server(always(how)) as server, pytest.raises(EndpointError, match=said):
        Client(server, max_retries=0, api="chat").ask()


@pytest.mark.parametrize("text", ["", "  ", "two words", "two\nlines", "schlüssel"])
def test_a_key_that_cannot_be_one_is_refused_beforehand_and_not_repeated(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEACHER_KEY", text)
    with pytest.raises(UsageError, match="the environment variable TEACHER_KEY") as caught:
        read_key(replace(SPEC, api_key_env="TEACHER_KEY"))
    assert not text.strip() or text not in str(caught.value)


def test_keys_are_read_from_the_named_variable_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER_KEY", f" {KEY}\n")
    assert read_key(replace(SPEC, api_key_env="TEACHER_KEY")) == KEY
    assert read_key(SPEC) == ""
