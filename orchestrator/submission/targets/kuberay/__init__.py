"""A Kubernetes cluster with KubeRay: the sweep as one RayJob, which brings its own Ray cluster and takes it away.

The sweep file travels as an annotation that the head node sees as a file, so that nothing else is left behind. Secrets
are named, never held: their values are in a Secret of the namespace. Needs ``kubectl`` and a context it can use.
"""

from __future__ import annotations

from aream.errors import ConfigError
from orchestrator.submission.job import Job
from orchestrator.submission.readable_yaml import readable
from orchestrator.submission.targets.kuberay.client import Kubectl
from orchestrator.submission.targets.kuberay.config import Config
from orchestrator.submission.targets.kuberay.manifest import FOLDER_LABEL, manifest, name_prefix


def open_target(settings: Config) -> KubeRay:
    return KubeRay(settings)


class KubeRay:
    def __init__(self, settings: Config) -> None:
        self.settings = settings
        self.kubectl = Kubectl(settings.namespace, settings.context)
        self.taken_back: set[str] = set()
        """Jobs stopped here before they had begun; the cluster no longer knows them."""

    def render(self, job: Job) -> str:
        return readable(manifest(job, self.settings, 1))

    def submit(self, job: Job) -> str:
        first = manifest(job, self.settings, 1)  # before anybody is asked: it may be impossible
        attempts = [0]
        for found in self.kubectl.jobs(f"{FOLDER_LABEL}={first['metadata']['labels'][FOLDER_LABEL]}"):
            if not found.has_ended:
                raise ConfigError(f"{job.name}: is {found.described()} there as {found.name}")
            number = found.name.removeprefix(name_prefix(job))
            attempts += [int(number)] if number.isdecimal() else []
        content = manifest(job, self.settings, max(attempts) + 1)
        self.kubectl.create(readable(content))
        return str(content["metadata"]["name"])

    def status(self, job_id: str) -> str:
        if job_id in self.taken_back:
            return "had not begun, and was withdrawn"
        return self.kubectl.job(job_id).described()

    def follow(self, job_id: str) -> int:
        found = self.kubectl.follow(job_id)
        print(f"{job_id}: {found.described()}")
        return found.exit_status

    def stop(self, job_id: str) -> None:
        if not self.kubectl.stop(job_id, self.settings.stop_s):
            self.taken_back.add(job_id)
