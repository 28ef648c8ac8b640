-- What analysts start from. Plain views: they cost nothing until they are read.

CREATE VIEW IF NOT EXISTS verdicts AS
SELECT
    'payment' AS family, event_time, decided_time, decision_id, event_id, source, type, customer_id, payment_id AS subject_id,
    channel, amount, currency, verdict, score, rules, reasons, ruleset, tier, label
FROM payments
UNION ALL
SELECT
    'loan' AS family, event_time, decided_time, decision_id, event_id, source, type, customer_id, loan_id AS subject_id,
    channel, amount, currency, verdict, score, rules, reasons, ruleset, tier, label
FROM loans;

CREATE VIEW IF NOT EXISTS daily_totals AS
SELECT
    toDate(event_time) AS day, type, purpose, currency, verdict,
    count() AS events, uniqExact(customer_id) AS customers, sum(amount) AS total
FROM payments
GROUP BY day, type, purpose, currency, verdict;

CREATE VIEW IF NOT EXISTS daily_postings AS
SELECT toDate(event_time) AS day, kind, currency, count() AS transfers, sum(amount) AS total
FROM postings
GROUP BY day, kind, currency;

CREATE VIEW IF NOT EXISTS customer_360 AS
SELECT
    d.customer_id AS customer_id, t.tier AS tier, t.recency AS recency, t.frequency AS frequency, t.monetary AS monetary,
    d.first_day AS first_day, d.last_active AS last_active, d.active_days AS active_days,
    d.payments AS payments, d.reviewed AS reviewed, d.declined AS declined,
    d.spent AS spent, d.refunded AS refunded, d.topped_up AS topped_up, d.withdrawn AS withdrawn,
    d.actions AS actions, d.failed_sign_ins AS failed_sign_ins, d.complaints AS complaints,
    l.loans AS loans, l.loans_declined AS loans_declined, l.loans_disbursed AS loans_disbursed, l.last_loan_event AS last_loan_event
FROM (
    SELECT
        customer_id, min(day) AS first_day, max(last_active) AS last_active, uniqExactIf(day, active > 0) AS active_days,
        sum(payments) AS payments, sum(reviewed) AS reviewed, sum(declined) AS declined, sum(actions) AS actions,
        sum(failed_sign_ins) AS failed_sign_ins, sum(complaints) AS complaints,
        sumMapIf(map(currency, toDecimal128(spent_minor, 4) / {minor_per_major:currency}), currency != '') AS spent,
        sumMapIf(map(currency, toDecimal128(refunded_minor, 4) / {minor_per_major:currency}), currency != '') AS refunded,
        sumMapIf(map(currency, toDecimal128(topped_up_minor, 4) / {minor_per_major:currency}), currency != '') AS topped_up,
        sumMapIf(map(currency, toDecimal128(withdrawn_minor, 4) / {minor_per_major:currency}), currency != '') AS withdrawn
    FROM customer_days
    GROUP BY customer_id
) AS d
LEFT JOIN customer_tiers AS t ON t.customer_id = d.customer_id
LEFT JOIN (
    SELECT
        customer_id, uniqExact(loan_id) AS loans,
        uniqExactIf(loan_id, type = 'loan.applied' AND verdict = 'decline') AS loans_declined,
        uniqExactIf(loan_id, type = 'loan.disbursed') AS loans_disbursed, max(event_time) AS last_loan_event
    FROM loans
    WHERE verdict != 'duplicate'
    GROUP BY customer_id
) AS l ON l.customer_id = d.customer_id;
