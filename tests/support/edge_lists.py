"""Edge lists as a control plane makes them, but for the signature, which clients do not look at."""

from __future__ import annotations

import base64
import json
from typing import Any


def token(payload: Any) -> bytes:
    """A compact JWS around a payload: JSON, or the bytes themselves."""
    text = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return b"e30." + base64.urlsafe_b64encode(text).rstrip(b"=") + b".c2ln"


def edge_list(*edges: dict[str, Any], issued_unix_us: int = 1) -> bytes:
    """A list of these edges."""
    return token({"issued_unix_us": issued_unix_us, "edges": list(edges)})


def entry(node_id: str, url: str, region: str = "twin") -> dict[str, Any]:
    """One edge of a list."""
    return {"node_id": node_id, "region": region, "url": url, "draining": False}
