"""``farcast version``: what is installed."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Annotated

from cyclopts import Parameter

from farcast import __version__
from farcast.cli.output import print_json, print_table
from farcast.edge.settings import DRAFTS_SPOKEN

LIBRARIES = ("trio", "av", "cryptography", "hypercorn", "starlette")


def version(*, json: Annotated[bool, Parameter(negative=())] = False) -> None:
    """Print the versions of Farcast, its Rust core and what they run on.

    Example: farcast version --json

    Parameters
    ----------
    json
        One JSON line.
    """
    facts: dict[str, object] = {
        "version": __version__,
        "core": core_version(),
        "drafts": list(DRAFTS_SPOKEN),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": {name: _installed(name) for name in LIBRARIES},
    }
    if json:
        print_json(facts)
        return
    libraries = " ".join(f"{name} {_installed(name)}" for name in LIBRARIES)
    rows = [
        ("farcast", __version__),
        ("core", core_version() or "not built"),
        ("drafts", " ".join(map(str, DRAFTS_SPOKEN))),
        ("python", platform.python_version()),
        ("platform", platform.platform()),
        ("libraries", libraries),
    ]
    print_table(("", "version"), rows)


def core_version() -> str | None:
    """Version of the built Rust core, None where there is none."""
    try:
        from farcast.proto._core import CORE_VERSION
    except ImportError:
        return None
    return CORE_VERSION


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
