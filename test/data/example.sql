-- The example every description of leadroute shows. smoke.sql runs it statement by statement,
-- smoke_transaction.sql inside one transaction; both must print the same. What holds a time, or has
-- no order, is run as written but not shown, and then shown without.
CREATE EXTENSION leadroute;
SELECT leadroute.create_lead_table('public.leads');
INSERT INTO leadroute.rep (id, name, timezone, daily_cap)
  VALUES (1, 'Rep 1', 'Asia/Kolkata', 20), (2, 'Rep 2', 'Europe/London', NULL), (3, 'Rep 3', 'UTC', 5), (4, 'Rep 4', 'UTC', NULL);
INSERT INTO leadroute.pool (name, method) VALUES ('senior', 'weighted'), ('north', 'round_robin'), ('general', 'round_robin');
INSERT INTO leadroute.pool_member (pool, rep, weight) VALUES ('senior', 1, 3), ('senior', 2, 1);
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('north', 2), ('north', 3), ('general', 1), ('general', 2), ('general', 3);
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool) VALUES
  ('leads', 1, 'enterprise form', $$source = 'Enterprise form'$$, 'senior'),
  ('leads', 2, 'north',           $$region = 'North'$$,           'north');
INSERT INTO leadroute.rule (lead_table, position, name, condition, rep) VALUES
  ('leads', 3, 'big deals',       $$deal_value > 10000$$, 4);
INSERT INTO leadroute.rule (lead_table, position, name, pool) VALUES ('leads', 4, 'else', 'general');
INSERT INTO leads (source, region, deal_value) VALUES ('Web', 'North', 500), ('Enterprise form', 'South', 90000), ('Web', 'South', 20000)
  RETURNING id, owner_id;
\o /dev/null
SELECT lead_id, rep_name, pool, rule_name, method, status, decided_at, reason FROM leadroute.decision ORDER BY decided_at, lead_id;
SELECT pool, rep, name, weight, received, due, deficit, today, open, available, unavailable_reason FROM leadroute.pool_state;
SELECT leadroute.why('leads', 1);
\o
SELECT lead_id, rep_name, pool, rule_name, method, status, reason FROM leadroute.decision ORDER BY lead_id;
SELECT pool, rep, name, weight, received, round(due::numeric, 3) AS due, round(deficit::numeric, 3) AS deficit, today, open, available, unavailable_reason
  FROM leadroute.pool_state ORDER BY pool, rep;
SELECT regexp_replace(leadroute.why('leads', 1), ' at [^(]* \(push\)', ' at <time> (push)') AS why;
SELECT * FROM leadroute.verify();
