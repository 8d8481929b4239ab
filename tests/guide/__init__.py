"""Runs docs/guide.md, command by command, in network namespaces as its machines."""
