"""The physics processes, as Pythia settings."""

from __future__ import annotations

from dataclasses import dataclass

COMMON_SETTINGS = ("Print:quiet=on", "Beams:eCM=13000.")

_HADRONIC_W = ("24:onMode=off", "24:onIfAny=1 2 3 4 5")


@dataclass(frozen=True)
class Process:
    """A process, its Pythia settings, and the run number of its events."""

    name: str
    run: int
    settings: tuple[str, ...]


TTH = Process(
    "tth",
    1,
    (
        "HiggsSM:gg2Httbar=on",
        "HiggsSM:qqbar2Httbar=on",
        "25:onMode=off",
        "25:onIfMatch=5 -5",
        *_HADRONIC_W,
    ),
)
TTBAR = Process("ttbar", 2, ("Top:gg2ttbar=on", "Top:qqbar2ttbar=on", *_HADRONIC_W))
# HardQCD:all holds gg -> bb and qq -> bb in their natural share; g -> bb comes from the shower.
QCD = Process("qcd", 3, ("HardQCD:all=on", "PhaseSpace:pTHatMin=110."))

PROCESSES = {process.name: process for process in (TTH, TTBAR, QCD)}
