"""A simple detector: resolutions, b tagging, missing momentum, storage precision.

The numbers are typical of published LHC performance (for example CMS, JINST 12 (2017) P02014 for
jets and JINST 13 (2018) P05011 for b tagging). They are nobody's calibration.
"""

from __future__ import annotations

import math

import awkward as ak
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from physics import Array, Floats

JER_NOISE = 2.0  # GeV
JER_STOCHASTIC = 0.75  # sqrt(GeV)
JER_CONSTANT = 0.04
JET_MASS_RESOLUTION = 0.08
SOFT_RESOLUTION = 0.5  # sqrt(GeV), of each component of the unclustered momentum
SMALLEST_RESPONSE = 0.05  # a Gaussian reaches below zero, a calorimeter does not

BTAG_WORKING_POINT = 0.5
_EFFICIENCY_PT = (30.0, 50.0, 100.0, 200.0, 400.0, 1000.0)  # GeV
_EFFICIENCY = {
    5: (0.68, 0.75, 0.79, 0.79, 0.74, 0.60),
    4: (0.12, 0.14, 0.15, 0.16, 0.17, 0.15),
    0: (0.008, 0.008, 0.010, 0.012, 0.018, 0.035),
}
_NORMAL_QUANTILE = np.linspace(-6.0, 6.0, 2401)
_NORMAL_CDF = np.array([0.5 * (1.0 + math.erf(x / math.sqrt(2.0))) for x in _NORMAL_QUANTILE])


def jet_energy_resolution(pt: Array) -> Array:
    """sigma(pT)/pT = sqrt((N/pT)² + S²/pT + C²): noise, stochastic and constant term."""
    return np.sqrt((JER_NOISE / pt) ** 2 + JER_STOCHASTIC**2 / pt + JER_CONSTANT**2)


def gaussian_response(resolution: Array, rng: Generator) -> Array:
    """Factors drawn from a Gaussian of mean 1 and the given widths (jagged), kept positive."""
    width = ak.to_numpy(ak.flatten(resolution))
    factor = np.maximum(rng.normal(1.0, width), SMALLEST_RESPONSE)
    return ak.unflatten(factor, ak.num(resolution))


def btag_efficiency(flavour: NDArray[np.integer], pt: Floats) -> Floats:
    """Probability to pass the working point for jets of true flavour 5 (b), 4 (c) or 0 (light)."""
    efficiency = np.empty(len(pt))
    for quark, values in _EFFICIENCY.items():
        chosen = flavour == quark
        efficiency[chosen] = np.interp(pt[chosen], _EFFICIENCY_PT, values)
    return efficiency


def btag_score(flavour: NDArray[np.integer], pt: Floats, rng: Generator) -> Floats:
    """Discriminant in (0, 1) that exceeds the working point with exactly `btag_efficiency`.

    The binormal model of a ROC curve: z ~ Normal(Φ⁻¹(efficiency), 1), so P(z > 0) = efficiency; the
    score is the logistic function of z, so z = 0 is a score of 0.5.
    """
    mean = np.interp(btag_efficiency(flavour, pt), _NORMAL_CDF, _NORMAL_QUANTILE)
    return 1.0 / (1.0 + np.exp(-rng.normal(mean, 1.0)))


def missing_momentum(
    visible: Array, true_jets: Array, seen_jets: Array, soft_pt: Array, rng: Generator
) -> Floats:
    """One component of the missing transverse momentum, -Σ(seen jets + seen soft particles).

    visible: the component, summed over all visible particles of an event; true_jets, seen_jets:
    summed over its jets before and after smearing; soft_pt: Σ pT of what is in no jet.
    """
    soft = ak.to_numpy(visible - true_jets)
    width = SOFT_RESOLUTION * np.sqrt(np.maximum(ak.to_numpy(soft_pt), 0.0))
    missing: Floats = -(ak.to_numpy(seen_jets) + soft + rng.normal(0.0, width))
    return missing


def round_mantissa(values: Array, bits: int) -> NDArray[np.float32]:
    """Flat float32 with only `bits` of the 23 mantissa bits, rounded to nearest.

    NanoAOD does the same: digits far below the resolution are noise that no compressor can shrink.
    """
    # An Awkward array of numbers becomes a NumPy array here; +0.0 keeps one zero, not two.
    single = np.asarray(ak.to_numpy(values), dtype=np.float32) + np.float32(0.0)
    dropped = 23 - bits
    pattern = single.view(np.uint32)
    half = np.uint32(1 << (dropped - 1))
    kept = np.uint32(0xFFFFFFFF ^ ((1 << dropped) - 1))
    return ((pattern + half) & kept).view(np.float32)


def store_precision(values: Array, bits: int) -> Array:
    """`round_mantissa` for a jagged or a flat array; the jaggedness stays."""
    array = ak.Array(values)
    if array.ndim == 1:
        return round_mantissa(array, bits)
    return ak.unflatten(round_mantissa(ak.flatten(array), bits), ak.num(array))
