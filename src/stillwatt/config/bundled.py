"""The recipes that come with Stillwatt: beside the package when installed, in `recipes/` in a checkout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stillwatt.errors import ConfigError, UnknownNameError

_PACKAGE = Path(__file__).resolve().parent.parent


def bundled_recipes() -> dict[str, Path]:
    """Recipes by name (the file's name without `.toml`), in order of name."""
    return {path.stem: path for path in sorted(_folder().glob("*.toml"))}


def find_recipe(reference: str | Path) -> Path:
    """The file a recipe's name or path means; a file that exists comes before a bundled name.

    Raises:
        UnknownNameError: neither a file nor the name of a bundled recipe.
        ConfigError: the text is plainly a path, and no file is there.

    >>> find_recipe("quickstart").name
    'quickstart.toml'
    """
    path = Path(reference)
    if path.is_file():
        return path
    known = bundled_recipes()
    if str(reference) in known:
        return known[str(reference)]
    if path.suffix == ".toml" or len(path.parts) > 1:
        detail = "is a directory, not a recipe" if path.is_dir() else "no such file"
        raise ConfigError(str(reference), f"{detail}; recipes that come along: {', '.join(known) or 'none'}")
    raise UnknownNameError("recipe", str(reference), known)


def _folder(candidates: Sequence[Path] = (_PACKAGE / "recipes", _PACKAGE.parent.parent / "recipes")) -> Path:
    """Where the recipes lie: in the wheel inside the package, in a checkout at the top."""
    return next((folder for folder in candidates if folder.is_dir()), candidates[0])
