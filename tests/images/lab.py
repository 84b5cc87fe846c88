"""docker/compose.yaml run for real by podman, service by service: what an engine for compose files does, as far as that
file needs it. podman-compose resolves the file, but hands containers neither configs nor secrets of the environment."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from tools import compose

FOLDER = Path(__file__).resolve().parents[2] / "docker"
OPTIONS = shlex.split(
    os.environ.get("AREAM_TEST_PODMAN", "--runtime runc --ulimit nofile=16384:16384 --ulimit nproc=16384:16384")
)
PATIENCE_S = 300


def podman(*arguments: object, check: bool = True, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    command = ["podman", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0 or not check, f"{shlex.join(command)}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done


def resolve(settings: Mapping[str, str], profiles: list[str], file: Path) -> dict[str, Any]:
    file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    command = [compose(), "--env-file", str(file), "-f", str(FOLDER / "compose.yaml")]
    command += [word for profile in profiles for word in ("--profile", profile)]
    clean = {name: value for name, value in os.environ.items() if name not in settings}
    done = subprocess.run([*command, "config"], capture_output=True, text=True, timeout=240, env=clean, check=True)
    model: dict[str, Any] = yaml.safe_load(done.stdout)
    return model


class Lab:
    def __init__(self, model: dict[str, Any], settings: Mapping[str, str], folder: Path, name: str) -> None:
        self.model, self.settings, self.folder, self.name = model, settings, folder, name
        self.addresses: dict[str, dict[str, str]] = {}
        """Service -> network -> address."""

    def container(self, service: str) -> str:
        return f"{self.name}-{service}"

    def network(self, key: str) -> str:
        """Of a container in two networks, CNI forwards a published port to the one whose name comes first."""
        return f"{self.name}-{'private' if self.internal(key) else 'open'}-{key}"

    def internal(self, key: str) -> bool:
        return bool((self.model["networks"][key] or {}).get("internal"))

    def up(self) -> None:
        for key in self.model["networks"]:
            podman("network", "create", *(["--internal"] if self.internal(key) else []), self.network(key))
        for volume in self.model["volumes"]:
            podman("volume", "create", f"{self.name}-{volume}")
        waiting = dict(self.model["services"])
        while waiting:
            ready = [name for name in waiting if not set(waiting[name].get("depends_on", {})) & set(waiting)]
            assert ready, f"these wait for each other: {sorted(waiting)}"
            for name in ready:
                self.start(name, waiting.pop(name))

    def start(self, name: str, service: dict[str, Any]) -> None:
        """And wait until it is well, or done where others wait for its end."""
        flags = [*OPTIONS, "--detach", "--no-healthcheck", "--name", self.container(name), "--hostname", name]
        for network in service["networks"]:
            flags += ["--network", self.network(network)]
        flags += [f"--add-host={other}:{address}" for other, address in self.reachable(service["networks"])]
        flags += [f"--env={key}={value}" for key, value in service.get("environment", {}).items()]
        flags += [f"--cap-drop={capability}" for capability in service.get("cap_drop", [])]
        flags += [f"--security-opt={option.replace(':true', '')}" for option in service["security_opt"]]
        flags += [f"--publish={port}" for port in service.get("ports", [])]
        flags += [f"--shm-size={size}"] if (size := service.get("shm_size")) else []
        flags += [f"--volume={self.mounted(volume)}" for volume in service.get("volumes", [])]
        flags += [f"--volume={file}" for file in self.files(name, service)]
        podman("run", *flags, service["image"], *service.get("command", ()))
        if service["restart"].startswith("on-failure"):
            ended = podman("wait", self.container(name)).stdout.strip()
            assert ended == "0", podman("logs", self.container(name)).stderr
            return
        inspected = json.loads(podman("inspect", self.container(name)).stdout)[0]
        networks = inspected["NetworkSettings"]["Networks"]
        self.addresses[name] = {key: networks[self.network(key)]["IPAddress"] for key in service["networks"]}
        self.wait(name, (service.get("healthcheck") or {"test": ["CMD", "aream-health"]})["test"][1:])

    def reachable(self, networks: list[str]) -> Iterator[tuple[str, str]]:
        for other, addresses in self.addresses.items():
            for network in set(addresses) & set(networks):
                yield other, addresses[network]

    def mounted(self, volume: str) -> str:
        return volume if volume.startswith("/") else f"{self.name}-{volume}"

    def files(self, name: str, service: dict[str, Any]) -> Iterator[str]:
        """Secrets and configs, with the owner and mode that the service asks for."""
        entries = [(entry, "/run/secrets/") for entry in service.get("secrets", [])]
        entries += [(entry, "/") for entry in service.get("configs", [])]
        for entry, place in entries:
            entry = {"source": entry} if isinstance(entry, str) else entry
            source = entry["source"]
            if place == "/":
                content = self.model["configs"][source]["content"]
            else:
                content = self.settings[self.model["secrets"][source]["environment"]]
            file = self.folder / name / source
            file.parent.mkdir(exist_ok=True)
            file.write_text(content)
            # PyYAML reads 0o400, an octal number of YAML 1.2, as text.
            file.chmod(int(str(entry.get("mode", "0o444")), 8))
            os.chown(file, int(entry.get("uid", 0)), 0)
            yield f"{file}:{entry.get('target', place + source)}:ro"

    def wait(self, name: str, test: list[str]) -> None:
        until = time.monotonic() + PATIENCE_S
        while podman("exec", self.container(name), *test, check=False).returncode:
            logs = podman("logs", self.container(name), check=False)
            assert time.monotonic() < until, f"{name} is not well: {logs.stdout[-3000:]}{logs.stderr[-3000:]}"
            time.sleep(2)

    def execute(self, name: str, *command: str, timeout: float = 300) -> str:
        return podman("exec", self.container(name), *command, timeout=timeout).stdout

    def containers(self) -> list[str]:
        return [self.container(name) for name in self.model["services"]]

    def down(self) -> None:
        for container in reversed(self.containers()):
            podman("rm", "--force", "--time", "2", container, check=False)
        for volume in self.model["volumes"]:
            podman("volume", "rm", "--force", f"{self.name}-{volume}", check=False)
        for network in self.model["networks"]:
            podman("network", "rm", "--force", self.network(network), check=False)


@contextlib.contextmanager
def running(model: dict[str, Any], settings: Mapping[str, str], folder: Path, name: str) -> Iterator[Lab]:
    lab = Lab(model, settings, folder, name)
    try:
        lab.up()
        yield lab
    finally:
        lab.down()
