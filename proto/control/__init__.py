"""The control channel between edges and the control plane: messages, and an engine for each end."""
