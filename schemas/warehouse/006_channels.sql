-- Which payment channel carries a payment and why, what the payment core says besides, and how channels fare and what they cost.

ALTER TABLE payments
    ADD COLUMN IF NOT EXISTS payment_channel LowCardinality(String) COMMENT 'The payment channel that the event names: who carries it, or was asked for' AFTER method,
    ADD COLUMN IF NOT EXISTS route LowCardinality(String) COMMENT 'The payment channel that the house chose; empty: none, or nothing to choose' AFTER payment_channel,
    ADD COLUMN IF NOT EXISTS route_reason String COMMENT 'Why that one, or why none; empty where there was nothing to choose' AFTER route,
    ADD COLUMN IF NOT EXISTS route_fallbacks Array(LowCardinality(String)) COMMENT 'Who comes next if it fails, best first' AFTER route_reason,
    ADD COLUMN IF NOT EXISTS split_merchants Array(String) COMMENT 'The merchants who share a purchase' AFTER amount,
    ADD COLUMN IF NOT EXISTS split_minor Array(Int64) COMMENT 'Their shares, in the order of split_merchants, minor units of currency' AFTER split_merchants,
    ADD COLUMN IF NOT EXISTS exchange_currency LowCardinality(String) COMMENT 'ISO 4217: what the payee gets; empty: the payment''s own' AFTER split_minor,
    ADD COLUMN IF NOT EXISTS exchange_minor Int64 COMMENT 'What the payee gets, minor units of exchange_currency' AFTER exchange_currency,
    ADD COLUMN IF NOT EXISTS exchange_rate String COMMENT 'What one major unit of currency is in exchange_currency, a decimal' AFTER exchange_minor,
    ADD COLUMN IF NOT EXISTS respond_by DateTime64(6, 'UTC') COMMENT 'Of a dispute: by when evidence has to be submitted; 1970 where there is none' AFTER reason,
    ADD COLUMN IF NOT EXISTS outcome LowCardinality(String) COMMENT 'How a dispute was decided: won (for the merchant), lost' AFTER respond_by,
    ADD COLUMN IF NOT EXISTS dispute_evidence String COMMENT 'Where the evidence is kept: a reference' AFTER outcome;

CREATE VIEW IF NOT EXISTS channel_health AS
SELECT
    toStartOfHour(event_time) AS hour, payment_channel AS channel,
    countIf(type != 'payment.failed') AS good, countIf(type = 'payment.failed') AS failed, good + failed AS answers,
    round(good / answers, 4) AS success_ratio, countIf(type = 'payment.settled') AS settled,
    quantileExactIf(0.5)(dateDiff('second', begun, event_time), type = 'payment.settled' AND begun > toDateTime64(0, 6, 'UTC')) AS median_seconds_to_settle
FROM (
    SELECT a.event_time AS event_time, a.payment_channel AS payment_channel, a.type AS type, b.begun AS begun
    FROM payments AS a
    LEFT JOIN (
        SELECT payment_id, min(event_time) AS begun
        FROM payments
        WHERE type IN ('payment.initiated', 'payment.authorized') AND verdict != 'duplicate'
        GROUP BY payment_id
    ) AS b ON a.payment_id = b.payment_id
    WHERE a.payment_channel != '' AND a.verdict != 'duplicate' AND a.type IN ('payment.authorized', 'payment.captured', 'payment.settled', 'payment.failed')
)
GROUP BY hour, channel;

CREATE VIEW IF NOT EXISTS channel_costs AS
SELECT
    day, channel, currency, countIf(paid = 0) AS transfers, sum(moved) AS carried, sum(paid) AS cost,
    if(carried = 0, NULL, round(toFloat64(cost) / toFloat64(carried), 6)) AS cost_ratio
FROM (
    SELECT
        toDate(event_time) AS day, currency,
        extract(if(startsWith(debit_account, 'clearing:'), debit_account, credit_account), '^clearing:([^/]+)/') AS channel,
        multiIf(startsWith(debit_account, 'channel_costs/'), amount, startsWith(credit_account, 'channel_costs/'), -amount, toDecimal128(0, 4)) AS paid,
        if(paid != 0, toDecimal128(0, 4), amount) AS moved
    FROM postings
    WHERE (startsWith(debit_account, 'clearing:') OR startsWith(credit_account, 'clearing:'))
        AND NOT startsWith(debit_account, 'bank:') AND NOT startsWith(credit_account, 'bank:')
)
GROUP BY day, channel, currency;

CREATE VIEW IF NOT EXISTS channel_choices AS
SELECT
    toStartOfHour(event_time) AS hour, route AS channel, splitByRegexp('[ :]', route_reason)[1] AS why, method, currency,
    count() AS payments, sum(amount) AS total
FROM payments
WHERE route_reason != '' AND verdict != 'duplicate'
GROUP BY hour, channel, why, method, currency;
