-- rules_as_of(), restore_rules() and rule_version(): random edits, with a snapshot of the rules after each.
BEGIN;
SELECT no_plan();
CREATE ROLE lr_super SUPERUSER;
CREATE ROLE lr_admin;
CREATE ROLE lr_admin2;
SELECT setseed(0.75);
DO $$ BEGIN
    PERFORM leadroute.create_lead_table('public.leads'), leadroute.create_lead_table('public.others');
    PERFORM leadroute.grant_access('lr_admin', 'admin'), leadroute.grant_access('lr_admin2', 'admin');
END $$;
INSERT INTO leadroute.rep (id, name) SELECT i, 'R' || i FROM generate_series(1, 4) i;
INSERT INTO leadroute.pool (name) SELECT 'p' || i FROM generate_series(1, 4) i;
INSERT INTO leadroute.territory (name, key) VALUES ('zip', 'postal_code');
INSERT INTO leadroute.sla_policy (name, first_touch) VALUES ('quick', '5 min');

CREATE TEMP TABLE moment (n integer PRIMARY KEY, at timestamptz, rules jsonb);
GRANT ALL ON moment TO PUBLIC;
GRANT SELECT ON public.leads TO lr_admin;
CREATE FUNCTION pg_temp.present() RETURNS jsonb LANGUAGE sql SET datestyle = 'ISO, MDY' AS
    $$ SELECT coalesce(jsonb_agg(to_jsonb(r) ORDER BY r.position, r.id), '[]') FROM leadroute.rule r WHERE r.lead_table = 'leads' AND r.tenant = 0 $$;
CREATE FUNCTION pg_temp.content(rules jsonb) RETURNS jsonb LANGUAGE sql AS
    $$ SELECT coalesce(jsonb_agg(r - 'version' - 'changed_at' ORDER BY r -> 'position'), '[]') FROM jsonb_array_elements(rules) r $$;
CREATE FUNCTION pg_temp.some(VARIADIC choices text[]) RETURNS text LANGUAGE sql VOLATILE AS
    $$ SELECT choices[1 + floor(random() * cardinality(choices))::integer] $$;
CREATE FUNCTION pg_temp.chosen() RETURNS bigint LANGUAGE sql VOLATILE AS
    $$ SELECT id FROM leadroute.rule WHERE lead_table = 'leads' ORDER BY random() LIMIT 1 $$;

CREATE FUNCTION pg_temp.edit() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    one CONSTANT bigint := pg_temp.chosen();
    other CONSTANT bigint := pg_temp.chosen();
    name_one text; name_other text;
    put text;
BEGIN
    CASE floor(random() * 11)::integer
    WHEN 0, 1, 2 THEN
        INSERT INTO leadroute.rule (lead_table, position, name, condition, pool, rep, territory, label, valid, sla, needs)
        SELECT 'leads', (SELECT coalesce(max(position), 0) + 1 FROM leadroute.rule), 'rule ' || nextval('leadroute.rule_id_seq'), 'score > ' || floor(random() * 9),
            CASE k WHEN 0 THEN pg_temp.some('p1', 'p2', 'p3', 'p4') END, CASE k WHEN 1 THEN 1 + floor(random() * 4) END, CASE k WHEN 2 THEN 'zip' END,
            CASE WHEN random() < 0.3 THEN '{"priority": 1.50, "note": "a \"b\""}' END::jsonb,
            CASE WHEN random() < 0.3 THEN tstzrange('2026-03-04 05:06:07.123456+02', NULL) END, pg_temp.some('quick', NULL), pg_temp.some('ARRAY[''x'']', NULL)
        FROM (SELECT floor(random() * 3)::integer AS k OFFSET 0) x;
    WHEN 3 THEN
        UPDATE leadroute.rule SET condition = 'score < ' || floor(random() * 9), active = random() < 0.5 WHERE id = one;
    WHEN 4 THEN
        DELETE FROM leadroute.rule WHERE id = one;
    WHEN 5 THEN  -- two rules swap their places
        UPDATE leadroute.rule r SET position = o.position FROM leadroute.rule o
        WHERE (r.id, o.id) IN ((one, other), (other, one));
    WHEN 6 THEN  -- and their names
        SELECT name INTO name_one FROM leadroute.rule WHERE id = one;
        SELECT name INTO name_other FROM leadroute.rule WHERE id = other;
        UPDATE leadroute.rule SET name = 'between' WHERE id = one AND one <> other;
        UPDATE leadroute.rule SET name = name_one WHERE id = other AND one <> other;
        UPDATE leadroute.rule SET name = name_other WHERE id = one AND one <> other;
    WHEN 7 THEN
        UPDATE leadroute.rule SET pool = pg_temp.some('p1', 'p2'), rep = NULL, territory = NULL, label = NULL WHERE id IN (one, other);
    WHEN 8 THEN  -- to another table, or back
        UPDATE leadroute.rule SET lead_table = CASE lead_table WHEN 'leads' THEN 'others' ELSE 'leads' END,
            position = (SELECT max(position) + 1 FROM leadroute.rule)
        WHERE id = (SELECT id FROM leadroute.rule ORDER BY random() LIMIT 1);
    WHEN 9 THEN  -- a rule that was deleted comes back under its id
        SELECT c.key ->> 'id' INTO put FROM leadroute.config_change c WHERE c.table_name = 'rule' AND c.new IS NULL
            AND NOT EXISTS (SELECT FROM leadroute.rule r WHERE r.id = (c.key ->> 'id')::bigint) ORDER BY random() LIMIT 1;
        IF put IS NOT NULL THEN
            INSERT INTO leadroute.rule (id, lead_table, position, name, rep)
            SELECT put::bigint, 'leads', coalesce(max(position), 0) + 1, 'again ' || put, 2 FROM leadroute.rule;
        END IF;
    WHEN 10 THEN
        IF random() < 0.1 THEN
            TRUNCATE leadroute.rule;
        END IF;
    END CASE;
