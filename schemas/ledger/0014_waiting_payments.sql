-- one by one, outside a transaction
-- Indexes on payments that are built while posters go on: each statement stands by itself, and one that was cut off begins anew.

-- What waits, the longest first.
DROP INDEX CONCURRENTLY IF EXISTS payments_due;
CREATE INDEX CONCURRENTLY payments_due ON payments (due_at) WHERE due_at IS NOT NULL;

-- A dispute that is open, by when evidence is due: few rows of many.
DROP INDEX CONCURRENTLY IF EXISTS payments_disputed;
CREATE INDEX CONCURRENTLY payments_disputed ON payments (due_at) WHERE status = 'disputed';
