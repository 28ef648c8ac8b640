-- The transfers so far become the first partition of a table by month, by the next migration. Here they get the bound by which they can be
-- attached without being looked through while others wait. It lies a whole month or more ahead of every event's time: a
-- poster goes on meanwhile, one of the release before too. Only the constraint itself waits for the batches under way.
DO $$
DECLARE
    newest timestamptz := greatest(now(), (SELECT max(event_time) FROM transfers));
    bound  timestamptz := (date_trunc('month', newest AT TIME ZONE 'UTC') + interval '2 months') AT TIME ZONE 'UTC';
BEGIN
    SET LOCAL lock_timeout = '10s';
    EXECUTE format('ALTER TABLE transfers ADD CONSTRAINT transfers_bound CHECK (event_time < %L) NOT VALID', bound);
END
$$;
