"""The data configs of weaver (https://github.com/hqucms/weaver-core), read as ours.

docs/weaver.md says what becomes of each key.

In: YAML of weaver. Out: a config of ours with the same numbers, and a note for all that has no
equivalent. Never: an expression that is run, a key left out without a note.
"""

from hepdata_adapters.common.weaver.convert import PLACEHOLDER, Conversion, convert
from hepdata_adapters.common.weaver.notes import Note

__all__ = ["PLACEHOLDER", "Conversion", "Note", "convert"]
