"""Takes secrets out of text that people will read: logs, complaints of commands, answers about failures.

Nothing here should ever be needed: tokens are not put into messages. It is the last line, for the message
that quotes what somebody else wrote: an unknown option with a token behind it, a URL in an exception of a
library.
Secrets of ours have shapes that nothing else has:

    JWT            three parts of base64url, the first one an object: eyJ….….…
    join token     fcjoin1_…
    API token      farcast_… (issued ones)
    private keys   the body of a PEM block, "d" of a JWK
"""

from __future__ import annotations

import re
from typing import Final

HIDDEN: Final = "[secret]"

_SECRETS: Final = re.compile(
    r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]*)?"
    r"|fcjoin1_[A-Za-z0-9_=-]+"
    r"|farcast_[A-Za-z0-9_-]{40,}"
    r"|(?<=PRIVATE KEY-----)[A-Za-z0-9+/=\s\\]+"
    r"|(?<=[\"']d[\"']: [\"'])[A-Za-z0-9_-]{16,}"
    r"|(?<=[\"']d[\"']:[\"'])[A-Za-z0-9_-]{16,}"
    r"|(?<=[?&]jwt=)[^\s\"'&]+"
)

NOT_THE_TOKEN: Final = "that is a token; give its id (jti), which farcast token inspect shows"
_JWT: Final = re.compile(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")


def redact(text: str) -> str:
    """``text`` with `HIDDEN` in place of what would let somebody in; linear in its length."""
    return _SECRETS.sub(HIDDEN, text)


def looks_like_token(text: str) -> bool:
    """Whether somebody gave a whole JWT where its id was meant: it must not be kept."""
    return _JWT.search(text) is not None
