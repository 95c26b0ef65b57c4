"""What a server is sent for a prompt, and which prompts cannot be put to it, on a real tokenizer of bytes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byte_tokenizer import byte_tokenizer
from stillwatt.errors import StillwattError
from stillwatt.pipelines.endpoint_prompts import (
    check_conversations,
    check_template,
    said_sha256,
    unlike_tokens,
)
from stillwatt.pipelines.prompts import PromptSet, file_prompts, seed_prompts
from stillwatt.pipelines.spec import GenerateSpec, StudentSpec
from stillwatt.pipelines.spec_endpoint import EndpointSpec

TOKENIZER = byte_tokenizer()
SPEC = GenerateSpec(
    prompt_tokens=200, max_new_tokens=10, min_new_tokens=1, max_repeat_share=1.0, temperature=1.0, top_p=1.0,
    batch_size=3, max_rounds=3, seed=7,
)  # fmt: skip
CHAT = EndpointSpec(
    url="http://127.0.0.1:1/v1", model="m", api="chat", api_key_env=None, concurrency=1, timeout_s=1.0, max_retries=0
)
STUDENT = StudentSpec(
    name="tiny", source="path:models/base", revision=None, dtype="float32", drop_layers=0, candidate_starts=(),
    selection_tokens=0,
)  # fmt: skip
CONVERSATION = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}


def asking(tmp_path: Path, *rows: Any, **changes: Any) -> GenerateSpec:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return replace(SPEC, prompts=f"path:{path}", **changes)


def test_a_conversation_is_sent_as_its_messages_with_the_recipes_system_message(tmp_path: Path) -> None:
    own = [{"role": "system", "content": "mine"}, {"role": "user", "content": "c"}]
    spec = asking(
        tmp_path, {"prompt": "1 plus 1?"}, CONVERSATION, {"messages": own}, chat=True, system="be terse",
        template="Q: {prompt}",
    )  # fmt: skip
    terse = {"role": "system", "content": "be terse"}
    said = unlike_tokens(file_prompts(spec, TOKENIZER), TOKENIZER)
    assert [list(words or ()) for words in said] == [
        [terse, {"role": "user", "content": "Q: 1 plus 1?"}],
        [terse, {"role": "user", "content": "a"}],
        own,
    ]


@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=4))
def test_texts_that_tokens_give_back_are_sent_from_them(
    tmp_path_factory: pytest.TempPathFactory, said: list[str]
) -> None:
    rows = [{"prompt": text} for text in said]
    spec = asking(tmp_path_factory.mktemp("p"), *rows, template="<{prompt}>", prompt_tokens=10**4)
    assert unlike_tokens(file_prompts(spec, TOKENIZER), TOKENIZER) == ()


def test_a_template_with_special_tokens_is_sent_with_them_and_what_was_cut_is_not(tmp_path: Path) -> None:
    spec = asking(tmp_path, {"prompt": "a"}, {"prompt": "b" * 9}, template="<|end|>{prompt}!")
    found = file_prompts(replace(spec, prompt_tokens=4, long_prompts="cut"), TOKENIZER)
    assert unlike_tokens(found, TOKENIZER) == ("<|end|>a!", None)


def test_examples_are_sent_as_the_template_has_them(tmp_path: Path) -> None:
    path = tmp_path / "seeds.jsonl"
    path.write_text('{"text": "one"}\n{"text": "one"}\n', encoding="utf-8")
    spec = replace(SPEC, seeds=f"path:{path}", shots=2, template="<|end|>- {text}\n")
    found = seed_prompts(spec, TOKENIZER, 10)
    assert unlike_tokens(found, TOKENIZER) == ("<|end|>- one\n<|end|>- one\n<|end|>-",)


def test_beginnings_of_training_text_are_tokens_alone() -> None:
    assert unlike_tokens(PromptSet(ids=((1, 2),), counts={}), TOKENIZER) == ()


def test_the_hash_is_of_each_message() -> None:
    said = ("a", None, [{"role": "user", "content": "b"}])
    assert said_sha256(said) == said_sha256(("a", None, ({"content": "b", "role": "user"},)))
    others = [("a", "b"), ("a", None, [{"role": "system", "content": "b"}]), ("a", [{"role": "user", "content": "b"}])]
    assert len({said_sha256(said), *map(said_sha256, others)}) == 4


def test_conversations_are_not_for_a_server_that_goes_on_from_text_nor_cut(tmp_path: Path) -> None:
    spec = asking(tmp_path, {"prompt": "plain"}, CONVERSATION)
    with pytest.raises(StillwattError, match=r'prompts\.jsonl:2: a conversation, and api "completions" goes on from a'):
        check_conversations(spec, replace(CHAT, api="completions"))
    with pytest.raises(StillwattError, match=r"prompts\.jsonl:2: a conversation, and a server is sent whole messages"):
        check_conversations(replace(spec, long_prompts="cut"), CHAT)
    check_conversations(spec, CHAT)
    check_conversations(SPEC, replace(CHAT, api="completions"))
    check_conversations(asking(tmp_path, {"prompt": "plain"}, long_prompts="cut"), replace(CHAT, api="completions"))


def test_a_student_without_a_chat_template_is_named_with_the_way_out(tmp_path: Path) -> None:
    bare = byte_tokenizer(chat_template=None)
    with pytest.raises(
        StillwattError, match=r"student 'tiny' \(path:models/base\) has none; save one with it"
    ) as caught:
        check_template(asking(tmp_path, CONVERSATION), bare, STUDENT)
    assert "teacher's tokenizer" not in str(caught.value)
    check_template(asking(tmp_path, CONVERSATION), TOKENIZER, STUDENT)
    check_template(asking(tmp_path, {"prompt": "plain"}), bare, STUDENT)
