"""What one key demands of another: each rule once broken, and the key it blames."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from stillwatt.config.load import load_recipe
from stillwatt.config.models import Recipe
from stillwatt.config.rules import problems
from stillwatt.errors import ConfigError

RECIPE = Path(__file__).parents[2] / "golden" / "recipes" / "study.toml"
LOGITS = "teacher_logits={top_k=64, temperature=1.0, batch_size=4}"
FILE = "teacher_generate.prompts=path:p.jsonl"
SEEDS = "teacher_generate.seeds=path:s.jsonl"
SHOTS = "teacher_generate.shots=2"
SFT_ONLY = 'arms=[{name="sft", method="sft"}]'


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["arms.synthetic.name=kd"], "the name 'kd' is used 2 times"),
        (["arms.kd.name=teacher"], "'teacher' is a name the study uses itself"),
        (["arms.kd.name=start"], "'start' is a name the study uses itself"),
        (["teacher.revision=main"], "teacher.revision: only a source hf:ORG/NAME has revisions"),
        (["students.0.revision=main"], "students.0.revision: only a source hf:ORG/NAME has revisions"),
        (["students.0.drop_layers=0"], "prune-teacher needs drop_layers"),
        (["students.0.candidate_starts=[]"], "prune-teacher needs candidate_starts"),
        (["students.0.selection_tokens=0"], "prune-teacher needs selection_tokens"),
        (["students.0.source=tiny-random"], 'only source = "prune-teacher" takes drop_layers'),
        (["data.train_tokens=255"], "255 is not a multiple of sequence_tokens = 256; the nearest are 256 and 512"),
        (["data.train_tokens=8193"], "8193 is not a multiple of sequence_tokens = 256; the nearest are 8192 and 8448"),
        (
            ["data.epochs=3"],
            "8192 is not a multiple of sequence_tokens = 256 times epochs = 3; the nearest are 7680 and 8448; "
            "or leave it and set epochs = 2 or 4",
        ),
        (["data.epochs=33"], "the nearest are 8448 and 16896; or leave it and set epochs = 32"),
        (["data.epochs=2", "data.train_tokens=700"], "times epochs = 2; the nearest are 512 and 1024"),
        (["data.epochs=0"], "data.epochs: should be greater than or equal to 1"),
        (["data.epochs=1.5"], "data.epochs: should be a whole number"),
        (
            ["data.predict=assistant"],
            'data.predict: pydoc-topics holds nothing of an assistant\'s; predict = "assistant" needs conversations',
        ),
        (
            ["data.predict=assistant", "data.source=cache:c"],
            "data.predict: cache:c says itself what is predicted of it",
        ),
        (["data.config=main"], "data.config: only a source hf:ORG/NAME has a config"),
        (["data.split=test"], "data.split: only a source hf:ORG/NAME has a split"),
        (["data.revision=main"], "data.revision: only a source hf:ORG/NAME has a revision"),
        (["evaluate.perplexity_tokens=511"], "must be at least two sequences of 256 tokens"),
        (["teacher_generate.prompt_tokens=257"], "prompts are cut from sequences of 256 tokens"),
        (["serve.prompt_tokens=257"], "prompts are cut from sequences of 256 tokens"),
        (
            ["teacher_generate.max_rounds=1", "teacher_generate.max_new_tokens=223"],
            "32 prompts in 1 rounds give 8160 tokens at most, fewer than data.train_tokens = 8192",
        ),
        (
            ["teacher_generate.temperature=0", "teacher_generate.max_new_tokens=223"],
            "32 prompts in 1 rounds give 8160 tokens at most",
        ),
        (["teacher_generate.engine=vllm", "teacher_generate.temperature=2.5"], "vLLM draws at 0.01 to 2"),
        (
            ["teacher_generate.engine=vllm", "teacher_generate.min_mean_logprob=-3"],
            "vLLM is not asked how probable its tokens were",
        ),
        (
            ["teacher_logits.engine=vllm", "teacher_logits.temperature=2.0", "arms.kd.temperature=2.0"],
            "teacher_logits.temperature: vLLM tells probabilities at temperature 1",
        ),
        (
            ["teacher_logits.engine=vllm", "logit_cache={scheme='head_draws', draws=9}", "arms.kd.loss=sampled_kl"],
            "logit_cache.scheme: scheme head_draws draws from the whole distribution, and vLLM tells the most probable "
            "tokens alone; take topk or topp, or leave teacher_logits.engine out",
        ),
        (
            [
                "teacher_logits={top_k=0, temperature=1.0, batch_size=4, engine='vllm'}",
                "logit_cache={scheme='rs_kd', draws=9}",
                "arms.kd.loss=sampled_kl",
            ],
            "logit_cache.scheme: scheme rs_kd draws from the whole distribution",
        ),
        (
            ["teacher_logits.engine=vllm", "data.packing=documents"],
            "teacher_logits.engine: vLLM reads a sequence as one text and keeps no documents apart",
        ),
        (["teacher_generate.min_new_tokens=225"], "at least 225 and at most 224 new tokens cannot both hold"),
        (["teacher_generate.prompts=p.jsonl"], "known: corpus or path:FILE.jsonl"),
        (["teacher_generate.seeds=path:"], "a file is written path:FILE.jsonl"),
        ([FILE, SEEDS, SHOTS], "teacher_generate.seeds: prompts come from a file of prompts or from seeds"),
        ([SEEDS], "seeds needs shots: how many of them each prompt shows"),
        ([SHOTS], "shots says how many seeds a prompt shows, and there are no seeds"),
        (["teacher_generate.chat=true"], 'only prompts = "path:FILE.jsonl" takes chat'),
        ([SEEDS, SHOTS, "teacher_generate.system=hi"], 'only prompts = "path:FILE.jsonl" takes system'),
        (["teacher_generate.template={prompt}"], "beginnings of training text take no template"),
        ([FILE, "teacher_generate.template=Q:"], "the template has the place {prompt} 0 times; it needs it once"),
        ([FILE, "teacher_generate.template={prompt}{prompt}"], "the place {prompt} 2 times"),
        ([SEEDS, SHOTS, "teacher_generate.template={prompt}"], "the template has the place {text} 0 times"),
        ([SEEDS, SHOTS, "teacher_generate.template=Q: {text} "], "nothing would tell where a new sample ends"),
        (
            ["teacher_generate.min_mean_logprob=-1.0", "teacher_generate.max_mean_logprob=-1.0"],
            "teacher_generate.max_mean_logprob: no mean lies above -1.0 and below -1.0",
        ),
        (['teacher_generate.blocklist=["ok", "(un"]'], "'(un' cannot be read as a regular expression: "),
        (["teacher_generate.near_duplicate=1.5"], "less than or equal to 1"),
        (["teacher_generate.long_prompts=drop"], "'refuse' or 'cut'"),
        (["train.checkpoints=[1.0, 0.5]"], "[1.0, 0.5] must ascend"),
        (["train.checkpoints=[0.5, 0.5, 1.0]"], "must ascend"),
        (["train.checkpoints=[0.5]"], "the last must be 1.0, the whole budget, not 0.5"),
        (["train.checkpoints=[0.96, 1.0]"], "fall into one optimiser step"),
        (["train.seeds=[1, 2, 1]"], "[1, 2, 1] repeats a seed"),
        (['arms.kd={name="kd", method="kd", temperature=1.0}'], "arm 'kd': method kd needs alpha"),
        (['arms.kd={name="kd", method="kd", alpha=0.5}'], "arm 'kd': method kd needs temperature"),
        (["arms.sft.alpha=0.5"], "arm 'sft': method sft takes no alpha; only kd and gkd do"),
        (["arms.synthetic.temperature=1.0"], "method synthetic_sft takes no temperature"),
        (["arms.kd.temperature=2.0"], "temperature 2.0 is not the cache's, 1.0"),
        (["teacher_logits.temperature=2.0"], "temperature 1.0 is not the cache's, 2.0"),
        (["arms.kd.loss=foward_kl"], "arms.1.loss: arm 'kd': unknown loss 'foward_kl'; did you mean 'forward_kl'?"),
        (["arms.sft.loss=jsd"], "arm 'sft': method sft takes no loss; only kd and gkd do"),
        (["arms.kd.loss_parameter=0.5"], "loss 'top_k_tail' has no parameter"),
        (
            ["arms.kd.loss=sampled_kl"],
            "reads a sample cache, and [teacher_logits] writes a top_k cache",
        ),
        (["logit_cache={scheme='rs_kd', draws=9}"], "cache scheme rs_kd: top_k 64 has no meaning without a head"),
        (["logit_cache={scheme='topk', draws=9}"], "cache scheme topk: draws 9 has no meaning here"),
        (["logit_cache={scheme='topk', mass=0.5}"], "cache scheme topk: mass 0.5 has no meaning here; leave it out"),
        (
            ["logit_cache={scheme='topk', seed=3}"],
            "logit_cache.seed: cache scheme topk: seed 3 has no meaning here; leave it out",
        ),
        (["logit_cache={scheme='topp', mass=1.0}"], "cache scheme topp: mass 1.0 must be above 0 and below 1; topk"),
        (["logit_cache={scheme='topp'}"], "cache scheme topp: mass 1.0 must be above 0 and below 1; topk"),
        (["logit_cache={scheme='topp', mass=0.9, seed=3}"], "cache scheme topp: seed 3 has no meaning here"),
        (
            ["teacher_logits.top_k=0", "logit_cache={scheme='rs_kd', draws=9, step=0.25}"],
            "logit_cache.step: cache scheme rs_kd: step 0.25 has no meaning here; leave it out",
        ),
        (["logit_cache={scheme='head_draws', draws=9}"], "reads a top_k cache, and [teacher_logits] writes a sample"),
        (["logit_cache={scheme='topp', mass=0.9}"], "use top_p_tail, or a loss of the whole vocabulary"),
        (["teacher_logits.top_k=0"], "fixed rows keep at least one token"),
        (["arms.kd.loss=forward_kl"], "no arm uses [teacher_logits], so the teacher would work for nothing"),
        (["arms.kd.loss=jsd"], "arms.1.loss_parameter: arm 'kd': loss 'jsd' needs beta, between 0 and 1"),
        ([SFT_ONLY], "no arm uses [teacher_logits]"),
        ([SFT_ONLY], "no arm uses [teacher_generate]"),
        (["analysis.baseline_arm=sftt"], "the baseline 'sftt' is not an arm; did you mean 'sft'?"),
        (["analysis.baseline_arm=none"], "the baseline 'none' is not an arm; arms: sft, kd, synthetic"),
        (["analysis.baseline_arm=kd"], "the baseline 'kd' must be of method sft, not kd"),
        (["analysis.reuse=[10, 5]"], "[10, 5] must ascend"),
        (["evaluate.lm_eval_limit=3"], "lm_eval_limit without lm_eval_tasks has no effect"),
        (["evaluate.lm_eval_include_path=x"], "lm_eval_include_path without lm_eval_tasks has no effect"),
    ],
)
def test_a_broken_rule_is_refused_in_words(overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(RECIPE, overrides)
    assert words in str(caught.value)


@pytest.mark.parametrize(("table", "method"), [("teacher_logits", "kd"), ("teacher_generate", "synthetic_sft")])
def test_a_method_needs_the_table_of_its_artefact(table: str, method: str) -> None:
    settings = load_recipe(RECIPE)
    without = settings.model_copy(update={table: None})
    assert f"method {method} needs the table [{table}]" in next(p.message for p in problems(without))


@pytest.mark.parametrize(
    "overrides",
    [
        ["train.checkpoints=[1.0]"],
        ["evaluate.perplexity_tokens=512"],
        ["serve.prompt_tokens=256", "teacher_generate.prompt_tokens=256"],
        ["teacher_generate.temperature=0"],
        [FILE, "teacher_generate.prompt_tokens=512", "teacher_generate.max_rounds=1", "teacher_generate.chat=true"],
        [SEEDS, SHOTS, "teacher_generate.template=Q: {text}\n"],
        ["train.checkpoints=[0.9, 1.0]"],
        ["teacher_generate.min_new_tokens=224"],
        ["data.train_tokens=256", "train.checkpoints=[1.0]"],
        ["arms.kd.alpha=0", "arms.kd.temperature=2", "teacher_logits.temperature=2.0"],
        ['evaluate.lm_eval_tasks=["ifeval"]', "evaluate.lm_eval_limit=3"],
        ["teacher.source=hf:a/b", "teacher.revision=main"],
        ["arms.sft.name=base", "analysis.baseline_arm=base"],
        ["logit_cache={scheme='topk', step=0.25, seed=0}"],  # as a run states it that was told of no seed
        [
            "teacher_logits.top_k=0",
            "logit_cache={scheme='rs_kd', draws=9, seed=3}",
            "arms.kd.loss=sampled_kl",
        ],
        ["logit_cache={scheme='head_draws', draws=9, step=0.25, seed=3}", "arms.kd.loss=sampled_kl"],
        ["teacher_logits.engine=vllm"],
        ["teacher_logits.engine=vllm", "logit_cache={scheme='topk'}"],
        ["teacher_logits.engine=vllm", "logit_cache={scheme='topp', mass=0.9}", "arms.kd.loss=top_p_tail"],
    ],
)
def test_what_the_rules_allow_loads(overrides: list[str]) -> None:
    assert not list(problems(load_recipe(RECIPE, overrides)))


def test_no_way_of_making_a_recipe_goes_around_the_rules() -> None:
    broken = load_recipe(RECIPE).model_copy(update={"teacher_logits": None})
    with pytest.raises(ValidationError, match="needs the table"):
        Recipe.model_validate_json(broken.model_dump_json())


def test_a_cut_off_loss_reads_the_cache() -> None:
    arm = load_recipe(RECIPE, ["arms.kd.loss=truncated_top_k"]).to_spec().arms[1]
    assert (arm.loss, arm.artifact_kind) == ("truncated_top_k", "logits")
    assert load_recipe(RECIPE).to_spec().arms[1].minimises == "0.5 CE + 0.5 T^2 top_k_tail, T=1"


def test_an_online_loss_needs_no_cache_and_may_have_its_own_temperature() -> None:
    extra = '{name="on", method="kd", alpha=0.0, temperature=3.0, loss="jsd", loss_parameter=0.5}'
    kept = '{name="sft", method="sft"}, {name="kd", method="kd", alpha=0.5, temperature=1.0}'
    synthetic = '{name="synthetic", method="synthetic_sft"}'
    arm = load_recipe(RECIPE, [f"arms=[{kept}, {synthetic}, {extra}]"]).to_spec().arms[-1]
    assert arm.artifact_kind is None
    assert arm.minimises == "0 CE + 1 T^2 jsd(beta=0.5), T=3"


GKD = 'arms.synthetic={name="gkd", method="gkd", alpha=0.5, temperature=1.0, loss="forward_kl", own_text_share=0.5}'
OWN = "student_generate={prompt_tokens=32, max_new_tokens=64, temperature=1.0, top_p=1.0}"
ON_POLICY = [GKD, OWN, "arms.gkd.text=teacher"]  # so that [teacher_generate] of the recipe has its user


OF_FILE = "student_generate.prompts=path:asked.jsonl"


def test_own_text_after_prompts_of_a_file_may_be_kept_apart() -> None:
    spec = load_recipe(
        RECIPE,
        [*ON_POLICY, OF_FILE, "student_generate.chat=true", "student_generate.system=s", "data.packing=documents"],
    ).to_spec()
    assert spec.own_text is not None
    assert (spec.own_text.has_file, spec.own_text.chat, spec.own_text.system) == (True, True, "s")


def test_an_on_policy_arm_is_read() -> None:
    arm = load_recipe(RECIPE, ON_POLICY).to_spec().arms[-1]
    assert (arm.artifact_kind, arm.is_online) == ("text", True)
    assert arm.minimises == (
        "0.5 CE + 0.5 T^2 forward_kl, T=1; on own text with probability 0.5: 0 CE + 1 T^2 forward_kl, T=1"
    )


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([GKD], "arm 'gkd': method gkd needs the table [student_generate]"),
        ([OWN], "no arm uses [student_generate]"),
        (["arms.kd.own_text_share=0.5"], "arm 'kd': method kd takes no own_text_share; only gkd does"),
        (["arms.kd.text=teacher"], "arm 'kd': method kd takes no text; only gkd does"),
        ([*ON_POLICY, "arms.gkd.loss=top_k_tail"], "no cache holds what the student has yet to write"),
        ([*ON_POLICY, "arms.gkd.loss=forwardkl"], "did you mean 'forward_kl'?"),
        ([*ON_POLICY, "data.packing=documents"], "data.packing: a student goes on from beginnings of packed sequences"),
        ([*ON_POLICY, "student_generate.max_new_tokens=225"], "32 + 225 tokens are longer than a sequence, 256"),
        ([*ON_POLICY, "student_generate.prompt_tokens=257"], "prompts are cut from sequences of 256 tokens"),
        ([*ON_POLICY, "student_generate.chat=true"], 'only prompts = "path:FILE.jsonl" takes chat'),
        ([*ON_POLICY, "student_generate.template=Q {prompt}"], 'only prompts = "path:FILE.jsonl" takes template'),
        ([*ON_POLICY, OF_FILE, "student_generate.template=Q"], "has the place {prompt} 0 times; it needs it once"),
        ([*ON_POLICY, OF_FILE, "student_generate.prompt_tokens=257"], "257 + 64 tokens are longer than a sequence"),
        ([*ON_POLICY, "student_generate.prompts=asked.jsonl"], "known: corpus or path:FILE.jsonl"),
        ([*ON_POLICY, OF_FILE, "student_generate.sytem=s"], "did you mean 'system'?"),
        (['arms.synthetic={name="gkd", method="gkd"}', OWN], "arm 'gkd': method gkd needs own_text_share"),
        ([*ON_POLICY, "arms.gkd.own_text_share=1.5"], "less than or equal to 1; it is 1.5"),
    ],
)
def test_an_on_policy_arm_that_cannot_be_meant_is_refused(overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(RECIPE, overrides)
    assert words in str(caught.value)
