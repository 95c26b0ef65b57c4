"""Where prompts come from, on a real tokenizer of bytes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byte_tokenizer import byte_tokenizer
from stillwatt.errors import MissingInputError, StillwattError
from stillwatt.pipelines.prompts import (
    NewSample,
    PromptSet,
    check_prompts,
    file_prompts,
    prompts_identity,
    seed_prompts,
    source_of,
)
from stillwatt.pipelines.spec import GenerateSpec

TOKENIZER = byte_tokenizer()
SPEC = GenerateSpec(
    prompt_tokens=200,
    max_new_tokens=10,
    min_new_tokens=1,
    max_repeat_share=1.0,
    temperature=1.0,
    top_p=1.0,
    batch_size=3,
    max_rounds=3,
    seed=7,
)


def written(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def prompts(tmp_path: Path, *rows: Any, **changes: Any) -> PromptSet:
    path = written(tmp_path / "prompts.jsonl", *rows)
    return file_prompts(replace(SPEC, prompts=f"path:{path}", **changes), TOKENIZER)


def texts(found: PromptSet) -> list[str]:
    return [TOKENIZER.decode(ids) for ids in found.ids]


def seeds(tmp_path: Path, *seeds: str, **changes: Any) -> GenerateSpec:
    path = written(tmp_path / "seeds.jsonl", *({"text": seed} for seed in seeds))
    return replace(SPEC, seeds=f"path:{path}", **{"shots": 2, **changes})


def test_plain_prompts_are_what_is_written(tmp_path: Path) -> None:
    found = prompts(tmp_path, {"prompt": "two words"}, {"prompt": "ö\u2028{x}"})
    assert texts(found) == ["two words", "ö\u2028{x}"]
    assert found.counts == {"read": 2, "cut": 0, "refused": 0, "answers_left_out": 0}
    assert found.sample is None


def test_a_template_stands_around_plain_prompts_alone(tmp_path: Path) -> None:
    rows = [{"prompt": "why {prompt}?"}, {"messages": [{"role": "user", "content": "hi"}]}]
    assert texts(prompts(tmp_path, *rows, template="Q: {prompt}\nA:")) == [
        "Q: why {prompt}?\nA:",
        "[user]hi\n[assistant]",
    ]


def test_conversations_go_through_the_chat_template(tmp_path: Path) -> None:
    rows = [
        {"prompt": "hi"},
        {"messages": [{"role": "system", "content": "own"}, {"role": "user", "content": "a"}]},
        {"messages": [{"role": "user", "content": "b"}, {"role": "assistant", "content": "not the teacher's"}]},
    ]
    found = prompts(tmp_path, *rows, chat=True, system="be brief", template="<{prompt}>")
    assert texts(found) == [
        "[system]be brief\n[user]<hi>\n[assistant]",
        "[system]own\n[user]a\n[assistant]",
        "[system]be brief\n[user]b\n[assistant]",
    ]
    assert found.counts["answers_left_out"] == 1


@pytest.mark.parametrize(("rule", "kept"), [("refuse", ["abcd"]), ("cut", ["abcd", "bcde"])])
def test_prompts_that_are_too_long_are_cut_or_left_out_and_counted(tmp_path: Path, rule: str, kept: list[str]) -> None:
    found = prompts(tmp_path, {"prompt": "abcd"}, {"prompt": "abcde"}, prompt_tokens=4, long_prompts=rule)
    assert texts(found) == kept
    assert (found.counts["cut"], found.counts["refused"]) == ((1, 0) if rule == "cut" else (0, 1))


@given(st.lists(st.text("ab", min_size=1, max_size=9), min_size=1, max_size=9), st.integers(1, 9))
@settings(deadline=None)
def test_every_prompt_is_kept_or_counted(tmp_path_factory: pytest.TempPathFactory, said: list[str], most: int) -> None:
    directory, rows = tmp_path_factory.mktemp("p"), [{"prompt": text} for text in said]
    cut = prompts(directory, *rows, prompt_tokens=most, long_prompts="cut")
    assert texts(cut) == [text[-most:] for text in said]
    long = sum(len(text) > most for text in said)
    assert cut.counts["cut"] == long
    if long < len(said):
        refused = prompts(directory, *rows, prompt_tokens=most)
        assert len(refused.ids) + refused.counts["refused"] == refused.counts["read"] == len(said)


def test_the_identity_is_the_files_content_and_not_its_place(tmp_path: Path) -> None:
    one, two = (written(tmp_path / name, {"prompt": "a"}) for name in ("one.jsonl", "two.jsonl"))
    specs = [replace(SPEC, prompts=f"path:{path}") for path in (one, two)]
    first, second = (prompts_identity(spec, TOKENIZER) for spec in specs)
    assert first == second
    assert specs[0].identity == specs[1].identity == SPEC.identity
    written(two, {"prompt": "b"})
    assert prompts_identity(specs[1], TOKENIZER) != first
    assert prompts_identity(specs[0], byte_tokenizer(chat_template="other")) != first


def test_what_is_at_its_default_is_no_part_of_the_identity() -> None:
    assert sorted(SPEC.identity) == [
        "batch_size",
        "max_new_tokens",
        "max_repeat_share",
        "max_rounds",
        "min_new_tokens",
        "prompt_tokens",
        "seed",
        "temperature",
        "top_p",
    ]
    assert replace(SPEC, near_duplicate=0.5).identity == {**SPEC.identity, "near_duplicate": 0.5}
    assert source_of(SPEC) is None


def test_shots_are_drawn_without_repeats_and_the_teacher_goes_on(tmp_path: Path) -> None:
    spec = seeds(tmp_path, "one", "two", "six", template="# {text}\n--\n")
    found = seed_prompts(spec, TOKENIZER, needed_tokens=95)
    assert len(found.ids) == found.counts["read"] == 10  # one for each ten tokens of the budget
    for text in texts(found):
        *shown, rest = text.split("\n--\n")
        assert rest == "#"
        assert len(set(shown)) == 2
        assert set(shown) <= {"# one", "# two", "# six"}
    assert len(set(texts(found))) > 1
    assert seed_prompts(spec, TOKENIZER, needed_tokens=95) == found
    assert seed_prompts(replace(spec, shots_seed=1), TOKENIZER, needed_tokens=95).ids != found.ids


def test_of_a_large_budget_a_round_is_bounded(tmp_path: Path) -> None:
    spec = seeds(tmp_path, "a", "b", shots=1)
    assert len(seed_prompts(spec, TOKENIZER, needed_tokens=10**9).ids) == 10_000


def new_sample(separator: str = "\n\n", *known: str) -> NewSample:
    return NewSample(separator=separator, tokenizer=TOKENIZER, seeds=frozenset(known))


def ids(text: str) -> list[int]:
    found: list[int] = TOKENIZER(text)["input_ids"]
    return found


def test_a_sample_ends_before_the_separator_and_its_end_token_stands_for_it() -> None:
    sample = new_sample()
    tokens = ids("ab.\n\nnext")
    assert len(tokens) == 7  # the full stop and both line ends are one token
    assert sample.is_complete(tokens)
    assert not sample.is_complete(ids("ab."))
    kept, own = sample.cut(tokens)
    assert (kept, own) == ([*ids("ab."), 0], 2)
    assert sample.cut(ids("ab.\n")) == (ids("ab.\n"), 4)
    assert sample.cut(ids("\n\nab"))[0] == [0]


@given(st.text("a.\nö", max_size=12), st.text("a.\nö", max_size=5))
@settings(deadline=None)
def test_the_text_of_a_sample_is_what_stands_before_the_first_separator(text: str, more: str) -> None:
    whole = f"{text}\n\n{more}"
    kept, own = new_sample().cut(ids(whole))
    assert TOKENIZER.decode(kept[:-1]) == whole.partition("\n\n")[0]
    assert kept[-1] == 0
    assert own <= len(kept) - 1


def test_a_copy_of_a_seed_is_told() -> None:
    sample = new_sample("\n", "one", "two")
    assert sample.is_copy(ids(" one"))
    assert not sample.is_copy(ids("three"))
    assert sample.seed_ids() == [ids("one"), ids("two")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the file is empty; give one"),
        ("\n \n", "the file is empty"),
        ("nonsense\n", ":1: not JSON"),
        ("[1]\n", ":1: expected an object: one"),
        ('{"text": "a"}\n', ":1: neither `prompt` (a string with something in it) nor `messages` (a list); found text"),
        ('{"prompt": "a"}\n{"prompt": " "}\n', ":2: neither `prompt`"),
        ("{}\n", "found nothing"),
        ('{"messages": []}\n', "there is no message to answer"),
        ('{"messages": [{"role": "assistant", "content": "a"}]}\n', "there is no message"),
        ('{"messages": [{"role": "user"}]}\n', "`role` and `content`, both strings"),
        ('{"messages": ["hi"]}\n', "`role` and `content`, both strings"),
    ],
)
def test_files_of_prompts_that_cannot_be_used_say_where_and_why(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(StillwattError) as caught:
        check_prompts(replace(SPEC, prompts=f"path:{path}"))
    assert str(path) in str(caught.value)
    assert words in str(caught.value)


def test_files_that_are_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="the seeds not found"):
        check_prompts(replace(SPEC, seeds=f"path:{tmp_path / 'none.jsonl'}", shots=1))
    (tmp_path / "raw").write_bytes(b"\xff\xfe")
    with pytest.raises(StillwattError, match="not UTF-8"):
        check_prompts(replace(SPEC, prompts=f"path:{tmp_path / 'raw'}"))
    check_prompts(SPEC)


def test_a_seed_without_text_and_too_few_of_them(tmp_path: Path) -> None:
    with pytest.raises(StillwattError, match="3 examples are to be shown in each prompt and there are 2 seeds"):
        check_prompts(seeds(tmp_path, "a", "b", shots=3))
    path = written(tmp_path / "bad.jsonl", {"prompt": "a"})
    with pytest.raises(StillwattError, match="no `text`"):
        check_prompts(replace(SPEC, seeds=f"path:{path}", shots=1))


def test_a_system_message_needs_a_conversation(tmp_path: Path) -> None:
    with pytest.raises(StillwattError, match="a plain `prompt` has no system message"):
        prompts(tmp_path, {"prompt": "a"}, system="be brief")


def test_a_tokenizer_without_a_chat_template_is_told_of(tmp_path: Path) -> None:
    path = written(tmp_path / "p.jsonl", {"prompt": "a"})
    spec = replace(SPEC, prompts=f"path:{path}", chat=True)
    with pytest.raises(StillwattError, match="has no chat template"):
        file_prompts(spec, byte_tokenizer(chat_template=None))
    written(path, {"messages": [{"role": "alien", "content": "a"}]})
    with pytest.raises(StillwattError, match="chat template refuses the messages \\(no such role\\)"):
        file_prompts(spec, TOKENIZER)


def test_prompts_that_are_all_too_long_or_without_tokens_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StillwattError, match="every prompt has more than 2 tokens"):
        prompts(tmp_path, {"prompt": "abc"}, prompt_tokens=2)
    with pytest.raises(StillwattError, match="every prompt has more than 2 tokens"):
        seed_prompts(seeds(tmp_path, "abc", "def", prompt_tokens=2), TOKENIZER, 10)
    path = written(tmp_path / "p.jsonl", {"messages": [{"role": "user", "content": "a"}]})
    with pytest.raises(StillwattError, match="the prompt has no tokens"):
        file_prompts(replace(SPEC, prompts=f"path:{path}"), byte_tokenizer(chat_template="{{ '' }}"))
