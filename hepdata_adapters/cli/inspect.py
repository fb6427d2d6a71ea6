"""``inspect``: what is in a ROOT file."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

SAMPLED = 10_000


def inspect(
    file: Annotated[str, typer.Argument(help="Path or URL of a ROOT file, or FILE:TREE.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show trees, branches, kinds, entries and jagged lengths."""
    found = describe_file(file)
    if as_json:
        print(json.dumps(found, indent=1))
        return
    _show(found)


def describe_file(name: str) -> dict[str, Any]:
    """Trees of a file with their branches; lengths are those of the first events."""
    from hepdata_adapters.common.core.errors import TreeError
    from hepdata_adapters.common.files.manifest import scan_file
    from hepdata_adapters.common.files.open import open_root, split_tree
    from hepdata_adapters.common.files.schema import tree_names

    url, wanted = split_tree(name)
    with open_root(url) as directory:
        trees = [wanted] if wanted else tree_names(directory)
        size, uuid = directory.file.fEND, str(directory.file.uuid)
    if not trees:
        raise TreeError("the file holds no TTree and no RNTuple", file=url)
    return {
        "file": url,
        "uuid": uuid,
        "bytes": size,
        "trees": [_describe_tree(scan_file(0, url, tree)) for tree in trees],
    }


def _describe_tree(file: Any) -> dict[str, Any]:
    entries = min(file.entries, SAMPLED)
    jagged = [branch.name for branch in file.schema.values() if branch.kind == "jagged"]
    lengths: dict[str, Any] = {}
    if jagged and entries:
        lengths = _lengths_of(file, jagged, entries)
    return {
        "tree": file.tree,
        "entries": file.entries,
        "clusters": len(file.units) - 1,
        "lengths_of_first": entries if jagged else 0,
        "branches": [
            {
                "name": branch.name,
                "kind": branch.kind,
                "dtype": branch.dtype,
                "type": branch.typename,
                **({"namesakes": branch.namesakes} if branch.namesakes > 1 else {}),
                **({"size": branch.size} if branch.kind == "array" else {}),
                **({"length": lengths[branch.name]} if branch.name in lengths else {}),
            }
            for branch in file.schema.values()
        ],
    }


def _lengths_of(file: Any, jagged: list[str], entries: int) -> dict[str, Any]:
    """Of the branches that can be read: one that cannot hides nothing of the others.

    Raises FileError where none can be read.
    """
    from hepdata_adapters.common.core.errors import FileError
    from hepdata_adapters.common.files.source import Source

    def read(names: list[str]) -> dict[str, Any]:
        with Source(names) as source:
            columns = source.read(file, 0, entries)
        return {name: _lengths(columns[name]) for name in names}

    try:
        return read(jagged)
    except FileError as error:
        found: dict[str, Any] = {}
        faults = [str(error)]
        for name in jagged:
            try:
                found |= read([name])
            except FileError as fault:
                faults.append(str(fault))
        if not found:
            raise
        print("\n".join(faults[1:]), file=sys.stderr)
        return found


def _lengths(column: Any) -> dict[str, float]:
    import numpy as np

    found = column.lengths
    return {
        "min": int(found.min()),
        "mean": round(float(found.mean()), 3),
        "quantile99": int(np.quantile(found, 0.99, method="inverted_cdf")),
        "max": int(found.max()),
    }


def _show(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=1000)  # names stay whole in pipes and files
    console.print(f"{found['file']}  {found['bytes']:,} bytes", highlight=False, soft_wrap=True)
    for tree in found["trees"]:
        kinds = [branch["kind"] for branch in tree["branches"]]
        counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
        console.print(
            f"\n{tree['tree']}: {tree['entries']:,} entries in {tree['clusters']} read unit(s), "
            f"{counts or 'no branches'}",
            highlight=False,
        )
        table = Table(box=None, pad_edge=False)
        for title in ("branch", "kind", "type", "values per event (mean, 99 %, max)"):
            table.add_column(title, overflow="fold")
        for branch in tree["branches"]:
            length = branch.get("length")
            summary = (
                f"{length['mean']:g}, {length['quantile99']}, {length['max']}" if length
                else str(branch.get("size", ""))
            )  # fmt: skip
            dtype = branch["dtype"] or branch["type"]
            if "namesakes" in branch:
                dtype += f" (the first of {branch['namesakes']} of this name)"
            table.add_row(branch["name"], branch["kind"], dtype, summary)
        console.print(table, highlight=False, markup=False)
        if 0 < tree["lengths_of_first"] < tree["entries"]:
            console.print(f"lengths are those of the first {tree['lengths_of_first']:,} events")