END
$$;

-- as another session's dates are written
SET LOCAL datestyle = 'SQL, DMY';
DO $$
BEGIN
    FOR n IN 1..90 LOOP
        PERFORM pg_temp.edit();
        INSERT INTO moment VALUES (n, clock_timestamp(), pg_temp.present());
    END LOOP;
END
$$;
SET LOCAL datestyle = 'ISO, MDY';
SELECT cmp_ok((SELECT count(DISTINCT rules) FROM moment), '>', 60::bigint, 'edits that make a difference');
SELECT cmp_ok((SELECT max(jsonb_array_length(rules)) FROM moment), '>', 5, 'of many rules');

CREATE FUNCTION pg_temp.as_of(moment_at timestamptz) RETURNS jsonb LANGUAGE sql AS
    $$ SELECT coalesce(jsonb_agg(to_jsonb(r)), '[]') FROM leadroute.rules_as_of('leads', moment_at) r $$;
SELECT is_empty($$ SELECT n, rules, pg_temp.as_of(at) FROM moment WHERE pg_temp.as_of(at) <> rules $$, 'rules_as_of() gives what was there after each edit');
SELECT is(pg_temp.as_of('infinity'), pg_temp.present(), 'in the future: the present');
SELECT is(pg_temp.as_of('-infinity'), '[]', 'before all: none');
SELECT is((SELECT count(*) FROM (SELECT key, version FROM leadroute.config_change WHERE table_name = 'rule' GROUP BY 1, 2 HAVING count(*) > 1) x), 0::bigint,
    'a version names one state of a rule, also when its id comes back');

-- restore: to moments in any order, and each time equal
DO $$
DECLARE
    m record;
    wrong integer := 0;
BEGIN
    CREATE TEMP TABLE restored (n integer, present jsonb, told bigint, differ bigint);
    FOR m IN SELECT * FROM moment ORDER BY random() LIMIT 25 LOOP
        DECLARE
            before CONSTANT jsonb := pg_temp.present();
            told bigint;
        BEGIN
            DELETE FROM leadroute.rule WHERE lead_table = 'others';  -- whose places those that go back may need
            SELECT count(*) INTO told FROM leadroute.restore_rules('leads', m.at) r;
            INSERT INTO restored VALUES (m.n, pg_temp.present(), told, (
                SELECT count(*) FROM jsonb_array_elements(pg_temp.content(before)) b FULL JOIN jsonb_array_elements(pg_temp.content(pg_temp.present())) a
                    ON a -> 'id' = b -> 'id' WHERE a IS DISTINCT FROM b));
        END;
    END LOOP;
END
$$;
SELECT is_empty('SELECT r.n, pg_temp.content(r.present), pg_temp.content(m.rules) FROM restored r JOIN moment m USING (n) WHERE pg_temp.content(r.present) <> pg_temp.content(m.rules)',
    'restore_rules() makes the rules what they were, ids and authors included');
