"""The one line that a refusing model's worker writes and its server looks for."""

REFUSED = "hepdata-serving refuses this model:"
