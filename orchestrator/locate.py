"""From what a person names, a sweep or its YAML, to its folder."""

from __future__ import annotations

import json
from pathlib import Path

from aream.errors import AreamError, ConfigError
from orchestrator.build import home
from orchestrator.settings import is_sweep_name
from orchestrator.workplace import Workplace
from workers.atomic_write import StateFile, write_json

STORE_FILE = "store.json"


def runs_folder(given: str) -> Path:
    """What ``--runs`` names.

    Raises:
        ConfigError: no folder that is there.
    """
    folder = home(given, "--runs").absolute()
    if not folder.is_dir():
        raise ConfigError(f"--runs: {folder} {'is no folder' if folder.exists() else 'does not exist'}")
    return folder


def locate(sweep: str, runs: str) -> Workplace:
    """The workplace of a sweep named by its YAML file or by its name under the folder ``runs``.

    Raises:
        AreamError: neither exists, the YAML is invalid, or the folder's note of its store is damaged.
    """
    if sweep.endswith((".yaml", ".yml")):
        from orchestrator.spec_reader import load_spec

        spec = load_spec(Path(sweep))
        return Workplace(
            store_uri=spec.store_uri, runs=spec.runs_dir, name=spec.name, store_endpoint=spec.store_endpoint
        )
    folder = runs_folder(runs)
    if not is_sweep_name(sweep) or not (folder / sweep).is_dir():
        known = sorted(path.parent.name for path in folder.glob("*/state.json"))
        raise AreamError(f"no sweep {sweep[:80]!r} in {folder}; there are: {', '.join(known) or 'none'}")
    uri, endpoint = _store_file(folder / sweep).read() or (None, None)
    return Workplace(store_uri=uri, runs=folder, name=sweep, store_endpoint=endpoint)


def _store_file(folder: Path) -> StateFile[tuple[str | None, str | None]]:
    def parse(content: bytes) -> tuple[str | None, str | None]:
        given = json.loads(content)
        if not isinstance(given, list) or not all(part is None or isinstance(part, str) for part in given):
            raise ValueError("need a list of the store's URI and endpoint")
        uri, endpoint = given
        return uri, endpoint

    go_on = "name the sweep by its YAML file; running the sweep writes it anew"
    return StateFile(folder / STORE_FILE, "where the sweep's store is", go_on, parse)


def remember_store(workplace: Workplace) -> None:
    """So that commands that know only the sweep's name find its artifacts."""
    write_json(workplace.folder / STORE_FILE, [workplace.store_uri, workplace.store_endpoint])
