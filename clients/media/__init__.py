"""The media side of the tools: sources, catalogs, packaging, recording and playback measurement.

Everything here is plain and blocking, opens no socket of its own and never sleeps: pacing and
transport belong to the shell that calls it. Only :mod:`sources` and :mod:`recorder` touch files.
"""
