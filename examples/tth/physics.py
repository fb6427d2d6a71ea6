"""Kinematics and event shapes: pure functions, one quantity each, GeV and radians.

Arguments are NumPy or Awkward arrays alike. Where a quantity belongs to an event, its arguments are
jagged (events x objects) and the answer is flat.
"""

from __future__ import annotations

from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

Array = Any  # a NumPy or an Awkward array: both obey NumPy's ufuncs
Floats = NDArray[np.float64]


def transverse_momentum(px: Array, py: Array) -> Array:
    """PT = sqrt(px² + py²)."""
    return np.hypot(px, py)


def azimuth(px: Array, py: Array) -> Array:
    """φ = atan2(py, px), in (-π, π]."""
    return np.arctan2(py, px)


def pseudorapidity(px: Array, py: Array, pz: Array) -> Array:
    """η = asinh(pz / pT), which equals -ln tan(θ/2); infinite along the beam."""
    return np.arcsinh(pz / np.hypot(px, py))


def invariant_mass(px: Array, py: Array, pz: Array, energy: Array) -> Array:
    """M = sqrt(E² - p²); rounding can make m² slightly negative, which counts as zero."""
    return np.sqrt(np.maximum(energy**2 - px**2 - py**2 - pz**2, 0.0))


def longitudinal_momentum(pt: Array, eta: Array) -> Array:
    """Pz = pT sinh η."""
    return pt * np.sinh(eta)


def energy(pt: Array, eta: Array, mass: Array) -> Array:
    """E = sqrt((pT cosh η)² + m²)."""
    return np.sqrt((pt * np.cosh(eta)) ** 2 + mass**2)


def scalar_sum(pt: Array) -> Array:
    """HT = Σ pT over an event's objects; 0 for an event without any."""
    return ak.sum(pt, axis=-1)


def centrality(pt: Array, energy: Array) -> Floats:
    """C = Σ pT / Σ E over an event's jets: 1 for transverse jets, 0 along the beam or without any.

    D0 Collaboration, top quarks in multijet final states, Phys. Rev. D 60 (1999) 012001.
    """
    total = ak.to_numpy(ak.sum(energy, axis=-1))
    transverse = ak.to_numpy(ak.sum(pt, axis=-1))
    ratio: Floats = np.zeros(len(total))
    np.divide(transverse, total, out=ratio, where=total > 0)
    return ratio


def sphericity_eigenvalues(px: Array, py: Array, pz: Array) -> Floats:
    """Eigenvalues λ1 ≥ λ2 ≥ λ3 of each event's sphericity tensor, shape (events, 3).

    S^ab = Σ p^a p^b / Σ p² with a, b = x, y, z and sums over the event's objects, so the
    eigenvalues add up to 1. It is the tensor of power r = 2 in the Pythia manual ("Event
    Analysis", class Sphericity), from J. D. Bjorken and S. J. Brodsky, Phys. Rev. D 1 (1970)
    1416. An event without objects has λ = (0, 0, 0).
    """
    momentum = (px, py, pz)
    tensor = np.empty((len(px), 3, 3))
    for a in range(3):
        for b in range(3):
            tensor[:, a, b] = ak.to_numpy(ak.sum(momentum[a] * momentum[b], axis=-1))
    trace = np.trace(tensor, axis1=1, axis2=2)[:, None, None]
    tensor = np.divide(tensor, trace, out=np.zeros_like(tensor), where=trace > 0)
    # A matrix of rank one has eigenvalues of about -1e-17: they are not physical.
    return np.clip(np.linalg.eigvalsh(tensor)[:, ::-1], 0.0, 1.0)


def sphericity(eigenvalues: Floats) -> Floats:
    """S = 3/2 (λ2 + λ3): 0 for back-to-back jets, 1 for an isotropic event."""
    return 1.5 * (eigenvalues[:, 1] + eigenvalues[:, 2])


def aplanarity(eigenvalues: Floats) -> Floats:
    """A = 3/2 λ3: 0 for momenta in a plane, 1/2 for an isotropic event."""
    return 1.5 * eigenvalues[:, 2]


def hadron_flavour(pdg_id: Array) -> Array:
    """5 for hadrons with a b quark, 4 for those with a c quark, else 0.

    Monte Carlo numbering scheme (Review of Particle Physics): ±n nr nL nq1 nq2 nq3 nJ, with the
    heaviest quark in nq1 (baryons) or nq2 (mesons). A diquark has nq3 = 0 and is no hadron.
    """
    code = abs(pdg_id)
    quark1, quark2, quark3 = code // 1000 % 10, code // 100 % 10, code // 10 % 10
    heaviest = np.maximum(quark1, quark2)
    hadron = (quark2 > 0) & (quark3 > 0) & (code < 1_000_000_000)  # nuclei start there
    return heaviest * (hadron & ((heaviest == 4) | (heaviest == 5)))
