"""How many threads compute a step, and that torch is left as it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hepdata_adapters import load_config
from hepdata_adapters.common.stream.prepare import prepare
from hepdata_adapters.torch.training import threads
from hepdata_adapters.torch.training.models import FeedForward
from hepdata_adapters.torch.training.threads import step_threads, threads_for, work
from hepdata_adapters.torch.training.train import fit
from tests.helpers.samples import write_events

CORES = 16


@pytest.fixture(scope="module")
def transform(tmp_path_factory):
    path = write_events(tmp_path_factory.mktemp("threads") / "a.root", 40, 0)
    return prepare(str(path), {"features": ["MET"]}, progress=False).transform


@pytest.fixture
def many_cores(monkeypatch):
    """A machine whose torch has as many threads as cores, and whose user has said nothing."""
    monkeypatch.setattr(threads, "default_threads", lambda: CORES)
    monkeypatch.setattr(torch, "get_num_threads", lambda: CORES)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)


def test_the_work_of_a_network_is_counted_and_nothing_of_it_changed(transform):
    net = nn.Sequential(nn.BatchNorm1d(1), FeedForward(1, hidden=(50, 20)))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    random = torch.get_rng_state()
    assert work(net, transform) == 2 * (50 + 50 * 20 + 20)
    assert all(module.training for module in net.modules())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)


def test_a_network_that_cannot_be_tried_counts_its_weights(transform):
    assert work(nn.Linear(7, 3, bias=False), transform) == 2 * 21
    assert work(nn.LazyLinear(3), transform) == 0


def test_small_steps_have_one_thread_and_large_ones_as_many_as_have_work(many_cores, transform):
    small, large = FeedForward(1), FeedForward(1, hidden=(1024, 1024))
    assert threads_for("auto", small, transform, 128) == 1
    assert threads_for("auto", small, transform, 4096) == 1
    assert threads_for("auto", large, transform, 128) == 1
    assert threads_for("auto", large, transform, 1024) == 8
    assert threads_for("auto", large, transform, 4096) == CORES
    assert threads_for("auto", large, transform, 4096, ranks=4) == CORES // 4


def test_what_the_user_has_chosen_stays(many_cores, monkeypatch, transform):
    small = FeedForward(1)
    assert threads_for(5, small, transform, 128) == 5
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert threads_for("auto", small, transform, 128) == 3
    monkeypatch.setattr(torch, "get_num_threads", lambda: CORES)
    monkeypatch.setenv("OMP_NUM_THREADS", str(CORES))
    assert threads_for("auto", small, transform, 128) == CORES


def test_threads_are_as_before_also_after_an_error():
    before = torch.get_num_threads()
    seen = []

    def fail():
        with step_threads(before + 2):
            seen.append(torch.get_num_threads())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert seen == [before + 2]
    assert torch.get_num_threads() == before


NOTING = """
import torch
from torch import nn

class Net(nn.Linear):
    def forward(self, x):
        torch.seen.add((torch.get_num_threads(), torch.get_float32_matmul_precision()))
        return super().forward(x)

def net(features):
    return Net(features, 1)
"""


def test_fit_computes_with_the_threads_of_the_config_and_leaves_torch_as_it_was(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(torch, "seen", set(), raising=False)
    files = [str(write_events(tmp_path / f"{n}.root", 60, n)) for n in range(2)]
    (tmp_path / "model.py").write_text(NOTING)
    (tmp_path / "config.yaml").write_text(
        f"samples: [{{files: {files[0]}, label: 0}}, {{files: {files[1]}, label: 1}}]\n"
        f"features: [MET]\nmodel: {{factory: {tmp_path}/model.py:net}}\n"
        f"training: {{epochs: 1, batch_size: 16, threads: 3, accelerator: cpu}}\n"
    )
    before = torch.get_num_threads(), torch.get_float32_matmul_precision()
    fit(load_config(tmp_path / "config.yaml"), tmp_path / "run")
    assert {count for count, _ in torch.seen} == {3}
    assert "high" in {precision for _, precision in torch.seen}
    assert (torch.get_num_threads(), torch.get_float32_matmul_precision()) == before
