-- A job's row changes only from the revision that the change was made from; `runner_id` is null unless it is running.
-- The columns after `returned` repeat what `doc` says. They are no generated ones: those count as changed whenever `doc` does,
-- and each change of a job would write every index anew.
-- `lost` counts attempts that ended with their runner, `returned` those that were handed back.
CREATE TABLE jobs (
    key TEXT PRIMARY KEY NOT NULL,
    doc TEXT NOT NULL,
    revision INTEGER NOT NULL,
    runner_id TEXT,
    ready_at INTEGER NOT NULL,
    lost INTEGER NOT NULL,
    returned INTEGER NOT NULL,
    job_status TEXT NOT NULL,
    name TEXT NOT NULL,
    executor_id TEXT NOT NULL,
    policy_rule_uri TEXT NOT NULL,
    created_at TEXT NOT NULL,
    finished_at TEXT
);
CREATE INDEX jobs_pending ON jobs (executor_id, ready_at) WHERE job_status = 'pending';
CREATE INDEX jobs_runner ON jobs (runner_id) WHERE runner_id IS NOT NULL;
CREATE INDEX jobs_job_status ON jobs (job_status);
CREATE INDEX jobs_name ON jobs (name);
CREATE INDEX jobs_executor_id ON jobs (executor_id);
CREATE INDEX jobs_policy_rule_uri ON jobs (policy_rule_uri);
CREATE INDEX jobs_created_at ON jobs (created_at);
CREATE INDEX jobs_finished_at ON jobs (finished_at) WHERE finished_at IS NOT NULL;

-- What attempts print and log: JSON lists, each beginning with the attempt's record number `first`.
CREATE TABLE job_logs (
    job_id TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    first INTEGER NOT NULL,
    records TEXT NOT NULL,
    PRIMARY KEY (job_id, attempt, first)
) WITHOUT ROWID;

-- Processes that run jobs, and when each last said that it lives.
CREATE TABLE runners (
    runner_id TEXT PRIMARY KEY NOT NULL,
    executor_id TEXT NOT NULL,
    seen_at INTEGER NOT NULL
) WITHOUT ROWID;
