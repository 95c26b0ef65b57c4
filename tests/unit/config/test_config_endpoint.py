"""Recipes whose teacher is a server: what they need, what they rule out, and what each fault is told as."""

from __future__ import annotations

from pathlib import Path

import pytest

from recipe_refusals import refusal
from stillwatt.config.bundled import find_recipe
from stillwatt.config.jobs import jobs_of, remarks_on
from stillwatt.config.load import load_recipe
from stillwatt.config.model_size import size_of_teacher
from stillwatt.config.plan import plan
from stillwatt.errors import MissingExtraError, UsageError
from stillwatt.factors import serving
from stillwatt.pipelines.spec_endpoint import LEAVABLE
from stillwatt.records.forecast import Device

ENDPOINT = """
[teacher_endpoint]
url = "https://api.example.org/v1"
model = "big"
api = "chat"
api_key_env = "TEACHER_KEY"
"""
OF_ECOLOGITS = 'energy = "ecologits"\n'


def recipe_text(endpoint: str = ENDPOINT, *, without: tuple[str, ...] = ("kd", "gkd")) -> str:
    """The smoke recipe with a server for a teacher, and no arm that needs more than its text."""
    text = find_recipe("smoke_cpu").read_text(encoding="utf-8")
    text = text.replace('[teacher]\nsource = "tiny-random"\ndtype = "float32"\n', '[teacher]\nsource = "endpoint"\n')
    for arm in without:
        head, _, rest = text.partition(f'[[arms]]\nname = "{arm}"\n')
        text = head + rest[rest.index("\n[") + 1 :]
    for table in ("teacher_logits", "student_generate"):
        if {"teacher_logits": "kd", "student_generate": "gkd"}[table] in without:
            head, _, rest = text.partition(f"[{table}]\n")
            text = head + rest[rest.index("\n[") + 1 :]
    return text + endpoint


@pytest.fixture
def at(tmp_path: Path) -> Path:
    return tmp_path / "recipe.toml"


def test_a_server_is_a_teacher_of_text_alone(at: Path) -> None:
    at.write_text(recipe_text(), encoding="utf-8")
    spec = load_recipe(at).to_spec()
    assert spec.teacher.dtype is None
    endpoint = spec.teacher.endpoint
    assert endpoint is not None
    assert endpoint.identity == {"endpoint": "https://api.example.org/v1", "model": "big", "api": "chat"}
    assert (endpoint.concurrency, endpoint.timeout_s, endpoint.max_retries) == (4, 120.0, 6)
    assert endpoint.token_energy is None
    names = [stage.name for stage in plan(spec).stages]
    assert "teacher_generate" in names
    assert not {"evaluate.teacher", "serve.teacher", "teacher_logits"} & set(names)
    assert "serve.student" in names


def test_nothing_is_predicted_of_a_server_and_the_reason_is_said(at: Path) -> None:
    at.write_text(recipe_text(), encoding="utf-8")
    spec = load_recipe(at).to_spec()
    assert size_of_teacher(spec) is None
    jobs = {job.name: job for job in jobs_of(spec, Device(name="cpu", is_gpu=False))}
    assert jobs["teacher_generate"].unknown.startswith("the teacher is an endpoint")
    assert not jobs["train.sft.1.0"].unknown
    assert not any("size of the teacher" in remark for remark in remarks_on(spec))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("", ""), ""),
        (('url = "https://api.example.org/v1"', 'url = "api.example.org/v1"'), "must be an address such as"),
        (('"https://api.example.org/v1"', '"https://me:secret@api.example.org/v1"'), "keys belong in an environment"),
        (('"https://api.example.org/v1"', '"https://api.example.org/v1?key=secret"'), "keys belong in an environment"),
        (('"https://api.example.org/v1"', '"http://[::1/v1"'), "must be an address such as"),
        (('"https://api.example.org/v1"', '"http://api.example.org/v1"'), "would go to http://api.example.org/v1 in"),
        (('"TEACHER_KEY"', '"sk-this-is-the-key"'), "must be the name of an environment variable"),
        (('api = "chat"', 'api = "chats"'), "did you mean 'chat'"),
        (('api = "chat"\n', 'api = "chat"\nprovider = "openai"\n'), 'provider without energy = "ecologits"'),
        (('api = "chat"\n', f'api = "chat"\n{OF_ECOLOGITS}'), "needs either provider, or both"),
        (
            ('api = "chat"\n', f'api = "chat"\n{OF_ECOLOGITS}provider = "x"\ntotal_parameters = 8.0\n'),
            "needs either provider, or both",
        ),
        (
            ('api = "chat"\n', f'api = "chat"\n{OF_ECOLOGITS}active_parameters = 9.0\ntotal_parameters = 8.0\n'),
            "9 billion at work are more than 8 billion in all",
        ),
        (('source = "endpoint"\n', 'source = "endpoint"\ndtype = "float32"\n'), "remove dtype"),
        ((ENDPOINT, ""), "needs the table [teacher_endpoint]"),
        (('source = "endpoint"\n', 'source = "tiny-random"\n'), 'needs [teacher] source = "endpoint"'),
        (('source = "endpoint"\n', 'source = "endpoints"\n'), "did you mean 'endpoint'"),
    ],
)
def test_each_fault_is_told_with_its_place_and_the_next_step(at: Path, change: tuple[str, str], message: str) -> None:
    text = recipe_text().replace(*change, 1) if change[0] else recipe_text()
    if not message:
        at.write_text(text, encoding="utf-8")
        load_recipe(at)
        return
    said = refusal(at, text)
    assert message in said
    assert said.startswith(str(at))


