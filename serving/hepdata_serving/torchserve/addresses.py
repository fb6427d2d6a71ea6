"""Where a TorchServe listens: what its settings say, with free ports for what was left alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Self
from urllib.parse import urlsplit

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_serving.torchserve.config import ADDRESSES

_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (what a user may write)


@dataclass(frozen=True)
class Address:
    """A scheme, host and port of HTTP.

    >>> Address.parse("https://0.0.0.0:8443").url
    'https://127.0.0.1:8443'
    """

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ConfigError for what is no http or https address with a port."""
        try:
            parts = urlsplit(text.strip())
            if parts.scheme in ("http", "https") and parts.hostname and parts.port:
                return cls(parts.scheme, parts.hostname, parts.port)
        except ValueError:
            pass  # a port that is no number
        raise ConfigError(
            f"{text!r} is no address that serve can see to be ready: write "
            "http://HOST:PORT or https://HOST:PORT"
        )

    def __str__(self) -> str:
        return f"{self.scheme}://{_bracketed(self.host)}:{self.port}"

    @property
    def connected(self) -> str:
        """The host by which this machine reaches it."""
        return _ANY.get(self.host, self.host)

    @property
    def url(self) -> str:
        """Where a client on this machine finds it."""
        return f"{self.scheme}://{_bracketed(self.connected)}:{self.port}"


def addresses(
    properties: Mapping[str, str], port: int | None, free: Iterator[int]
) -> dict[str, str]:
    """The settings of all addresses: a user's are kept, those as exported get free ports.

    port: of the predictions; 0 takes a free one, None what the settings say.
    Raises ConfigError for a HTTP address that is none.

    >>> chosen = addresses({"metrics_address": "https://127.0.0.1:9"}, None, iter(range(1, 9)))
    >>> chosen["inference_address"], chosen["management_address"], chosen["metrics_address"]
    ('http://127.0.0.1:8080', 'http://127.0.0.1:1', 'https://127.0.0.1:9')
    """
    chosen: dict[str, str] = {}
    for key, usual in ADDRESSES.items():
        given = properties.get(key, usual).strip()
        if key == "inference_address":
            address = Address.parse(given)
            wanted = address.port if port is None else port or next(free)
            chosen[key] = str(replace(address, port=wanted))
        elif given != usual or not usual[-4:].isdecimal():
            chosen[key] = given
        elif key.endswith("_port"):
            chosen[key] = str(next(free))
        else:
            chosen[key] = str(replace(Address.parse(usual), port=next(free)))
    return chosen


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
