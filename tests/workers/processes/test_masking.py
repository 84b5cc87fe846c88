"""Secrets that people put into URLs, settings and variables, and what must stay readable beside them."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from workers.processes.masking import SECRET_NAME, hide, masked, masked_content
from workers.processes.structured_log import JsonLines

SECRET = "s3cr.t-V4lue_0"


@pytest.mark.parametrize(
    "text",
    [
        f"https://{SECRET}@tracking.example.test/me/x.mlflow",
        f"https://user:{SECRET}@host/db",
        f"postgresql+pg8000://user:{SECRET}@host/db?sslmode=require",
        f"redis://{SECRET}@host:1/0",
        f"https://host/x?token={SECRET}&b=1",
        f"https://host/x?a=1&api_key={SECRET}",
        f"https://host/x?access-token={SECRET}#part",
        f"https://b.s3.test/x?X-Amz-Credential={SECRET}&X-Amz-Signature={SECRET}&X-Amz-Security-Token={SECRET}",
        f"https://b.blob.test/x?sv=1&sig={SECRET}",
        f"https://hooks.slack.com/services/T0/B0/{SECRET}",
        f"https://discord.com/api/webhooks/1/{SECRET}",
        f"https://lab.webhook.office.com/webhookb2/a@b/IncomingWebhook/{SECRET}",
        f"https://chat.lab.test/hooks/{SECRET}",
        f"Authorization: Bearer {SECRET}",
        f"aws_secret_access_key = {SECRET}{SECRET}",
        f"(\"https://{SECRET}@host/x\", 'and more')",
    ],
)
def test_no_secret_stays(text):
    assert SECRET not in masked(text)
    assert SECRET not in json.dumps(masked_content({"a": [text, {"b": text}], "n": 1}))


def test_an_aws_key_id_goes():
    assert "AKIA" not in masked("denied for AKIAIOSFODNN7EXAMPLE at s3")


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://user@host/db", "http://mlflow:5000", "sqlite:////a b@c/mlflow.db", "artifact://label-0a#labels",
        "s3://bucket/prefix", "git@github.com:x/y", "file:///a@b/c", "https://host/x?page=2", "class_token: 1",
        "environment: AWS_SECRET_ACCESS_KEY: name it under `secrets`",
    ],
)  # fmt: skip
def test_what_is_no_secret_stays(text):
    assert masked(text) == text


def test_values_of_secret_variables_go_wherever_they_stand(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", SECRET)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/run/secrets/token")
    assert masked(f"refused: {SECRET} at /run/secrets/token") == "refused: *** at /run/secrets/token"


@pytest.mark.parametrize("name", ["HF_TOKEN", "AWS_SESSION_TOKEN", "tokens", "DB_PASSWORD", "MY_API_KEY"])
def test_a_name_tells_a_secret(name):
    assert SECRET_NAME.search(name)


@pytest.mark.parametrize("name", ["TOKENIZERS_PARALLELISM", "OMP_NUM_THREADS", "NCCL_DEBUG"])
def test_settings_of_libraries_are_no_secrets(name):
    assert not SECRET_NAME.search(name)


def test_a_hidden_url_goes_with_its_parts():
    hide(f"http://127.0.0.1:9/services/T0/{SECRET} PATH")
    assert SECRET not in masked(
        f"URL can't contain control characters. '/services/T0/{SECRET} PATH' (found at least ' ')"
    )


def test_logs_and_their_tracebacks_hold_none():
    try:
        raise ValueError(f"cannot open https://{SECRET}@host/x")
    except ValueError:
        record = logging.LogRecord("l", logging.ERROR, __file__, 1, f"?token={SECRET}", None, sys.exc_info())
    record.url = f"https://{SECRET}@host"
    line = JsonLines().format(record)
    assert SECRET not in line
    assert "Traceback" in json.loads(line)["traceback"]


def test_a_scheme_alone_hides_no_address():
    """It would take the password's place in every address."""
    hide("https://")
    assert masked("https://me:secret1@lab/mlflow") == "https://me:***@lab/mlflow"
