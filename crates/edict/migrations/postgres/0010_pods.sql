-- What the first server on this database makes and all others use: the key of tokens that Edict gives out itself, and the name
-- that tells this policy system from others.
CREATE TABLE server_values (
    name TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
);

-- How many microseconds a runner's jobs stay its own after it was last heard of. Jobs in pods go on without their executor.
ALTER TABLE runners ADD COLUMN lease BIGINT NOT NULL DEFAULT 10000000;

-- Which process carries out an attempt that runs in a pod. A cluster may start another pod for the one that it has lost sight of.
CREATE TABLE attempt_runs (
    job_id TEXT NOT NULL,
    revision BIGINT NOT NULL,
    runner TEXT NOT NULL,
    PRIMARY KEY (job_id, revision)
);
