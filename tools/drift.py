"""Check that generated pages and golden files say what the code does, or write them anew with --write."""

import difflib
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def cli_reference() -> str:
    """Every command with its options, walked from click."""
    from stillwatt.cli.reference import reference_markdown

    return reference_markdown()


def recipe_reference() -> str:
    """Every recipe key, from the settings models."""
    from stillwatt.config.reference import reference_markdown

    return reference_markdown()


def recipe_schema() -> str:
    """JSON Schema of a recipe, for editors."""
    from stillwatt.config.schema import schema_text

    return schema_text()


def factor_file_schema() -> str:
    """JSON Schema of a file of the user's own factors."""
    from stillwatt.config.factor_file import schema_text

    return schema_text()


def comparison_schema() -> str:
    """JSON Schema of what `stillwatt analyse --json` prints."""
    from stillwatt.report.comparison_schema import schema_text

    return schema_text()


def lifecycle_schema() -> str:
    """JSON Schema of a life-cycle report."""
    from stillwatt.config.lifecycle_schema import schema_text

    return schema_text()


def reproductions() -> str:
    """Published accounts beside ours."""
    from stillwatt.workflows.reproductions import reproductions_markdown

    return reproductions_markdown()


def quantities() -> str:
    """Every kind of factor, with its unit and limits."""
    from stillwatt.factors.quantities import quantities_markdown

    return quantities_markdown()


def literature() -> str:
    """The corpus of published figures: its words, its columns, the numbers of its map."""
    from stillwatt.literature.reference import literature_markdown

    return literature_markdown()


def protocol() -> str:
    """The protocol: every requirement with its level, reason and rule."""
    from stillwatt.report.conformance import protocol_markdown

    return protocol_markdown()


def cli_options() -> str:
    """Every command and option, one a line: a new knob belongs in the recipe."""
    from stillwatt.cli.reference import option_list

    return option_list()


def public_api() -> str:
    """The public surface, one name a line."""
    import stillwatt

    return "\n".join(sorted(stillwatt.__all__)) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "docs/reference/cli.md": cli_reference,
    "docs/reference/recipe.md": recipe_reference,
    "docs/reference/recipe.schema.json": recipe_schema,
    "docs/reference/factor-file.schema.json": factor_file_schema,
    "docs/reference/comparison.schema.json": comparison_schema,
    "docs/reference/quantities.md": quantities,
    "docs/reference/lifecycle.schema.json": lifecycle_schema,
    "docs/reference/reproductions.md": reproductions,
    "docs/reference/literature.md": literature,
    "docs/protocol.md": protocol,
    "tests/golden/public_api.txt": public_api,
    "tests/golden/cli_help.txt": cli_options,
}


def main(arguments: list[str]) -> int:
    """Compare (or write) every page; 1 where one has drifted."""
    drifted = 0
    for name, make in PAGES.items():
        path, text = ROOT / name, make()
        if "--write" in arguments:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            continue
        current = path.read_text(encoding="utf-8") if path.exists() else ""
        if current != text:
            drifted += 1
            lines = difflib.unified_diff(current.splitlines(), text.splitlines(), name, "generated", lineterm="", n=1)
            print("\n".join(list(lines)[:40]))
    if drifted:
        print(f"{drifted} generated page(s) have drifted; run: make golden, and read the diff")
    return 1 if drifted else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
