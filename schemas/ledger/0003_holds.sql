-- Transfers in two steps: a hold makes an amount pending until it is posted, voided or expires. Everything here is new or
-- has a constant default, so a poster may run meanwhile; one of the release before goes on and knows no holds.

-- Each hold as it stands. amount = posted + voided + expired + what is open.
CREATE TABLE holds (
    id             text    COLLATE "C" PRIMARY KEY,  -- of a payment's hold: the payment's
    shard          integer NOT NULL,                 -- by whose clock it expires
    debit_account  bigint  NOT NULL,
    credit_account bigint  NOT NULL,
    amount         bigint  NOT NULL,
    posted         bigint  NOT NULL,
    voided         bigint  NOT NULL,
    expired        bigint  NOT NULL,
    expires_at     timestamptz,                      -- NULL: never
    currency       text    COLLATE "C" NOT NULL,
    kind           text    COLLATE "C" NOT NULL,
    open           bigint  GENERATED ALWAYS AS (amount - posted - voided - expired) VIRTUAL,
    CONSTRAINT holds_sums CHECK (
        amount > 0 AND posted >= 0 AND voided >= 0 AND expired >= 0 AND posted + voided + expired <= amount),
    CONSTRAINT holds_accounts CHECK (debit_account <> credit_account)
) WITH (fillfactor = 80);
CREATE INDEX holds_due ON holds (shard, expires_at) WHERE posted + voided + expired < amount;

-- What made it so, hashed into the chain of batches after the batch's transfers; the canonical form is documented at
-- Chain in pipelines/ledger.
CREATE TABLE hold_steps (
    shard          integer NOT NULL,
    batch          bigint  NOT NULL,
    number         integer NOT NULL,  -- gapless in the batch, from 1
    sequence       bigint  NOT NULL,  -- the result that brought it about, in the shard
    amount         bigint  NOT NULL,
    open           bigint  NOT NULL,  -- held after it
    debit_account  bigint  NOT NULL,
    credit_account bigint  NOT NULL,
    event_time     timestamptz NOT NULL,
    expires_at     timestamptz,
    hold           text    COLLATE "C" NOT NULL,
    step           text    COLLATE "C" NOT NULL CHECK (step IN ('opened', 'posted', 'voided', 'expired')),
    currency       text    COLLATE "C" NOT NULL,
    kind           text    COLLATE "C" NOT NULL,
    CONSTRAINT hold_steps_amounts CHECK (amount > 0 AND open >= 0),
    PRIMARY KEY (shard, batch, number)
);
CREATE INDEX hold_steps_hold ON hold_steps (hold);

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON hold_steps FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
REVOKE UPDATE, DELETE, TRUNCATE ON hold_steps FROM PUBLIC, CURRENT_USER;

-- The newest event time a shard has answered: what it has passed is expired.
ALTER TABLE shards ADD COLUMN clock timestamptz NOT NULL DEFAULT '1970-01-01 00:00:00+00';

ALTER TABLE payments ADD COLUMN authorized bigint NOT NULL DEFAULT 0;  -- held at first
ALTER TABLE payments ADD COLUMN held       bigint NOT NULL DEFAULT 0;  -- of it: neither captured nor released
-- True of every row so far, whose held is 0: there is nothing to look through while others wait.
ALTER TABLE payments ADD CONSTRAINT payments_held CHECK (held >= 0 AND authorized <= amount AND captured + held <= amount) NOT VALID;

-- For people: what is held, by whom, until when, in major units.
CREATE VIEW open_holds AS
SELECT h.id, h.kind, d.key AS debit, c.key AS credit, h.currency,
       round(h.open::numeric / (10::numeric ^ d.exponent), d.exponent::int) AS held,
       round(h.amount::numeric / (10::numeric ^ d.exponent), d.exponent::int) AS amount,
       h.expires_at, h.expires_at <= s.clock AS overdue
FROM holds h
JOIN accounts d ON d.id = h.debit_account
JOIN accounts c ON c.id = h.credit_account
JOIN shards s ON s.shard = h.shard
WHERE h.posted + h.voided + h.expired < h.amount;
