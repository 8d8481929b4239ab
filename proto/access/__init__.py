"""Who may publish and watch what: tokens, the keys that sign them, and what a session is granted.

`scopes` says what can be allowed; `tokens` reads and makes the tokens that allow it; `keys` are those of the
issuers that a cluster trusts. Everything is denied that no token allows.
"""
