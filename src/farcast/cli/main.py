"""The ``farcast`` command: finds the subcommand, and turns every outcome into an exit code.

Data goes to stdout, everything else to stderr. A `UserError` is shown as its message; only a defect of
Farcast itself shows a traceback.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError, Group

from farcast import __version__
from farcast.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, UserError
from farcast.redaction import redact

RUN = Group("Run", sort_key=1)
MEDIA = Group("Media", sort_key=2)
OPERATE = Group("Operate", sort_key=3)
TRUST = Group("Trust", sort_key=4)
CHECK = Group("Check", sort_key=5)
SIMULATE = Group("Simulate", sort_key=6)

COMMANDS = (
    ("edge", RUN, "Run an edge: relay media between publishers, viewers and other edges."),
    ("control", RUN, "Run the control plane: it computes the routes between edges and pushes them."),
    ("dev", RUN, "Run a network of six regions on this machine; --demo adds a film."),
    ("publish", MEDIA, "Publish a film in real time."),
    ("watch", MEDIA, "Watch a namespace: measure what arrives, and record it."),
    ("bench", MEDIA, "Publish and watch a synthetic film for a while: latency and loss of edges."),
    ("status", OPERATE, "Show the edges of a cluster, and how far each has come."),
    ("links", OPERATE, "Show what edges measured of the links between them."),
    ("routes", OPERATE, "Show how what edges publish reaches the others."),
    ("why", OPERATE, "Explain a route: candidates, costs, the reason."),
    ("top", OPERATE, "Watch edges, links, routes and the busiest namespaces live."),
    ("drain", OPERATE, "Empty an edge: what it relays first, then publishers and viewers."),
    ("undrain", OPERATE, "Use an edge again that was told to drain."),
    ("pin", OPERATE, "Hold a route to a way, or keep an edge out of the ways of others."),
    ("unpin", OPERATE, "Let routes go where they are best again."),
    ("price", OPERATE, "Say what an edge's or a link's sending costs."),
    ("capacity", OPERATE, "Say what an edge or a link may send at most."),
    ("remove", OPERATE, "Take an edge out of a cluster for good."),
    ("audit", OPERATE, "Show who changed what."),
    ("ca", TRUST, "Make a cluster's authority, and certificates for its edges and control planes."),
    ("token", TRUST, "Make keys of issuers, and tokens for publishers and viewers."),
    ("join-token", TRUST, "Let one new edge in: the line that farcast edge --join wants."),
    ("api-token", TRUST, "Say who may ask the control plane's API, and what."),
    ("netcheck", CHECK, "Check the way from here to every edge, and say which one would be chosen."),
    ("config", CHECK, "Check a configuration, or show it with where each value comes from."),
    ("completion", CHECK, "Print the completion of bash, zsh or fish."),
    ("doctor", CHECK, "Check whether this machine can run Farcast, and say what to do where it cannot."),
    ("version", CHECK, "Print what is installed."),
    ("sim", SIMULATE, "Run scenarios in virtual time over modelled links; say whether promises hold."),
)
"""The subcommands as the overview shows them, by who uses them; their modules, with the full text, are not
read for that. A command ``x-y`` is the function or the app ``x_y`` of the module ``farcast.cli.x_y``."""


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a disk that takes no more."""


def make_app(*, overview: bool = False) -> App:
    """The command line; modules of subcommands are imported when they are used.

    ``overview``: no subcommand is going to run, each is shown with its line.
    """
    app = App(
        name="farcast",
        help="Live media across the world over QUIC: edges, publishers, viewers.",
        version=__version__,
        help_format="plaintext",
        result_action="return_value",
    )
    for name, group, text in COMMANDS:
        module = name.replace("-", "_")
        app.command(f"farcast.cli.{module}:{module}", name=name, group=group, help=text if overview else None)
    return app


def main() -> None:
    """Entry point of the console script."""
    code = run(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # Python would say so too, by an exit code of its own.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            code = code or EXIT_FAILED if stream is sys.stdout else code
    sys.exit(code)


def run(tokens: Sequence[str]) -> int:
    """Run one command line; its exit code."""
    try:
        return _run(tokens)
    except BaseExceptionGroup as group:
        return _exit_code_of(group)
    except (UserError, KeyboardInterrupt, ModuleNotFoundError, BrokenPipeError) as error:
        return _exit_code(error)
    except OSError as error:
        if error.errno not in FULL:
            raise
        what = error.filename or "the output"
        _complain(f"{what}: cannot be written: {error.strerror}; make room, or write elsewhere")
        return EXIT_FAILED


def _run(tokens: Sequence[str]) -> int:
    try:
        overview = not tokens or tokens[0].startswith("-")
        app = make_app(overview=overview)
        result = app(list(tokens), exit_on_error=False, print_error=False)
    except CycloptsError as error:
        _complain(" ".join(str(error).split()))
        return EXIT_USAGE
    return result if isinstance(result, int) else EXIT_OK


def _exit_code_of(group: BaseExceptionGroup[BaseException]) -> int:
    """The exit code of what nurseries wrapped; a group that holds a defect is raised again."""
    known, defects = group.split((UserError, KeyboardInterrupt, BrokenPipeError))
    if known is None or defects is not None:
        raise group
    error: BaseException = known
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return _exit_code(error)


def _exit_code(error: BaseException) -> int:
    match error:
        case UserError():
            _complain(error.message)
            return error.exit_code
        case KeyboardInterrupt():
            return EXIT_INTERRUPTED
        case BrokenPipeError():
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return EXIT_FAILED
        case ModuleNotFoundError(name="farcast.proto._core"):
            _complain("the Rust core is not built: run 'make' in a clone, or 'pip install .'")
            return EXIT_FAILED
        case _:
            raise error


def _complain(message: str) -> None:
    with contextlib.suppress(OSError):
        for line in redact(message).splitlines():
            print(f"farcast: {line}", file=sys.stderr)
