"""Where a tokenizer begins every text with a BOS, so does everything that a model reads here, once."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byte_tokenizer import TEMPLATE, byte_tokenizer
from chat_models import jsonl
from stillwatt.pipelines import teacher_generate
from stillwatt.pipelines.bos import bos_ids_of
from stillwatt.pipelines.corpus import pack_documents, pack_samples, prompts_of
from stillwatt.pipelines.document_tokens import tokenise
from stillwatt.pipelines.documents import Document
from stillwatt.pipelines.evaluate import choice_questions
from stillwatt.pipelines.generated import Accepted
from stillwatt.pipelines.judge_answers import judged_pieces
from stillwatt.pipelines.model_sources import resolve_model
from stillwatt.pipelines.models import load_model
from stillwatt.pipelines.prepare_data import load
from stillwatt.pipelines.prompts import file_prompts, seed_prompts
from stillwatt.pipelines.spec import TeacherSpec
from study_place import Place
from tiny_models import smoke_spec

BOS = "<|begin|>"


def bos_tokenizer(*, is_put: bool = True, chat_template: str | None = TEMPLATE) -> Any:
    """A tokenizer with a BOS, which it puts before every text or, as GPT-2's, does not."""
    from tokenizers import processors

    tokenizer = byte_tokenizer(chat_template=chat_template)
    tokenizer.add_special_tokens({"bos_token": BOS})
    if is_put:
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.bos_token_id)]
        )
    return tokenizer


TOKENIZER = bos_tokenizer()
OWN = bos_ids_of(TOKENIZER)


def test_only_what_the_tokenizer_itself_puts_before_a_text_is_one() -> None:
    assert (TOKENIZER.bos_token_id,) == OWN
    assert bos_ids_of(bos_tokenizer(is_put=False)) == ()
    assert bos_ids_of(byte_tokenizer()) == ()


@pytest.mark.parametrize("template", [TEMPLATE, "{{ bos_token }}" + TEMPLATE])
@pytest.mark.parametrize("predict", ["all", "assistant"])
def test_every_document_begins_with_it_once_and_it_is_not_predicted(template: str, predict: Any) -> None:
    tokenizer = bos_tokenizer(chat_template=template)
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    for document in (Document("1", None, messages), Document("2", "abc", asked=0), Document("3", f"{BOS}abc", asked=0)):
        found = tokenise(tokenizer, document, predict=predict, bos_ids=OWN)
        assert found.ids_T.tolist().count(OWN[0]) == 1
        assert found.ids_T[0] == OWN[0]
        assert not found.predicted_E[0]
        assert len(found.predicted_E) == len(found.ids_T) + 1


@given(
    texts=st.lists(st.text("abcd", max_size=14), min_size=1, max_size=12),
    length=st.integers(3, 9),
    is_apart=st.booleans(),
)
@settings(deadline=None)
def test_every_sequence_begins_with_it_and_the_text_is_all_there(texts: list[str], length: int, is_apart: bool) -> None:
    documents = [tokenise(TOKENIZER, Document("d", text), bos_ids=OWN) for text in texts]
    count = sum(len(document.predicted_E) for document in documents) // length
    if not count or all(len(document.predicted_E) < 3 for document in documents):
        return
    packed = pack_documents(iter(documents), end_id=0, length=length, sequences=count, is_apart=is_apart, bos_ids=OWN)
    assert (packed.ids_ST[:, 0] == OWN[0]).all()
    assert not packed.supervised_ST[packed.ids_ST == OWN[0]].any()
    stream = [token for document in documents for token in (*document.ids_T.tolist(), 0)]
    kept = [token for token in packed.ids_ST.flatten().tolist() if token != OWN[0]]
    text = [token for token in stream if token != OWN[0]]
    assert kept == text[: len(kept)]
    without = pack_samples(
        [[*document.ids_T.tolist(), 0] for document in documents], [0] * len(documents), end_id=0, length=length,
        count=count, is_apart=is_apart, bos_ids=OWN,
    )  # fmt: skip
    assert without.ids_ST.tolist() == packed.ids_ST.tolist()


