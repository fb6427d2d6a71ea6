"""The features of our configs: all branches of a job."""

from __future__ import annotations

from typing import Any

from benchmarks.speed.job import CENTER, SCALE, Job


def features(job: Job) -> list[dict[str, Any]]:
    """Padded to ``job.length``, with a scaling whose results are exact, so that they compare."""
    scaling = {"center": CENTER, "scale": SCALE}
    flat = [{"branch": name, "scaling": scaling} for name in job.flat]
    jagged = [{"branch": name, "scaling": scaling, "length": job.length} for name in job.jagged]
    return flat + jagged
