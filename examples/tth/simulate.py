"""From a process to columns: Pythia events, FastJet jets, detector, preselection.

A batch of events is one Awkward array all the way, from Pythia (`nextBatch`) through FastJet to the
columns: there is no Python loop over particles, jets or events.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import awkward as ak
import detector
import fastjet
import numpy as np
import physics
import pythia8mc
from numpy.random import Generator, SeedSequence
from physics import Array
from processes import COMMON_SETTINGS, Process

BATCH_EVENTS = 100  # part of the definition of a sample: random numbers are drawn batch by batch
VISIBLE_MAX_ETA, VISIBLE_MIN_PT = 5.0, 0.2
GHOST_MIN_PT, GHOST_SCALE = 5.0, 1e-18
CLUSTER_MIN_PT = 15.0  # smearing moves jets over the threshold from below
JET_RADIUS, JET_MIN_PT, JET_MAX_ETA = 0.4, 30.0, 2.4
FATJET_RADIUS, FATJET_CLUSTER_MIN_PT, FATJET_MIN_PT = 0.8, 120.0, 200.0
MIN_JETS, MIN_HT = 4, 400.0
MANTISSA_BITS = 12  # relative rounding of at most 1.2e-4, far below every resolution here

Columns = dict[str, Array]


@dataclass(frozen=True)
class Batch:
    """Selected events and what it took to get them."""

    columns: Columns
    selected: int
    generated: int
    sum_weights: float
    sum_weights2: float
    cross_section: float  # pb, Pythia's estimate so far
    cross_section_error: float

    def without_columns(self) -> Batch:
        """The counts alone."""
        return replace(self, columns={})


def make_pythia(process: Process, seed: int) -> Any:
    """An initialised Pythia generator for the process."""
    pythia = pythia8mc.Pythia("", printBanner=False)
    settings = (*COMMON_SETTINGS, *process.settings, "Random:setSeed=on", f"Random:seed={seed}")
    for setting in settings:
        if not pythia.readString(setting):
            raise ValueError(f"Pythia does not accept the setting {setting!r}")
    if not pythia.init():
        raise RuntimeError(f"Pythia could not initialise process {process.name!r}")
    return pythia


def with_cartesian(px: Array, py: Array, pz: Array, energy: Array, **more: Array) -> Array:
    """Jagged records with the four fields FastJet looks for."""
    return ak.zip({"px": px, "py": py, "pz": pz, "E": energy, **more}, with_name="Momentum4D")


def visible_particles(particles: Array) -> Array:
    """Stable particles but neutrinos, within the acceptance."""
    p, code = particles.p, abs(particles.id)
    pt = physics.transverse_momentum(p.px, p.py)
    neutrino = (code == 12) | (code == 14) | (code == 16)
    # Below 0.2 GeV there is no track and no calorimeter signal; that also keeps η finite.
    seen = (particles.status > 0) & ~neutrino & (pt > VISIBLE_MIN_PT)
    p = p[seen]
    p = p[abs(physics.pseudorapidity(p.px, p.py, p.pz)) < VISIBLE_MAX_ETA]
    return with_cartesian(p.px, p.py, p.pz, p.e, flavour=ak.zeros_like(p.px, dtype=np.int32))


def flavour_ghosts(particles: Array) -> Array:
    """Decayed b and c hadrons, with momenta too small to change any jet.

    Ghost association (M. Cacciari, G. Salam, Phys. Lett. B 659 (2008) 119): the jet that
    clusters the ghost of a hadron has its flavour.
    """
    p, flavour = particles.p, physics.hadron_flavour(particles.id)
    pt = physics.transverse_momentum(p.px, p.py)
    chosen = (flavour > 0) & (particles.status < 0) & (pt > GHOST_MIN_PT)
    p, s = p[chosen], GHOST_SCALE
    return with_cartesian(p.px * s, p.py * s, p.pz * s, p.e * s, flavour=flavour[chosen])


def cluster(particles: Array, radius: float, min_pt: float) -> tuple[Array, Array]:
    """Anti-kT jets, and the constituents of each (events x jets x particles)."""
    definition = fastjet.JetDefinition(fastjet.antikt_algorithm, radius)
    sequence = fastjet.ClusterSequence(particles, definition)
    index = sequence.constituent_index(min_pt)
    flat = particles[ak.flatten(index, axis=2)]
    constituents = ak.unflatten(flat, ak.flatten(ak.num(index, axis=2)), axis=1)
    return sequence.inclusive_jets(min_pt), constituents


def jet_records(jets: Array, constituents: Array) -> Array:
    """True pt, eta, phi, mass, flavour and constituent count of clustered jets."""
    px, py, pz = jets.px, jets.py, jets.pz
    return ak.zip(
        {
            "pt": physics.transverse_momentum(px, py),
            "eta": physics.pseudorapidity(px, py, pz),
            "phi": physics.azimuth(px, py),
            "mass": physics.invariant_mass(px, py, pz, jets.E),
            "flavour": ak.max(constituents.flavour, axis=2, mask_identity=False),
            "nConstituents": ak.sum(constituents.flavour == 0, axis=2),
        }
    )


def smeared(jets: Array, rng: Generator) -> Array:
    """The jets as the detector sees them, in storage precision (cuts see what the file holds)."""
    response = detector.gaussian_response(detector.jet_energy_resolution(jets.pt), rng)
    width = ak.full_like(jets.mass, detector.JET_MASS_RESOLUTION)
    mass_response = detector.gaussian_response(width, rng) * response
    for name, value in {
        "pt": jets.pt * response,
        "eta": jets.eta,
        "phi": jets.phi,
        "mass": jets.mass * mass_response,
    }.items():
        jets = ak.with_field(jets, detector.store_precision(value, MANTISSA_BITS), name)
    return ak.with_field(jets, mass_response, "massResponse")


def hardest_first(jets: Array, min_pt: float) -> Array:
    """Jets within the acceptance, ordered by pT."""
    jets = jets[(jets.pt > min_pt) & (abs(jets.eta) < JET_MAX_ETA)]
    return jets[ak.argsort(jets.pt, axis=1, ascending=False, stable=True)]


def with_btag(jets: Array, rng: Generator) -> Array:
    """The jets with a b-tagging score."""
    flat = ak.flatten(jets)
    score = detector.btag_score(ak.to_numpy(flat.flavour), ak.to_numpy(flat.pt), rng)
    score = ak.unflatten(detector.round_mantissa(score, MANTISSA_BITS), ak.num(jets))
    return ak.with_field(jets, score, "btag")


def missing_momentum(visible: Array, true_jets: Array, jets: Array, rng: Generator) -> Array:
    """Components x and y of the missing transverse momentum, from smeared objects."""
    soft_pt = ak.sum(physics.transverse_momentum(visible.px, visible.py), axis=1)
    soft_pt = soft_pt - ak.sum(true_jets.pt, axis=1)
    return [
        detector.missing_momentum(
            ak.sum(component, axis=1),
            ak.sum(true_jets.pt * direction(true_jets.phi), axis=1),
            ak.sum(jets.pt * direction(jets.phi), axis=1),
            soft_pt,
            rng,
        )
        for component, direction in ((visible.px, np.cos), (visible.py, np.sin))
    ]


def substructure(constituents: Array) -> Columns:
    """Soft-drop mass and N-subjettiness ratios of jets, given as (jets x particles).

    Soft drop (A. Larkoski et al., JHEP 05 (2014) 146) with z_cut = 0.1, β = 0; N-subjettiness
    (J. Thaler, K. Van Tilburg, JHEP 03 (2011) 015) with β = 1 and one-pass kT axes. Both come from
    fastjet-contrib.
    """
    if len(constituents) == 0:
        empty = np.zeros(0)
        return {"msoftdrop": empty, "tau21": empty, "tau32": empty}
    # A radius beyond the jet makes one Cambridge/Aachen jet of all its particles.
    definition = fastjet.JetDefinition(fastjet.cambridge_algorithm, 10.0 * FATJET_RADIUS)
    sequence = fastjet.ClusterSequence(constituents, definition)
    groomed = sequence.exclusive_jets_softdrop_grooming(
        njets=1, beta=0.0, symmetry_cut=0.1, R0=FATJET_RADIUS
    )
    tau = ak.to_numpy(sequence.njettiness(njets=[1, 2, 3], R0=FATJET_RADIUS))
    ratios = np.divide(tau[:, 1:], tau[:, :-1], out=np.zeros((len(tau), 2)), where=tau[:, :-1] > 0)
    mass = np.maximum(ak.to_numpy(groomed.msoftdrop), 0.0)
    return {"msoftdrop": mass, "tau21": ratios[:, 0], "tau32": ratios[:, 1]}


def large_radius_jets(visible: Array, rng: Generator) -> Array:
    """Anti-kT R=0.8 jets with their substructure."""
    clustered, constituents = cluster(visible, FATJET_RADIUS, FATJET_CLUSTER_MIN_PT)
    jets = jet_records(clustered, constituents)
    counts = ak.num(jets)
    shape = substructure(ak.flatten(constituents, axis=1))
    jets = smeared(jets, rng)
    # The groomed mass is measured from the same signals as the jet: one response for both.
    shape["msoftdrop"] = shape["msoftdrop"] * ak.to_numpy(ak.flatten(jets.massResponse))
    for name, value in shape.items():
        stored = detector.round_mantissa(value, MANTISSA_BITS)
        jets = ak.with_field(jets, ak.unflatten(stored, counts), name)
    return hardest_first(jets, FATJET_MIN_PT)


def event_columns(jets: Array, fatjets: Array, met: tuple[Array, Array]) -> Columns:
    """The physics columns of selected events."""
    px, py = jets.pt * np.cos(jets.phi), jets.pt * np.sin(jets.phi)
    pz = physics.longitudinal_momentum(jets.pt, jets.eta)
    eigenvalues = physics.sphericity_eigenvalues(px, py, pz)
    flat = {
        "HT": physics.scalar_sum(jets.pt),
        "MET_pt": physics.transverse_momentum(*met),
        "MET_phi": physics.azimuth(*met),
        "sphericity": physics.sphericity(eigenvalues),
        "aplanarity": physics.aplanarity(eigenvalues),
        "centrality": physics.centrality(jets.pt, physics.energy(jets.pt, jets.eta, jets.mass)),
    }
    columns: Columns = {k: detector.round_mantissa(v, MANTISSA_BITS) for k, v in flat.items()}
    tagged = jets.btag > detector.BTAG_WORKING_POINT
    columns["nBTag"] = ak.to_numpy(ak.sum(tagged, axis=1)).astype(np.int32)
    for name in ("pt", "eta", "phi", "mass", "btag"):
        columns[f"Jet_{name}"] = jets[name]
    columns["Jet_isBTagged"] = tagged
    columns["Jet_nConstituents"] = ak.values_astype(jets.nConstituents, np.int32)
    for name in ("pt", "eta", "phi", "mass", "msoftdrop", "tau21", "tau32"):
        columns[f"FatJet_{name}"] = fatjets[name]
    columns["FatJet_nConstituents"] = ak.values_astype(fatjets.nConstituents, np.int32)
    return columns


def reconstruct(particles: Array, rng: Generator) -> tuple[Columns, Array]:
    """Columns of the events that pass the preselection, and which events those are."""
    visible = visible_particles(particles)
    everything = ak.concatenate([visible, flavour_ghosts(particles)], axis=1)
    true_jets = jet_records(*cluster(everything, JET_RADIUS, CLUSTER_MIN_PT))
    all_jets = smeared(true_jets, rng)
    met_x, met_y = missing_momentum(visible, true_jets, all_jets, rng)
    jets = hardest_first(all_jets, JET_MIN_PT)
    passed = (ak.num(jets) >= MIN_JETS) & (physics.scalar_sum(jets.pt) > MIN_HT)
    passed = np.flatnonzero(ak.to_numpy(passed))
    jets = with_btag(jets[passed], rng)
    fatjets = large_radius_jets(visible[passed], rng)
    return event_columns(jets, fatjets, (met_x[passed], met_y[passed])), passed


def simulate(process: Process, seeds: SeedSequence, events: int) -> Iterator[Batch]:
    """Batches until `events` events are selected; what comes after the last of them is dropped."""
    pythia_seeds, detector_seeds = seeds.spawn(2)
    # Pythia takes 1 … 900,000,000; its 0 would mean the clock.
    pythia = make_pythia(process, int(pythia_seeds.generate_state(1)[0]) % 900_000_000 + 1)
    rng = np.random.default_rng(detector_seeds)
    missing, offset = events, 0
    while missing:
        batch = pythia.nextBatch(BATCH_EVENTS)
        columns, passed = reconstruct(batch.prt, rng)
        weights = ak.to_numpy(batch.info.weights[:, 0]).astype(np.float64)
        generated = len(batch)
        if len(passed) >= missing:
            passed = passed[:missing]
            generated = int(passed[-1]) + 1
            columns = {name: values[:missing] for name, values in columns.items()}
        columns["genWeight"] = weights[passed].astype(np.float32)
        columns["event"] = (passed + offset + 1).astype(np.uint64)
        missing -= len(passed)
        offset += generated
        info = pythia.infoPython()
        yield Batch(
            columns=columns,
            selected=len(passed),
            generated=generated,
            sum_weights=float(weights[:generated].sum()),
            sum_weights2=float((weights[:generated] ** 2).sum()),
            cross_section=info.sigmaGen() * 1e9,  # Pythia's unit is the millibarn
            cross_section_error=info.sigmaErr() * 1e9,
        )
