"""The ``farcast`` command."""
