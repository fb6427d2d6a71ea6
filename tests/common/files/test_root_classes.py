"""What one file says of ROOT's classes must not read the next one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import uproot

from hepdata_adapters.common.core.errors import FileError
from hepdata_adapters.common.files.manifest import scan_file
from hepdata_adapters.common.files.open import reading
from hepdata_adapters.common.files.source import Source

LEAVES = Path(__file__).parents[2] / "data" / "leaves.root"


def test_models_of_one_file_do_not_read_the_next() -> None:
    """A flipped version number let a file put its own model in the place of uproot's."""
    own = uproot.classes["TBranch"].known_versions[13]
    with uproot.open(LEAVES) as directory:
        with reading(file=str(LEAVES)):
            uproot.classes["TBranch"].new_class(directory.file, 13)
            assert uproot.classes["TBranch"].known_versions[13] is not own
        assert uproot.classes["TBranch"].known_versions[13] is own
    file = scan_file(0, str(LEAVES), "Events")
    with Source([name for name, branch in file.schema.items() if branch.readable]) as source:
        for name, column in source.read(file, 0, file.entries).items():
            with uproot.open(LEAVES) as directory:
                expected = directory["Events"][name].array(library="np")
            np.testing.assert_array_equal(np.asarray(column).ravel(), expected.ravel())


def read_damaged() -> None:
    with reading(file="a.root"):
        uproot.classes["TOfAFile"] = uproot._util.new_class(
            "TOfAFile", (uproot.model.DispatchByVersion,), {"known_versions": {}}
        )
        raise ValueError("damaged")


def test_after_damage_no_model_of_a_file_is_left() -> None:
    with pytest.raises(FileError, match="damaged"):
        read_damaged()
    assert "TOfAFile" not in uproot.classes
