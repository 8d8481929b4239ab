"""Secrets stay where they belong: a network at log level debug, and all that it says is searched for them.

Searched are logs, command lines (``/proc/*/cmdline``), metrics, every answer of both HTTP listeners, the
audit log, the output of commands, and the complaints about what is wrong. Searched for are tokens of
publishers and viewers (whole, and each part of them), join tokens and their secrets, tokens of the API, the
token by which Consul is asked, and private keys. Keys of authorities have no passphrase that could be told.
"""

from __future__ import annotations

import contextlib
import io
import json
import stat
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from commands import end, figures, killed_at_end, start

from farcast.cli import main
from farcast.proto.joining.tokens import decode_join_token

from .test_joining import FILM, Network, network, until

__all__ = ["network"]

NAMESPACE = "live/room1"
MARKED = "marked-subject-0451"
"""Who a token is for: of its claims nothing is told either."""

SECRET_FILES = ("api.token", "api-tokens.json", "identity.pem", "control.sqlite3", "joining.key", "ca.key")


class Told:
    """Everything that was said, by where."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.by_place: dict[str, str] = {}

    def run(self, *arguments: str) -> str:
        """A command of the state directory; what it says, on both ways."""
        outcome = self.network.ask(*arguments)
        self.by_place[" ".join(arguments)[:40]] = outcome.out + outcome.err
        return outcome.out

    def done(self, arguments: tuple[str, ...], process: subprocess.Popen[str], code: int) -> str:
        """What a command that is refused has said."""
        outcome = end(process)
        assert outcome.code == code, (arguments[:2], outcome.err)
        self.by_place[f"refused: {arguments}"] = outcome.out + outcome.err
        return outcome.err

    def refuse(self, *arguments: str) -> str:
        """The same of wrong usage, without a process of its own."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            assert main.run(arguments) == 2, err.getvalue()
        self.by_place[f"refused: {arguments}"] = out.getvalue() + err.getvalue()
        return err.getvalue()

    def command_lines(self) -> int:
        """Of all processes that run now, as ps shows them; how many show a file in place of a token."""
        for process in Path("/proc").glob("[0-9]*"):
            try:
                line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            except OSError:
                continue
            if "farcast" in line:
                self.by_place[f"ps {process.name}"] = line
        return sum("--token-file" in line for place, line in self.by_place.items() if place[:3] == "ps ")

    def listeners(self, ops: str) -> None:
        """All that can be read over HTTP, as the local operator reads it."""
        state = self.network.folder / "control"
        api = json.loads((state / "api.json").read_text())["api"]
        headers = {"Authorization": f"Bearer {(state / 'api.token').read_text().strip()}"}
        with httpx.Client(base_url=api, headers=headers, timeout=20) as client:
            document = client.get("/openapi.json").json()
            paths = [path for path, methods in document["paths"].items() if "get" in methods]
            for path in [*paths, "/nowhere", "/why?src=a&dst=b"]:
                self.by_place[f"API {path}"] = client.get(path).text
            wrong = {"Authorization": "Bearer wrong"}
            self.by_place["API, wrong token"] = client.get("/status", headers=wrong).text
        for path in ("/metrics", "/status.json", "/readyz", "/nowhere"):
            self.by_place[f"edge {path}"] = httpx.get(f"http://{ops}{path}", timeout=20).text

    def files(self) -> None:
        """Logs, and what the control plane keeps for people."""
        for file in (*self.network.folder.glob("*.log"), *(self.network.folder / "control").glob("audit*")):
            self.by_place[file.name] = file.read_text()


def file_of(network: Network, name: str, content: str) -> str:
    file = network.folder / name
    file.touch(mode=0o600)
    file.write_text(content + "\n")
    return str(file)


def private_lines(folder: Path) -> Iterator[str]:
    """Lines of the private keys in all PEM files."""
    for file in folder.rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        for block in content.split(b"PRIVATE KEY-----")[1::2]:
            yield from (line.decode() for line in block.splitlines() if len(line) == 64)


