"""A real server takes the messages; one that is away changes nothing."""

from __future__ import annotations

import base64
import json
import threading

import pytest
from answers import Answering, answering

from aream.errors import ConfigError
from orchestrator.preflight.prepare import prepare
from orchestrator.spec.reader import load_spec
from orchestrator.spec.settings import Notify
from orchestrator.tracking import webhook as webhook_module
from orchestrator.tracking.webhook import Webhook


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(webhook_module, "PAUSE_S", 0.01)


@pytest.fixture
def receiver(monkeypatch):
    with answering(204) as server:
        monkeypatch.setenv("AREAM_WEBHOOK", f"{server.url}/token")
        yield server


def received(server: Answering) -> list[dict]:
    return [json.loads(body) for body in server.bodies]


def test_events_arrive(receiver):
    webhook = Webhook("alphas", Notify())
    webhook.tell("failed", "a trial failed", {"failed": 1, "done": 2})
    webhook.close()
    assert received(receiver) == [
        {"text": "alphas: a trial failed", "event": "failed", "sweep": "alphas", "counts": {"failed": 1, "done": 2}}
    ]


def test_a_user_and_password_of_the_address_are_sent_as_http_has_them(receiver, monkeypatch):
    monkeypatch.setenv("AREAM_WEBHOOK", receiver.url.replace("://", "://lab%40home:p%3Ass@") + "/hook")
    webhook = Webhook("alphas", Notify())
    webhook.tell("done", "x", {})
    webhook.close()
    assert [body["event"] for body in received(receiver)] == ["done"]
    assert receiver.headers[0]["Authorization"] == f"Basic {base64.b64encode(b'lab@home:p:ss').decode()}"


def test_only_what_was_asked_for(receiver):
    webhook = Webhook("alphas", Notify(events=("done",)))
    webhook.tell("failed", "x", {})
    webhook.tell("done", "y", {})
    webhook.close()
    assert [body["event"] for body in received(receiver)] == ["done"]


def test_a_refusal_is_tried_again(receiver):
    receiver.before = [500, 500]
    webhook = Webhook("alphas", Notify())
    webhook.tell("done", "x", {})
    webhook.close()
    assert len(receiver.bodies) == 1


def test_a_server_that_is_away_or_none_at_all_changes_nothing(monkeypatch, caplog):
    monkeypatch.setenv("AREAM_WEBHOOK", "http://127.0.0.1:9/secret-token")
    webhook = Webhook("alphas", Notify())
    webhook.tell("done", "x", {})
    webhook.close()
    assert "secret-token" not in caplog.text
    monkeypatch.delenv("AREAM_WEBHOOK")
    silent = Webhook("alphas", Notify())
    silent.tell("done", "x", {})
    assert silent.threads == []


def test_what_is_no_url_is_refused_without_being_quoted(monkeypatch):
    monkeypatch.setenv("AREAM_WEBHOOK", "file:///etc/passwd?secret")
    with pytest.raises(ConfigError, match="AREAM_WEBHOOK") as refusal:
        Webhook("alphas", Notify())
    assert "secret" not in str(refusal.value)


def test_an_answer_that_is_no_http_ends_nothing(monkeypatch, caplog):
    """``http.client`` raises errors of its own, which are no ``OSError``."""
    import socket

    server = socket.create_server(("127.0.0.1", 0))
    asked = []

    def answer_nonsense() -> None:
        for _ in range(3):
            connection, _ = server.accept()
            asked.append(connection.recv(4096))
            connection.sendall(b"nonsense\r\n\r\n")
            connection.close()

    answering = threading.Thread(target=answer_nonsense)
    answering.start()
    monkeypatch.setenv("AREAM_WEBHOOK", f"http://127.0.0.1:{server.getsockname()[1]}/secret")
    webhook = Webhook("alphas", Notify())
    webhook.tell("failed", "a trial failed", {})
    webhook.close()
    answering.join()
    server.close()
    assert len(asked) == 3
    assert caplog.text.count("the webhook did not take a message") == 3
    assert "secret" not in caplog.text


PASTED = "https://chat.example.test/in/T0123SECRET?x=1"
SWEEP = "name: told\ndata: {name: shapes, train_images: 8, val_images: 4}\n"


@pytest.mark.parametrize(
    "notify",
    [
        f"{{webhook_env: '{PASTED}'}}",
        f"{{webhook_env: ['{PASTED}']}}",
        f"{{url: '{PASTED}'}}",
        f"{{events: ['{PASTED}', done]}}",
        f"{{'{PASTED}': true}}",
        f"'{PASTED}'",
        "{webhook_env: chat.example.test/in/T0123SECRET}",
        "{webhook_env: T0123SECRET-0815}",
    ],
)
@pytest.mark.parametrize("given_as", ["file", "override"])
def test_an_address_pasted_into_a_sweep_is_refused_and_not_shown(notify, given_as, tmp_path):
    path = tmp_path / "told.yaml"
    path.write_text(SWEEP + (f"notify: {notify}\n" if given_as == "file" else ""))
    with pytest.raises(ConfigError, match="notify") as refusal:
        load_spec(path, [f"notify={notify}"] if given_as == "override" else [])
    assert "T0123SECRET" not in str(refusal.value)
    assert (f"{path}:3" if given_as == "file" else "--set notify=") in str(refusal.value)


@pytest.mark.parametrize(
    ("settings", "variables", "said"),
    [
        ({"webhook_env": "LAB_HOOK"}, {}, "notify.webhook_env: the environment variable LAB_HOOK is not set"),
        ({"webhook_env": "LAB_HOOK"}, {"LAB_HOOK": " "}, "LAB_HOOK is not set"),
        ({"webhook_env": "LAB_HOOK"}, {"LAB_HOOK": "T0123SECRET"}, "LAB_HOOK: need a webhook's URL"),
        ({}, {"AREAM_WEBHOOK": "https://"}, "AREAM_WEBHOOK: need a webhook's URL"),
        ({}, {"AREAM_WEBHOOK": "ftp://host/T0123SECRET"}, "AREAM_WEBHOOK: need a webhook's URL"),
        ({}, {"AREAM_WEBHOOK": "https://host:99999/T0123SECRET"}, "AREAM_WEBHOOK: need a webhook's URL"),
        ({}, {"AREAM_WEBHOOK": "https://host/T0123SECRET two"}, "AREAM_WEBHOOK: need a webhook's URL"),
    ],
)
def test_a_variable_that_leads_nowhere_is_refused_before_anything_runs(
    settings, variables, said, tmp_path, monkeypatch
):
    for name in ("LAB_HOOK", "AREAM_WEBHOOK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "told.yaml"
    path.write_text(f"{SWEEP}runs: {tmp_path}/runs\nnotify: {json.dumps(settings)}\n")
    with pytest.raises(ConfigError, match=said) as refusal:
        prepare(load_spec(path))
    assert "T0123SECRET" not in str(refusal.value)
    assert not (tmp_path / "runs").exists()
