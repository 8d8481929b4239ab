"""The control channel between edges and the control plane, as engines.

``messages`` and ``ranges`` are the records and what their fields may hold, ``codec`` the frames;
``edge_channel`` and ``server_channel`` are the two ends, ``events`` what they report; ``edge_plan`` is the
plan at an edge and the store that decides what comes into force, by the rules of ``plan_rules``.
"""
