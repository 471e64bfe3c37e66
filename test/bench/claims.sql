-- What claims are measured on: leads that wait, each variant's in a table of its own. psql variable: leads.
-- Priorities 1 to 5 and scores 0 to 100, as leads.sql's columns and one more.
CREATE EXTENSION leadroute;

CREATE PROCEDURE add_leads(variant name, leads bigint) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('INSERT INTO %I.leads (source, name, email, phone, region, pincode, product, deal_value, score, attrs, priority)
        SELECT ''Website'', ''Anita Sharma'', ''anita@example.com'', ''+91 98200 41317'', ''Maharashtra'', ''400001'', ''Apartment'',
            5000, floor(random() * 101), ''{"campaign": "spring"}'', 1 + floor(random() * 5) FROM generate_series(1, %s)', variant, leads);
    IF variant = 'record' THEN
        INSERT INTO record.assignments (lead_id, assigned_at)
        SELECT l.id, now() FROM record.leads l WHERE l.owner_id IS NULL
            AND NOT EXISTS (SELECT FROM record.assignments a WHERE a.lead_id = l.id AND a.ended_at IS NULL);
    END IF;
END
$$;

-- By hand: the state in the lead's row, and an index of those that wait, in their order.
ALTER TABLE skip.leads ADD priority integer;
ALTER TABLE known.leads ADD priority integer;
CREATE INDEX ON skip.leads (priority, score DESC) WHERE owner_id IS NULL;
CREATE INDEX ON known.leads (priority, score DESC) WHERE owner_id IS NULL;
CALL add_leads('skip', :leads);
CALL add_leads('known', :leads);

-- The same with a record.
ALTER TABLE record.leads ADD priority integer;
CREATE INDEX ON record.leads (priority, score DESC) WHERE owner_id IS NULL;
CREATE TABLE record.assignments (lead_id bigint NOT NULL, rep_id bigint, assigned_at timestamptz NOT NULL, ended_at timestamptz);
CREATE UNIQUE INDEX ON record.assignments (lead_id) WHERE ended_at IS NULL;
CREATE INDEX ON record.assignments (rep_id) WHERE ended_at IS NULL;
CREATE INDEX ON record.assignments (lead_id, assigned_at);
CALL add_leads('record', :leads);

ALTER TABLE routed.leads ADD priority integer;
SELECT leadroute.attach('routed.leads');
UPDATE leadroute.lead_table SET score_column = 'score';
INSERT INTO leadroute.rep (id, name) SELECT i, 'Rep ' || i FROM generate_series(1, 100) i;
INSERT INTO leadroute.pool (name, mode) VALUES ('pull', 'pull');
INSERT INTO leadroute.pool_member (pool, rep) SELECT 'pull', i FROM generate_series(1, 100) i;
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool, label)
SELECT 'leads', i, 'priority ' || i, 'priority = ' || i, 'pull', jsonb_build_object('priority', i) FROM generate_series(1, 5) i;
CALL add_leads('routed', :leads);

-- An app of its own, with no more rights than it takes.
SELECT 'CREATE ROLE bench_app LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'bench_app') \gexec
SELECT leadroute.grant_access('bench_app', 'app');
GRANT USAGE ON SCHEMA routed TO bench_app;
VACUUM (ANALYZE);
