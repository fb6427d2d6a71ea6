"""The text of Java's ``.properties`` files, one setting a line."""

from __future__ import annotations

from collections.abc import Mapping

from hepdata_adapters.common.core.errors import ConfigError

ENCODING = "iso-8859-1"
"""What Java reads; any bytes are read and written unchanged with it."""


def parse(text: str) -> dict[str, str]:
    r"""The settings of a file. As in Java, a space at the end of a line is part of the value.

    Raises ConfigError for a line that is not ``key=value``, or goes on in the next one.

    >>> parse("# why\nload_models = all\n")
    {'load_models': 'all'}
    """
    properties: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if _is_comment(line):
            continue
        key, equals, value = line.partition("=")
        if not equals or value.endswith("\\"):
            raise ConfigError(f"config.properties, line {number}: expected key=value on one line")
        properties[key.strip()] = value.lstrip()
    return properties


def render(properties: Mapping[str, str]) -> str:
    """Settings as text.

    >>> print(render({"a": "1", "b": "x=y"}), end="")
    a=1
    b=x=y
    """
    return "".join(f"{key}={value}\n" for key, value in properties.items())


def changed(text: str, changes: Mapping[str, str]) -> str:
    r"""A file with other values of some settings; all else, comments too, stays as it was.

    >>> changed("# why\na=1\nb = 2\n", {"b": "3", "c": "4"})
    '# why\na=1\nb=3\nc=4\n'
    """
    left = dict(changes)
    lines = []
    for line in text.splitlines():
        key = line.partition("=")[0].strip()
        if _is_comment(line) or key not in changes:
            lines.append(line)
        elif key in left:  # a second line of the same key would win over the first
            lines.append(f"{key}={left.pop(key)}")
    return "".join(f"{line}\n" for line in lines) + render(left)


def _is_comment(line: str) -> bool:
    return not line.strip() or line.strip()[0] in "#!"
