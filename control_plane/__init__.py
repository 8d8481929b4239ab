"""The control plane: link state, planner, plan distribution."""