@pytest.mark.slow
def test_no_secret_is_in_logs_command_lines_metrics_answers_or_complaints(network: Network) -> None:
    told = Told(network)
    network.control("--log-level", "debug")
    join = network.token()
    file = file_of(network, "sin.token", join)
    listen = ["--listen=127.0.0.1:0", "--ops=127.0.0.1:0", "--dev-cert", "--log-level=debug"]
    state = f"--state-dir={network.folder / 'sin'}"
    edge, ready = network.serve("edge", "edge", *listen, state, "--join-file", file)
    url, key = f"moqt://{ready['listen']}", str(network.folder / "shop.jwk")
    public = file_of(network, "shop.json", end(start("token", "key", key, "--key-id", "shop-1")).out)
    told.run("token", "trust", public)

    def token(*options: str) -> str:
        wanted = ("--key", key, "--cluster", "shows", "--subject", MARKED, *options)
        return end(start("token", "issue", *wanted)).out.strip()

    publish, watch = token("--publish", NAMESPACE), token("--watch", NAMESPACE)
    files = {name: file_of(network, name, text) for name, text in (("p", publish), ("w", watch))}
    until(lambda: _keys(ready["ops"]) == 1)
    api_token = json.loads(told_out(told, "api-token", "issue", "grafana", "--json"))["token"]
    client = ("--namespace", NAMESPACE, "--insecure", "--no-edge-list")
    publisher = start("publish", FILM, url, *client, "--token-file", files["p"])
    with killed_at_end(publisher):
        watcher = start("watch", url, *client, "--token-file", files["w"], "--seconds", "3", "--json")
        with killed_at_end(watcher):
            until(lambda: told.command_lines() >= 2)
            assert figures(watcher)["frames"] > 20
        told.listeners(ready["ops"])
        complain(told, url, client, publish, watch, join)
        publisher.terminate()
        outcome = end(publisher)
        told.by_place["publish"] = outcome.out + outcome.err
    told.files()

    secrets = [join, decode_join_token(join).secret.hex(), api_token, *parts(publish), *parts(watch)]
    secrets += [(network.folder / "control" / "api.token").read_text().strip(), MARKED]
    secrets += [json.loads(Path(key).read_text())["d"], *private_lines(network.folder)]
    assert len(secrets) > 12
    assert len(told.by_place) > 40
    for place, text in told.by_place.items():
        for number, secret in enumerate(secrets):
            assert secret not in text, (place, number)
    check_modes(network.folder)
    edge.terminate()


CONSUL_TOKEN = "3dae853c-07e0-290f-478e-15ad455eef0f"


class Quoting(BaseHTTPRequestHandler):
    """A Consul, or what stands before it, that refuses everything and says by which token it was asked."""

    asked: list[str]

    def answer(self) -> None:
        token = self.headers["X-Consul-Token"]
        self.asked.append(token)
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        said = f"ACL not found: {token}".encode()
        self.send_response(403)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_GET = do_PUT = do_DELETE = answer

    def log_message(self, *_: object) -> None:
        """Nothing: the test looks at our own logs."""


@contextlib.contextmanager
def consul_that_quotes() -> Iterator[tuple[str, list[str]]]:
    """Its address, and the tokens by which it was asked."""
    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Quoting,), {"asked": asked}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def test_the_token_of_consul_is_in_nothing_that_a_control_plane_says_even_if_consul_quotes_it(
    network: Network,
) -> None:
    told = Told(network)
    file = file_of(network, "consul.token", CONSUL_TOKEN)
    with consul_that_quotes() as (address, asked):
        network.control("--log-level=debug", "--registry=consul", f"--consul={address}",
                        f"--consul-token-file={file}")  # fmt: skip
        until(lambda: len(asked) > 3 and "ACL not found" in network.logs())
        told.command_lines()
        for command in (("status",), ("routes",), ("drain", "sin-1"), ("api-token", "list")):
            told.run(*command)
        api = json.loads((network.folder / "control" / "api.json").read_text())["api"]
        for path in ("/livez", "/readyz", "/metrics", "/status"):
            told.by_place[f"API {path}"] = httpx.get(f"{api}{path}", timeout=20).text
    told.files()
    assert set(asked) == {CONSUL_TOKEN}
    assert any(place.startswith("ps ") for place in told.by_place)
    for place, text in told.by_place.items():
        assert CONSUL_TOKEN not in text, place


