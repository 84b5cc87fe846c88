from __future__ import annotations

from typing import Any

import crd
import pytest


@pytest.fixture(scope="session")
def schema() -> Any:
    return crd.rayjob_schema()
