"""MLflow's ids of a sweep's runs, found by the tags that they are made with."""

from __future__ import annotations

from typing import Any

RUNS_A_PAGE = 1000


class UnknownRun(Exception):
    """An event of a run that was never started: waiting would block everything behind it for ever."""


class Runs:
    def __init__(self, client: Any, experiment_id: str, sweep_id: str) -> None:
        self.client, self.experiment_id, self.sweep_id = client, experiment_id, sweep_id
        self.known: dict[str, str] = {}
        self.listed = False
        """True once all of this sweep's runs on the server are known: nobody else starts any."""

    def id(self, run: str) -> str:
        """MLflow's id of one of our runs.

        Raises:
            UnknownRun: it was never started.
        """
        if run not in self.known and not self.listed:
            self._list()
        if run not in self.known:
            raise UnknownRun("this run was never started")
        return self.known[run]

    def create(self, run: str, *, tags: dict[str, str], **described: Any) -> str:
        """Make a run that is not there; returns its id."""
        self.listed = False  # until the answer is here: a lost answer may be that of a run that was made
        own = {"aream.sweep": self.sweep_id, "aream.run": run}
        created = self.client.create_run(self.experiment_id, tags=tags | own, **described)
        self.known[run] = created.info.run_id
        self.listed = True
        return self.known[run]

    def _list(self) -> None:
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id],
                f"tags.`aream.sweep` = '{self.sweep_id}'",
                max_results=RUNS_A_PAGE,
                order_by=["attributes.start_time DESC"],
                page_token=token,
            )
            for run in page:  # of two with one name the newer stays, as a single search would find it
                self.known.setdefault(run.data.tags["aream.run"], run.info.run_id)
            token = page.token
            if not token:
                break
        self.listed = True
