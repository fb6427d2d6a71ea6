"""Archives that are the same bytes for the same content, and the source code they carry."""

from __future__ import annotations

import ast
import importlib.util
import re
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.core.writing import whole_file
from hepdata_serving.errors import ExportError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_OUR_PACKAGES = ("hepdata_adapters", "hepdata_serving")
_STUB = b'"""The part that this model needs."""\n'


def checked_name(name: str, what: str) -> str:
    """The name, if it is safe as a file name and in a URL.

    >>> checked_name("../secret", "model name")
    Traceback (most recent call last):
    ...
    hepdata_adapters.common.core.errors.ConfigError: model name '../secret' is not allowed: \
use letters, digits, '_', '-' and '.', starting with a letter or digit, at most 100
    """
    # ".." is refused by TorchServe inside a file name
    if _NAME.fullmatch(name) and ".." not in name:
        return name
    raise ConfigError(
        f"{what} {name!r} is not allowed: use letters, digits, '_', '-' and '.', "
        "starting with a letter or digit, at most 100"
    )


def write_atomically(path: Path, data: bytes) -> Path:
    """Write a file of a folder that is served: see `whole_file`.

    Others may read a new one, as the server need not be ours; who may read a file that is
    replaced stays as it was.
    """
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
    # its partial name is hidden: TorchServe loads every visible file of its model store
    with whole_file(path) as partial:
        partial.touch(0o600)  # until it has its mode, because it may hold a password
        partial.write_bytes(data)
        partial.chmod(mode)
    return path


def zip_bytes(files: Mapping[str, bytes]) -> bytes:
    """A zip archive of the files that depends on nothing but their names and contents.

    Stored, not compressed: zlib's output differs between its versions.
    """
    with tempfile.TemporaryFile() as stream:
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
            for name in sorted(files):
                item = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
                item.create_system = 3
                item.external_attr = 0o100644 << 16
                archive.writestr(item, files[name])
        stream.seek(0)
        return stream.read()


def source_files(modules: Iterable[str]) -> dict[str, bytes]:
    """Paths and source of these modules and of all of our modules that they import.

    Packages from whose ``__init__`` nothing is imported get one of a single line, so that the
    copy needs nothing of the rest. Raises ExportError for a module without Python source.

    >>> sorted(source_files(["hepdata_adapters.common.core.columns"]))
    ['hepdata_adapters/__init__.py', 'hepdata_adapters/common/__init__.py', \
'hepdata_adapters/common/core/__init__.py', 'hepdata_adapters/common/core/columns.py']
    """
    found: dict[str, bytes] = {}
    pending = sorted(set(modules), reverse=True)
    seen: set[str] = set()
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise ExportError(f"the source of {name} cannot be found, so it cannot be archived")
        path = name.replace(".", "/")
        if spec.submodule_search_locations is not None:
            found.setdefault(f"{path}/__init__.py", _STUB)
        else:
            source = _source(spec)
            found[f"{path}.py"] = source
            pending += sorted(_imports(name, source), reverse=True)
        if "." in name:
            pending.append(name.rpartition(".")[0])
    return found


def _source(spec: ModuleSpec) -> bytes:
    get_source = getattr(spec.loader, "get_source", None)
    source = get_source(spec.name) if get_source else None
    if source is None:
        raise ExportError(f"{spec.origin} is no Python source, so it cannot be archived")
    return str(source).encode()


def _imports(name: str, source: bytes) -> set[str]:
    """Our modules that the source imports."""
    package = name.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if _is_ours(alias.name)}
        elif isinstance(node, ast.ImportFrom):
            module = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            if _is_ours(module):
                found |= _imported_from(module, [alias.name for alias in node.names])
    return found


def _imported_from(module: str, names: Iterable[str]) -> set[str]:
    """The modules behind these names: of a package its submodules, or its own ``__init__``."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.submodule_search_locations is None:
        return {module}
    submodules = [f"{module}.{name}" for name in names]
    return {
        submodule if importlib.util.find_spec(submodule) else f"{module}.__init__"
        for submodule in submodules
    }


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in _OUR_PACKAGES
