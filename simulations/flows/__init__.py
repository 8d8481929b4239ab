"""Simulation at the level of flows: many thousand viewers and hundreds of edges, where packets are too many.

What is real: the planner, its cycle, its gate and its damping (`farcast.control_plane`), the estimates of
links, the closed forms of repair that the planner reckons with, the players (`simulations.playout`). What is
a model: media are rates on links and nodes (`fluid`), joins wait in a line at each edge that was measured on
a real one (`joining`, `make bench-joins`), and what a frame meets on its way is drawn from closed forms
(`delays`) instead of from packets. How far that is from the packets is measured where both fit (`error`).
"""
