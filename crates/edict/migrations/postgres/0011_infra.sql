-- What was made in clusters so that executors run there. No credentials: those come with each request, and are forgotten.
CREATE TABLE executor_infra (
    executor_id text COLLATE "C" NOT NULL PRIMARY KEY,
    -- Tells it from what the executor had before: tokens are good for one epoch.
    epoch bigint NOT NULL,
    -- The record as the API shows it.
    doc text NOT NULL,
    -- The request that works on it, which has it for itself until this time (microseconds since 1970).
    holder text NOT NULL,
    busy_until bigint NOT NULL
);