SELECT is_empty('SELECT * FROM restored WHERE told < differ', 'and tells each rule that it changed');
SELECT is_empty($$ SELECT n FROM moment WHERE pg_temp.as_of(at) <> rules $$, 'the past stays what it was');
SELECT is_empty($$ SELECT * FROM leadroute.restore_rules('leads', clock_timestamp()) $$, 'the present is restored without a change');

-- what it tells
DELETE FROM leadroute.rule;
INSERT INTO leadroute.rule (id, lead_table, position, name, pool) VALUES (9001, 'leads', 1, 'a', 'p1'), (9002, 'leads', 2, 'b', 'p1');
CREATE TEMP TABLE t AS SELECT clock_timestamp() AS at;
GRANT ALL ON t TO PUBLIC;
UPDATE leadroute.rule SET pool = 'p2' WHERE id = 9001;
DELETE FROM leadroute.rule WHERE id = 9002;
INSERT INTO leadroute.rule (id, lead_table, position, name, rep) VALUES (9003, 'leads', 3, 'c', 1);
SELECT results_eq($$ SELECT rule, rule_name, change, old ->> 'pool', new ->> 'pool' FROM leadroute.restore_rules('leads', (SELECT at FROM t)) $$,
    $$ VALUES (9001::bigint, 'a', 'updated', 'p2', 'p1'), (9002, 'b', 'inserted', NULL, 'p1'), (9003, 'c', 'deleted', NULL, NULL) $$, 'what it changed');

-- renames are followed, and what is gone is named
UPDATE leadroute.rule SET name = name || '!';
UPDATE leadroute.pool SET name = 'sales' WHERE name = 'p1';
UPDATE leadroute.lead_table SET name = 'prospects' WHERE name = 'leads';
SELECT results_eq($$ SELECT id, lead_table, name, pool FROM leadroute.rules_as_of('prospects', (SELECT at FROM t)) $$,
    $$ VALUES (9001::bigint, 'leads', 'a', 'p1'), (9002, 'leads', 'b', 'p1') $$, 'as it was, under the names of then');
SELECT lives_ok($$ SELECT leadroute.restore_rules('prospects', (SELECT at FROM t)) $$, 'restored through renames');
SELECT results_eq('SELECT id, lead_table, name, pool FROM leadroute.rule', $$ VALUES (9001::bigint, 'prospects', 'a', 'sales'), (9002, 'prospects', 'b', 'sales') $$, 'under the names of now');
UPDATE leadroute.rule SET pool = 'p3';
DELETE FROM leadroute.pool WHERE name = 'sales';
SELECT throws_ok($$ SELECT leadroute.restore_rules('prospects', (SELECT at FROM t)) $$, 'LR008', NULL, 'a pool that is gone');
DO $$
DECLARE
    told text;
BEGIN
    PERFORM leadroute.restore_rules('prospects', (SELECT at FROM t));
EXCEPTION WHEN SQLSTATE 'LR008' THEN
    GET STACKED DIAGNOSTICS told = PG_EXCEPTION_DETAIL;
    PERFORM set_config('lr.told', told, true);
END $$;
SELECT is(current_setting('lr.told'), E'Rule "a" (9001) names pool "sales".\nRule "b" (9002) names pool "sales".', 'is named with the rules');
SELECT is((SELECT string_agg(pool, ',') FROM leadroute.rule), 'p3,p3', 'and nothing is changed');
SELECT throws_ok($$ SELECT * FROM leadroute.rules_as_of('prospects', NULL) $$, 'LR005', NULL, 'no time');
SELECT throws_ok($$ SELECT * FROM leadroute.rules_as_of('nothing', now()) $$, 'LR002', NULL, 'no lead table');
UPDATE leadroute.lead_table SET name = 'leads' WHERE name = 'prospects';

-- authors
DELETE FROM leadroute.rule;
INSERT INTO leadroute.rule (id, lead_table, position, name, condition, pool, author) VALUES
    (1, 'leads', 1, 'super''s', 'score > 1', 'p2', 'lr_super'), (2, 'leads', 2, 'own', 'score > 2', 'p2', 'lr_admin'),
    (3, 'leads', 3, 'gone', 'score > 3', 'p2', 'lr_super'), (4, 'leads', 4, 'target only', 'score > 4', 'p2', 'lr_super');
