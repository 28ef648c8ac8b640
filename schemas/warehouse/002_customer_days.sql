-- What a customer did on a day, in a currency ('' for behaviours). What counts is package pipelines/value's definition:
-- duplicates count nowhere; a payment counts when it is initiated and approved; a declined or reviewed one only as such;
-- a refund or chargeback takes back what was spent; a failed sign-in is no activity of the customer.

CREATE TABLE IF NOT EXISTS customer_days (
    day Date COMMENT 'UTC day of the event''s own time',
    customer_id String COMMENT 'The customer',
    currency LowCardinality(String) COMMENT 'ISO 4217; empty for behaviours',
    payments SimpleAggregateFunction(sum, Int64) COMMENT 'Payments initiated and approved',
    spent_minor SimpleAggregateFunction(sum, Int64) COMMENT 'Purchases and transfers among them, minor units',
    topped_up_minor SimpleAggregateFunction(sum, Int64) COMMENT 'Top-ups among them, minor units',
    withdrawn_minor SimpleAggregateFunction(sum, Int64) COMMENT 'Withdrawals among them, minor units',
    refunded_minor SimpleAggregateFunction(sum, Int64) COMMENT 'Refunded and charged back, minor units',
    reviewed SimpleAggregateFunction(sum, Int64) COMMENT 'Payments initiated and held for review',
    declined SimpleAggregateFunction(sum, Int64) COMMENT 'Payments initiated and declined',
    actions SimpleAggregateFunction(sum, Int64) COMMENT 'Behaviours, failed sign-ins and complaints included',
    failed_sign_ins SimpleAggregateFunction(sum, Int64) COMMENT 'Failed sign-ins',
    complaints SimpleAggregateFunction(sum, Int64) COMMENT 'Complaints',
    active SimpleAggregateFunction(sum, Int64) COMMENT 'Events that show the customer active: approved payments and behaviours but failed sign-ins',
    last_active SimpleAggregateFunction(max, DateTime64(6, 'UTC')) COMMENT 'The newest of these; 1970 when there is none'
) ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (customer_id, day, currency)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Customer, day and currency: read with sum() and max() and GROUP BY, rows merge in their own time';

CREATE MATERIALIZED VIEW IF NOT EXISTS customer_days_of_payments TO customer_days AS
SELECT
    toDate(event_time) AS day, customer_id, currency,
    toInt64(countIf(type = 'payment.initiated' AND verdict = 'approve')) AS payments,
    sumIf(amount_minor, type = 'payment.initiated' AND verdict = 'approve' AND purpose IN ('purchase', 'transfer')) AS spent_minor,
    sumIf(amount_minor, type = 'payment.initiated' AND verdict = 'approve' AND purpose = 'top_up') AS topped_up_minor,
    sumIf(amount_minor, type = 'payment.initiated' AND verdict = 'approve' AND purpose = 'withdrawal') AS withdrawn_minor,
    sumIf(amount_minor, type IN ('payment.refunded', 'payment.charged_back') AND verdict IN ('approve', 'observed')) AS refunded_minor,
    toInt64(countIf(type = 'payment.initiated' AND verdict = 'review')) AS reviewed,
    toInt64(countIf(type = 'payment.initiated' AND verdict = 'decline')) AS declined,
    toInt64(countIf(type = 'payment.initiated' AND verdict = 'approve')) AS active,
    maxIf(event_time, type = 'payment.initiated' AND verdict = 'approve') AS last_active
FROM payments
WHERE verdict != 'duplicate'
GROUP BY day, customer_id, currency;

CREATE MATERIALIZED VIEW IF NOT EXISTS customer_days_of_behaviors TO customer_days AS
SELECT
    toDate(event_time) AS day, customer_id, '' AS currency,
    toInt64(count()) AS actions,
    toInt64(countIf(type = 'behavior.sign_in_failed')) AS failed_sign_ins,
    toInt64(countIf(type = 'behavior.complained')) AS complaints,
    toInt64(countIf(type != 'behavior.sign_in_failed')) AS active,
    maxIf(event_time, type != 'behavior.sign_in_failed') AS last_active
FROM behaviors
WHERE verdict != 'duplicate'
GROUP BY day, customer_id;
