"""Every error this package raises, as one tree.

::

    HepDataError
    ├── ConfigError              a config, an option or a call that makes no sense
    ├── MissingExtraError        an optional dependency is absent; the message is the command
    ├── SpecsError               a specs file is corrupt or belongs to other data
    ├── DeliveryError            `hepdata_adapters.testing` found an event lost or repeated
    ├── WorkerError              a worker process died
    ├── StateError               a saved position is corrupt or belongs to another run
    ├── TrainingInterruptedError a signal stopped a training, which can go on
    ├── EventError               a raw event (a request) does not fit the model
    └── DataError                something is wrong with the data; says where
        ├── FileError            missing, unreadable, truncated, not ROOT
        │   └── ReplacedError    another file than the one that the dataset was made from
        ├── TreeError            no such tree, or several and none was named
        ├── BranchError          no such branch, or one of a kind that is not read
        ├── SchemaError          files of one dataset disagree about a branch
        └── InvalidValueError           a value that the policy of its feature does not allow

The command line turns ``ConfigError`` into exit code 2, ``TrainingInterruptedError`` into 128 plus
the number of the signal, and all others into exit code 1.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable
from typing import Literal, TypedDict, Unpack


class HepDataError(Exception):
    """Base of all errors raised on purpose by this package."""


class ConfigError(HepDataError):
    """A configuration, option or argument is wrong; nothing was read yet."""


class TrainingInterruptedError(HepDataError):
    """A training was stopped by a signal, and can go on.

    number: of the signal.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


class MissingExtraError(HepDataError):
    """An optional dependency is not installed.

    >>> print(MissingExtraError("lightning", "torch"))
    'lightning' is not installed. Install it with: pip install "hepdata-adapters[torch]"
    >>> print(MissingExtraError("tensorflow", "tf", "which runs the model"))
    'tensorflow', which runs the model, is not installed. \
Install it with: pip install "hepdata-adapters[tf]"
    """

    def __init__(self, module: str, extra: str, purpose: str = "") -> None:
        what = f"{module!r}, {purpose}," if purpose else repr(module)
        super().__init__(
            f'{what} is not installed. Install it with: pip install "hepdata-adapters[{extra}]"'
        )


_EXTRAS = {
    **dict.fromkeys(("torch", "lightning", "torchmetrics"), "torch"),
    **dict.fromkeys(("tensorflow", "keras", "tensorflow_serving"), "tf"),
    **dict.fromkeys(("matplotlib", "mplhep", "hist"), "plots"),
    **dict.fromkeys(
        ("hepdata_serving", "requests", "psutil", "ts", "starlette", "uvicorn", "grpc", "google"),
        "serve",
    ),
    **dict.fromkeys(("onnx", "onnxruntime", "onnxscript"), "onnx"),
    "pyarrow": "parquet",
    "distributed": "dask",
    "sklearn": "torch",
}


def refuse_change(owner: object, name: str, fixed: Collection[str], advice: str) -> None:
    """Raise ConfigError where an attribute is set again that was read once and for all.

    For ``__setattr__``, so that no change is ever without effect. fixed: names of such attributes.

    >>> refuse_change(Exception(), "batch_size", {"batch_size"}, "make a new one")
    """
    read_only = isinstance(getattr(type(owner), name, None), property)
    if name in fixed and (read_only or name in vars(owner)):
        raise ConfigError(f"{name} of a {type(owner).__name__} cannot be changed: {advice}")


def missing_extra(error: ModuleNotFoundError) -> MissingExtraError | None:
    """The install command for a module of one of our extras, None for any other module.

    >>> print(missing_extra(ModuleNotFoundError(name="matplotlib.figure")))
    'matplotlib' is not installed. Install it with: pip install "hepdata-adapters[plots]"
    """
    module = (error.name or "").split(".")[0]
    return MissingExtraError(module, _EXTRAS[module]) if module in _EXTRAS else None


class SpecsError(HepDataError):
    """A specs file is corrupt, of another version, or bound to other data."""


class StateError(HepDataError):
    """A saved position of a loader is corrupt, of another version, or of another run."""


class WorkerError(HepDataError):
    """A worker process died, or met an error that is not one of this package."""


class EventError(HepDataError):
    """A raw event given for inference does not fit the transform of the model."""


FaultKind = Literal["missing", "undefined", "too large", "too long", "uneven", "outside"]
"""What is wrong with a value: it is NaN or infinite, not in the domain of the scaling, too large
for float32, one of too many in its event; its list is longer or shorter than the others of the
group; it lies outside of the image."""


class Place(TypedDict, total=False):
    """Where a fault in the data is. entries: a range, its first one and the one after its last."""

    file: str | None
    tree: str | None
    branch: str | None
    entries: tuple[int, int] | None


