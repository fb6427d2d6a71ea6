"""YAML of plain values, whose numbers are what people take for numbers, read within bounds.

PyYAML follows YAML 1.1: ``1e-3`` and ``.5e3`` are text there, and ``010`` is 8. Here numbers are
those of YAML 1.2, with the underscores of Python; the writer quotes text that would read as one.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import yaml

MAX_DEPTH, MAX_EVENTS, MAX_PLAIN, MAX_DIGITS = 50, 200_000, 10_000, 1000
_FLOAT = re.compile(
    r"[-+]?(?:(?:\d[\d_]*\.[\d_]*|\.\d[\d_]*|\d[\d_]*(?=[eE]))(?:[eE][-+]?\d+)?"
    r"|\.?(?:inf|Inf|INF)|(?:infinity|Infinity|INFINITY))$|\.?(?:nan|NaN|NAN)$"
)
_INTEGER = re.compile(r"(?:[-+]?\d[\d_]*|0o[0-7]+|0x[\da-fA-F]+)$")
_FLOAT_TAG, _INTEGER_TAG = "tag:yaml.org,2002:float", "tag:yaml.org,2002:int"
# the one of libyaml, where it was built in, is ten times as fast
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(text: str) -> Any:
    """One YAML document of plain values; raises yaml.YAMLError.

    Aliases (which can blow up a small file), repeated keys and deep nesting are refused.

    >>> read_yaml("[1e-3, 1E5, 1_000, .5e3, 010, -inf, 3]")
    [0.001, 100000.0, 1000, 500.0, 10, -inf, 3]
    """
    _check_structure(text)
    loader = _PlainLoader(text)
    try:
        return loader.get_single_data()
    except (ValueError, TypeError, LookupError) as error:  # such as !!int abc, 2001-99-99
        raise yaml.YAMLError(f"a value does not fit its type: {error}") from None
    finally:
        loader.dispose()


def write_yaml(document: Any, *, flow: bool | None = False) -> str:
    """The document as text that `read_yaml` reads back.

    flow: True for one line, ``{key: value}``; None for one line for each mapping or list of plain
    values.

    >>> write_yaml({"name": "1e5", "exclude": ["a[2]", "b"]}, flow=True)
    "{name: '1e5', exclude: ['a[2]', b]}"
    """
    text: str = yaml.dump(
        document, Dumper=_PlainDumper, sort_keys=False, allow_unicode=True,
        default_flow_style=flow, width=10**9 if flow else 100,
    )  # fmt: skip
    return text.removesuffix("\n").removesuffix("\n...") if flow else text


def _check_structure(text: str) -> None:
    """Refuse what would cost more than reading the text once, before anything is built."""
    depth = 0
    for number, event in enumerate(yaml.parse(text, Loader=_Loader)):
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError(f"aliases are not supported{event.start_mark}")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise yaml.YAMLError(f"it is nested more than {MAX_DEPTH} deep{event.start_mark}")
        if isinstance(event, yaml.ScalarEvent) and not event.style and len(event.value) > MAX_PLAIN:
            raise yaml.YAMLError(f"a value without quotes is too long{event.start_mark}")
        if number > MAX_EVENTS:
            raise yaml.YAMLError(f"it has more than {MAX_EVENTS:,} keys and values")


class _PlainLoader(_Loader):  # type: ignore[misc]
    """Safe YAML without repeated keys."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        mapping = super().construct_mapping(node, deep)
        if len(mapping) < len(node.value):
            names = Counter(self.construct_object(key, deep=True) for key, _ in node.value)
            twice = next(name for name, count in names.items() if count > 1)
            raise yaml.YAMLError(f"key {twice!r} stands twice{node.start_mark}")
        return mapping


class _PlainDumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True  # the reader refuses them


def _number(loader: Any, node: Any) -> float:
    return float(loader.construct_scalar(node).lower().replace("_", "").replace(".inf", "inf")
                 .replace(".nan", "nan"))  # fmt: skip


def _integer(loader: Any, node: Any) -> int:
    text = loader.construct_scalar(node).replace("_", "")
    if len(text) > MAX_DIGITS:  # Python would not print it
        raise ValueError(f"a number of {len(text):,} digits")
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


for _kind in (_PlainLoader, _PlainDumper):
    _kind.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in found if tag not in (_FLOAT_TAG, _INTEGER_TAG)]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    _kind.add_implicit_resolver(_INTEGER_TAG, _INTEGER, list("-+0123456789"))
    _kind.add_implicit_resolver(_FLOAT_TAG, _FLOAT, list("-+0123456789.iInN"))
_PlainLoader.add_constructor(_FLOAT_TAG, _number)
_PlainLoader.add_constructor(_INTEGER_TAG, _integer)