def told_out(told: Told, *arguments: str) -> str:
    """What a command says that is meant to say a secret, once."""
    outcome = told.network.ask(*arguments)
    assert outcome.code == 0, outcome.err
    told.by_place[f"{arguments[0]}, stderr"] = outcome.err
    return outcome.out


def parts(token: str) -> list[str]:
    return [token, *token.split(".")[1:]]


def complain(told: Told, url: str, client: tuple[str, ...], publish: str, watch: str, join: str) -> None:
    """What people get wrong with tokens at hand."""
    quick = (*client, "--timeout", "2")
    folder = told.network.folder
    wrong = [
        ("watch", f"{url}/room?jwt={publish}", *quick),
        ("watch", f"moqt://127.0.0.1:9/?jwt={watch}", *quick),
        ("watch", f"moqt://nowhere.invalid/?jwt={watch}", *quick),
        ("edge", "--join", join, f"--state-dir={folder / 'again'}", "--dev-cert", "--listen=127.0.0.1:0",
         "--ops=127.0.0.1:0"),
    ]  # fmt: skip
    running = [start(*arguments) for arguments in wrong]
    said = [told.done(arguments, process, 1) for arguments, process in zip(wrong, running, strict=True)]
    assert "no token allows this" in said[0]
    assert "was used already" in said[3]
    told.refuse("watch", f"ftp://host/?jwt={watch}", *quick)
    told.refuse("watch", f"farcast://host?jwt={watch}", *quick)
    told.refuse("watch", f"{url}/?jwt={watch}", *client, "--ca", "/no/ca")
    told.refuse("watch", url, *quick, f"--tokn={watch}")
    told.refuse("watch", url, *quick, watch, "--token")
    told.refuse("watch", url, *quick, "--token", f"{watch}.x")
    told.refuse("edge", "--join", join[:-9], "--state-dir", "x", "--dev-cert")
    told.refuse("edge", "--join", f"{join} ", "--joinn", "--dev-cert")
    assert "give its id" in told.refuse("token", "revoke", watch, "--state-dir", str(folder / "control"))
    told.run("token", "distrust", watch)
    told.run("api-token", "revoke", watch)
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        main.run(["config", "show", "edge", "--set", f"join={join}", "--set", "dev_cert=true",
                  "--set", "auth.mode=open", "--set", f"control.state_dir={folder / 'new'}",
                  "--set", f"upstream=live={url}/?jwt={watch}"])  # fmt: skip
    assert "upstream" in shown.getvalue()
    told.by_place["config show"] = shown.getvalue()
    state = folder / "control"
    api = json.loads((state / "api.json").read_text())["api"]
    headers = {"Authorization": f"Bearer {(state / 'api.token').read_text().strip()}"}
    bodies: list[Any] = [
        {"revoke_token": watch}, {"revoke_key": watch}, {"distrust": watch}, {"trust": {"kid": watch}},
        {watch: 1},
    ]  # fmt: skip
    for body in bodies:
        answer = httpx.post(f"{api}/access", json=body, headers=headers, timeout=20)
        assert answer.status_code in (400, 409)
        told.by_place[f"API /access {answer.text[:60]}"] = answer.text


def check_modes(folder: Path) -> None:
    """Files with secrets are their owner's, and so are the folders they lie in."""
    found = [file for file in folder.rglob("*") if file.name in SECRET_FILES and file.parent.name != "ca"]
    assert len(found) >= 4
    for file in found:
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file
        assert stat.S_IMODE(file.parent.stat().st_mode) & 0o077 == 0, file.parent


def _keys(ops: str) -> int:
    status = httpx.get(f"http://{ops}/status.json", timeout=20).json()
    return int(status["agent"]["access"]["keys"])


def test_a_token_on_the_command_line_is_remarked_upon_and_two_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main.run(["watch", "moqt://127.0.0.1:9", "--namespace", "a", "--token", "a.b"]) == 2
    assert "--token-file FILE hides it" in capsys.readouterr().err
    both = ["--token", "a.b.c", "--token-file", "x"]
    assert main.run(["watch", "moqt://127.0.0.1:9", "--namespace", "a", *both]) == 2
    assert "choose one" in capsys.readouterr().err
    assert main.run(["edge", "--join", "x", "--join-file", "y"]) == 2
    assert "choose one" in capsys.readouterr().err
