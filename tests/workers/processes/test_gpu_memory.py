from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_trials import TRIAL, Work, fingerprint

from workers.checks import rehearsal
from workers.pipelines import training_stage, variant_stages
from workers.processes.gpu_memory import CONTEXT_BYTES, PATIENCE_S, SETTLED_S, CudaMemory, claim, smallest, tensor_share
from workers.processes.hardware import Hardware
from workers.processes.runtime import Runtime
from workers.stage import GPU_PEAK
from workers.stage_runner import StageRunner

GIB = 2**30
ROOT = Path(__file__).resolve().parents[3]


class Gpu:
    """A GPU of 16 GiB whose free memory over time the test says."""

    def __init__(self, free=lambda now: 16 * GIB, peak: int = 3 * GIB):
        self.now, self.free_at, self.peak_bytes = 0.0, free, peak
        self.limits: list[float] = []
        self.forgotten = 0

    def total(self):
        return 16 * GIB

    def free(self):
        return self.free_at(self.now)

    def peak(self):
        return self.peak_bytes

    def forget_peak(self):
        self.forgotten += 1

    def limit(self, share):
        self.limits.append(share)

    def claim(self, share: float) -> float:
        """Seconds that it took."""

        def sleep(seconds):
            self.now += seconds

        claim(self, share, sleep, lambda: self.now)
        return self.now


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_a_free_gpu_is_not_waited_for(share):
    gpu = Gpu()
    assert gpu.claim(share) == 0
    assert gpu.limits == ([tensor_share(share, gpu.total())] if share < 1 else [])


def test_what_a_process_before_left_is_waited_for():
    gpu = Gpu(free=lambda now: GIB if now < 3 else 12 * GIB)
    assert gpu.claim(0.5) == 3


def test_memory_that_others_keep_is_not_waited_for():
    assert Gpu(free=lambda now: GIB).claim(1.0) == SETTLED_S


def test_no_wait_is_without_end():
    assert Gpu(free=lambda now: int(now * 1000)).claim(1.0) == pytest.approx(PATIENCE_S, abs=1)


@pytest.mark.parametrize("trials", [1, 2, 3, 8, 16, 100])
def test_shares_leave_room_for_contexts(trials):
    total = 80 * GIB
    tensors = tensor_share(1 / trials, total) * total
    assert tensors > 0
    if tensors > CONTEXT_BYTES:
        assert trials * (tensors + CONTEXT_BYTES) <= total + 1


@pytest.mark.slow
def test_a_stage_says_what_it_held(tmp_path):
    gpu, work = Gpu(), Work(tmp_path)
    stage = training_stage(TRIAL, fingerprint)
    record = StageRunner(work.store, Runtime(), memory=gpu).run(stage)
    assert record.metrics[GPU_PEAK] == 3 * GIB
    assert work.store.record(stage.inputs["warmup"].key).metrics[GPU_PEAK] == 3 * GIB
    assert gpu.forgotten == 2


def test_a_stage_on_a_cpu_says_nothing_of_a_gpu(tmp_path):
    assert GPU_PEAK not in Work(tmp_path).runner.run(training_stage(TRIAL, fingerprint)).metrics


def test_a_rehearsal_trains_and_infers_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stages, gpu = variant_stages(TRIAL, fingerprint), Gpu(peak=5)
    train = training_stage(TRIAL, fingerprint).config
    assert rehearsal.peak_bytes(train, stages.cams.config, Runtime(), gpu) == 5
    assert gpu.forgotten == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_program_says_how_large_a_gpu_is():
    done = subprocess.run(
        [sys.executable, "-m", "workers.processes.gpu_memory"], capture_output=True, text=True, check=True, cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.stdout == "0\n"


@pytest.mark.gpu
def test_a_share_of_a_real_gpu_is_a_limit():
    memory = CudaMemory()
    assert smallest() == memory.total()
    memory.forget_peak()
    held = torch.empty(256 << 20, dtype=torch.uint8, device="cuda")
    assert memory.peak() >= 256 << 20
    del held
    memory.forget_peak()
    assert memory.peak() == 0
    memory.limit(0.1)
    try:
        with pytest.raises(torch.OutOfMemoryError):
            torch.empty(int(0.2 * memory.total()), dtype=torch.uint8, device="cuda")
    finally:
        memory.limit(1.0)


@pytest.mark.gpu
def test_a_rehearsal_measures_at_least_what_the_warmup_needs(tmp_path):
    work = Work(tmp_path)
    stage = training_stage(TRIAL, fingerprint, hardware=Hardware("cuda"))
    stages = variant_stages(TRIAL, fingerprint, host=stage)
    record = StageRunner(work.store, Runtime(gpu=True)).run(stage)
    warmup = work.store.record(stage.inputs["warmup"].key).metrics[GPU_PEAK]
    rehearsed = rehearsal.peak_bytes(stage.config, stages.cams.config, Runtime(gpu=True), CudaMemory())
    assert rehearsed >= warmup > 0
    assert rehearsed == pytest.approx(record.metrics[GPU_PEAK], rel=0.5)
