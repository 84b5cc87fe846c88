"""Ray's job server as ``submit --to ray`` needs it: every call answers or fails in time, with one clear error."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobSubmissionClient

from aream.errors import ConfigError
from orchestrator.submission.following import answers

CONNECT_S = 5.0
"""Longest wait for a connection, in seconds."""
ANSWER_S = 60.0
"""Longest wait for an answer once connected, in seconds."""
SILENCE_S = 30.0
"""Seconds without a line of output before the connection is made again: a cut cable gives no error."""

CHATTY = ("dashboard.modules.job.sdk", "dashboard.modules.dashboard_sdk", "_private.runtime_env.packaging")
"""Parts of Ray that tell of every package and connection."""

log = logging.getLogger(__name__)


class JobServerUnreachable(ConfigError):
    """No job server answers, now."""


class _Client(JobSubmissionClient):
    """Ray's own, which would wait for ever."""

    connect_s = CONNECT_S
    answer_s = CONNECT_S  # of the first call, which asks for no more than a version

    def _do_request(self, *arguments: Any, **options: Any) -> requests.Response:
        return super()._do_request(*arguments, timeout=(self.connect_s, self.answer_s), **options)


class JobServer:
    def __init__(self, address: str) -> None:
        """Raises ``ConfigError`` where no job server answers, or it refuses the token."""
        self.address = address
        # Ray lets its own variables win over the address it is given; here the lab file says where jobs go.
        os.environ["RAY_API_SERVER_ADDRESS"] = address
        for name in CHATTY:
            logging.getLogger(f"ray.{name}").setLevel(logging.WARNING)
        with self.errors():
            self.client = _Client(address)
        self.client.answer_s = ANSWER_S

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn the errors of a call into ours.

        Raises:
            ConfigError: always one line.
        """
        try:
            yield
        except AuthenticationError as error:
            raise ConfigError(
                f"ray.address: {self.address} asks for a token, and did not take"
                f" {'this one' if os.environ.get('RAY_AUTH_MODE') == 'token' else 'a call without one'}: set"
                " RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH (or RAY_AUTH_TOKEN) here as on the cluster"
            ) from error
        except requests.HTTPError as error:
            raise ConfigError(f"ray.address: no Ray job server at {self.address}: {error}") from error
        except (OSError, KeyError, aiohttp.ClientError) as error:
            raise JobServerUnreachable(
                f"ray.address: no Ray job server answers at {self.address} ({type(error).__name__}); is the head node"
                " up, with its dashboard, and can this machine reach it?"
            ) from error
        except RuntimeError as error:
            raise ConfigError(f"ray: {self.address}: {str(error).splitlines()[0][:500]}") from error

    def submit(self, job_id: str, entrypoint: str, runtime_env: dict[str, Any], metadata: dict[str, str]) -> None:
        with self.errors():
            self.client.submit_job(
                entrypoint=entrypoint, submission_id=job_id, runtime_env=runtime_env, metadata=metadata
            )

    def jobs(self) -> list[JobDetails]:
        """The submitted jobs, as far as the cluster remembers them."""
        with self.errors():
            return [job for job in self.client.list_jobs() if job.submission_id]

    def job(self, job_id: str) -> JobDetails:
        with self.errors():
            return self.client.get_job_info(job_id)

    def stop(self, job_id: str) -> None:
        with self.errors():
            self.client.stop_job(job_id)

    def ended(self, job_id: str, within_s: float) -> JobDetails:
        """The job as it is when it has ended, or after so many seconds."""
        until = time.monotonic() + within_s
        for found in answers(lambda: self.job(job_id), JobServerUnreachable):
            if found.status.is_terminal() or time.monotonic() > until:
                break
        return found

    def output(self, job_id: str, show: Callable[[str], None]) -> JobDetails:
        """Hand on what a job prints until it ends; goes on where it was after the connection was lost."""
        shown, whole = 0, False
        for found in answers(lambda: self.job(job_id), JobServerUnreachable):
            if whole and found.status.is_terminal():
                break
            shown, whole = asyncio.run(self._tail(job_id, shown, show))
            if found.status.is_terminal():
                break
        return found

    async def _tail(self, job_id: str, shown: int, show: Callable[[str], None]) -> tuple[int, bool]:
        """Show the output beyond ``shown`` characters until it or the connection ends.

        Returns:
            How much is shown, and whether that is all there will be.
        """
        seen = 0
        chunks = self.client.tail_job_logs(job_id)
        try:
            while (chunk := await asyncio.wait_for(anext(chunks, None), SILENCE_S)) is not None:
                seen += len(chunk)
                if seen > shown:
                    show(chunk[shown - seen :])
                    shown = seen
        except (TimeoutError, RuntimeError, OSError, aiohttp.ClientError) as error:
            log.info("the output of %s broke off: %s", job_id, error)  # the caller asks how the job is
            return shown, False
        return shown, True
