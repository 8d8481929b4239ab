"""MoQT control: messages, one profile per draft, and the session state machine. No I/O, no clock."""
