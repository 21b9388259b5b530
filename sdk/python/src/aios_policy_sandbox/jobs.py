"""Jobs (Type 3): runs that are queued, survive restarts and end in exactly one final state."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Optional, Union, cast

from .api import LONGEST_WAIT, Api, Filter, Names, given, path_of
from .errors import WaitTimedOut
from .records import Alloc, Job, JobLog, Page

__all__ = ["Jobs"]

FINAL = ("completed", "failed", "cancelled")


class Jobs(Api):
    """The requests on jobs."""

    def submit_job(
        self,
        policy_rule_uri: str,
        inputs: Any,
        *,
        executor_id: Optional[str] = None,
        name: Optional[str] = None,
        parameters: Optional[Mapping[str, Any]] = None,
        settings: Optional[Mapping[str, Any]] = None,
        node_selector: Optional[Mapping[str, str]] = None,
        timeout: Union[float, str, None] = None,
        backoff_limit: Optional[int] = None,
        alloc: Optional[Alloc] = None,
    ) -> Job:
        """Have a policy run once, as soon as there is a place for it; returns the job's record, with its `job_id`.

        executor_id: where; an allocator chooses unless given. alloc: which one, when not the server's default.
        name: for people. parameters, settings: override the policy's own, key by key.
        node_selector: labels that the executor's node must have.
        timeout: seconds that one attempt may take (or `90s`, `5m`); the policy's own limit unless given.
        backoff_limit: how many failed attempts are followed by another, 0 unless given.

        PolicyNotFound, NotFound for the executor, ValidationFailed when a value does not fit or no executor does.
        """
        body = given(
            policy_rule_uri=policy_rule_uri,
            name=name,
            policy_rule_parameters=parameters,
            policy_rule_settings=settings,
            node_selector=node_selector,
            timeout=timeout,
            backoff_limit=backoff_limit,
            alloc=alloc,
        )
        body["inputs"] = inputs
        path = "/jobs/submit" if executor_id is None else path_of("jobs", "submit", executor_id)
        return cast(Job, self._data("POST", path, body))

    def get_job(self, job_id: str, *, wait: Optional[float] = None) -> Job:
        """The job's record; NotFound when there is none.

        wait: seconds to wait for its final state; the record is what it is then.
        """
        return cast(Job, self._get_waiting(path_of("jobs", job_id), wait))

    def wait_job(self, job_id: str, timeout: Optional[float] = None) -> Job:
        """Wait until the job has its final state, and return it: completed, failed or cancelled.

        timeout: at most so many seconds, then WaitTimedOut (the job goes on); for ever unless given.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = LONGEST_WAIT if end is None else min(LONGEST_WAIT, end - time.monotonic())
            job = self.get_job(job_id, wait=max(left, 0.0))
            if job["job_status"] in FINAL:
                return job
            if end is not None and time.monotonic() >= end:
                raise WaitTimedOut(f"job `{job_id}` is still {job['job_status']} after {timeout:g} s")

    def query_jobs(
        self,
        filter: Optional[Filter] = None,
        *,
        limit: Optional[int] = None,
        skip: int = 0,
        sort: Names = None,
        fields: Names = None,
    ) -> Page[Job]:
        """Jobs that match, as `query_policies`; any field, for example `{"inputs.ip": "10.0.0.1"}`."""
        return self._query("/jobs/query", filter, limit, skip, sort, fields)

    def job_logs(self, job_id: str, *, attempt: Optional[int] = None, skip: int = 0) -> list[JobLog]:
        """What the job's attempts printed and logged, oldest first; while it runs, what there is so far.

        attempt: only of this one, 1 for the first. skip: leave out so many, those that are known already.
        """
        query = {"attempt": attempt, "skip": skip or None}
        return cast("list[JobLog]", self._data("GET", path_of("jobs", job_id, "logs"), query=query))

    def cancel_job(self, job_id: str) -> Job:
        """End a job that waits or runs; Conflict when it has its final state already."""
        return cast(Job, self._data("DELETE", path_of("jobs", job_id)))
