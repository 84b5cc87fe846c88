"""Files with bytes changed or cut off are read or refused, whatever the bytes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from aream.data.images import read_image, read_indices
from aream.datasets._voc_labels import read_label_file
from aream.errors import DataError

IDS = ("2007_000032", "2007_000039")


def vector(*classes: int) -> np.ndarray:
    labels = np.zeros(20, dtype=np.float32)
    labels[list(classes)] = 1
    return labels


def examples() -> dict[str, bytes]:
    """One small valid file of each kind."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)
    files: dict[str, bytes] = {}
    for kind in ("JPEG", "PNG", "WEBP", "BMP"):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, kind)
        files[f"{kind.lower()}.jpg"] = buffer.getvalue()
    buffer, text = io.BytesIO(), PngImagePlugin.PngInfo()
    text.add_text("a", "b", zip=True)
    Image.fromarray(pixels[..., 0] % 21).save(buffer, "PNG", pnginfo=text)
    files["mask.png"] = buffer.getvalue()
    buffer = io.BytesIO()
    np.save(buffer, {identifier: vector(1) for identifier in IDS})
    files["labels.npy"] = buffer.getvalue()
    buffer = io.BytesIO()
    np.savez(buffer, ids=list(IDS), labels=np.stack([vector(1), vector(2)]))
    files["labels.npz"] = buffer.getvalue()
    return files


EXAMPLES = examples()
READERS = {".jpg": read_image, ".png": read_indices, ".npy": read_label_file, ".npz": read_label_file}


@pytest.mark.slow
@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(
    name=st.sampled_from(sorted(EXAMPLES)),
    changes=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=6),
    cut=st.none() | st.integers(0, 2000),
)
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_are_read_or_refused(tmp_path_factory, name, changes, cut):
    content = bytearray(EXAMPLES[name])
    for place, value in changes:
        content[place % len(content)] = value
    path = tmp_path_factory.mktemp("damaged") / name
    path.write_bytes(content[: len(content) if cut is None else cut])
    said = ""
    try:
        READERS[path.suffix](path)
    except DataError as error:
        said = str(error)
    assert len(said) < 1000
