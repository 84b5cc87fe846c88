from __future__ import annotations

from pathlib import Path

import pytest

import sweeps


@pytest.fixture(scope="module")
def on_a_cluster(finished):
    """One cluster for all sweeps of a module: starting one takes as long as a small sweep."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_raylet_start_wait_time_s", "180")
        cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": sweeps.CLUSTER_CPUS, "include_dashboard": False},
            shutdown_at_exit=False,
        )
        sweeps.ADDRESS.append(cluster.address)
        try:
            yield
        finally:
            sweeps.ADDRESS.clear()
            cluster.shutdown()


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """A folder with a sweep that ran once, undisturbed."""
    folder: Path = tmp_path_factory.mktemp("finished")
    sweeps.run_recorded(sweeps.write_small(folder))
    return folder
