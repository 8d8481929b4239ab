"""moq-rs as a relay: runs under the interpreter that has it. Reports where it listens as a JSON line."""

from __future__ import annotations

import asyncio
import contextlib
import json

import moq  # type: ignore[import-not-found,unused-ignore]


async def main() -> None:
    moq.log_level("debug")
    async with moq.Server("127.0.0.1:0", tls_generate=["localhost", "127.0.0.1"]) as server:
        address = {"listen": server.local_addr, "cert_sha256": server.cert_fingerprints()[0]}
        print(json.dumps({"event": "ready", **address}), flush=True)
        await server.serve()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
