"""Tokenizers with chat templates: bytes are tokens, and what begins and ends a turn is a special one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from byte_tokenizer import byte_tokenizer

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MARKED = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""The same text, in which the template itself says what is the assistant's."""
THINKING = (
    "{% for m in messages %}{% set said = m['content'] %}"
    "{% if m['role'] == 'assistant' and not loop.last %}{% set said = said.split('</think>')[-1] %}{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + said + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""Drops the thoughts of turns that others follow, as Qwen3's does."""


def chat_tokenizer(template: str | None = CHATML) -> Any:
    """A tokenizer of bytes with a chat template and the special tokens of its turns."""
    tokenizer = byte_tokenizer(chat_template=template)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    return tokenizer


def jsonl(path: Path, rows: list[Any]) -> str:
    """A file of those rows, as a recipe names it."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return f"path:{path}"


def said(*turns: str) -> list[dict[str, str]]:
    """A conversation: a system message, then user and assistant in turn."""
    roles = ["system", *("user", "assistant") * len(turns)]
    return [{"role": role, "content": turn} for role, turn in zip(roles, turns, strict=False)]
