-- The variant "routed": the same lead table, attached. Psql variables: pools, reps (per pool), rules,
-- capped (how many of each pool's reps have a daily cap of 1; the others' cap is never reached).
-- Rules are narrow and each lead matches exactly one; pools take turns in them.
CREATE EXTENSION leadroute;
SELECT leadroute.attach('routed.leads');

INSERT INTO leadroute.rep (id, name, timezone, daily_cap)
SELECT i, 'Rep ' || i,
    ('{Asia/Kolkata,Europe/London,UTC,Asia/Dubai,America/New_York,Australia/Sydney}'::text[])[i % 6 + 1],
    CASE WHEN (i - 1) % :reps < :capped THEN 1 ELSE 1000000 END
FROM generate_series(1, :pools * :reps) i;
INSERT INTO leadroute.pool (id, name) SELECT i, 'pool ' || i FROM generate_series(1, :pools) i;
INSERT INTO leadroute.pool_member (pool, rep)
SELECT 'pool ' || (i - 1) / :reps + 1, i FROM generate_series(1, :pools * :reps) i;
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool)
SELECT 'leads', i, 'rule ' || i,
    format($$pincode = '%s' AND deal_value >= 1000 AND deal_value < 100000$$, 400000 + i),
    'pool ' || (i - 1) % :pools + 1
FROM generate_series(1, :rules) i;
ANALYZE;