def test_what_an_edge_cuts_off_is_not_told_to_begin_a_document() -> None:
    document = tokenise(TOKENIZER, Document("d", "abcdefgh"), bos_ids=OWN)
    packed = pack_documents(iter([document]), end_id=0, length=5, sequences=2, bos_ids=OWN)
    assert [TOKENIZER.decode(row) for row in packed.ids_ST.tolist()] == [f"{BOS}abcd", f"{BOS}efgh"]
    assert packed.supervised_ST.tolist() == [[False, True, True, True, True], [False, False, True, True, True]]
    prompts = prompts_of(packed.ids_ST, 2, bos_ids=OWN)
    assert [TOKENIZER.decode(prompt) for prompt in prompts] == [f"{BOS}{letter}" for letter in "aebf"]


def test_prompts_of_files_and_seeds_begin_with_it_within_their_length(tmp_path: Path) -> None:
    generate = smoke_spec().generate
    assert generate is not None
    spec = dataclasses.replace(generate, prompt_tokens=4, long_prompts="cut")
    asked = dataclasses.replace(spec, prompts=jsonl(tmp_path / "p.jsonl", [{"prompt": "ab"}, {"prompt": "abcdef"}]))
    found = file_prompts(asked, TOKENIZER, OWN)
    assert [TOKENIZER.decode(list(ids)) for ids in found.ids] == [f"{BOS}ab", f"{BOS}def"]
    assert found.counts["cut"] == 1
    talk = dataclasses.replace(asked, chat=True, prompt_tokens=99)
    for template in (TEMPLATE, "{{ bos_token }}" + TEMPLATE):
        chat = file_prompts(talk, bos_tokenizer(chat_template=template), OWN)
        assert [ids.count(OWN[0]) for ids in chat.ids] == [1, 1]
        assert {ids[0] for ids in chat.ids} == set(OWN)
    seeds = dataclasses.replace(
        spec, prompt_tokens=99, seeds=jsonl(tmp_path / "s.jsonl", [{"text": "ab"}, {"text": "cd"}]), shots=1
    )
    shown = seed_prompts(seeds, TOKENIZER, 10, OWN)
    assert {ids[0] for ids in shown.ids} == set(OWN)
    accepted = Accepted(dataclasses.replace(seeds, min_new_tokens=1), frozenset((0,)), sample=shown.sample)
    assert accepted.judge(shown.ids[0], [*TOKENIZER("xyz")["input_ids"][1:], 0]) is None
    assert accepted.sequences[0][0] == OWN[0]
    assert accepted.prompt_lengths == [1]


def test_questions_and_judged_prompts_begin_with_it_once() -> None:
    from judge_models import judge_spec

    documents = [tokenise(TOKENIZER, Document("d", letter * 90), bos_ids=OWN).ids_T for letter in "abcde"]
    for question in choice_questions(documents, smoke_spec().evaluate, OWN):
        assert (question.context[0], question.context.count(OWN[0])) == (OWN[0], 1)
        assert len(question.context) == 1 + smoke_spec().evaluate.choice_context_tokens
        assert not any(OWN[0] in option for option in question.options)
    for piece in judged_pieces(documents, judge_spec(prompts=4), OWN):
        assert (piece.prompt[0], piece.prompt.count(OWN[0]), OWN[0] in piece.really) == (OWN[0], 1, False)


def test_a_study_says_so_in_its_data_and_in_what_the_teacher_writes(tmp_path: Path) -> None:
    directory = tmp_path / "teacher"
    model: Any = load_model(
        resolve_model("tiny-random", revision=None, announce=lambda _: None).directory, dtype="float32"
    )
    tokenizer = bos_tokenizer()
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    spec = smoke_spec(teacher=TeacherSpec(source=f"path:{directory}", revision=None, dtype="float32"))
    place = Place(tmp_path)
    journal = place.run(spec)
    assert set(journal.status().values()) == {"ended"}
    assert journal.results("prepare_data")["bos_ids"] == list(OWN)
    data = load(tmp_path / "r1" / "state" / "data")
    assert data.bos_ids == OWN
    assert {int(document[0]) for document in data.held_out_documents} == set(OWN)
    assert (data.train.ids_ST[:, 0] == OWN[0]).all()
    (text,) = (tmp_path / "artifacts").glob("text-*")
    assert {sequence[0] for sequence in teacher_generate.load(text).sequences} == set(OWN)
