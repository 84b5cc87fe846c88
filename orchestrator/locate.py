"""From what a person names, a sweep or its YAML, to its folder."""

from __future__ import annotations

from pathlib import Path

from aream.errors import AreamError
from orchestrator.workplace import Workplace


def locate(sweep: str, runs: Path) -> Workplace:
    """The workplace of a sweep named by its YAML file or by its name under ``runs``.

    Raises:
        AreamError: neither exists, or the YAML is invalid.
    """
    if sweep.endswith((".yaml", ".yml")):
        from orchestrator.spec_reader import load_spec

        spec = load_spec(Path(sweep))
        return Workplace(store_uri=spec.store_uri, runs=spec.runs_dir, name=spec.name)
    runs = runs.absolute()
    if "/" in sweep or not (runs / sweep).is_dir():
        known = sorted(path.parent.name for path in runs.glob("*/state.json"))
        raise AreamError(f"no sweep {sweep!r} in {runs}; there are: {', '.join(known) or 'none'}")
    uri_file = runs / sweep / "store_uri"
    uri = uri_file.read_text() if uri_file.exists() else None
    return Workplace(store_uri=uri, runs=runs, name=sweep)
