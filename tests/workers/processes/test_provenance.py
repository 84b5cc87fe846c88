"""A result names the code that made it: from a checkout, from an image, from an installed copy."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROVENANCE = Path(__file__).resolve().parents[3] / "workers" / "processes" / "provenance.py"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    command = ["git", *identity, "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def revision(root: Path) -> str:
    """What the copy of the module under ``root`` says, asked from elsewhere."""
    program = "from workers.processes.provenance import code_revision; print(code_revision())"
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(root)!r}); {program}"]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd="/").stdout.strip()


@pytest.fixture
def code(tmp_path) -> Path:
    root = tmp_path / "code"
    package = root / "workers"
    (package / "processes").mkdir(parents=True)
    (package / "__init__.py").touch()
    shutil.copy(PROVENANCE, package / "processes")
    return root


@pytest.fixture
def checkout(code) -> Path:
    git(code, "init", "--quiet")
    git(code, "add", ".")
    git(code, "commit", "--quiet", "-m", "first")
    return code


def test_checkout_is_its_commit_and_whether_files_differ(checkout):
    head = git(checkout, "rev-parse", "HEAD")
    assert revision(checkout) == head
    (checkout / "workers" / "__init__.py").write_text("changed = True\n")
    assert revision(checkout) == f"{head}-dirty"


def test_image_says_what_its_build_was_told(code):
    (code / "workers" / "REVISION").write_text(f"{COMMIT}\n")
    assert revision(code) == COMMIT


def test_copy_without_checkout_is_its_version(code):
    assert revision(code).startswith("version ")


def test_copy_inside_another_checkout_does_not_take_its_commit(checkout):
    installed = checkout / "environment" / "site-packages"
    shutil.copytree(checkout / "workers", installed / "workers")
    assert revision(installed).startswith("version ")
