-- A job's row changes only from the revision that the change was made from; `runner_id` is null unless it is running.
-- The columns after `returned` repeat what `doc` says. They are no generated ones: those count as changed whenever `doc` does,
-- and each change of a job would write every index anew.
-- `lost` counts attempts that ended with their runner, `returned` those that were handed back.
CREATE TABLE jobs (
    key text COLLATE "C" PRIMARY KEY,
    doc jsonb NOT NULL,
    revision bigint NOT NULL,
    runner_id text COLLATE "C",
    ready_at bigint NOT NULL,
    lost bigint NOT NULL,
    returned bigint NOT NULL,
    job_status text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    executor_id text COLLATE "C" NOT NULL,
    policy_rule_uri text COLLATE "C" NOT NULL,
    created_at text COLLATE "C" NOT NULL,
    finished_at text COLLATE "C"
);
CREATE INDEX jobs_pending ON jobs (executor_id, ready_at) WHERE job_status = 'pending';
CREATE INDEX jobs_runner ON jobs (runner_id) WHERE runner_id IS NOT NULL;
CREATE INDEX jobs_job_status ON jobs (job_status);
CREATE INDEX jobs_name ON jobs (name);
CREATE INDEX jobs_executor_id ON jobs (executor_id);
CREATE INDEX jobs_policy_rule_uri ON jobs (policy_rule_uri);
CREATE INDEX jobs_created_at ON jobs (created_at);
CREATE INDEX jobs_finished_at ON jobs (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX jobs_doc ON jobs USING gin (doc jsonb_path_ops);

-- What attempts print and log: JSON lists, each beginning with the attempt's record number `first`. Text, not JSON: it is
-- never looked into, and may hold what `jsonb` refuses.
CREATE TABLE job_logs (
    job_id text COLLATE "C" NOT NULL,
    attempt bigint NOT NULL,
    first bigint NOT NULL,
    records text NOT NULL,
    PRIMARY KEY (job_id, attempt, first)
);

-- Processes that run jobs, and when each last said that it lives.
CREATE TABLE runners (
    runner_id text COLLATE "C" PRIMARY KEY,
    executor_id text COLLATE "C" NOT NULL,
    seen_at bigint NOT NULL
);
