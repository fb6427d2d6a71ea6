"""examples/tth: its physics functions, its detector, its generator, and the committed sample."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ak = pytest.importorskip("awkward")
np = pytest.importorskip("numpy")
uproot = pytest.importorskip("uproot")

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "tth"
SAMPLE = ROOT / "examples" / "data"
PROCESSES = ("tth", "ttbar", "qcd")
MODULES = ("physics", "detector", "processes", "output", "jobs", "simulate", "generate")

FLAT = {
    "run": "uint32",
    "luminosityBlock": "uint32",
    "event": "uint64",
    "genWeight": "float32",
    "HT": "float32",
    "MET_pt": "float32",
    "MET_phi": "float32",
    "sphericity": "float32",
    "aplanarity": "float32",
    "centrality": "float32",
    "nBTag": "int32",
    "nJet": "int32",
    "nFatJet": "int32",
}
KINEMATICS = ("pt", "eta", "phi", "mass")
JAGGED = {
    **{f"Jet_{name}": "float32" for name in (*KINEMATICS, "btag")},
    "Jet_isBTagged": "bool",
    "Jet_nConstituents": "int32",
    **{f"FatJet_{name}": "float32" for name in (*KINEMATICS, "msoftdrop", "tau21", "tau32")},
    "FatJet_nConstituents": "int32",
}


@pytest.fixture(autouse=True)
def example_on_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The example is a folder of scripts, not a package: only a test may import its modules."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    yield
    for module in MODULES:
        sys.modules.pop(module, None)


@pytest.fixture
def physics(example_on_path: None) -> ModuleType:
    import physics

    return physics


@pytest.fixture
def detector(example_on_path: None) -> ModuleType:
    import detector

    return detector


def run_generate(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", str(EXAMPLE / "generate.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


# Kinematics and event shapes


def test_kinematics_of_known_vectors(physics: ModuleType) -> None:
    assert physics.transverse_momentum(3.0, 4.0) == 5.0
    assert physics.azimuth(0.0, 2.0) == pytest.approx(np.pi / 2)
    assert physics.pseudorapidity(3.0, 4.0, 0.0) == 0.0
    assert physics.invariant_mass(1.0, 2.0, 2.0, 5.0) == pytest.approx(4.0)
    assert physics.invariant_mass(0.0, 0.0, 1.0, 1.0 - 1e-12) == 0.0


def test_momenta_survive_the_way_to_pt_eta_and_back(physics: ModuleType) -> None:
    rng = np.random.default_rng(0)
    px, py, pz, mass = rng.normal(size=(4, 100))
    energy = np.sqrt(px**2 + py**2 + pz**2 + mass**2)
    pt, eta = physics.transverse_momentum(px, py), physics.pseudorapidity(px, py, pz)
    assert physics.longitudinal_momentum(pt, eta) == pytest.approx(pz)
    assert physics.energy(pt, eta, mass) == pytest.approx(energy)
    assert physics.invariant_mass(px, py, pz, energy) == pytest.approx(abs(mass))


def shapes(physics: ModuleType, events: list[list[tuple[float, float, float]]]) -> tuple[Any, Any]:
    px, py, pz = (ak.Array([[p[i] for p in event] for event in events]) for i in range(3))
    eigenvalues = physics.sphericity_eigenvalues(px, py, pz)
    return physics.sphericity(eigenvalues), physics.aplanarity(eigenvalues)


def test_back_to_back_jets_have_no_sphericity(physics: ModuleType) -> None:
    sphericity, aplanarity = shapes(physics, [[(1, 2, 3), (-1, -2, -3)], [(0, 50, 0), (0, -50, 0)]])
    assert sphericity == pytest.approx([0, 0], abs=1e-12)
    assert aplanarity == pytest.approx([0, 0], abs=1e-12)


def test_planar_event_has_sphericity_but_no_aplanarity(physics: ModuleType) -> None:
    sphericity, aplanarity = shapes(physics, [[(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0)]])
    assert sphericity == pytest.approx([0.75])
    assert aplanarity == pytest.approx([0.0], abs=1e-12)


def test_isotropic_event_is_spherical(physics: ModuleType) -> None:
    axes = [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)]
    directions = np.random.default_rng(1).normal(size=(20_000, 3))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    sphericity, aplanarity = shapes(physics, [axes, directions.tolist()])
    assert sphericity == pytest.approx([1.0, 1.0], abs=0.03)
    assert aplanarity == pytest.approx([0.5, 0.5], abs=0.03)


def test_event_without_jets_has_finite_shapes(physics: ModuleType) -> None:
    sphericity, aplanarity = shapes(physics, [[], [(1, 0, 0), (-1, 0, 0)]])
    assert sphericity.tolist() == [0, 0]
    assert aplanarity.tolist() == [0, 0]


def test_sums_and_centrality(physics: ModuleType) -> None:
    pt, energy = ak.Array([[30.0, 40.0], [], [10.0]]), ak.Array([[30.0, 110.0], [], [10.0]])
    assert physics.scalar_sum(pt).to_list() == [70, 0, 10]
    assert physics.centrality(pt, energy).tolist() == [0.5, 0.0, 1.0]


@pytest.mark.parametrize(
    ("pdg_id", "flavour"),
    [
        (511, 5),  # B0
        (-521, 5),  # B-
        (5122, 5),  # Lambda_b
        (10511, 5),  # an excited B
        (553, 5),  # Upsilon
        (421, 4),  # D0
        (-4122, 4),  # anti-Lambda_c
        (443, 4),  # J/psi
        (211, 0),  # pion
        (2212, 0),  # proton
        (3122, 0),  # Lambda
        (5, 0),  # b quark
        (5101, 0),  # diquark with a b quark
        (25, 0),  # Higgs boson
        (1000040080, 0),  # a nucleus
    ],
)
def test_hadron_flavour(physics: ModuleType, pdg_id: int, flavour: int) -> None:
    assert physics.hadron_flavour(np.array([pdg_id])).tolist() == [flavour]


# Detector


def test_resolution_improves_with_pt_down_to_the_constant_term(detector: ModuleType) -> None:
    resolution = detector.jet_energy_resolution(np.array([30.0, 100.0, 1000.0, 1e6]))
    assert (np.diff(resolution) < 0).all()
    assert 0.1 < resolution[0] < 0.2
    assert resolution[-1] == pytest.approx(detector.JER_CONSTANT, rel=0.01)


def test_response_has_the_requested_width_and_is_positive(detector: ModuleType) -> None:
    width = ak.unflatten(np.full(40_000, 0.5), np.full(10_000, 4))
    response = detector.gaussian_response(width, np.random.default_rng(2))
    assert ak.num(response).to_list() == [4] * 10_000
    flat = ak.to_numpy(ak.flatten(response))
    assert flat.min() == pytest.approx(detector.SMALLEST_RESPONSE)
    assert np.median(flat) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("flavour", [0, 4, 5])
@pytest.mark.parametrize("pt", [30.0, 75.0, 500.0])
def test_btag_score_passes_with_the_stated_efficiency(
    detector: ModuleType, flavour: int, pt: float
) -> None:
    jets = 100_000
    flavours, pts = np.full(jets, flavour), np.full(jets, pt)
    score = detector.btag_score(flavours, pts, np.random.default_rng(3))
    efficiency = detector.btag_efficiency(flavours[:1], pts[:1])[0]
    passed = (score > detector.BTAG_WORKING_POINT).mean()
    assert passed == pytest.approx(efficiency, abs=5 * np.sqrt(efficiency / jets))
    assert score.min() >= 0
    assert score.max() <= 1


def test_btag_efficiencies_are_those_of_the_readme(detector: ModuleType) -> None:
    pt = np.full(3, 100.0)
    assert detector.btag_efficiency(np.array([5, 4, 0]), pt).tolist() == [0.79, 0.15, 0.010]


def test_missing_momentum_balances_what_is_seen(detector: ModuleType) -> None:
    nothing = np.zeros(2)
    jets = np.array([50.0, -20.0])
    missing = detector.missing_momentum(jets, jets, 1.1 * jets, nothing, np.random.default_rng(4))
    assert missing == pytest.approx(-1.1 * jets)


def test_round_mantissa_rounds_to_nearest(detector: ModuleType) -> None:
    values = np.random.default_rng(5).normal(scale=100, size=10_000).astype(np.float32)
    rounded = detector.round_mantissa(values, 12)
    assert rounded.dtype == np.float32
    assert (abs(rounded / values - 1) <= 2.0**-13).all()
    assert (rounded.view(np.uint32) & 0x7FF == 0).all()
    assert detector.round_mantissa(np.array([0.0, 30.0, -2.5]), 12).tolist() == [0, 30, -2.5]


def test_store_precision_keeps_the_jaggedness(detector: ModuleType) -> None:
    assert detector.store_precision([[1.0, 2.0], [], [3.0]], 12).to_list() == [[1, 2], [], [3]]


# The committed sample


@pytest.fixture(scope="module")
def sample() -> Iterator[dict[str, Any]]:
    with ExitStack() as stack:
        files = {
            path.name: stack.enter_context(uproot.open(path))
            for path in sorted(SAMPLE.glob("*.root"))
        }
        yield {name: (file["Events"], file["Runs"]) for name, file in files.items()}


def test_sample_has_several_files_of_each_process_in_five_megabytes(sample: dict[str, Any]) -> None:
    for process in PROCESSES:
        assert sum(name.startswith(f"{process}_") for name in sample) >= 2
    assert sum(path.stat().st_size for path in SAMPLE.glob("*.root")) <= 5_000_000


def test_sample_has_the_documented_branches(sample: dict[str, Any]) -> None:
    readme = (SAMPLE / "README.md").read_text(encoding="utf-8")
    for events, _ in sample.values():
        assert set(events.keys()) == {*FLAT, *JAGGED}
        for name, dtype in FLAT.items():
            assert events[name].interpretation.numpy_dtype.newbyteorder("=") == dtype
        for name, dtype in JAGGED.items():
            interpretation = events[name].interpretation
            assert interpretation.header_bytes == 0
            assert interpretation.content.to_dtype == np.dtype(dtype)
    assert [name for name in (*FLAT, *JAGGED) if f"`{name}`" not in readme] == []


def test_sample_has_several_baskets(sample: dict[str, Any]) -> None:
    assert all(events["Jet_pt"].num_baskets > 1 for events, _ in sample.values())


def test_sample_events_are_unique_over_all_files(sample: dict[str, Any]) -> None:
    names = ["run", "luminosityBlock", "event"]
    identity = np.concatenate(
        [
            np.stack([events[name].array(library="np").astype(np.uint64) for name in names], 1)
            for events, _ in sample.values()
        ]
    )
    assert len(np.unique(identity, axis=0)) == len(identity)


def test_sample_is_finite_and_obeys_its_definition(sample: dict[str, Any]) -> None:
    for events, _ in sample.values():
        columns = events.arrays()
        for name in (*FLAT, *JAGGED):
            assert bool(ak.all(np.isfinite(columns[name]), axis=None)), name
        assert ak.all(columns.nJet >= 4)
        assert ak.all(columns.HT >= 400)
        assert ak.all(columns.Jet_pt >= 30)
        assert ak.all(abs(columns.Jet_eta) <= 2.4)
        assert ak.all(columns.FatJet_pt >= 200)
        assert ak.all(columns.Jet_pt[:, :-1] >= columns.Jet_pt[:, 1:])
        assert ak.all(columns.nJet == ak.num(columns.Jet_pt))
        assert ak.all(columns.nFatJet == ak.num(columns.FatJet_pt))
        assert ak.all(columns.nBTag == ak.sum(columns.Jet_isBTagged, axis=1))
        assert ak.all(columns.Jet_isBTagged == (columns.Jet_btag > 0.5))
        assert ak.to_numpy(columns.HT) == pytest.approx(
            ak.to_numpy(ak.sum(columns.Jet_pt, axis=1)), rel=2.0**-12
        )
        for name in ("sphericity", "centrality", "Jet_btag"):
            assert ak.all((columns[name] >= 0) & (columns[name] <= 1), axis=None)


def test_sample_metadata_counts_its_events(sample: dict[str, Any]) -> None:
    for events, runs in sample.values():
        (entry,) = runs.arrays().to_list()
        assert entry["nSelected"] == events.num_entries
        assert entry["nGenerated"] >= events["event"].array(library="np").max()
        assert entry["genEventSumw"] >= entry["nGenerated"]  # unit weights, rarely larger
        assert entry["crossSection"] > 0


def test_sample_signal_has_more_b_tags_and_jets_than_the_backgrounds(
    sample: dict[str, Any],
) -> None:
    def mean(process: str, branch: str) -> float:
        chosen = [events for name, (events, _) in sample.items() if name.startswith(f"{process}_")]
        return float(np.concatenate([e[branch].array(library="np") for e in chosen]).mean())

    for branch in ("nBTag", "nJet"):
        assert mean("tth", branch) > mean("ttbar", branch) + 0.3 > mean("qcd", branch) + 0.6


# The command line and the generator


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--events", "0"], "--events must be at least 1"),
        (["--events", "2", "--files", "3"], "--files must be between 1"),
        (["--workers", "0"], "--workers must be at least 1"),
        (["--seed", "-1"], "--seed must be between 0"),
        (["--process", "higgs"], "unknown process 'higgs'"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(arguments: list[str], message: str) -> None:
    pytest.importorskip("typer")
    done = run_generate(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_missing_generator_names_the_install_command(tmp_path: Path) -> None:
    pytest.importorskip("typer")
    code = (
        "import sys; sys.modules['pythia8mc'] = None\n"
        f"sys.path.insert(0, {str(EXAMPLE)!r}); sys.argv = ['generate.py', '--out', sys.argv[1]]\n"
        "import generate; generate.app()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert 'pip install "hepdata-adapters[physics]"' in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_jobs_share_the_events_out(example_on_path: None, tmp_path: Path) -> None:
    pytest.importorskip("typer")
    import generate
    from output import Format

    jobs = generate.plan(["tth", "qcd"], 10, 3, tmp_path, 1, Format.ttree)
    assert [job.events for job in jobs] == [3, 3, 4] * 2
    assert jobs[-1].path == tmp_path / "qcd_2.root"


def test_clusters_regroup_and_keep_every_event(example_on_path: None) -> None:
    import jobs

    sizes = [300, 0, 900, 50]
    starts = np.cumsum([0, *sizes])
    batches = [{"event": np.arange(a, a + n)} for a, n in zip(starts[:-1], sizes, strict=True)]
    groups = [ak.to_numpy(group["event"]) for group in jobs.clusters(iter(batches))]
    assert [len(group) for group in groups] == [500, 500, 250]
    assert np.concatenate(groups).tolist() == list(range(1250))


@pytest.mark.parametrize("storage", ["ttree", "rntuple"])
def test_written_columns_are_read_back(example_on_path: None, tmp_path: Path, storage: str) -> None:
    from output import Format, write

    columns = {
        "event": np.array([1, 2**60, 3], np.uint64),
        "Jet_pt": ak.values_astype(ak.Array([[1.5, 2.5], [], [3.5]]), np.float32),
        "Jet_isBTagged": ak.Array([[True, False], [], [True]]),
    }
    path = tmp_path / "file.root"
    write(path, Format(storage), iter([columns, columns]), lambda: {"seed": np.array([7])})
    with uproot.open(path) as file:
        read = file["Events"].arrays().to_list()
        assert [entry["nJet"] for entry in read] == [2, 0, 1] * 2
        assert [entry["event"] for entry in read] == [1, 2**60, 3] * 2
        assert [entry["Jet_pt"] for entry in read] == [[1.5, 2.5], [], [3.5]] * 2
        assert [entry["Jet_isBTagged"] for entry in read] == [[True, False], [], [True]] * 2
        assert "nJet_pt" not in set(file["Events"].keys())
        assert file["Runs"].arrays().to_list() == [{"seed": 7}]


def test_interrupted_file_leaves_nothing_behind(example_on_path: None, tmp_path: Path) -> None:
    from output import replacing

    def interrupted() -> None:
        with replacing(tmp_path / "file.root") as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def columns_of(path: Path) -> Any:
    with uproot.open(path) as file:
        return file["Events"].arrays().to_list(), file["Runs"].arrays().to_list()


def test_generated_columns_do_not_depend_on_workers_or_format(tmp_path: Path) -> None:
    for module in ("pythia8mc", "fastjet", "typer"):
        pytest.importorskip(module)
    variants = {
        "one": (PROCESSES, ["--workers", "1"]),
        "two": (["tth"], ["--workers", "2", "--format", "rntuple", "--process", "tth"]),
    }
    for name, (processes, arguments) in variants.items():
        out = str(tmp_path / name)
        done = run_generate(
            "--events", "10", "--files", "2", "--seed", "3", "--out", out, *arguments
        )
        assert done.returncode == 0, done.stderr
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == sorted(
            f"{process}_{number}.root" for process in processes for number in range(2)
        )
    for path in (tmp_path / "two").iterdir():
        assert columns_of(path) == columns_of(tmp_path / "one" / path.name)
    first, second = (columns_of(tmp_path / "one" / f"tth_{number}.root")[0] for number in range(2))
    assert [event["HT"] for event in first] != [event["HT"] for event in second]


def test_existing_files_are_kept_unless_asked(tmp_path: Path) -> None:
    for module in ("pythia8mc", "fastjet", "typer"):
        pytest.importorskip(module)
    (tmp_path / "tth_0.root").write_text("precious")
    done = run_generate("--process", "tth", "--out", str(tmp_path))
    assert done.returncode == 2
    assert "--overwrite" in done.stderr
    assert (tmp_path / "tth_0.root").read_text() == "precious"
