"""The command line's reference page and its frozen list of options, walked from click.

`python -m stillwatt.cli.reference docs/reference/cli.md tests/golden/cli_help.txt` writes both anew; tests compare.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from stillwatt.cli.main import cli

_OPENING = """\
# Command line

`stillwatt VERB …`; `python -m stillwatt` is the same. Answers go to standard output, remarks and progress to standard
error. `--json` gives the answer to programs, and an error too: `{"error": {"kind": …, "message": …, "exit_status": …}}`
on standard output, beside the sentence on standard error. Colours and bars appear only on a terminal, and no colours
where `NO_COLOR` is set. Tab completion: `eval "$(_STILLWATT_COMPLETE=bash_source stillwatt)"` in `~/.bashrc`
(`zsh_source`, or `fish_source` for its own shell).

| exit status | meaning |
|---|---|
| 0 | done |
| 1 | failed |
| 2 | asked for what cannot be meant: an unknown name, a path that is not there, a faulty recipe; nothing was done |
| 3 | done, but the energy of a part is not known |
| 130 | interrupted |

`stillwatt measure` is the exception: it exits with the status of the measured command, whose standard output it is.

This page is generated from the commands.
"""


def commands(command: click.Command = cli, path: str = "stillwatt") -> Iterator[tuple[str, click.Command]]:
    """Every command with the words that call it, groups before their commands."""
    yield path, command
    if isinstance(command, click.Group):
        for name in sorted(command.commands):
            yield from commands(command.commands[name], f"{path} {name}")


def reference_markdown() -> str:
    """The page as Markdown: every command, its arguments, options and what they mean."""
    parts = [_OPENING]
    for path, command in commands():
        parts += [f"## `{path}`\n", _help(command), f"```\n{_usage(path, command)}\n```\n"]
        if isinstance(command, click.Group):
            rows = ["| command | what it does |", "|---|---|"]
            rows += [f"| `{path} {name}` | {_summary(command.commands[name])} |" for name in sorted(command.commands)]
            parts.append("\n".join(rows) + "\n")
        options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
        if options:
            rows = ["| option | default | meaning |", "|---|---|---|"]
            rows += [f"| {_cell(_spelling(option))} | {_default(option)} | {_meaning(option)} |" for option in options]
            parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


def option_list() -> str:
    """Every command, argument, option, choice and default, one a line: what a change of the interface changes."""
    lines: list[str] = []
    for path, command in commands():
        lines.append(path)
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                notes = [_default(parameter).strip("`*"), "repeatable" if parameter.multiple else ""]
                lines.append("  ".join(["", _spelling(parameter), *filter(None, notes)]))
            else:
                need = "" if parameter.required else "  optional"
                lines.append(f"  argument {parameter.human_readable_name}{need}")
    return "\n".join(lines) + "\n"


def _usage(path: str, command: click.Command) -> str:
    # a command remembers the help option of the first context that asks, so this one must ask for the real one
    context = click.Context(command, info_name=path, help_option_names=cli.context_settings["help_option_names"])
    return " ".join([path, *command.collect_usage_pieces(context)])


def _help(command: click.Command) -> str:
    """The command's help, paragraphs on one line each, as a page wants them."""
    paragraphs = (command.help or "").strip().split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs) + "\n"


def _summary(command: click.Command) -> str:
    return _help(command).split("\n\n")[0].strip()


def _spelling(option: click.Option) -> str:
    """An option as it is typed: `--runs DIR`."""
    value = "" if option.is_flag else f" {option.metavar or _choices(option)}"
    return f"{', '.join(option.opts)}{value}"


def _cell(code: str) -> str:
    return "`" + code.replace("|", "\\|") + "`"


def _choices(option: click.Option) -> str:
    kind = option.type
    return "|".join(str(choice) for choice in kind.choices) if isinstance(kind, click.Choice) else "NUMBER"


def _default(option: click.Option) -> str:
    if option.required:
        return "*needed*"
    return f"`{option.default}`" if option.show_default and not option.is_flag else ""


def _meaning(option: click.Option) -> str:
    return " ".join((option.help or "").split()).replace("|", "\\|")


if __name__ == "__main__":
    for target, text in zip(sys.argv[1:], (reference_markdown(), option_list()), strict=False):
        Path(target).write_text(text, encoding="utf-8")
