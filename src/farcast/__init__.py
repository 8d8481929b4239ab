"""Farcast: an open edge relay network for live media.

One import namespace for five folders at the top of the repository: ``proto`` (engines without I/O),
``edge`` (the edge daemon), ``control_plane``, ``clients`` (publisher and viewer), ``simulations``.
"""

__version__ = "0.1.0"
