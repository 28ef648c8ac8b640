-- What the payment core keeps of a payment beside its amounts. Everything is new with a constant default or none, so a poster of
-- the release before may run meanwhile.
ALTER TABLE payments ADD COLUMN payment_channel text COLLATE "C" NOT NULL DEFAULT '';  -- that carries it, '' where none was named or chosen
ALTER TABLE payments ADD COLUMN due_at timestamptz;  -- by when something has to happen to it, by event time; NULL: it waits for nothing
ALTER TABLE payments ADD COLUMN extra  jsonb;        -- what few payments have, as pipelines/payments keeps it: shares, exchange, dispute, effects
