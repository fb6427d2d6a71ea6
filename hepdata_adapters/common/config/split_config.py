"""The ways to split events into training, validation and test, as a config says them.

A split is one of `WAYS`: `Split` with any keys is the member that these ask for, and so is what a
field `AnySplit` reads; keys of the other members are refused. A new way is a class here, listed in
`WAYS`, and what it does with events, a strategy listed in `events.split`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Annotated, Any, ClassVar, Literal, Self, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    TypeAdapter,
    create_model,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from hepdata_adapters.common.config.counts import Folds
from hepdata_adapters.common.core.frozen_model import FrozenModel

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Identity = Literal["auto", "entry"] | tuple[str, ...]


def _lists(chosen: Any) -> Any:
    """A mapping to lists, where one item may stand for a list of it."""
    if not isinstance(chosen, dict):
        return chosen
    return {k: [v] if isinstance(v, str | int) else v for k, v in chosen.items()}


def _patterns(files: dict[Any, tuple[str, ...]]) -> dict[Any, tuple[str, ...]]:
    if any(not PurePosixPath(pattern).parts for found in files.values() for pattern in found):
        raise ValueError("a pattern of files is empty")
    return files


class Split(FrozenModel):
    """Which events are for training, validation and test, in one of four ways.

    *Fractions* ``train``, ``validation`` and ``test``, by a hash of each event's identity.
    *Folds*: the same hash gives each event one of ``folds`` numbers. Number ``fold`` is the test
    split, the next one (after the last, 0) validation, all others train: over all values of
    ``fold`` each event is tested once.
    *Branch*: the integer or bool ``branch`` says it, ``values`` says which of its values mean
    which split.
    *Files*: ``files`` has patterns of files for validation and test, matched from the right end
    of the path (``run2018D_*.root``, ``2018/D/*``); all other files train.

    identity: ``auto`` takes (run, luminosityBlock, event) where all files have them, else
    ``entry`` (file UUID and entry number); a list names the integer branches to use.

    >>> Split(folds=5, fold=3).way
    'folds'
    """

    way: ClassVar[str]
    """What decides the split of an event."""
    asked_by: ClassVar[tuple[str, ...]] = ()
    """Keys of which any asks for this way."""

    def __new__(cls, **keys: Any) -> Self:
        """For `Split` itself the member that its keys ask for; raises ValidationError.

        Its own ``__init__`` then gets the same keys: it takes them as they are.
        """
        member = cls if hasattr(cls, "way") else type(_READER.validate_python(keys))
        return cast(Self, super().__new__(member))


class FractionSplit(Split):
    """By shares of the hashes of the events' identities."""

    way: ClassVar[str] = "fractions"

    train: Fraction = 0.64
    validation: Fraction = 0.16
    test: Fraction = 0.20
    seed: int = 0
    identity: Identity = "auto"

    @model_validator(mode="after")
    def _whole(self) -> Self:
        total = self.train + self.validation + self.test
        if abs(total - 1.0) > 1e-9:
            raise ValueError(f"train + validation + test must be 1, not {total:g}")
        return self


class FoldSplit(Split):
    """By the hash of each event's identity modulo ``folds``; neither number is None once read."""

    way: ClassVar[str] = "folds"
    asked_by: ClassVar[tuple[str, ...]] = ("folds", "fold")

    folds: Folds | None = Field(default=None, ge=3)
    fold: int | None = Field(default=None, ge=0)
    seed: int = 0
    identity: Identity = "auto"

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.folds is None or self.fold is None:
            raise ValueError("folds (how many) and fold (which one) go together")
        if self.fold >= self.folds:
            raise ValueError(f"fold is 0 to {self.folds - 1}, not {self.fold}")
        return self


class BranchSplit(Split):
    """By the value of a branch, which is not None once read."""

    way: ClassVar[str] = "branch"
    asked_by: ClassVar[tuple[str, ...]] = ("branch", "values")

    branch: str | None = Field(default=None, min_length=1)
    values: Annotated[
        dict[Literal["train", "validation", "test"], tuple[int, ...]], BeforeValidator(_lists)
    ] = Field(default={}, min_length=1)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.branch is None or not self.values:
            raise ValueError("branch and values (of each split) go together")
        listed = [value for values in self.values.values() for value in values]
        twice = [value for value, count in Counter(listed).items() if count > 1]
        if twice:
            raise ValueError(f"values: {twice[0]} is listed twice")
        return self


class FileSplit(Split):
    """By the names of files."""

    way: ClassVar[str] = "files"
    asked_by: ClassVar[tuple[str, ...]] = ("files",)

    files: Annotated[
        dict[Literal["validation", "test"], tuple[str, ...]],
        BeforeValidator(_lists),
        AfterValidator(_patterns),
    ] = Field(default={}, min_length=1)


WAYS: tuple[type[Split], ...] = (FractionSplit, FoldSplit, BranchSplit, FileSplit)
"""The members of the union: the first where no key asks for another, else the last asked for."""


def _all_keys() -> dict[str, Any]:
    """The fields of all ways, those that several have last."""
    fields = {name: field for way in WAYS for name, field in way.model_fields.items()}
    ways = Counter(name for way in WAYS for name in way.model_fields)
    ordered = sorted(fields.items(), key=lambda item: ways[item[0]])
    return {name: (field.annotation, field) for name, field in ordered}


# All keys in one model: a fault of any of them is told before it is asked which go together, and
# editors know the split as one object.
SplitKeys: type[BaseModel] = create_model(
    "Split", __base__=FrozenModel, __doc__=Split.__doc__, **_all_keys()
)


def _member(given: Any, read: Callable[[Any], BaseModel]) -> Split:
    """The split that a config means; raises ValueError for keys that do not go together."""
    if isinstance(given, Split):
        return given
    keys = read(given)
    said = {name: getattr(keys, name) for name in keys.model_fields_set}
    asked = {name for name, value in said.items() if value is not None}
    member = next((way for way in reversed(WAYS) if asked & {*way.asked_by}), WAYS[0])
    foreign = sorted(said.keys() - member.model_fields.keys())
    if foreign:
        known = ", ".join(member.model_fields)
        raise ValueError(f"a split by {member.way} takes {known}, not {', '.join(foreign)}")
    return member.model_validate(said)


class _AsMember:
    """Reads `SplitKeys` as the member that they ask for, which is written as its class says."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(
            _member,
            handler.generate_schema(SplitKeys),
            serialization=core_schema.simple_ser_schema("any"),
        )


AnySplit = Annotated[Split, _AsMember]
"""A field that is one of `WAYS`."""
_READER: TypeAdapter[Split] = TypeAdapter(AnySplit)
