"""A real tokenizer of bytes, with two merges and a chat template: what it makes of a text can be read off."""

from __future__ import annotations

from typing import Any

TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'alien' %}{{ raise_exception('no such role') }}{% endif %}"
    "[{{ m['role'] }}]{{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)


def byte_tokenizer(*, chat_template: str | None = TEMPLATE) -> Any:
    """One token a byte, but for two line ends, and a full stop with two line ends; 0 ends a text."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    line = "Ċ"  # how byte-level vocabularies write a line's end
    letters = [*sorted(pre_tokenizers.ByteLevel.alphabet()), line + line, f".{line}{line}"]
    vocabulary = {"<|end|>": 0, **{letter: i + 1 for i, letter in enumerate(letters)}}
    backend = Tokenizer(BPE(vocab=vocabulary, merges=[(line, line), (".", line + line)]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|end|>"])
    tokenizer: Any = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        tokenizer_object=backend, eos_token="<|end|>", pad_token="<|end|>"
    )
    tokenizer.chat_template = chat_template
    return tokenizer
