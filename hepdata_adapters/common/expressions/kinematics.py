"""Four-vectors and angles, with the conventions of scikit-hep's `vector` library.

Each function takes the mathematics of its backend (see `functions`) and float64 arrays. Momenta,
masses and energies share one unit; angles are in radians. Formulas: Particle Data Group, Review
of Particle Physics, section "Kinematics"; the forms with sinh and asinh lose no digits at large
pseudorapidity.
"""

from __future__ import annotations

import math
from typing import Any


def deltaphi(m: Any, phi1: Any, phi2: Any) -> Any:
    """``phi1 - phi2`` in [-π, π). (ROOT's ``VecOps::DeltaPhi`` has the other sign.)"""
    half, turn = m.number(math.pi), m.number(2 * math.pi)
    turned = m.mod(phi1 - phi2 + half, turn) - half
    # the remainder of a tiny negative number is rounded up to a whole turn
    return m.where(turned >= half, -half, turned)


def deltaeta(m: Any, eta1: Any, eta2: Any) -> Any:
    """``eta1 - eta2``."""
    return eta1 - eta2


def deltar(m: Any, eta1: Any, eta2: Any, phi1: Any, phi2: Any) -> Any:
    """``sqrt(Δη² + Δφ²)``; the arguments are in the order of ROOT's ``VecOps::DeltaR``."""
    across, around = eta1 - eta2, deltaphi(m, phi1, phi2)
    return m.sqrt(across * across + around * around)


def px(m: Any, pt: Any, phi: Any) -> Any:
    """``pt cos φ``."""
    return pt * m.cos(phi)


def py(m: Any, pt: Any, phi: Any) -> Any:
    """``pt sin φ``."""
    return pt * m.sin(phi)


def pz(m: Any, pt: Any, eta: Any) -> Any:
    """``pt sinh η``."""
    return pt * m.sinh(eta)


def energy(m: Any, pt: Any, eta: Any, phi: Any, mass: Any) -> Any:
    """``sqrt((pt cosh η)² + m²)``; a negative mass stands for a negative m², as in `mass`."""
    momentum = pt * m.cosh(eta)
    squared = momentum * momentum + m.abs(mass) * mass
    return m.sqrt(m.where(squared < 0.0, squared * 0.0, squared))


def pt(m: Any, px: Any, py: Any) -> Any:
    """``sqrt(px² + py²)``."""
    return m.sqrt(px * px + py * py)


def phi(m: Any, px: Any, py: Any) -> Any:
    """``atan2(py, px)``, in [-π, π]."""
    return m.atan2(py, px)


def eta(m: Any, px: Any, py: Any, pz: Any) -> Any:
    """``asinh(pz / pt)``; ±infinity along the beam, 0 of no momentum."""
    across = pt(m, px, py)
    still = (across == 0.0) & (pz == 0.0)
    return m.where(still, pz, m.asinh(pz / across))


def rapidity(m: Any, pt: Any, eta: Any, phi: Any, mass: Any) -> Any:
    """``asinh(pz / mT)`` with ``mT² = pt² + m²``, which is ``½ log((E + pz) / (E - pz))``."""
    return m.asinh(pz(m, pt, eta) / m.sqrt(pt * pt + m.abs(mass) * mass))


def mass(m: Any, px: Any, py: Any, pz: Any, energy: Any) -> Any:
    """``sqrt(m²)`` of ``m² = E² - p²``, and ``-sqrt(-m²)`` where m² is negative."""
    squared = energy * energy - (px * px + py * py + pz * pz)
    return m.sign(squared) * m.sqrt(m.abs(squared))


def invariant_masses(
    m: Any, pt1: Any, eta1: Any, phi1: Any, mass1: Any, pt2: Any, eta2: Any, phi2: Any, mass2: Any
) -> Any:
    """The mass of the sum of two four-vectors."""
    return mass(
        m,
        px(m, pt1, phi1) + px(m, pt2, phi2),
        py(m, pt1, phi1) + py(m, pt2, phi2),
        pz(m, pt1, eta1) + pz(m, pt2, eta2),
        energy(m, pt1, eta1, phi1, mass1) + energy(m, pt2, eta2, phi2, mass2),
    )
