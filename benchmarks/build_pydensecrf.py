"""pydensecrf in a virtual environment of its own, to measure against; prints the interpreter to use.

    export AREAM_PYDENSECRF=$(python -m benchmarks.build_pydensecrf FOLDER)
    python -m benchmarks.run --only crf

It has no wheels, and the C++ that its sdist brings does not compile with Python 3.11: that is deleted, so that Cython
(before 3) makes it anew. Needs a C++ compiler and what pip needs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
import tempfile
import venv
from pathlib import Path

BUILD_TOOLS = ("cython<3", "numpy", "setuptools", "wheel")


def main() -> int:
    parser = argparse.ArgumentParser(description="Build pydensecrf to measure against.")
    parser.add_argument("folder", type=Path, help="where the virtual environment is made")
    folder = parser.parse_args().folder.resolve()
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    _pip(python, "install", *BUILD_TOOLS)
    with tempfile.TemporaryDirectory() as scratch:
        options = ("--no-binary=:all:", "--no-deps", "--no-build-isolation")
        _pip(python, "download", *options, "--dest", scratch, "pydensecrf==1.0rc3")
        (archive,) = Path(scratch).glob("*.tar.gz")
        with tarfile.open(archive) as packed:
            packed.extractall(scratch, filter="data")
        (source,) = (path for path in Path(scratch).iterdir() if path.is_dir())
        for module in source.rglob("*.pyx"):
            module.with_suffix(".cpp").unlink(missing_ok=True)
        _pip(python, "install", "--no-build-isolation", str(source))
    print(python)
    return 0


def _pip(python: Path, *arguments: str) -> None:
    subprocess.run([python, "-m", "pip", *arguments], check=True, stdout=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
