"""The lab server up for real: a sweep on its Ray cluster, MLflow behind a password, S3; and its secrets in no record.

The images that a registry would give (PostgreSQL, the S3 server) have stand-ins here; everything else is the project's
image and compose.yaml as they are.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import lab as labs
import postgres
import psutil
import pytest
from tools import tool

IMAGE = "localhost/aream-sweep:cpu"
BASE = "localhost/aream-base:bookworm"
STAND_INS = Path(__file__).parent / "stand_ins"
SECRETS = {
    name: f"planted{number}{name.replace('_', '').lower()}"
    for number, name in enumerate(
        (
            "RAY_TOKEN",
            "POSTGRES_PASSWORD",
            "MLFLOW_ADMIN_PASSWORD",
            "MLFLOW_SECRET_KEY",
            "S3_ACCESS_KEY",
            "S3_SECRET_KEY",
        )
    )
}
SMALL = {
    "name": "small",
    "data": "{name: shapes, train_images: 32, val_images: 12}",
    "train.epochs": "2",
    "train.warmup_epochs": "1",
    "axes": "{}",
    "where": "[]",
    "analyses": "[]",
    "segmentation": "null",
    "store.uri": "s3://artifacts/lab",
}

pytestmark = [pytest.mark.slow, pytest.mark.integration]


def stand_in(service: str) -> str:
    name = f"localhost/aream-stand-in-{service}"
    command = [
        "buildah",
        "bud",
        "--isolation",
        "chroot",
        "--layers",
        "--build-arg",
        f"BASE={BASE}",
        "--target",
        service,
    ]
    done = subprocess.run([*command, "-t", name, STAND_INS], capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    return name


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    if os.geteuid() != 0:
        pytest.skip("containers need root here")
    for name in ("buildah", "podman"):
        tool(name)
    if labs.podman("image", "exists", IMAGE, check=False).returncode:
        pytest.skip(f"there is no image {IMAGE}: tests/images/test_image.py builds it")
    folder = tmp_path_factory.mktemp("lab")
    ports = {name: str(postgres.free_port()) for name in ("RAY_PORT", "MLFLOW_PORT", "S3_PORT")}
    settings = {"IMAGE": IMAGE, "DATA": str(folder), "SHM": "512mb", "MLFLOW_WORKERS": "1", **ports, **SECRETS}
    model = labs.resolve(settings, ["cpu", "s3"], folder / "settings")
    model["services"]["postgres"]["image"] = stand_in("postgres")
    model["services"]["s3"] |= {
        "image": stand_in("s3"),
        "command": ["-H", "0.0.0.0", "-p", "8333"],
        "healthcheck": {
            "test": ["CMD", "python3", "-c", "import socket; socket.create_connection(('127.0.0.1', 8333))"]
        },
    }
    # Two CPUs hold everything here.
    model["services"]["worker-cpu"]["command"].append("--num-cpus=2")
    with labs.running(model, settings, folder, f"aream-{os.getpid()}") as lab:
        yield lab


def ask(lab: labs.Lab, port: str, path: str, **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{lab.settings[port]}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def admin() -> dict[str, str]:
    login = base64.b64encode(f"admin:{SECRETS['MLFLOW_ADMIN_PASSWORD']}".encode()).decode()
    return {"Authorization": f"Basic {login}"}


@pytest.fixture(scope="module")
def swept(lab) -> str:
    changes = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
    sweep = ("python", "-m", "orchestrator.sweep", "sweeps/thresholds.yaml", "--address", "auto", *changes)
    return lab.execute("head", *sweep, timeout=600)


def test_a_sweep_runs_on_the_workers_and_ends_in_the_stores(lab, swept):
    assert "ranked by pseudo/miou" in swept
    script = (
        "import boto3; print(sum(1 for _ in boto3.resource('s3').Bucket('artifacts').objects.filter(Prefix='lab/')))"
    )
    assert int(lab.execute("head", "python", "-c", script)) > 3


def test_mlflow_has_the_sweep_with_the_image_s_commit(lab, swept):
    commit = json.loads(labs.podman("inspect", IMAGE).stdout)[0]["Labels"]["org.opencontainers.image.revision"]
    _, found = ask(lab, "MLFLOW_PORT", "/api/2.0/mlflow/experiments/search?max_results=10", **admin())
    experiments = [experiment["experiment_id"] for experiment in json.loads(found)["experiments"]]
    script = (
        "import mlflow, sys; runs = mlflow.search_runs(sys.argv[1:], output_format='list'); "
        "print({run.data.tags.get('aream.code') for run in runs})"
    )
    assert lab.execute("head", "python", "-c", script, *experiments).strip() == str({commit})


def test_every_door_asks_who_is_there(lab):
    assert ask(lab, "RAY_PORT", "/api/jobs/")[0] == 401
    assert ask(lab, "RAY_PORT", "/api/jobs/", Authorization=f"Bearer {SECRETS['RAY_TOKEN']}")[0] == 200
    assert ask(lab, "MLFLOW_PORT", "/api/2.0/mlflow/experiments/search?max_results=1")[0] == 401
    assert ask(lab, "MLFLOW_PORT", "/api/2.0/mlflow/experiments/search?max_results=1", **admin())[0] == 200
    assert ask(lab, "MLFLOW_PORT", "/api/2.0/mlflow/experiments/search", Host="rebound.example", **admin())[0] == 403


def test_a_node_without_the_token_does_not_join(lab):
    head = lab.addresses["head"]["lab"]
    network = ["--network", lab.network("lab"), "--no-healthcheck", "--rm", *labs.OPTIONS]
    joining = ["ray", "start", "--address", f"{head}:6379"]
    for environment in ([], ["--env=RAY_AUTH_MODE=token", "--env=RAY_AUTH_TOKEN=wrong-token-of-good-length"]):
        done = labs.podman("run", *network, *environment, IMAGE, *joining, check=False, timeout=200)
        assert done.returncode != 0, done.stdout
    nodes = "import ray; ray.init('auto', log_to_driver=False); print(sum(node['Alive'] for node in ray.nodes()))"
    assert lab.execute("head", "python", "-c", nodes).split()[-1] == "2"


def test_the_host_listens_on_loopback_only(lab):
    ports = {int(lab.settings[name]) for name in ("RAY_PORT", "MLFLOW_PORT", "S3_PORT")}
    listening = [c.laddr for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    assert {address.port for address in listening} >= ports
    assert {address.ip for address in listening if address.port in ports} == {"127.0.0.1"}


def test_no_secret_is_in_a_log_a_record_or_what_inspect_shows(lab, swept):
    shown = {"output of the sweep": swept}
    for container in lab.containers():
        shown[f"inspect {container}"] = labs.podman("inspect", container).stdout
        logs = labs.podman("logs", container)
        shown[f"logs {container}"] = logs.stdout + logs.stderr
    for container in (lab.container("head"), lab.container("worker-cpu")):
        found = "grep -rlaF -f - /workspace/runs /tmp/ray 2>/dev/null; true"
        words = "\n".join(SECRETS.values())
        command = ["podman", "exec", "--interactive", container, "sh", "-c", found]
        done = subprocess.run(command, input=words, capture_output=True, text=True, timeout=240, check=True)
        assert done.stdout == ""
    dump = ["sh", "-c", "pg_dump --username mlflow --dbname mlflow --inserts"]
    shown["MLflow's database"] = labs.podman("exec", "--user", "postgres", lab.container("postgres"), *dump).stdout
    assert "aream.code" in shown["MLflow's database"]
    assert not [(where, name) for where, text in shown.items() for name, value in SECRETS.items() if value in text]
