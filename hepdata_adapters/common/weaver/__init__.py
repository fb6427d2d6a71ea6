"""The data configs of weaver (https://github.com/hqucms/weaver-core), read as ours.

docs/weaver.md says what becomes of each key.
"""

from hepdata_adapters.common.weaver.convert import PLACEHOLDER, Conversion, convert
from hepdata_adapters.common.weaver.notes import Note

__all__ = ["PLACEHOLDER", "Conversion", "Note", "convert"]
