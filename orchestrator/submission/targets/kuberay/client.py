"""RayJobs through ``kubectl``: what they are, their output, and ending one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aream.errors import ConfigError
from orchestrator.submission.following import answers

ANSWER_S = 10
CALL_S = 120
"""Longest that one call may take, in seconds."""
KIND = "rayjobs.ray.io"
REFUSED = "ValidationFailed"
ENDED = ("Complete", "Failed", REFUSED)
"""States of a job that KubeRay does nothing more for."""
EXIT_CODE = re.compile(r"exit code (-?\d+)")


@dataclass(frozen=True)
class RayJob:
    data: Mapping[str, Any]
    """The object as the API server returns it."""

    @property
    def name(self) -> str:
        return str(self.data["metadata"]["name"])

    @property
    def status(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.data.get("status") or {}
        return found

    @property
    def has_ended(self) -> bool:
        return self.status.get("jobDeploymentStatus") in ENDED

    @property
    def exit_status(self) -> int:
        """Exit status of the sweep, as far as Kubernetes knows it."""
        if self.status.get("jobStatus") == "SUCCEEDED":
            return 0
        if self.status.get("jobStatus") == "STOPPED":
            return 130
        if self.status.get("jobDeploymentStatus") == REFUSED:
            return 2
        code = EXIT_CODE.search(self.status.get("message") or "")
        number = int(code[1]) if code else 1
        return number if number > 0 else 1

    def described(self) -> str:
        """State of the cluster and of the job on it, and why."""
        words = [self.status.get("jobDeploymentStatus") or "waiting", self.status.get("jobStatus")]
        text = ", ".join(word.lower() for word in words if word)
        why = (self.status.get("message") or self.status.get("reason") or "").splitlines()
        return f"{text}: {why[0]}" if why else text


class Kubectl:
    def __init__(self, namespace: str, context: str | None) -> None:
        place = [f"--context={context}"] if context else []
        self.command = ["kubectl", *place, f"--namespace={namespace}"]
        self.said = ""
        """By kubectl about the output that it followed last."""

    def run(self, *arguments: str, content: str | None = None, within_s: float = CALL_S) -> str:
        """Run kubectl and return what it prints.

        Raises:
            ConfigError: there is no kubectl, or it failed.
        """
        command = [*self.command, f"--request-timeout={ANSWER_S}s", *arguments]
        try:
            done = subprocess.run(command, input=content, capture_output=True, encoding="utf-8", timeout=within_s)
        except FileNotFoundError as error:
            raise ConfigError("kuberay: kubectl is not on the PATH; or print the manifest with --dry-run") from error
        except subprocess.TimeoutExpired as error:
            raise ConfigError(f"kuberay: kubectl {arguments[0]} did not end within {within_s:.0f} s") from error
        if done.returncode:
            raise ConfigError(f"kuberay: kubectl {arguments[0]}: {_last_line(done.stderr)}")
        return done.stdout

    def create(self, manifest: str) -> None:
        self.run("create", "--filename=-", "--validate=strict", content=manifest)

    def jobs(self, selector: str) -> list[RayJob]:
        found = json.loads(self.run("get", KIND, f"--selector={selector}", "--output=json"))
        return [RayJob(item) for item in found["items"]]

    def job(self, name: str) -> RayJob:
        return RayJob(json.loads(self.run("get", KIND, name, "--output=json")))

    def follow(self, name: str) -> RayJob:
        """Print a job's output until it ends; goes on where it was after the connection or an attempt was lost."""
        told, shown = "", dict[str, int]()
        for found in answers(lambda: self.job(name)):
            if found.has_ended:
                break
            if found.described() != told:
                told = found.described()
                print(f"{name}: {told}", flush=True)
            # The submitter's pod prints what the sweep does. Each try of the job has a cluster, and a pod, of its own.
            attempt = str(found.status.get("jobId", ""))
            if found.status.get("jobDeploymentStatus") == "Running":
                shown[attempt] = self._print_output(name, shown.get(attempt, 0))
        return found

    def _print_output(self, name: str, shown: int) -> int:
        """Print the output beyond ``shown`` characters until it, or the connection, ends; returns how much is shown.

        kubectl does not tell the two apart.
        """
        seen = 0
        command = [*self.command, "logs", "--follow", f"job/{name}"]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", errors="replace"
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            try:
                for line in process.stdout:
                    seen += len(line)
                    if seen > shown:
                        print(line[shown - seen :], end="", flush=True)
                        shown = seen
                said = process.stderr.read()
            finally:
                process.kill()
        if said != self.said:
            self.said = said
            print(said, end="", file=sys.stderr, flush=True)
        return shown

    def stop(self, name: str, save_s: int) -> bool:
        """Stop the job on its head node, where the driver can be told; the cluster goes when the job has ended.

        Returns:
            Whether it had begun; otherwise it is deleted.
        """
        found = self.job(name)
        if found.has_ended:
            return True
        ray_job, cluster = found.status.get("jobId"), found.status.get("rayClusterName")
        if found.status.get("jobDeploymentStatus") != "Running" or not ray_job or not cluster:
            self.run("delete", KIND, name, "--wait=false")
            return False
        selector = f"ray.io/cluster={cluster},ray.io/node-type=head"
        head = self.run("get", "pods", f"--selector={selector}", "--output=jsonpath={.items[0].metadata.name}")
        self.run("exec", head, "--container=ray-head", "--", "ray", "job", "stop", ray_job, within_s=save_s + CALL_S)
        return True


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1][:500] if lines else "it failed and said nothing"
