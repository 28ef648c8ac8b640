-- What accounts had made by the end of closed days, so that balances of the past and long statements need not begin at the
-- beginning. All of it follows from the transfers; `sluice ledger verify` proves it.

-- A row for each account, stripes summed, and each day on which it moved: its sums from the beginning to the day's end, in minor units.
CREATE TABLE daily_balances (
    account   text    COLLATE "C" NOT NULL,  -- fees:CNY
    day       date    NOT NULL,              -- of UTC
    debits    numeric NOT NULL,              -- stripes together may be more than a bigint
    credits   numeric NOT NULL,
    transfers bigint  NOT NULL,
    PRIMARY KEY (account, day),
    CONSTRAINT daily_balances_sums CHECK (debits >= 0 AND credits >= 0 AND transfers > 0)
);

-- How far the days are rolled up: every transfer before until is in daily_balances. The newest counts.
CREATE TABLE daily_rollups (
    until     timestamptz PRIMARY KEY,  -- a midnight of UTC
    rows      bigint NOT NULL,          -- that it added
    rolled_at timestamptz NOT NULL DEFAULT now()
);

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON daily_balances FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON daily_rollups  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
REVOKE UPDATE, DELETE, TRUNCATE ON daily_balances, daily_rollups FROM PUBLIC, CURRENT_USER;

-- A day that is open may still change.
CREATE FUNCTION refuse_open_days() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM fresh WHERE until > coalesce((SELECT max(c.until) FROM closed_periods c), '-infinity')) THEN
        RAISE EXCEPTION 'only closed days are rolled up: close the book first' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER closed_days AFTER INSERT ON daily_rollups REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION refuse_open_days();
