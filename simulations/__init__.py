"""The simulator: shipped engines over modelled links in virtual time."""
