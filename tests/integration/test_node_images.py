"""Decoded images of a node in a real object store, while readers and their keeper are killed."""

from __future__ import annotations

import os
import signal
import sys

import pytest
from small_voc import write_voc

pytestmark = pytest.mark.integration
TRAIN, VAL = 12, 4


class Reader:
    """A worker that reads all images of a dataset, as squares, from two epochs."""

    def __init__(self, root: str, actor) -> None:
        from aream.data.decoded import DecodedOnce
        from aream.datasets import voc2012
        from orchestrator.cluster.node_images import NodeStore

        self.store = NodeStore(lambda: actor)
        self.images = self.store.of("photos")
        self.dataset = DecodedOnce(voc2012.build(voc2012.Config(root=root)), self.images)

    def pid(self) -> int:
        return os.getpid()

    def read(self, workers: int) -> tuple[int, int, str]:
        """How many were decoded and read back, and a digest of all pixels."""
        import hashlib

        from aream.engine.batches import SquareImages
        from aream.engine.loading import Loading

        digest = hashlib.sha256()
        squares = SquareImages(self.dataset, 40, ((0.5,) * 3, (0.2,) * 3), Loading(workers))
        for _ in range(2):
            for batch in squares.batches(self.dataset.ids("train"), 5):
                digest.update(batch.images.contiguous().numpy().tobytes())
        squares.loader.close()
        found = self.images.decoded, self.images.read, digest.hexdigest()
        self.store.done()
        return found


def test_readers_share_what_one_decoded_and_do_without_when_it_is_lost(tmp_path, monkeypatch):
    import ray

    from orchestrator.cluster.node_images import images_actor

    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "180")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not find a test's module
    root = str(write_voc(tmp_path / "VOC2012", TRAIN, VAL))
    ray.init("local", num_cpus=4, include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False)
    try:
        actor = images_actor(ray.get_runtime_context().get_node_id())
        ray.get(actor.look.remote("photos", ("", 0)))
        reader = ray.remote(num_cpus=1, max_restarts=0)(Reader)
        first = reader.remote(root, actor)
        decoded, read, pixels = ray.get(first.read.remote(0))
        assert (decoded, read) == (TRAIN, TRAIN)
        os.kill(ray.get(first.pid.remote()), signal.SIGKILL)
        for workers in (0, 2):
            other = reader.remote(root, actor)
            decoded, read, again = ray.get(other.read.remote(workers))
            assert (decoded, again) == (0, pixels), "what the killed one decoded is still there"
            assert read >= 2 * TRAIN
        ray.kill(actor, no_restart=False)
        assert ray.get(other.read.remote(0))[2] == pixels, "what it has at hand it keeps"
        late = reader.remote(root, actor)
        decoded, read, again = ray.get(late.read.remote(0))
        assert (decoded + read, again) == (2 * TRAIN, pixels)
        assert decoded >= TRAIN
    finally:
        ray.shutdown()
