"""What KubeRay's CRD and Kubernetes itself take, no field more."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml


def strict(schema: Any) -> Any:
    """A copy in which an object has the properties it lists, and no others."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    return closed


def rayjob_schema() -> Any:
    """Of a RayJob's fields; its name and labels are checked with the pods'."""
    beside = Path(__file__).resolve().parents[4] / "shared" / "data"
    folder = Path(os.environ.get("AREAM_TEST_DATA", beside)) / "kuberay"
    if not folder.is_dir():
        pytest.skip(f"no CRD of KubeRay: {folder} does not exist; set AREAM_TEST_DATA")
    crd = yaml.safe_load((folder / "ray.io_rayjobs.yaml").read_text())
    (version,) = [one for one in crd["spec"]["versions"] if one["name"] == "v1"]
    return strict(version["schema"]["openAPIV3Schema"])


def problems(schema: Any, content: Any) -> list[str]:
    """What the CRD, or Kubernetes itself for the pods, does not take."""
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    found = [error.message for error in jsonschema.Draft7Validator(schema).iter_errors(content)]
    if found:
        return found
    spec = content["spec"]
    templates = [spec["submitterPodTemplate"], spec["rayClusterSpec"]["headGroupSpec"]["template"]]
    templates += [group["template"] for group in spec["rayClusterSpec"]["workerGroupSpecs"]]
    for metadata, pod in [(content["metadata"], {"containers": [{"name": "x"}]}), *_parts(templates)]:
        try:
            whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", **metadata}, "spec": pod}
            validate.validate(whole, "1.33", strict=True)
        except validate.ValidationError as error:
            found.append(str(error.message))
    return found


def _parts(templates: list[Any]) -> list[tuple[Any, Any]]:
    return [(template["metadata"], template["spec"]) for template in templates]