UPDATE t SET at = clock_timestamp();
UPDATE leadroute.rule SET condition = 'score > 11' WHERE id <= 2;
UPDATE leadroute.rule SET pool = 'p3' WHERE id = 4;
DELETE FROM leadroute.rule WHERE id = 3;
SAVEPOINT edited;
SET LOCAL ROLE lr_admin;
SELECT lives_ok($$ SELECT leadroute.restore_rules('leads', (SELECT at FROM t)) $$, 'an admin restores rules of others');
RESET ROLE;
SELECT results_eq('SELECT id, condition, pool, author::text COLLATE "default" FROM leadroute.rule ORDER BY id',
    $$ VALUES (1::bigint, 'score > 1', 'p2', 'lr_admin'), (2, 'score > 2', 'p2', 'lr_admin'), (3, 'score > 3', 'p2', 'lr_admin'), (4, 'score > 4', 'p2', 'lr_super') $$,
    'and runs as their author from then on, but for what he did not write');
ROLLBACK TO edited;
SELECT lives_ok($$ SELECT leadroute.restore_rules('leads', (SELECT at FROM t)) $$, 'a superuser');
SELECT is((SELECT string_agg(author, ',' ORDER BY id) FROM leadroute.rule), 'lr_super,lr_admin,lr_super,lr_super', 'restores the authors');
GRANT SELECT ON moment TO lr_admin;
SET LOCAL ROLE lr_admin2;
SELECT throws_ok($$ INSERT INTO leadroute.rule (lead_table, position, name, pool, author) VALUES ('leads', 9, 'x', 'p2', 'lr_super') $$, 'LR012', NULL, 'as ever nobody writes in another''s name');
RESET ROLE;

-- the version that decided
DELETE FROM leadroute.rule;
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('p2', 1);
INSERT INTO leadroute.rule (id, lead_table, position, name, pool) VALUES (9050, 'leads', 1, 'first', 'p2');
INSERT INTO public.leads (id) OVERRIDING SYSTEM VALUE VALUES (1);
UPDATE leadroute.rule SET name = 'second', label = '{"priority": 2}' WHERE id = 9050;
INSERT INTO public.leads (id) OVERRIDING SYSTEM VALUE VALUES (2);
DELETE FROM leadroute.rule WHERE id = 9050;
INSERT INTO leadroute.rule (id, lead_table, position, name, pool) VALUES (9050, 'leads', 1, 'third', 'p2');
INSERT INTO public.leads (id) OVERRIDING SYSTEM VALUE VALUES (3);
DELETE FROM leadroute.rule WHERE id = 9050;
INSERT INTO public.leads (id) OVERRIDING SYSTEM VALUE VALUES (4);
SELECT results_eq($$ SELECT l.id, v.rule, v.rule_name, v.version, v.latest, v.definition -> 'label', v.changed_by::text COLLATE "default", v.login::text COLLATE "default"
    FROM public.leads l LEFT JOIN LATERAL leadroute.rule_version('leads', l.id) v ON true WHERE l.id <= 4 ORDER BY 1 $$,
    format($$ VALUES (1::bigint, 9050::bigint, 'first', 1, false, 'null'::jsonb, %1$L, %2$L), (2, 9050, 'second', 2, false, '{"priority": 2}', %1$L, %2$L),
        (3, 9050, 'third', 4, false, 'null', %1$L, %2$L), (4, NULL, NULL, NULL, NULL, NULL, NULL, NULL) $$, current_user, session_user),
    'each decision names the version of its rule');
SELECT is((SELECT string_agg(format('%s:%s', lead_id, rule_version), ' ' ORDER BY lead_id) FROM leadroute.decision), '1:1 2:2 3:4 4:', 'so does the view');
SELECT is(leadroute.why_json('leads', 3) #> '{rule,version}', '4', 'and why_json()');
DELETE FROM leadroute.config_change WHERE table_name = 'rule' AND key = '{"id": 9050}' AND new ->> 'name' = 'second';
SELECT is((SELECT rule_name || ' ' || coalesce(changed_by, '-') FROM leadroute.rule_version('leads', 2)), 'second -', 'also when the history before it was deleted');
INSERT INTO leadroute.rule (id, lead_table, position, name, pool, version, changed_at) VALUES (9060, 'leads', 1, 'restored', 'p2', 7, '2020-01-01');
INSERT INTO public.leads (id) OVERRIDING SYSTEM VALUE VALUES (5);
SELECT is((SELECT format('%s %s %s', rule_name, version, latest) FROM leadroute.rule_version('leads', '5')), 'restored 7 t', 'a rule that a restore brought');
SET LOCAL ROLE lr_admin;
SELECT is((SELECT rule_name FROM leadroute.rule_version('leads', 5)), 'restored', 'an admin may ask');
RESET ROLE;
SELECT * FROM finish();
ROLLBACK;
