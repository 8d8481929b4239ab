"""Engines without I/O: MoQT control, the agent, clients, and the bindings of the Rust datapath."""
