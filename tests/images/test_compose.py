"""The lab server's compose file: valid, closed, complete, and without a secret where one can be seen."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tools import compose, tool

FOLDER = Path(__file__).resolve().parents[2] / "docker"
COMPOSE = FOLDER / "compose.yaml"
TEXT = COMPOSE.read_text()
SETTINGS = (FOLDER / ".env.example").read_text()
SECRETS = (
    "RAY_TOKEN",
    "POSTGRES_PASSWORD",
    "MLFLOW_ADMIN_PASSWORD",
    "MLFLOW_SECRET_KEY",
    "S3_ACCESS_KEY",
    "S3_SECRET_KEY",
)
REQUIRED = (*SECRETS, "IMAGE", "DATA")


def schema(file: Path) -> subprocess.CompletedProcess[str]:
    command = [tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


def test_it_follows_the_specification():
    done = schema(COMPOSE)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(("right", "wrong"), [("healthcheck:", "healtcheck:"), ("shm_size:", "shmsize:")])
def test_a_misspelt_field_would_be_found(tmp_path, right, wrong):
    assert right in TEXT
    (tmp_path / "compose.yaml").write_text(TEXT.replace(right, wrong))
    done = schema(tmp_path / "compose.yaml")
    assert done.returncode == 1
    assert wrong.rstrip(":") in done.stdout


def resolved(folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """What an engine would be told, with the secrets of a lab."""
    lines = [line for line in SETTINGS.splitlines() if line.partition("=")[0] not in settings]
    file = folder / "settings"
    file.write_text("\n".join([*lines, *(f"{name}={value}" for name, value in settings.items())]) + "\n")
    command = [compose(), "--env-file", str(file), "-f", str(COMPOSE), "config"]
    environment = {name: value for name, value in os.environ.items() if name not in settings}
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)


def lab() -> dict[str, str]:
    return {name: f"planted{number}{name}" for number, name in enumerate(REQUIRED)} | {"DATA": "/data"}


@pytest.mark.integration
@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_setting_is_named_before_anything_starts(tmp_path, name):
    done = resolved(tmp_path, **{**lab(), name: ""})
    assert done.returncode != 0
    assert name in done.stderr.splitlines()[-1]
    assert ".env.example" in done.stderr.splitlines()[-1]


@pytest.mark.integration
def test_no_secret_is_in_what_a_container_shows(tmp_path):
    """Environment, command and labels are what `inspect` prints; files of secrets and configs are not."""
    settings = lab()
    done = resolved(tmp_path, **settings)
    assert done.returncode == 0, done.stderr
    model = yaml.safe_load(done.stdout)
    shown = yaml.safe_dump({"services": model["services"], "volumes": model["volumes"]})
    assert settings["IMAGE"] in shown
    assert not [name for name in SECRETS if settings[name] in shown]
    # The values do arrive where they are read.
    assert settings["S3_SECRET_KEY"] in yaml.safe_dump(model["configs"])


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
    return found


def test_every_published_port_is_bound_to_this_machine_unless_told_otherwise():
    published = {name: ports for name, service in services().items() if (ports := service.get("ports"))}
    assert published == {
        "head": ["${BIND:-127.0.0.1}:${RAY_PORT:-8265}:8265"],
        "mlflow": ["${BIND:-127.0.0.1}:${MLFLOW_PORT:-5000}:5000"],
        "s3": ["${BIND:-127.0.0.1}:${S3_PORT:-8333}:8333"],
    }
    assert "BIND=127.0.0.1\n" in SETTINGS


def test_no_container_shares_more_with_its_host():
    for name, service in services().items():
        assert not {"network_mode", "privileged", "pid", "ipc", "devices", "cap_add"} & set(service), name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert not any("docker.sock" in str(volume) for volume in service.get("volumes", [])), name


def test_the_database_is_reached_through_mlflow_only():
    assert yaml.safe_load(TEXT)["networks"]["database"] == {"internal": True}
    inside = {name for name, service in services().items() if "database" in service["networks"]}
    assert inside == {"mlflow", "postgres"}


def test_what_runs_for_ever_comes_back_and_says_how_it_is():
    for name, service in services().items():
        assert service["restart"] == ("on-failure:5" if name == "buckets" else "unless-stopped"), name
        # Our own image brings its check.
        assert "healthcheck" in service or service["image"].startswith("${IMAGE"), name


def test_settings_are_those_that_are_read():
    read = set(re.findall(r"\$\{([A-Z0-9_]+)", TEXT)) - {"REVISION"}
    offered = set(re.findall(r"^#?([A-Z0-9_]+)=", SETTINGS, re.MULTILINE)) - {"COMPOSE_PROFILES"}
    assert offered == read


def test_every_build_that_is_told_of_names_its_commit():
    """The Dockerfile builds nothing without."""
    root = FOLDER.parent
    told = [root / "README.md", *(root / "docs").rglob("*.md"), COMPOSE, FOLDER / ".env.example"]
    lines = [line for file in told for line in file.read_text().splitlines()]
    builds = [line for line in lines if "docker compose" in line and " up " in line and "--build" in line]
    assert len(builds) >= 2
    assert [line for line in builds if "REVISION=" not in line] == []


def test_the_example_holds_no_secret():
    values = dict(re.findall(r"^([A-Z0-9_]+)=(.*)$", SETTINGS, re.MULTILINE))
    assert [values[name] for name in SECRETS] == [""] * len(SECRETS)


def test_every_script_it_runs_is_in_the_image():
    dockerfile = (FOLDER / "Dockerfile").read_text()
    for name in re.findall(r"/opt/aream/(\w+\.py)", TEXT):
        assert (FOLDER / "image" / name).is_file()
        assert f"docker/image/{name}" in dockerfile