@pytest.mark.parametrize(
    "change",
    [('"TEACHER_KEY"', '"sk-0123456789"'), ("//api.example.org/v1", "//me:sk-0123456789@api.example.org/v1")],
)
def test_what_may_be_a_key_is_not_repeated(at: Path, change: tuple[str, str]) -> None:
    assert "sk-0123456789" not in refusal(at, recipe_text().replace(*change))


@pytest.mark.parametrize(
    ("without", "message"),
    [
        (("gkd",), "method kd reads logits: the teacher is an endpoint, which gives text and no distribution"),
        (("kd",), "method gkd runs the teacher beside the student: the teacher is an endpoint"),
    ],
)
def test_arms_that_need_distributions_are_refused(at: Path, without: tuple[str, ...], message: str) -> None:
    assert message in refusal(at, recipe_text(without=without))


def test_an_online_loss_a_pruned_student_and_a_budget_of_joules_are_refused(at: Path) -> None:
    online = recipe_text(without=("gkd",)).replace(
        'name = "kd"\nmethod = "kd"\n', 'name = "kd"\nmethod = "kd"\nloss = "forward_kl"\n'
    )
    assert "its loss runs the teacher beside the student" in refusal(at, online)
    pruned = recipe_text().replace('name = "tiny"\nsource = "tiny-random"', 'name = "tiny"\nsource = "prune-teacher"')
    assert "there are no layers to leave out" in refusal(at, pruned)
    for change in ("budget=20 kJ", "arms.sft.budget=20 kJ", "budgets.each_arm=20 kJ"):
        said = refusal(at, recipe_text(), change)
        assert "a budget of 20 kJ cannot be kept where the teacher is an endpoint" in said, said
    assert "kgco2e_per_kwh" in refusal(at, recipe_text(), "budget=1 kgCO2e")


def test_a_local_teacher_needs_its_number_format(at: Path) -> None:
    text = find_recipe("smoke_cpu").read_text(encoding="utf-8").replace('dtype = "float32"\n', "", 1)
    assert "the teacher 'tiny-random' needs a dtype" in refusal(at, text)


def test_a_modelled_energy_has_a_range_around_the_whole_servers_and_says_whose_it_is(at: Path) -> None:
    pytest.importorskip("ecologits", reason="the factors extra is not installed")
    sizes = f"{OF_ECOLOGITS}active_parameters = 8.0\ntotal_parameters = 8.0\n"
    at.write_text(recipe_text(ENDPOINT + sizes), encoding="utf-8")
    endpoint = load_recipe(at).to_spec().teacher.endpoint
    assert endpoint is not None
    assert endpoint.token_energy is not None
    whole = serving.modelled_token(8.0, 8.0)
    assert endpoint.token_energy.value_j == pytest.approx(whole.value_j)
    assert endpoint.token_energy.high_j == pytest.approx(whole.high_j)
    assert 0.0 < endpoint.token_energy.low_j < whole.low_j
    assert "8 billion parameters at work of 8" in endpoint.energy_source


def test_a_listed_model_has_the_range_of_its_listed_sizes() -> None:
    pytest.importorskip("ecologits", reason="the factors extra is not installed")
    active, total = serving.known_parameters("openai", "gpt-4o-mini")
    assert active[0] < active[1]
    wide, source = serving.modelled_reply_token(active, total)
    ends = [serving.modelled_reply_token((size, size), (size, size))[0] for size in active]
    assert wide.low_j == pytest.approx(ends[0].low_j)
    assert wide.high_j == pytest.approx(ends[1].high_j)
    assert " to " in source
    with pytest.raises(UsageError, match="lists no model 'nobody' of provider 'openai'; give active_parameters"):
        serving.known_parameters("openai", "nobody")


def test_without_ecologits_the_pip_line_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ecologits.impacts.llm", None)
    with pytest.raises(MissingExtraError, match=r"stillwatt\[factors\]"):
        serving.modelled_reply_token((8.0, 8.0), (8.0, 8.0))


