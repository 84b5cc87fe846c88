"""A job as KubeRay's RayJob: plain data, checked against the schema of its CRD by the tests."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from importlib import metadata
from typing import TYPE_CHECKING, Any

from aream.errors import ConfigError
from orchestrator.submission.job import Job

if TYPE_CHECKING:
    from orchestrator.submission.targets.kuberay.config import Config

Data = dict[str, Any]
FOLDER_LABEL = "aream-sweep/folder"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
FILES = "/etc/aream"
"""Folder in which the head node sees the sweep and the command."""
MAX_FILES = 200_000
"""Bytes of both; all annotations of an object have 256 KiB."""
NAME_CHARACTERS = 26
"""Characters of the sweep's name in the job's: KubeRay takes 47, with a digest and a number."""
SUBMITTER = {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "512Mi"}}


def name_prefix(job: Job) -> str:
    """Prefix of the job's name; the number of the attempt follows. KubeRay takes names that begin with a letter."""
    slug = re.sub(r"[^a-z0-9]+", "-", job.name.lower()).strip("-")
    slug = (slug if slug[:1].isalpha() else f"sweep-{slug}")[:NAME_CHARACTERS].strip("-")
    return f"{slug}-{job.digest}-"


def manifest(job: Job, settings: Config, attempt: int) -> Data:
    """The RayJob.

    Raises:
        ConfigError: the job cannot run on the lab's workers, or the section lacks what it needs.
    """
    _check(job, settings)
    name = f"{name_prefix(job)}{attempt}"
    if job.worker.most > job.worker.least:
        # Otherwise the sweep would refuse what the nodes that are up do not have.
        job = dataclasses.replace(job, overrides=(*job.overrides, "resources.autoscaling=true"))
    labels = {"app.kubernetes.io/name": "aream-sweep", FOLDER_LABEL: job.folder_digest}
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {
            "name": name,
            "namespace": settings.namespace,
            "labels": {**labels, **({QUEUE_LABEL: settings.queue} if settings.queue else {})},
            "annotations": {"aream-sweep/name": job.name, "aream-sweep/revision": job.revision},
        },
        "spec": {
            # On its way KubeRay and Ray quote and unquote this line more than once: nothing in it may need that.
            "entrypoint": f"sh {FILES}/run.sh",
            "submissionMode": "K8sJobMode",
            "backoffLimit": job.retries,
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": settings.ttl_s,
            "submitterPodTemplate": _submitter(job, settings, labels),
            "rayClusterSpec": _cluster(job, settings, labels),
        },
    }


def _check(job: Job, settings: Config) -> None:
    job.check_fit(settings.resources)
    if job.image is None:
        raise ConfigError("kuberay.image: missing; a container image with this package is needed, here or as --image")
    if job.secrets and settings.secret is None:
        raise ConfigError(f"kuberay.secret: missing; name the Secret that holds {', '.join(job.secrets)}")
    if job.shared and settings.runs_claim is None:
        raise ConfigError(f"kuberay.runs_claim: missing; `shared: true` says that all nodes see {job.runs}")
    if settings.queue and job.worker.least != job.worker.most:
        raise ConfigError(
            f"worker.least: given {job.worker.least} with {job.worker.most} at most; Kueue (kuberay.queue) admits a job"
            " as a whole: make them equal"
        )
    if (size := sum(len(text.encode()) for text in _files(job).values())) > MAX_FILES:
        raise ConfigError(f"{job.name}: sweep and overrides may have {MAX_FILES} bytes, and have {size}")


def _files(job: Job) -> dict[str, str]:
    """Files for the head node, passed as annotations of its pod."""
    return {"sweep.yaml": job.sweep, "run.sh": f"exec {shlex.join(job.command(f'{FILES}/sweep.yaml'))}\n"}


def _cluster(job: Job, settings: Config, labels: Data) -> Data:
    redis = {"gcsFaultToleranceOptions": _fault_tolerance(settings)} if settings.redis else {}
    policy = {"networkPolicy": {"mode": "DenyAllIngress"}} if settings.deny_ingress else {}
    custom = {"resources": json.dumps(json.dumps(dict(settings.resources)))} if settings.resources else {}
    return {
        "rayVersion": metadata.version("ray"),
        "enableInTreeAutoscaling": job.worker.most > job.worker.least,
        "authOptions": {"mode": "token"},
        **redis,
        **policy,
        "headGroupSpec": {
            # No trial runs beside the sweep's driver.
            "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0"},
            "template": _head(job, settings, labels),
        },
        "workerGroupSpecs": [
            {
                "groupName": "workers",
                "replicas": job.worker.least,
                "minReplicas": job.worker.least,
                "maxReplicas": job.worker.most,
                "rayStartParams": custom,
                "template": _worker(job, settings, labels),
            }
        ],
    }


def _fault_tolerance(settings: Config) -> Data:
    assert settings.redis is not None
    password = _secret_key(settings.redis.secret, settings.redis.key) if settings.redis.secret else None
    return {
        "redisAddress": settings.redis.address,
        **({"redisPassword": {"valueFrom": password}} if password else {}),
    }


