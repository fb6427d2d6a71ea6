"""YAML of plain values, whose numbers are what people take for numbers.

PyYAML follows YAML 1.1: ``1e-3`` and ``.5e3`` are text there, and ``010`` is 8. Here numbers are
those of YAML 1.2, with the underscores of Python; the writer quotes text that would read as one.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

_FLOAT = re.compile(
    r"[-+]?(?:(?:\d[\d_]*\.[\d_]*|\.\d[\d_]*|\d[\d_]*(?=[eE]))(?:[eE][-+]?\d+)?"
    r"|\.?(?:inf|Inf|INF)|(?:infinity|Infinity|INFINITY))$|\.?(?:nan|NaN|NAN)$"
)
_INTEGER = re.compile(r"(?:[-+]?\d[\d_]*|0o[0-7]+|0x[\da-fA-F]+)$")
_FLOAT_TAG, _INTEGER_TAG = "tag:yaml.org,2002:float", "tag:yaml.org,2002:int"


def read_yaml(text: str) -> Any:
    """One YAML document of plain values; raises yaml.YAMLError.

    >>> read_yaml("[1e-3, 1E5, 1_000, .5e3, 010, -inf, 3]")
    [0.001, 100000.0, 1000, 500.0, 10, -inf, 3]
    """
    loader = _PlainLoader(text)
    try:
        return loader.get_single_data()
    except (ValueError, TypeError, LookupError) as error:  # such as !!int abc, 2001-99-99
        raise yaml.YAMLError(f"a value does not fit its type: {error}") from None
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None
    finally:
        loader.dispose()


def write_yaml(document: Any, *, flow: bool = False) -> str:
    """The document as text that `read_yaml` reads back. flow: as one line, ``{key: value}``.

    >>> write_yaml({"name": "1e5", "exclude": ["a[2]", "b"]}, flow=True)
    "{name: '1e5', exclude: ['a[2]', b]}"
    """
    text: str = yaml.dump(
        document, Dumper=_PlainDumper, sort_keys=False, allow_unicode=True,
        default_flow_style=flow, width=10**9 if flow else 80,
    )  # fmt: skip
    return text.removesuffix("\n").removesuffix("\n...") if flow else text


class _PlainLoader(yaml.SafeLoader):
    """Safe YAML without aliases (which can blow up a small file) and without repeated keys."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases are not supported")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        mapping = super().construct_mapping(node, deep)
        if len(mapping) < len(node.value):
            names = [self.construct_object(key, deep=True) for key, _ in node.value]
            twice = next(name for name in names if names.count(name) > 1)
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
