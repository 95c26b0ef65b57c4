"""A judge behind an address: what is sent and read, what becomes of answers without a verdict, and what is kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endpoint_server import OK, Asked, Behaviour, EndpointServer, endpoint_server
from judge_models import judge_spec
from judge_server import answer, judging, logprobs_of
from stillwatt.errors import EndpointError, StillwattError
from stillwatt.pipelines.endpoint_client import EndpointClient
from stillwatt.pipelines.judge_endpoint import EndpointJudge, by_probabilities, by_text
from stillwatt.pipelines.judge_scores import NO_VERDICT, REFUSED, NoReading, Reading, duels_of, win_rate
from stillwatt.pipelines.spec_endpoint import EndpointSpec
from stillwatt.records.channel import Basis
from stillwatt.records.energy import Total
from tiny_models import CountingTask
from told_stages import Stage

PER_TOKEN = Total(value_j=0.5, low_j=0.1, high_j=2.0, basis=Basis.MODELLED, complete=True)
PROMPTS = [f"prompt {number}" for number in range(10)]


def judge_for(server: EndpointServer, *, api: str = "chat", by: str = "probabilities", **changes: Any) -> EndpointJudge:
    """A judge on that server, whose pauses take no time."""
    asked = {"api_key_env": None, "concurrency": 3, "timeout_s": 5.0, "max_retries": 2} | changes
    endpoint = EndpointSpec(
        url=server.url, model="judge", api=api, table="evaluate.judge_endpoint", asked_in="evaluate.judge",
        top_logprobs=0 if by == "text" else 5, **asked,
    )  # fmt: skip
    spec = judge_spec(source="endpoint", dtype=None, form="chat", verdicts_by=by, endpoint=endpoint)

    def make_client(count: Callable[..., None]) -> EndpointClient:
        return EndpointClient(endpoint, key="", count=count, sleep=lambda _s: None)

    return EndpointJudge(spec, make_client=make_client)


def read(judge: EndpointJudge, stage: Stage, kept: Path | None = None) -> list[Reading | NoReading]:
    return judge.read(PROMPTS, task=CountingTask(), stage=stage, kept=kept)


def number_of(prompt: str) -> int:
    return int(prompt.rpartition(" ")[2])


@pytest.mark.parametrize(("api", "form"), [("chat", "content"), ("completions", "table"), ("completions", "content")])
def test_verdicts_are_read_off_the_first_token_whichever_way_a_server_tells_it(api: str, form: str) -> None:
    stage = Stage()
    with endpoint_server(judging(lambda prompt: number_of(prompt) / 10, form=form)) as server:
        found = read(judge_for(server, api=api), stage)
        asked = {each.prompt: each.body for each in server.asked}
    assert [reading.shares[0] for reading in found if isinstance(reading, Reading)] == pytest.approx(
        [number / 10 for number in range(10)]
    )
    assert [reading.mass for reading in found if isinstance(reading, Reading)] == pytest.approx([0.9] * 10)
    assert [reading.is_cut_off for reading in found if isinstance(reading, Reading)] == [True, *[False] * 9]
    body = asked["prompt 3"]
    # at temperature 1 raw and processed probabilities are the same
    assert (body["temperature"], body["top_p"], body["max_tokens"], body["n"]) == (1.0, 1.0, 1, 1)
    told = {"logprobs": True, "top_logprobs": 5} if api == "chat" else {"logprobs": 5}
    assert {name: body[name] for name in body if "logprobs" in name} == told
    assert stage.counts["tokens"] == 120
    assert (stage.counts["prompt_tokens"], stage.counts["generated_tokens"], stage.counts["requests"]) == (110, 10, 10)
    assert stage.results["endpoint"]["models"] == {"judge-0001": 10}


@settings(max_examples=60)
@given(st.dictionaries(st.sampled_from(["A", " A", "B", " B", "The"]), st.floats(0.001, 0.2), min_size=1))
def test_shares_are_those_of_the_verdicts_told_however_they_are_spaced(first: dict[str, float]) -> None:
    found = by_probabilities(first, ("A", "B"))
    masses = [sum(p for token, p in first.items() if token.strip() == letter) for letter in "AB"]
    if not sum(masses):
        assert isinstance(found, NoReading)
        return
    assert isinstance(found, Reading)
    assert found.shares == pytest.approx([mass / sum(masses) for mass in masses])
    assert found.mass == pytest.approx(sum(masses))
    assert found.is_cut_off == (0.0 in masses)


@pytest.mark.parametrize(
    ("text", "shares"),
    [
        ("A", (1.0, 0.0)), (" B.", (0.0, 1.0)), ("**A**", (1.0, 0.0)), ("(b)", None), ("", None), ("A or B", None),
        ("Both are fine.\nB", (0.0, 1.0)), ("A better one is the second", None), ("A\nbecause it is", None),
    ],
)  # fmt: skip
def test_a_written_verdict_stands_alone_or_is_none(text: str, shares: tuple[float, float] | None) -> None:
    found = by_text(text, ("A", "B"))
    assert (found.shares if isinstance(found, Reading) else None) == shares
    assert not isinstance(found, Reading) or found.mass is None


def test_a_server_without_probabilities_is_told_of_with_the_other_way() -> None:
    with endpoint_server(lambda _n, asked: answer(asked, "A")) as server:
        with pytest.raises(EndpointError, match=r'does not tell how probable.*set verdicts_by = "text"'):
            read(judge_for(server), Stage())
        refusing = Behaviour(status=400, body=json.dumps({"error": {"message": "logprobs are not supported"}}))
        server.behave = lambda _n, _asked: refusing
        with pytest.raises(StillwattError, match=r'first 4 prompts.*not supported.*set verdicts_by = "text"'):
            read(judge_for(server), Stage())
        server.behave = lambda _n, asked: answer(asked, "B")
        found = read(judge_for(server, by="text"), Stage())
        body = server.asked[-1].body
    assert {reading.shares for reading in found if isinstance(reading, Reading)} == {(0.0, 1.0)}
    assert (body["temperature"], body["max_tokens"], "logprobs" in body) == (0.0, 8, False)


def odd(_number: int, asked: Asked) -> Behaviour:
    """Prompts 2 and 5 are refused, 3 is filtered, 4 is refused by the model, and 6 is answered otherwise."""
    prompt = number_of(asked.prompt)
    if prompt in (2, 5):
        return Behaviour(status=400, body=json.dumps({"error": {"message": "flagged"}}))
    if prompt == 3:
        return answer(asked, "", finish="content_filter")
    if prompt == 4:
        return answer(asked, "", refusal="I cannot judge that.")
    told = {"I": 0.9, "Well": 0.1} if prompt == 6 else {"A": 0.9, "B": 0.1}
    return answer(asked, "A", logprobs=logprobs_of("content", told))


def test_what_gives_no_verdict_is_counted_and_in_no_duel(tmp_path: Path) -> None:
    stage, kept = Stage(), tmp_path / "kept.jsonl"
    with endpoint_server(odd) as server:
        found = read(judge_for(server, concurrency=1), stage, kept)
        again = read(judge_for(server), Stage(), kept)
        asked = len(server.asked)
    why = [reading.why if isinstance(reading, NoReading) else "" for reading in found]
    assert why == ["", "", REFUSED, REFUSED, REFUSED, REFUSED, NO_VERDICT, "", "", ""]
    assert (asked, again) == (10, found)
    assert stage.counts["refused_requests"] == 2
    assert stage.results["endpoint"]["refusals"] == {"status 400: flagged": 2}
    # questions are pairs of prompts: 0 and 1, and 8 and 9, have both orders
    assert win_rate(duels_of(found)).n == 2


def test_after_an_outage_only_the_rest_is_asked_and_found_the_same(tmp_path: Path) -> None:
    kept, whole = tmp_path / "kept.jsonl", judging(lambda prompt: number_of(prompt) / 10)

    def breaks(number: int, asked: Asked) -> Behaviour:
        return whole(number, asked) if number < 6 else Behaviour(status=500)

    first, second = Stage(), Stage()
    with endpoint_server(breaks) as server:
        with pytest.raises(EndpointError, match=r"status 500.*raise evaluate\.judge_endpoint\.max_retries"):
            read(judge_for(server, concurrency=1), first, kept)
        with kept.open("a", encoding="utf-8") as file:
            file.write('{"key": "torn')  # as a kill leaves it
        server.behave, before = whole, len(server.asked)
        found = read(judge_for(server, concurrency=1), second, kept)
        asked = [each.prompt for each in server.asked[before:]]
        plain = read(judge_for(server), Stage())
    assert found == plain
    assert asked == PROMPTS[6:]
    assert first.counts["retries"] >= 2
    assert first.counts["unanswered_tries"] >= 3
    assert second.counts["prompts_taken_over"] == 6
    assert (first.counts["tokens"], second.counts["tokens"]) == (72, 48)


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"nonsense",
        b"\xff\xfe",
        b"7",
        b'{"key": "a"}',
        b'{"key": "a", "shares": [0.0, 0.0], "mass": 1, "is_cut_off": 0}',
    ],
    ids=["empty", "no JSON", "no UTF-8", "a number", "a part", "no shares"],
)
def test_a_kept_reading_that_was_damaged_is_named_and_costs_itself_alone(tmp_path: Path, damage: bytes) -> None:
    kept = tmp_path / "kept.jsonl"
    with endpoint_server(judging()) as server:
        read(judge_for(server), Stage(), kept)
        lines = kept.read_bytes().split(b"\n")
        kept.write_bytes(b"\n".join([*lines[:2], damage, *lines[3:]]))
        with pytest.raises(StillwattError, match=r"kept\.jsonl:3: this line is no reading .* remove it, and the same"):
            read(judge_for(server), Stage(), kept)
        kept.write_bytes(b"\n".join([*lines[:2], *lines[3:]]))
        before = len(server.asked)
        read(judge_for(server), Stage(), kept)
        assert len(server.asked) - before == 1


def test_refusals_to_the_end_are_asked_again_and_answers_are_not(tmp_path: Path) -> None:
    kept = tmp_path / "kept.jsonl"

    def spent(number: int, asked: Asked) -> Behaviour:
        return judging()(number, asked) if number < 4 else Behaviour(status=422)

    with endpoint_server(spent) as server:
        with pytest.raises(StillwattError, match=r"the last 6 prompts to the judge were all refused: .*is kept"):
            read(judge_for(server, concurrency=1), Stage(), kept)
        server.behave, before = judging(), len(server.asked)
        found = read(judge_for(server), Stage(), kept)
        assert len(server.asked) - before == 6
    assert all(isinstance(reading, Reading) for reading in found)


@pytest.mark.parametrize("fault", [{"status": 429}, {"status": 503}, {"breaks": "reset"}, {"breaks": "hang"}])
def test_busy_and_broken_servers_are_asked_again(fault: dict[str, Any]) -> None:
    stage = Stage()

    def behave(number: int, asked: Asked) -> Behaviour:
        return replace(OK, **fault) if number == 0 else judging()(number, asked)

    with endpoint_server(behave) as server:
        found = read(judge_for(server, timeout_s=0.2 if "hang" in fault.values() else 5.0), stage)
    assert len(found) == 10
    assert stage.counts["retries"] == 1
    assert stage.counts["failed_requests"] == 0


def test_energy_is_absent_or_modelled_with_its_interval(tmp_path: Path) -> None:
    stage = Stage()
    with endpoint_server(judging()) as server:
        read(judge_for(server), stage)
        assert {(said["part"], said["value_j"]) for said in stage.stated} == {("endpoint", None)}
        assert stage.stated[-1]["reason"].startswith("the judge is an endpoint: 127.0.0.1 is read by nobody here")
        modelled = Stage()
        read(judge_for(server, token_energy=PER_TOKEN, energy_source="a model"), modelled)
        silent = Stage()
        server.behave = lambda _n, asked: answer(
            asked, "A", logprobs=logprobs_of("content", {"A": 0.5, "B": 0.5}), usage=False
        )
        read(judge_for(server, token_energy=PER_TOKEN, energy_source="a model"), silent)
    last = modelled.stated[-1]
    assert last["value_j"] == pytest.approx(10 * 0.5)
    assert last["systematic_low_j"] == pytest.approx(10 * 0.4)
    assert last["systematic_high_j"] == pytest.approx(10 * 1.5)
    # what a server did not count is not known to be nothing
    assert "tokens" not in silent.counts
    assert silent.counts["requests_without_usage"] == 10
    assert (silent.stated[-1]["value_j"], silent.stated[-1]["systematic_high_j"]) == (0.0, pytest.approx(10 * 2.0))


def test_unlike_ways_of_asking_are_unlike_judges() -> None:
    server = EndpointServer(url="http://127.0.0.1:9/v1")
    asked = [judge_for(server), judge_for(server, by="text"), judge_for(server, api="completions")]
    asked.append(judge_for(server, extra_body={"reasoning_effort": "low"}))
    assert len({json.dumps(dict(judge.identity), sort_keys=True) for judge in asked}) == 4
    assert all(judge.identity["weights"] is None for judge in asked)
