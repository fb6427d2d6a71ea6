"""``python -m hepdata_adapters``."""

from hepdata_adapters.cli.main import run

run()