class DataError(HepDataError):
    """A fault in the data, with its place: ``file``, ``tree``, ``branch`` and ``entries``.

    Each of them is None where it is not known. what: the fault alone.

    >>> error = DataError("basket is corrupt", file="a.root", tree="Events", branch="MET")
    >>> print(error)
    basket is corrupt [file a.root, tree Events, branch MET]
    >>> error.branch, error.entries
    ('MET', None)
    """

    def __init__(self, what: str, **place: Unpack[Place]) -> None:
        self.what = what
        # a text alone may be that of an error in another process, which ends with its place
        known = place or _place_in(what)
        self.file, self.tree = known.get("file"), known.get("tree")
        self.branch, self.entries = known.get("branch"), known.get("entries")
        super().__init__(f"{what}{_shown(place)}")


def _shown(place: Place) -> str:
    places = {name: place.get(name) for name in ("file", "tree", "branch")}
    entries = place.get("entries")
    if entries is not None:
        first, stop = entries
        alone = stop == first + 1
        places["entry" if alone else "entries"] = f"{first}" if alone else f"{first} to {stop}"
    where = ", ".join(f"{key} {value}" for key, value in places.items() if value is not None)
    return f" [{where}]" if where else ""


_PLACE = re.compile(
    r" \[(?=file |tree |branch |entr)(?:file (?P<file>.+?))?(?:(?:, |(?<=\[))tree (?P<tree>.+?))?"
    r"(?:(?:, |(?<=\[))branch (?P<branch>.+?))?"
    r"(?:(?:, |(?<=\[))entr(?:y (?P<entry>\d+)|ies (?P<first>\d+) to (?P<stop>\d+)))?\]\s*$"
)


def _place_in(text: str) -> Place:
    """The place at the end of the text of a DataError.

    >>> _place_in("is bad [file a.root, tree Events, entry 7]")["entries"]
    (7, 8)
    """
    found = _PLACE.search(text)
    if found is None:
        return {}
    first, stop = found["entry"] or found["first"], found["stop"]
    entries = None if first is None else (int(first), int(stop or int(first) + 1))
    return {
        "file": found["file"], "tree": found["tree"], "branch": found["branch"],
        "entries": entries,
    }  # fmt: skip


class FileError(DataError):
    """A file is missing, unreadable, truncated or not a ROOT file."""


class ReplacedError(FileError):
    """A file is no longer the one that the dataset was made from.

    >>> print(ReplacedError.by("its size was 10, it is 12", "a.root"))
    the file was replaced or written to since the dataset was made: its size was 10, it is 12. \
Begin again with a new dataset, which looks at its files anew [file a.root]
    """

    @classmethod
    def by(cls, change: str, file: str) -> ReplacedError:
        """The error for a file of which ``change`` was seen."""
        return cls(
            f"the file was replaced or written to since the dataset was made: {change}. "
            f"Begin again with a new dataset, which looks at its files anew",
            file=file,
        )


class TreeError(DataError):
    """The tree is not in the file, or must be named because there are several."""


class BranchError(DataError):
    """The branch does not exist or cannot be read as numbers."""


class SchemaError(DataError):
    """Two files of one dataset disagree about a branch."""


class InvalidValueError(DataError):
    """A value (NaN, infinity, overlong list, label) that its policy does not allow.

    kind: what is wrong with it. row: the event, counted in the columns at hand, where their place
    in a file is not known.

    >>> print(InvalidValueError("MET holds NaN", branch="MET", row=3).at("a.root", "Events", 100))
    MET holds NaN [file a.root, tree Events, branch MET, entry 103]
    """

    def __init__(
        self,
        what: str,
        *,
        row: int | None = None,
        kind: FaultKind | None = None,
        **place: Unpack[Place],
    ) -> None:
        shown = what if row is None else f"{what} (event {row} of those given)"
        super().__init__(shown, **place)
        self.what, self.row, self.kind = what, row, kind

    def at(self, file: str, tree: str, start: int) -> InvalidValueError:
        """The same fault in columns that begin at entry ``start`` of a tree."""
        entry = start + (self.row or 0)
        return InvalidValueError(
            self.what, kind=self.kind, file=file, tree=tree, branch=self.branch,
            entries=(entry, entry + 1),
        )  # fmt: skip


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """A hint naming the known names nearest to ``name``, or nothing if there are none.

    >>> nearest("Jet_pT", ["Jet_pt", "Jet_eta", "MET"])
    "; did you mean 'Jet_pt' or 'Jet_eta'?"
    """
    names = sorted(set(known))
    folded = {other.lower(): other for other in names}
    close = [folded[key] for key in difflib.get_close_matches(name.lower(), folded, count, 0.5)]
    if close:
        return "; did you mean " + " or ".join(repr(other) for other in close) + "?"
    if not names:
        return ""
    shown = ", ".join(names[:10]) + (f", … ({len(names)} in all)" if len(names) > 10 else "")
    return f"; there are: {shown}"
