"""Requests of a server to the TorchServe that it has started, by its scheme and with its tokens."""

from __future__ import annotations

import json
import ssl
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any

from hepdata_serving.torchserve.addresses import Address

KEY_FILE = "key_file.json"
FAULTS = (OSError, HTTPException)
"""What `ask` raises where there is no answer."""


def ask(
    address: Address, path: str, token: str | None = None, body: Any = None, timeout: float = 5.0
) -> tuple[int, bytes]:
    """GET, or POST the body as JSON; the status and the answer. No proxy sees it.

    The certificate is not checked: the other side is our own child, on this machine, and the
    name in a real certificate is another one.
    """
    connection: HTTPConnection
    if address.scheme == "https":
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = HTTPSConnection(
            address.connected, address.port, timeout=timeout, context=context
        )
    else:
        connection = HTTPConnection(address.connected, address.port, timeout=timeout)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        if body is None:
            connection.request("GET", path, headers=headers)
        else:
            headers["Content-Type"] = "application/json"
            connection.request("POST", path, json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def tokens(folder: Path) -> dict[str, str]:
    """The tokens of a TorchServe that runs in this folder, by what they are for; none yet: none."""
    try:
        found = json.loads((folder / KEY_FILE).read_text())
        return {name: str(entry["key"]) for name, entry in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # not there or half written
