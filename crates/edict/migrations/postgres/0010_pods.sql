-- What the first server on this database makes and all others use: the key of tokens that Edict gives out itself, and the name
-- that tells this policy system from others.
CREATE TABLE server_values (
    name TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
);

-- How many microseconds a runner's jobs stay its own after it was last heard of. Jobs in pods go on without their executor.
ALTER TABLE runners ADD COLUMN lease BIGINT NOT NULL DEFAULT 10000000;