def _head(job: Job, settings: Config, labels: Data) -> Data:
    ports = {"gcs": 6379, "dashboard": 8265, "metrics": 8080}
    container = {
        "name": "ray-head",
        **_container(job, settings),
        "ports": [{"name": name, "containerPort": number} for name, number in ports.items()],
        "resources": _resources(settings.head_cpus, settings.head_memory_gib, {}),
    }
    container["volumeMounts"] = [*container["volumeMounts"], {"name": "files", "mountPath": FILES, "readOnly": True}]
    items = [
        {"path": name, "fieldRef": {"fieldPath": f"metadata.annotations['aream-sweep/{name}']"}} for name in _files(job)
    ]
    spec = {
        **_pod(settings),
        # Ray's autoscaler, which runs beside the head, asks Kubernetes for workers.
        **({} if job.worker.most > job.worker.least else {"automountServiceAccountToken": False}),
        "containers": [container],
        "volumes": [*_volumes(job, settings, runs=True), {"name": "files", "downwardAPI": {"items": items}}],
    }
    annotations = {f"aream-sweep/{name}": text for name, text in _files(job).items()}
    return {"metadata": {"labels": labels, "annotations": annotations}, "spec": spec}


def _worker(job: Job, settings: Config, labels: Data) -> Data:
    gpus = {settings.gpu_resource: str(job.worker.gpus)} if job.worker.gpus else {}
    container = {
        "name": "ray-worker",
        **_container(job, settings),
        "resources": _resources(job.worker.cpus, job.worker.memory_gib, gpus),
    }
    tolerations = [
        {name: value for name, value in dataclasses.asdict(one).items() if value is not None}
        for one in settings.tolerations
    ]
    spec = {
        **_pod(settings),
        # Trials talk to Ray, the store and the data; not to Kubernetes.
        "automountServiceAccountToken": False,
        **({"nodeSelector": dict(settings.node_selector)} if settings.node_selector else {}),
        **({"tolerations": tolerations} if tolerations else {}),
        "containers": [container],
        "volumes": _volumes(job, settings, runs=job.shared),
    }
    return {"metadata": {"labels": labels}, "spec": spec}


def _submitter(job: Job, settings: Config, labels: Data) -> Data:
    """KubeRay adds the command; it hands the job to the head node and prints its output."""
    container = {
        "name": "ray-job-submitter",
        "image": job.image,
        "securityContext": _locked_down(),
        "resources": SUBMITTER,
    }
    spec = {
        **_pod(settings),
        "automountServiceAccountToken": False,
        "restartPolicy": "Never",
        "containers": [container],
    }
    return {"metadata": {"labels": labels}, "spec": spec}


def _pod(settings: Config) -> Data:
    pull = {"imagePullSecrets": [{"name": settings.image_pull_secret}]} if settings.image_pull_secret else {}
    security = {
        "runAsNonRoot": True,
        "runAsUser": settings.user,
        "runAsGroup": settings.user,
        "fsGroup": settings.user,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    return {**pull, "securityContext": security, "terminationGracePeriodSeconds": settings.stop_s}


def _locked_down() -> Data:
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def _container(job: Job, settings: Config) -> Data:
    plain = {**job.environment, "RAY_JOB_STOP_WAIT_TIME_S": str(settings.stop_s)}
    secrets = [{"name": name, "valueFrom": _secret_key(settings.secret, name)} for name in job.secrets]
    mounts: list[Data] = [{"name": "shared-memory", "mountPath": "/dev/shm"}, {"name": "runs", "mountPath": job.runs}]
    for index, mount in enumerate(settings.mounts):
        mounts.append({"name": f"data-{index}", "mountPath": mount.path, "readOnly": True})
    return {
        "image": job.image,
        "securityContext": _locked_down(),
        "env": [*({"name": name, "value": value} for name, value in plain.items()), *secrets],
        "volumeMounts": mounts,
    }


def _secret_key(secret: str | None, key: str) -> Data:
    return {"secretKeyRef": {"name": secret, "key": key}}


def _resources(cpus: int, memory_gib: int, gpus: Data) -> Data:
    """Set limits equal to requests, so that a node's memory is not promised twice."""
    amounts = {"cpu": str(cpus), "memory": f"{memory_gib}Gi", **gpus}
    return {"requests": amounts, "limits": dict(amounts)}


def _volumes(job: Job, settings: Config, *, runs: bool) -> list[Data]:
    """Args:
    runs: whether the node sees the claim for results, or a folder of its own in its place.
    """
    claim = {"persistentVolumeClaim": {"claimName": settings.runs_claim}}
    memory = {"medium": "Memory", "sizeLimit": f"{settings.shared_memory_gib}Gi"}
    data = [
        {"name": f"data-{index}", "persistentVolumeClaim": {"claimName": mount.claim, "readOnly": True}}
        for index, mount in enumerate(settings.mounts)
    ]
    return [
        {"name": "shared-memory", "emptyDir": memory},
        {"name": "runs", **(claim if runs and settings.runs_claim else {"emptyDir": {}})},
        *data,
    ]
