"""The one exception that a person using Farcast ever meets."""

from __future__ import annotations

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_PROMISE_BROKEN = 99
EXIT_INTERRUPTED = 130


class UserError(Exception):
    """Something that the user, not we, can put right; shown as its message, never as a traceback.

    The message says what failed, where, and what to do. ``exit_code`` is 1 for what failed while
    running and 2 for what was asked for wrongly (usage, configuration).
    """

    def __init__(self, message: str, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code

    @property
    def message(self) -> str:
        """One line, or one line per fault."""
        return str(self.args[0])
