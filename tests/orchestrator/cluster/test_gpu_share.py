from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cluster.gpu_share import HEADROOM, MARGIN, MOST, GpuNode, decide
from workers.processes.gpu_memory import CONTEXT_BYTES

GIB = 2**30


def node(gib: float, cpus: float = 64, gpus: float = 1) -> GpuNode:
    return GpuNode(cpus=cpus, gpus=gpus, gpu_bytes=int(gib * GIB))


@pytest.mark.parametrize(
    ("peak", "nodes", "cpu", "trials", "reason"),
    [
        (10, [node(80)], 4, 6, "memory"),
        (22, [node(80)], 4, 3, "memory"),
        (60, [node(80)], 4, 1, "memory"),
        (100, [node(80)], 4, 1, "memory"),
        (10, [node(80), node(24)], 4, 1, "memory"),
        (10, [node(80, cpus=8)], 4, 2, "4 CPUs a trial"),
        (10, [node(80, cpus=8, gpus=4)], 4, 1, "4 CPUs a trial"),
        (10, [node(80, cpus=32, gpus=4)], 4, 2, "4 CPUs a trial"),
        (10, [node(80, cpus=8), node(80, cpus=16)], 4, 4, "4 CPUs a trial"),
        (1, [node(80, cpus=0.6)], 0.2, 3, "0.2 CPUs a trial"),
        (0, [node(80)], 1, MOST, "the most that is worth it"),
    ],
)
def test_how_many_trials_share_a_gpu(peak, nodes, cpu, trials, reason):
    share = decide(int(peak * GIB), nodes, cpu)
    assert share.trials == trials
    assert share.why.startswith(f"{trials} trial")
    assert share.why.endswith(f"limited by {reason}")


@given(
    peak=st.integers(0, 200 * GIB),
    sizes=st.lists(st.floats(4, 200), min_size=1, max_size=5),
    cpus=st.floats(1, 256),
    cpu=st.floats(0.1, 16),
)
def test_shares_of_a_gpu_fit_its_memory_and_ray(peak, sizes, cpus, cpu):
    share = decide(peak, [node(size, cpus) for size in sizes], cpu)
    assert 0 < share.gpu <= 1
    assert share.gpu * share.trials <= 1
    assert round(share.gpu * 10_000) == pytest.approx(share.gpu * 10_000, abs=1e-6)
    assert int(1 / share.gpu) == share.trials  # Ray places so many, not one fewer
    if share.trials > 1:
        needed = share.trials * (peak * (1 + MARGIN) + CONTEXT_BYTES)
        assert needed <= min(sizes) * GIB * (1 - HEADROOM) + share.trials
        assert share.trials * cpu <= cpus + 1e-6


@given(st.integers(1, 100 * GIB), st.integers(1, 100 * GIB))
def test_a_trial_that_needs_more_shares_less(first, second):
    low, high = sorted((first, second))
    assert decide(low, [node(80)], 1).trials >= decide(high, [node(80)], 1).trials
