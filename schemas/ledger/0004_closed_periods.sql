-- Closed periods take no entry: a transfer of an event from before until is dated until, the first moment that is open.
-- Whoever closes holds the table shards in EXCLUSIVE mode, so that no batch is under way that has not seen it.
CREATE TABLE closed_periods (
    until     timestamptz PRIMARY KEY,  -- closed is what lies before
    closed_at timestamptz NOT NULL DEFAULT now(),
    closed_by text NOT NULL
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON closed_periods FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
REVOKE UPDATE, DELETE, TRUNCATE ON closed_periods FROM PUBLIC, CURRENT_USER;

-- The veto, once for all rows of a statement.
CREATE FUNCTION refuse_closed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    open_from timestamptz := (SELECT max(until) FROM closed_periods);
BEGIN
    IF open_from IS NOT NULL AND EXISTS (SELECT FROM fresh WHERE event_time < open_from) THEN
        RAISE EXCEPTION 'the book is closed before %: date the transfer then', open_from USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER closed_period AFTER INSERT ON transfers REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION refuse_closed();