@pytest.mark.parametrize(
    ("judge", "key"),
    [
        ('source = "teacher", mode = "pairwise", against = "text"', "evaluate.judge.source"),
        ('source = "tiny-random", mode = "pairwise", against = "teacher"', "evaluate.judge.against"),
    ],
)
def test_a_server_neither_judges_nor_answers_a_judges_questions(at: Path, judge: str, key: str) -> None:
    more = (
        'dtype = "float32", rubric = "continuation-pairwise-1", form = "plain", temperature = 0.0, prompts = 2, '
        "prompt_tokens = 8, answer_tokens = 8, batch_size = 2, seed = 1"
    )
    told = refusal(at, recipe_text(), f"evaluate.judge={{{judge}, {more}}}")
    assert f"{key}: the teacher is an endpoint, so that it neither judges nor answers" in told


def test_a_server_is_run_by_nobody_here(at: Path) -> None:
    told = refusal(at, recipe_text(), "teacher_generate.engine=vllm")
    assert "teacher_generate.engine: the teacher is an endpoint, whose server runs it; remove engine" in told


@pytest.mark.parametrize("key", ["min_mean_logprob", "max_mean_logprob"])
def test_a_server_is_not_asked_how_probable_its_text_was(at: Path, key: str) -> None:
    told = refusal(at, recipe_text(), f"teacher_generate.{key}=-2.0")
    assert f"teacher_generate.{key}: the teacher is an endpoint, whose server is not asked how probable" in told


CONVERSING = 'teacher_generate.prompts="path:p.jsonl"'


@pytest.mark.parametrize("change", ["teacher_generate.chat=true", "teacher_generate.system=be brief"])
def test_conversations_are_for_a_server_that_chats_and_are_not_cut(at: Path, change: str) -> None:
    goes_on = recipe_text(ENDPOINT.replace('api = "chat"', 'api = "completions"'))
    key = change.partition("=")[0]
    told = refusal(at, goes_on, CONVERSING, change)
    assert f'{key}: conversations: api "completions" goes on from a text, and how the server' in told
    assert 'set teacher_endpoint.api = "chat", or write the turns into teacher_generate.template' in told
    told = refusal(at, recipe_text(), CONVERSING, change, "teacher_generate.long_prompts=cut")
    assert "teacher_generate.long_prompts: a server is sent whole messages" in told
    at.write_text(recipe_text(), encoding="utf-8")
    load_recipe(at, (CONVERSING, change))
    at.write_text(goes_on, encoding="utf-8")
    load_recipe(at, (CONVERSING, "teacher_generate.long_prompts=cut"))


ASKED_OTHERWISE = ENDPOINT + 'leave_out = ["top_p", "seed", "seed"]\nextra_body = {reasoning_effort = "low", a = [1]}\n'


def test_fields_that_are_left_out_and_extra_ones_make_another_teacher(at: Path) -> None:
    at.write_text(recipe_text(ASKED_OTHERWISE), encoding="utf-8")
    endpoint = load_recipe(at).to_spec().teacher.endpoint
    assert endpoint is not None
    assert endpoint.identity == {
        "endpoint": "https://api.example.org/v1",
        "model": "big",
        "api": "chat",
        "leave_out": ["seed", "top_p"],
        "extra_body": {"reasoning_effort": "low", "a": [1]},
    }


def test_a_recipe_that_asks_as_ever_has_the_hash_it_always_had(at: Path) -> None:
    hashes = set()
    for more in ("", "leave_out = []\n", "extra_body = {}\n"):
        at.write_text(recipe_text(ENDPOINT + more), encoding="utf-8")
        recipe = load_recipe(at)
        assert sorted(recipe.resolved()["teacher_endpoint"]) == [
            "active_parameters", "api", "api_key_env", "concurrency", "energy", "length_field", "max_retries", "model",
            "provider", "timeout_s", "total_parameters", "url",
        ]  # fmt: skip
        hashes.add(recipe.settings_sha256)
    at.write_text(recipe_text(ASKED_OTHERWISE), encoding="utf-8")
    assert len(hashes) == 1
    other = load_recipe(at)
    assert other.settings_sha256 not in hashes
    assert other.resolved()["teacher_endpoint"]["leave_out"] == ["top_p", "seed", "seed"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        *(
            (f"extra_body = {{{name} = 1}}", f"teacher_endpoint.extra_body.{name}: {name} is said by")
            for name in ("model", "prompt", "messages", "max_tokens", "max_completion_tokens", *LEAVABLE)
        ),
        ('leave_out = ["model"]', "teacher_endpoint.leave_out"),
        ('leave_out = ["top-p"]', "did you mean 'top_p'"),
        ("extra_body = {penalty = inf}", "teacher_endpoint.extra_body"),
    ],
)
def test_what_a_request_says_already_is_said_once(at: Path, more: str, message: str) -> None:
    told = refusal(at, recipe_text(f"{ENDPOINT}{more}\n"))
    assert message in told
    assert told.startswith(f"{at}:")


def test_a_temperature_of_nothing_cannot_be_left_out(at: Path) -> None:
    told = refusal(at, recipe_text(f'{ENDPOINT}leave_out = ["temperature"]\n'), "teacher_generate.temperature=0.0")
    assert "teacher_generate.temperature: 0 takes the most probable token, and in one round; the server" in told
