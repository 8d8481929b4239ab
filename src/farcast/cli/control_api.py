"""How commands reach a control plane: by its state directory on this machine, or by address and token."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from farcast.cli.output import note
from farcast.errors import EXIT_FAILED, EXIT_USAGE, UserError

STATE_DIR_VARIABLE = "FARCAST_CONTROL_STATE_DIR"
ANSWER_SECONDS_MAX = 10.0
ANSWER_BYTES_MAX = 256 << 20
TOKEN_FILE, ADDRESS_FILE = "api.token", "api.json"
WARNING_HEADER = "x-farcast-warning"

StateDir = Annotated[
    Path | None,
    Parameter(help=f"State directory of the control plane on this machine; also {STATE_DIR_VARIABLE}."),
]
Api = Annotated[str | None, Parameter(help="HOST:PORT of its API; from the state directory unless set.")]
TokenFile = Annotated[
    Path | None, Parameter(help="File with the API's token; api.token of the state directory unless set.")
]


@dataclass(frozen=True, slots=True)
class ControlApi:
    """A control plane's API. To ask for what is not there, or to order something of it, is wrong usage; to
    take back what is not in force is a failure, as all else that is refused."""

    url: str
    token: str

    def get(self, path: str, **query: str) -> dict[str, Any]:
        """What is at ``path``. Raises `UserError`."""
        return self._ask(path + ("?" + urllib.parse.urlencode(query) if query else ""), None)

    def post(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        """Order something. Raises `UserError`."""
        return self._ask(path, json.dumps(body).encode())

    def delete(self, path: str, *names: str, **query: str) -> dict[str, Any]:
        """Take something back: that of ``names`` below ``path``. Raises `UserError`."""
        whole = "/".join([path, *(urllib.parse.quote(name, safe="") for name in names)])
        return self._ask(whole + ("?" + urllib.parse.urlencode(query) if query else ""), None, "DELETE")

    def _ask(self, path: str, body: bytes | None, method: str | None = None) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, body, headers, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=ANSWER_SECONDS_MAX) as answer:
                if warning := answer.headers.get(WARNING_HEADER):
                    note(warning)
                return _object(answer.read(ANSWER_BYTES_MAX))
        except urllib.error.HTTPError as error:
            with error:
                is_unknown = error.code == HTTPStatus.NOT_FOUND and method != "DELETE"
                code = EXIT_USAGE if is_unknown else EXIT_FAILED
                raise UserError(_fault(error), code) from error
        except (OSError, HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise UserError(
                f"no control plane answers at {self.url}: {reason}; is farcast control running?"
            ) from error


def control_api(state_dir: Path | None, api: str | None, token_file: Path | None) -> ControlApi:
    """The API that the options name; `UserError` says what is missing."""
    directory = state_dir or (Path(text) if (text := os.environ.get(STATE_DIR_VARIABLE)) else None)
    if directory is None and (api is None or token_file is None):
        raise UserError(
            "which control plane? give --state-dir DIR, or --api HOST:PORT with --token-file FILE", EXIT_USAGE
        )
    token = _read(token_file or _in(directory, TOKEN_FILE)).strip()
    if not token.isascii() or not token or any(character.isspace() for character in token):
        raise UserError(f"{token_file or _in(directory, TOKEN_FILE)}: holds no token", EXIT_USAGE)
    if api is not None:
        return ControlApi(api if api.startswith("http") else f"http://{api}", token)
    file = _in(directory, ADDRESS_FILE)
    try:
        return ControlApi(str(json.loads(_read(file))["api"]), token)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: does not say where the API is; give --api HOST:PORT") from error


def _in(directory: Path | None, name: str) -> Path:
    return (directory or Path()) / name


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError as error:
        raise UserError(
            f"{file}: cannot be read: {error.strerror}; is farcast control running with this --state-dir?"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: is no text") from error


def _object(text: bytes) -> dict[str, Any]:
    answer = json.loads(text)
    if not isinstance(answer, dict):
        raise ValueError("its answer is no JSON object")
    return answer


def _fault(error: urllib.error.HTTPError) -> str:
    try:
        return str(_object(error.read(1 << 16))["error"])
    except (ValueError, KeyError, OSError, HTTPException):
        return f"the control plane answered {error.code}"
