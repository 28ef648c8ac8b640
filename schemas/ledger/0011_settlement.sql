-- Settlement: what each cut-off settles of a merchant or a payment channel, the transfers it takes in, the payments it orders
-- and the files that tell a bank to pay. The book's tables are only read. Amounts are minor units of the row's currency.

CREATE TABLE settlement_batches (
    id         bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    day        date    NOT NULL,                     -- business day of the cut-off
    cut_off    timestamptz NOT NULL,                 -- what happened before it is in
    value_date date    NOT NULL,
    opening    bigint  NOT NULL,                     -- carried from the batch before
    gross      bigint  NOT NULL,
    fees       bigint  NOT NULL,                     -- what lessens is negative
    refunds    bigint  NOT NULL,
    charge_backs bigint NOT NULL,
    other      bigint  NOT NULL,
    returned   bigint  NOT NULL,                     -- ordered before, and refused by the book or sent back
    held       bigint  NOT NULL CHECK (held >= 0),
    released   bigint  NOT NULL CHECK (released >= 0),
    payout     bigint  NOT NULL CHECK (payout >= 0),
    carried    bigint  NOT NULL,                     -- to the next batch; below zero: the merchant owes
    fee        bigint  NOT NULL CHECK (fee >= 0),    -- of a channel: expected
    due        bigint  NOT NULL,                     -- of a channel: expected on the value date
    lines      integer NOT NULL,
    exponent   smallint NOT NULL,                    -- decimals of the currency
    kind       text    COLLATE "C" NOT NULL CHECK (kind IN ('merchant', 'channel')),
    party      text    COLLATE "C" NOT NULL,
    currency   text    COLLATE "C" NOT NULL,
    terms      text    NOT NULL,                     -- name of the file of terms
    made_at    timestamptz NOT NULL DEFAULT now(),
    UNIQUE (kind, party, currency, day),
    CONSTRAINT settlement_batches_sum CHECK (kind = 'channel' OR
        opening + gross + fees + refunds + charge_backs + other + returned - held + released - payout = carried)
);
CREATE INDEX settlement_batches_due ON settlement_batches (value_date) WHERE kind = 'channel';

-- Up to which version an account's transfers are in batches, after each batch: all of them are. Those above it that are, too,
-- have lines.
CREATE TABLE settlement_coverage (
    account bigint NOT NULL,
    batch   bigint NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (account, batch)
);

-- The transfers of a batch. That no transfer is in two is the primary key.
CREATE TABLE settlement_lines (
    account    bigint  NOT NULL,
    version    bigint  NOT NULL,                     -- of the account after it
    batch      bigint  NOT NULL,                     -- without a foreign key, which would be looked up for each line
    amount     bigint  NOT NULL,                     -- positive: owed to the merchant, or by the channel
    event_time timestamptz NOT NULL,
    class      text    COLLATE "C" NOT NULL,
    kind       text    COLLATE "C" NOT NULL,
    payment_id text    COLLATE "C" NOT NULL,
    PRIMARY KEY (account, version)
);
CREATE INDEX settlement_lines_batch ON settlement_lines (batch);

-- The outbox: payments that batches order. They are published in order of number, and again until they are known to be.
CREATE TABLE settlement_orders (
    number          bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    batch           bigint  NOT NULL,
    amount          bigint  NOT NULL CHECK (amount > 0),
    event_time      timestamptz NOT NULL,
    value_date      date    NOT NULL,
    published       boolean NOT NULL DEFAULT false,
    returned        bigint,                          -- batch that took back what the book has refused
    file            bigint,                          -- that tells a bank to pay it; NULL: none yet, or it is no payout
    id              text    COLLATE "C" NOT NULL UNIQUE,  -- of the payment and of its event
    purpose         text    COLLATE "C" NOT NULL,
    party           text    COLLATE "C" NOT NULL,
    currency        text    COLLATE "C" NOT NULL,
    method          text    COLLATE "C" NOT NULL,
    payment_channel text    COLLATE "C" NOT NULL,
    holder          text    NOT NULL DEFAULT '',     -- account that is paid, as the terms had it when the file was made
    bank_account    text    NOT NULL DEFAULT '',
    bic             text    NOT NULL DEFAULT ''
) WITH (fillfactor = 90);
CREATE INDEX settlement_orders_unpublished ON settlement_orders (number) WHERE NOT published;
CREATE INDEX settlement_orders_party ON settlement_orders (party, currency) WHERE returned IS NULL;
CREATE INDEX settlement_orders_unfiled ON settlement_orders (number) WHERE purpose = 'payout' AND file IS NULL AND returned IS NULL;
CREATE INDEX settlement_orders_file ON settlement_orders (file) WHERE file IS NOT NULL;
CREATE INDEX settlement_orders_batch ON settlement_orders (batch);

