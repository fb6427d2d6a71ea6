"""weaver's ``new_variables`` as derived columns, each translated after those that it needs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.weaver.notes import one_line
from hepdata_adapters.common.weaver.syntax import UntranslatableError, names_in
from hepdata_adapters.common.weaver.translation import Translated, translate


@dataclass(frozen=True)
class Variables:
    """translated: in an order in which each needs only those before. refused: reason by name.

    logical: those that are true or false.
    """

    translated: Mapping[str, Translated]
    refused: Mapping[str, str]
    logical: Collection[str]

    def translate(self, text: str) -> Translated:
        """An expression over branches and variables. Raises UntranslatableError."""
        found = translate(text, self.logical)
        for name in sorted(found.names):
            self.check(name)
        return found

    def check(self, name: str) -> None:
        """Raise UntranslatableError for a variable that could not be translated."""
        if name in self.refused:
            raise UntranslatableError(f"it needs {name}, which could not be translated")

    def needed(self, names: Iterable[str]) -> dict[str, str]:
        """The derived columns that these columns are made of, themselves among them."""
        wanted = set(names)
        for name, known in reversed(list(self.translated.items())):
            if name in wanted:
                wanted |= known.names
        return {name: known.text for name, known in self.translated.items() if name in wanted}


def variables_of(expressions: Mapping[str, str]) -> Variables:
    """Translate ``new_variables``. Raises ConfigError where they go round in a circle."""
    # weaver takes ``name: name`` for the branch itself
    own = {name: text for name, text in expressions.items() if name != text.strip()}
    graph = {name: sorted(names_in(text) & own.keys()) for name, text in own.items()}
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        circle = one_line(" needs ".join(error.args[1][::-1]))
        raise ConfigError(f"new_variables: {circle}: a circle") from None
    translated: dict[str, Translated] = {}
    refused: dict[str, str] = {}
    logical: set[str] = set()
    known = Variables(translated, refused, logical)  # sees what is added below
    for name in order:
        try:
            if not name.isidentifier():
                raise UntranslatableError("a column is a word of letters, digits and _")
            translated[name] = known.translate(own[name])
        except UntranslatableError as error:
            refused[name] = str(error)
            continue
        if translated[name].logical:
            logical.add(name)
    return known
