"""The one error that media code raises on bad input."""

from __future__ import annotations


class MediaError(Exception):
    """Media that cannot be read, carried, parsed or written.

    The message is one line that says what is wrong and where, fit to be shown to a user as it is.
    """