-- What batches have kept back, and which batch released it.
CREATE TABLE settlement_reserves (
    batch      bigint  NOT NULL,
    number     smallint NOT NULL,                    -- in the batch: 1 is kept back, 2 is a release that was refused
    amount     bigint  NOT NULL CHECK (amount > 0),
    release_on date    NOT NULL,
    PRIMARY KEY (batch, number)
);
CREATE TABLE settlement_releases (
    reserve_batch  bigint   NOT NULL,
    reserve_number smallint NOT NULL,
    batch          bigint   NOT NULL,
    PRIMARY KEY (reserve_batch, reserve_number)
);

-- Files that tell a bank to pay; settlement_orders says which orders are in which. Their bytes follow from the rows.
CREATE TABLE settlement_files (
    id              bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    payment_channel text    COLLATE "C" NOT NULL,
    value_date      date    NOT NULL,
    number          integer NOT NULL,                -- of the channel's files for the date, from 1
    holder          text    NOT NULL,                -- the house's account, as the terms had it
    bank_account    text    NOT NULL,
    bic             text    NOT NULL,
    written         boolean NOT NULL DEFAULT false,  -- to a folder, once
    made_at         timestamptz NOT NULL DEFAULT now(),
    UNIQUE (payment_channel, value_date, number)
);
CREATE FUNCTION refuse_settlement_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% keeps what was written: what a batch got wrong goes into the next', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON settlement_batches FOR EACH STATEMENT EXECUTE FUNCTION refuse_settlement_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON settlement_coverage FOR EACH STATEMENT EXECUTE FUNCTION refuse_settlement_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON settlement_lines FOR EACH STATEMENT EXECUTE FUNCTION refuse_settlement_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON settlement_reserves FOR EACH STATEMENT EXECUTE FUNCTION refuse_settlement_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON settlement_releases FOR EACH STATEMENT EXECUTE FUNCTION refuse_settlement_change();
CREATE TRIGGER keep_all BEFORE DELETE OR TRUNCATE ON settlement_files FOR EACH STATEMENT EXECUTE FUNCTION refuse_settlement_change();
CREATE TRIGGER keep_all BEFORE DELETE OR TRUNCATE ON settlement_orders FOR EACH STATEMENT EXECUTE FUNCTION refuse_settlement_change();
CREATE TRIGGER keep_what_it_was BEFORE UPDATE ON settlement_files FOR EACH ROW
    WHEN ((OLD.id, OLD.payment_channel, OLD.value_date, OLD.number, OLD.holder, OLD.bank_account, OLD.bic)
          IS DISTINCT FROM (NEW.id, NEW.payment_channel, NEW.value_date, NEW.number, NEW.holder, NEW.bank_account, NEW.bic) OR OLD.written AND NOT NEW.written)
    EXECUTE FUNCTION refuse_settlement_change();
CREATE TRIGGER keep_what_it_was BEFORE UPDATE ON settlement_orders FOR EACH ROW
    WHEN ((OLD.number, OLD.batch, OLD.amount, OLD.event_time, OLD.value_date, OLD.id, OLD.purpose, OLD.party, OLD.currency, OLD.method, OLD.payment_channel)
          IS DISTINCT FROM (NEW.number, NEW.batch, NEW.amount, NEW.event_time, NEW.value_date, NEW.id, NEW.purpose, NEW.party, NEW.currency, NEW.method,
           NEW.payment_channel)
          OR OLD.published AND NOT NEW.published OR OLD.returned IS NOT NULL AND OLD.returned IS DISTINCT FROM NEW.returned
          OR OLD.file IS NOT NULL AND (OLD.file, OLD.holder, OLD.bank_account, OLD.bic) IS DISTINCT FROM (NEW.file, NEW.holder, NEW.bank_account, NEW.bic))
    EXECUTE FUNCTION refuse_settlement_change();
REVOKE UPDATE, DELETE, TRUNCATE ON settlement_batches, settlement_coverage, settlement_lines, settlement_reserves, settlement_releases
    FROM PUBLIC, CURRENT_USER;
REVOKE DELETE, TRUNCATE ON settlement_orders, settlement_files FROM PUBLIC, CURRENT_USER;
