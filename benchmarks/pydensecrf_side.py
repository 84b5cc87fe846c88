"""pydensecrf on the images of an npz file; run by an interpreter that has it and numpy, and nothing of ours.

    python benchmarks/pydensecrf_side.py SCENES.npz LABELS.npy

Prints the CPU seconds of every image, each after an unmeasured run.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
from pydensecrf.densecrf import DenseCRF2D
from pydensecrf.utils import unary_from_softmax


def infer(image: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    classes, height, width = probabilities.shape
    crf = DenseCRF2D(width, height, classes)
    crf.setUnaryEnergy(np.ascontiguousarray(unary_from_softmax(probabilities)))
    crf.addPairwiseGaussian(sxy=3, compat=3)
    crf.addPairwiseBilateral(sxy=80, srgb=13, rgbim=image, compat=10)
    return np.array(crf.inference(10)).reshape(probabilities.shape)


def main() -> None:
    scenes = np.load(sys.argv[1])
    seconds, labels = [], []
    for image, probabilities in zip(scenes["images"], scenes["probabilities"]):  # noqa: B905 (any Python 3)
        infer(image, probabilities)
        started = time.process_time()
        posterior = infer(image, probabilities)
        seconds.append(time.process_time() - started)
        labels.append(posterior.argmax(axis=0).astype(np.uint8))
    np.save(sys.argv[2], np.stack(labels))
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
