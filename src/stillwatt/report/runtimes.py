"""The vendored drawing runtimes: Vega, Vega-Lite and vega-interpreter, checked against their hashes before use.

Vega and Vega-Lite are their makers' files. vega-interpreter 2.3.2 is published as a module only, so it is bundled with
what it takes from vega-util 2.1.3, by esbuild 0.28.2 from the line
`export { expressionInterpreter } from "vega-interpreter";`:

    esbuild entry.js --bundle --minify --format=iife --global-name=vegaInterpreter --legal-comments=none
"""

from __future__ import annotations

import hashlib
from importlib import resources

from stillwatt.errors import MissingInputError

RUNTIME_FILES = ("vega.min.js", "vega-lite.min.js", "vega-interpreter.min.js")
"""In the order in which a page loads them."""


def load_runtimes() -> tuple[str, ...]:
    """The scripts, ready to stand inside a page.

    Raises:
        MissingInputError: A file is missing or is not the one that was vendored.
    """
    sums = vendored_sums()
    return tuple(_ready(_checked(name, sums.get(name, ""))) for name in RUNTIME_FILES)


def vendored_sums() -> dict[str, str]:
    """SHA-256 of each vendored file, by name."""
    lines = (resources.files("stillwatt.report") / "vendor" / "SHA256SUMS").read_text(encoding="ascii").splitlines()
    return {name: digest for digest, name in (line.split() for line in lines)}


def _checked(name: str, digest: str) -> str:
    path = resources.files("stillwatt.report") / "vendor" / name
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != digest:
        raise MissingInputError(
            "drawing runtime of the recorded hash", str(path), "the installation is damaged; install stillwatt again"
        )
    return content.decode("utf-8")


def _ready(script: str) -> str:
    """Without the trailing pointer to a source map, which a debugger would ask the disk for."""
    lines = [line for line in script.splitlines() if not line.startswith("//# sourceMappingURL")]
    return "\n".join(lines)
