-- Territories: whose lead it is by its key, what falls through and where it is said, what is refused,
-- what follows, who may write them, and how new entries are seen.
BEGIN;
SELECT no_plan();

DO $$ BEGIN PERFORM leadroute.create_lead_table('public.leads'); END $$;
INSERT INTO leadroute.rep (id, name) VALUES (1, 'Ann'), (2, 'Bob'), (3, 'Cho');
INSERT INTO leadroute.pool (name) VALUES ('north'), ('south'), ('rest');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('north', 1), ('south', 2), ('rest', 3);
INSERT INTO leadroute.territory (name, key) VALUES ('zip', 'postal_code');
INSERT INTO leadroute.territory (name, key, match) VALUES ('area', 'postal_code', 'prefix'), ('size', 'company_size', 'exact');
INSERT INTO leadroute.territory_entry (territory, key, pool) VALUES ('zip', '02134', 'north'), ('zip', '90210', 'south');
INSERT INTO leadroute.territory_entry (territory, key, rep) VALUES ('zip', '10001', 3);
INSERT INTO leadroute.territory_entry (territory, key, pool) VALUES
    ('area', '56', 'south'), ('area', '560', 'north'), ('area', '5600012', 'rest'), ('area', 'ä', 'south'), ('area', 'äöü', 'north'), ('size', '50', 'south');
INSERT INTO leadroute.rule (lead_table, position, name, condition, territory) VALUES
    ('leads', 1, 'by zip', $$country = 'US'$$, 'zip'), ('leads', 2, 'by area', $$country <> 'XX'$$, 'area'),
    ('leads', 3, 'by size', 'true', 'size');
INSERT INTO leadroute.rule (lead_table, position, name, pool) VALUES ('leads', 4, 'rest', 'rest');

-- taken gives the rule and the owner of a lead
CREATE FUNCTION pg_temp.taken(country text, code text, size int DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    key bigint;
BEGIN
    INSERT INTO leads (country, postal_code, company_size) VALUES (country, code, size) RETURNING id INTO key;
    RETURN (SELECT concat_ws(' ', d.rule_name || ':', d.rep) FROM leadroute.decision d WHERE d.lead_id = key::text ORDER BY d.decided_at DESC LIMIT 1);
END $$;
CREATE FUNCTION pg_temp.refusal(sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    code text; message text; detail text; hint text;
BEGIN
    EXECUTE sql;
    RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws('|', code, message, CASE WHEN detail <> '' AND hint <> '' THEN 'detail and hint' END);
END $$;

-- Whose lead it is --------------------------------------------------------------------------------

SELECT is(pg_temp.taken(v.country, v.code, v.size), v.expected, format('%s %s %s', v.country, v.code, v.size))
FROM (VALUES ('US', '02134', NULL::int, 'by zip: 1'), ('US', '90210', NULL, 'by zip: 2'), ('US', '10001', NULL, 'by zip: 3'),
    ('US', '2134', NULL, 'rest: 3'), ('US', '021345', NULL, 'rest: 3'), ('US', NULL, NULL, 'rest: 3'), ('US', '', NULL, 'rest: 3'),
    ('US', '90210', NULL, 'by zip: 2'), ('US', '2134', 50, 'by size: 2'),
    ('IN', '560001', NULL, 'by area: 1'), ('IN', '561', NULL, 'by area: 2'), ('IN', '56', NULL, 'by area: 2'), ('IN', '5', NULL, 'rest: 3'),
    ('IN', '57', NULL, 'rest: 3'), ('IN', '5600012', NULL, 'by area: 3'), ('IN', '56000123', NULL, 'by area: 3'), ('IN', '5600011', NULL, 'by area: 1'),
    ('IN', 'ä9', NULL, 'by area: 2'), ('IN', 'äöü', NULL, 'by area: 1'), ('IN', 'äö', NULL, 'by area: 2'), ('IN', 'ã', NULL, 'rest: 3'),
    ('US', '560001', 50, 'by area: 1'), ('XX', '560001', 50, 'by size: 2'), ('XX', '560001', 5, 'rest: 3'),
    ('IN', repeat('56', 2000), NULL, 'by area: 2'), ('IN', repeat('7', 2000), NULL, 'rest: 3')) v (country, code, size, expected);
SELECT is(pg_temp.taken('IN', '560001'), 'by area: 1', 'a key that was met before');

-- What is said ------------------------------------------------------------------------------------

SELECT is(pg_temp.taken('US', '1', 7), 'rest: 3', 'three territories do not know it');
SELECT is((SELECT leadroute._explanation(a.explanation) -> 'not_found' FROM leadroute.assignment a WHERE lead_id = (SELECT max(id)::text FROM leads)),
    (SELECT jsonb_agg(id ORDER BY position) FROM leadroute.rule WHERE territory IS NOT NULL), 'the record names their rules');
SELECT matches(leadroute.why('leads', (SELECT max(id) FROM leads)),
    E'\n  Rule "by zip" \\(1\\) was passed over: its territory has no entry for the lead.\n  Rule "by area" \\(2\\) was passed over.*\n  Rule "rest" \\(4\\) was the first to match', 'why() tells');
SELECT is(leadroute.why_json('leads', (SELECT max(id) FROM leads)) -> 'not_found' -> 0, '{"rule": 1, "name": "by zip"}', 'why_json() too');
SELECT is((SELECT reason FROM leadroute.decision ORDER BY lead_id::bigint DESC LIMIT 1),
    'not found in the territories of 3 rules; first in turn of 1 in pool "rest"', 'in one line');
SELECT results_eq($$SELECT rule_name, outcome, reason FROM leadroute.explain('leads', '{"country": "US", "postal_code": "1"}') WHERE kind = 'rule'$$,
    $$VALUES ('by zip', 'not matched', 'territory "zip" has no entry for "1"'), ('by area', 'not matched', 'territory "area" has no entry for "1"'),
        ('by size', 'not matched', 'the lead has no key for territory "size"'), ('rest', 'matched', 'the first to match')$$, 'explain() says for which key');
SELECT results_eq($$SELECT rep, outcome FROM leadroute.explain('leads', '{"country": "US", "postal_code": "10001"}') WHERE kind IN ('member', 'result')$$,
    $$VALUES (3::bigint, 'eligible'), (3, 'assigned')$$, 'and whose it is');
SELECT is((SELECT count(*) FROM leadroute.alert), 0::bigint, 'nobody is alarmed');
UPDATE leadroute.rule SET active = false WHERE name = 'rest';
SELECT is(pg_temp.taken('US', '1', 7), '', 'no rule is left');
SELECT is((SELECT concat_ws('|', queue, reason) FROM leadroute.queue), 'unmatched|not found in the territories of 3 rules; no rule matched', 'it waits, unmatched');
UPDATE leadroute.rule SET active = true WHERE name = 'rest';

-- Needs, overflow, labels, keys that fail -----------------------------------------------------------

UPDATE leadroute.rule SET needs = $$ARRAY['french']$$, overflow_pool = 'rest' WHERE name = 'by zip';
UPDATE leadroute.rep SET skills = '{"french": 2}' WHERE id = 3;
SELECT is(pg_temp.taken('US', '02134'), 'by zip: 3', 'the territory''s pool has nobody with the skill: the rule''s overflow pool has');
SELECT is((SELECT method FROM leadroute.decision ORDER BY lead_id::bigint DESC LIMIT 1), 'overflow', 'as such');
UPDATE leadroute.rule SET needs = NULL, overflow_pool = NULL WHERE name = 'by zip';
UPDATE leadroute.territory SET key = $$(100 / (company_size - 7))::text$$ WHERE name = 'size';
SELECT is(pg_temp.taken('XX', NULL, 9), 'by size: 2', 'a key that is computed');
SELECT is(pg_temp.taken('XX', NULL, 7), 'rest: 3', 'one that cannot be: the rule is skipped');
SELECT is((SELECT leadroute._explanation(a.explanation) #>> '{rule_errors,0,sqlstate}' FROM leadroute.assignment a WHERE lead_id = (SELECT max(id)::text FROM leads)), '22012', 'recorded');
SELECT is((SELECT message FROM leadroute.alert WHERE kind = 'rule_error'), 'rule "by size" (3) raised an error and is skipped for such leads: division by zero', 'and alerted');
UPDATE leadroute.territory SET key = 'company_size' WHERE name = 'size';

-- Entries change --------------------------------------------------------------------------------------

SELECT is(pg_temp.taken('US', '77001'), 'rest: 3', 'a key without an entry');
INSERT INTO leadroute.territory_entry (territory, key, pool) VALUES ('zip', '77001', 'north');
SELECT is(pg_temp.taken('US', '77001'), 'by zip: 1', 'and with one: a draft sees its own');
SAVEPOINT a;
UPDATE leadroute.territory_entry SET pool = 'south' WHERE key = '77001';
SELECT is(pg_temp.taken('US', '77001'), 'by zip: 2', 'changed');
DELETE FROM leadroute.territory_entry WHERE key = '77001';
SELECT is(pg_temp.taken('US', '77001'), 'rest: 3', 'deleted');
ROLLBACK TO a;
SELECT is(pg_temp.taken('US', '77001'), 'by zip: 1', 'rolled back');
SAVEPOINT a;
TRUNCATE leadroute.territory_entry;
SELECT is(pg_temp.taken('US', '77001'), 'rest: 3', 'truncated');
ROLLBACK TO a;
UPDATE leadroute.pool SET name = 'far north' WHERE name = 'north';
SELECT is((SELECT count(*) FROM leadroute.territory_entry WHERE pool = 'far north'), 4::bigint, 'entries follow a renamed pool');
SELECT is(pg_temp.taken('US', '77001'), 'by zip: 1', 'and work');
UPDATE leadroute.territory SET name = 'zip code' WHERE name = 'zip';
SELECT is((SELECT count(*) FROM leadroute.territory_entry WHERE territory = 'zip code'), 4::bigint, 'entries follow a renamed territory');
SELECT is((SELECT territory FROM leadroute.rule WHERE name = 'by zip'), 'zip code', 'as do rules');
SELECT is(pg_temp.taken('US', '77001'), 'by zip: 1', 'which work');
UPDATE leadroute.territory SET match = 'prefix' WHERE name = 'zip code';
SELECT is(pg_temp.taken('US', '77001-1234'), 'by zip: 1', 'another match');

-- Rerouting -------------------------------------------------------------------------------------------

UPDATE leadroute.lead_table SET reroute_on = '{postal_code}';
INSERT INTO leads (country, postal_code, name) VALUES ('US', '77001', 'mover');
UPDATE leads SET postal_code = '90210' WHERE name = 'mover';
SELECT is((SELECT owner_id FROM leads WHERE name = 'mover'), 2::bigint, 'another entry of the same rule: the lead moves');
UPDATE leads SET postal_code = '90210-1' WHERE name = 'mover';
SELECT is((SELECT count(*) FROM leadroute.decision d JOIN leads l ON l.id::text = d.lead_id WHERE l.name = 'mover'), 2::bigint, 'an entry of the same pool: it stays');
UPDATE leads SET postal_code = '10001' WHERE name = 'mover';
SELECT is((SELECT owner_id FROM leads WHERE name = 'mover'), 3::bigint, 'an entry of a rep');
UPDATE leads SET postal_code = '10001-1' WHERE name = 'mover';
SELECT is((SELECT count(*) FROM leadroute.decision d JOIN leads l ON l.id::text = d.lead_id WHERE l.name = 'mover'), 3::bigint, 'of the same rep: it stays');

-- What is refused ---------------------------------------------------------------------------------------

SELECT is(pg_temp.refusal(v.sql), v.expected, v.sql) FROM (VALUES
    ($$INSERT INTO leadroute.territory (name, key) VALUES ('', 'city')$$, 'LR005|the name of the territory is empty|detail and hint'),
    ($$INSERT INTO leadroute.territory (name) VALUES ('x')$$, 'LR005|territory "x" has no key|detail and hint'),
    ($$INSERT INTO leadroute.territory (name, key, match) VALUES ('x', 'city', 'near')$$, 'LR005|unknown match "near"|detail and hint'),
    ($$INSERT INTO leadroute.territory (name, key) VALUES ('area', 'city')$$, 'LR005|territory "area" exists already|detail and hint'),
    ($$INSERT INTO leadroute.territory (name, key) VALUES ('x', 'city,')$$, 'LR004|key of territory "x" refused: syntax error at end of input|detail and hint'),
    ($$INSERT INTO leadroute.territory (name, key) VALUES ('x', 'no_such_column')$$, 'accepted'),
    ($$INSERT INTO leadroute.rule (lead_table, position, name, territory) VALUES ('leads', 9, 'x', 'x')$$, 'LR004|key of territory "x" refused: column "no_such_column" does not exist|detail and hint'),
    ($$UPDATE leadroute.territory SET key = 'citty' WHERE name = 'area'$$, 'LR004|key of territory "area" refused: column "citty" does not exist|detail and hint'),
    ($$UPDATE leadroute.territory SET key = 'random()' WHERE name = 'area'$$, 'LR004|key of territory "area" refused: function random() is volatile|detail and hint'),
    ($$UPDATE leadroute.territory SET key = '(SELECT 1)' WHERE name = 'area'$$, 'LR004|key of territory "area" refused: cannot use subquery in trigger WHEN condition|detail and hint'),
    ($$UPDATE leadroute.territory SET tenant = 5 WHERE name = 'area'$$, 'LR005|territory "area" cannot change its tenant|detail and hint'),
    ($$INSERT INTO leadroute.territory_entry (territory, key, pool) VALUES ('nix', '1', 'rest')$$, 'LR008|no territory "nix"|detail and hint'),
    ($$INSERT INTO leadroute.territory_entry (territory, key, pool) VALUES ('area', '1', 'nix')$$, 'LR008|no pool "nix"|detail and hint'),
    ($$INSERT INTO leadroute.territory_entry (territory, key, rep) VALUES ('area', '1', 99)$$, 'LR008|no rep "99"|detail and hint'),
    ($$INSERT INTO leadroute.territory_entry (tenant, territory, key, pool) VALUES (7, 'area', '1', 'rest')$$, 'LR008|no territory "area"|detail and hint'),
    ($$INSERT INTO leadroute.territory_entry (territory, key, pool, rep) VALUES ('area', '1', 'rest', 1)$$, 'LR005|entry "1" of territory "area" has two targets|detail and hint'),
    ($$INSERT INTO leadroute.territory_entry (territory, key) VALUES ('area', '1')$$, 'LR005|entry "1" of territory "area" has no target|detail and hint'),
    ($$INSERT INTO leadroute.territory_entry (territory, key, pool) VALUES ('area', '', 'rest')$$, 'LR005|an entry of territory "area" has no key|detail and hint'),
    ($$INSERT INTO leadroute.territory_entry (territory, key, pool) VALUES ('area', NULL, 'rest')$$, 'LR005|an entry of territory "area" has no key|detail and hint'),
    ($$INSERT INTO leadroute.territory_entry (key, pool) VALUES ('1', 'rest')$$, 'LR005|an entry names no territory|detail and hint'),
    ($$DELETE FROM leadroute.territory WHERE name = 'area'$$, 'LR006|territory "area" is in use|detail and hint'),
    ($$DELETE FROM leadroute.territory WHERE name = 'x'$$, 'accepted'),
    ($$DELETE FROM leadroute.pool WHERE name = 'south'$$, 'LR006|pool "south" is in use|detail and hint'),
    ($$INSERT INTO leadroute.rule (lead_table, position, name, territory, rep) VALUES ('leads', 9, 'x', 'area', 1)$$, 'LR005|rule "x" has two targets|detail and hint')) v (sql, expected);
SELECT is((SELECT string_agg(u.user_name, ', ') FROM leadroute._users_of('pool', 0, 2, 'south') u WHERE u.user_name ~ 'territory'),
    'territory "area" in 2 entries, territory "size" in one entry, territory "zip code" in one entry', 'who is in the way is said');
SELECT is((SELECT string_agg(u.user_name, ', ') FROM leadroute._users_of('rep', 0, 3, 'Cho') u WHERE u.user_name ~ 'territory'), 'territory "zip code" in one entry', 'of a rep, too');

-- History ------------------------------------------------------------------------------------------------

DELETE FROM leadroute.config_change;
INSERT INTO leadroute.territory_entry (territory, key, pool) VALUES ('area', '8', 'rest');
UPDATE leadroute.territory_entry SET pool = 'south' WHERE key IN ('8', '56');
DELETE FROM leadroute.territory_entry WHERE key = '8';
SELECT results_eq($$SELECT key, old ->> 'pool', new ->> 'pool', changed_by::text FROM leadroute.config_change ORDER BY id$$,
    $$VALUES ('{"key": "8", "territory": "area"}'::jsonb, NULL, 'rest', current_user::text), ('{"key": "8", "territory": "area"}', 'rest', 'south', current_user::text),
        ('{"key": "8", "territory": "area"}', 'south', NULL, current_user::text)$$, 'entries one by one; what did not change is not logged');
DELETE FROM leadroute.config_change;
INSERT INTO leadroute.territory_entry (territory, key, pool) SELECT 'area', 'L' || i, 'rest' FROM generate_series(1, 300) i;
UPDATE leadroute.territory_entry SET pool = 'south' WHERE key ~ '^L';
DELETE FROM leadroute.territory_entry WHERE key ~ '^L';
SELECT results_eq('SELECT key, old, new FROM leadroute.config_change ORDER BY id',
    $$VALUES ('{"territory": "area"}'::jsonb, NULL::jsonb, '{"entries": 300}'::jsonb), ('{"territory": "area"}', '{"entries": 300}', '{"entries": 300}'),
        ('{"territory": "area"}', '{"entries": 300}', NULL)$$, 'many by their number');

-- Whose rights, and whose tenant ---------------------------------------------------------------------------

CREATE ROLE lr_author; CREATE ROLE lr_other;
DO $$ BEGIN PERFORM leadroute.grant_access('lr_author', 'admin'); PERFORM leadroute.grant_access('lr_other', 'admin'); END $$;
GRANT SELECT (id, city) ON leads TO lr_author;
CREATE FUNCTION public.who_runs() RETURNS text STABLE LANGUAGE sql AS $$ SELECT current_user::text $$;
SET LOCAL ROLE lr_author;
SELECT is(pg_temp.refusal($$UPDATE leadroute.territory SET key = 'email' WHERE name = 'size'$$), 'LR012|key of territory "size" refused: permission denied for column "email" of table leads|detail and hint', 'an author reads what he may read');
SELECT is(pg_temp.refusal($$UPDATE leadroute.territory SET author = 'postgres', key = 'city' WHERE name = 'size'$$), 'accepted', 'whoever writes the key');
SELECT is((SELECT author FROM leadroute.territory WHERE name = 'size'), 'lr_author', 'is its author');
SELECT is(pg_temp.refusal($$UPDATE leadroute.territory SET author = 'postgres' WHERE name = 'size'$$), 'LR012|role "lr_author" cannot name "postgres" as a territory''s author|detail and hint', 'nobody else can be named');
SELECT is(pg_temp.refusal($$INSERT INTO leadroute.territory (name, key, author) VALUES ('y', 'city', 'postgres')$$), 'LR012|role "lr_author" cannot name "postgres" as a territory''s author|detail and hint', 'nor for a new one');
SELECT is(pg_temp.refusal($$UPDATE leadroute.territory SET key = 'public.who_runs()' WHERE name = 'size'$$), 'accepted', 'a key that calls a function');
RESET ROLE;
INSERT INTO leadroute.territory_entry (territory, key, pool) VALUES ('size', 'lr_author', 'south');
SELECT is(pg_temp.taken('XX', '-'), 'by size: 2', 'runs with the rights of the territory''s author, though a superuser wrote the rule and inserts');
SET LOCAL ROLE lr_other;
UPDATE leadroute.rule SET position = 30 WHERE name = 'by size'; UPDATE leadroute.rule SET position = 3 WHERE name = 'by size';
SELECT is((SELECT author FROM leadroute.territory WHERE name = 'size'), 'lr_author', 'who edits a rule does not take the territory over');
RESET ROLE;
SELECT is(pg_temp.taken('XX', '-'), 'by size: 2', 'and it runs as before');
UPDATE leadroute.territory SET author = 'lr_gone' WHERE name = 'size';
SELECT is(pg_temp.taken('XX', '-'), 'rest: 3', 'an author who does not exist: the rule is inactive');
SELECT is((SELECT reason FROM leadroute.explain('leads', '{"country": "XX"}') WHERE rule_name = 'by size'), 'rule "by size" is inactive: the author of its territory, role "lr_gone", does not exist', 'as is said');

-- Tenants, and levels ---------------------------------------------------------------------------------------

CREATE TABLE public.company_lead (company bigint, id int, code text, owner_id bigint, PRIMARY KEY (company, id));
DO $$ BEGIN PERFORM leadroute.attach('public.company_lead', tenant_column => 'company'); END $$;
INSERT INTO leadroute.rep (tenant, id, name) VALUES (7, 1, 'Gil'), (7, 2, 'Hal');
INSERT INTO leadroute.territory (tenant, name, key) VALUES (7, 'area', 'code');
INSERT INTO leadroute.territory_entry (tenant, territory, key, rep) VALUES (7, 'area', '56', 2);
INSERT INTO leadroute.rule (tenant, lead_table, position, name, territory) VALUES (7, 'company_lead', 1, 'area', 'area');
INSERT INTO company_lead (company, id, code) VALUES (7, 1, '56'), (7, 2, '560'), (0, 1, '56');
SELECT results_eq('SELECT company, id, owner_id FROM company_lead ORDER BY 1, 2', 'VALUES (0::bigint, 1, NULL::bigint), (7, 1, 2), (7, 2, NULL)', 'each tenant has territories of its own');
CREATE ROLE lr_seven; CREATE ROLE lr_app; CREATE ROLE lr_boss;
DO $$ BEGIN
    PERFORM leadroute.grant_access('lr_seven', 'admin', 7); PERFORM leadroute.grant_access('lr_app', 'app'); PERFORM leadroute.grant_access('lr_boss', 'manager');
END $$;
SET LOCAL ROLE lr_seven;
SELECT is((SELECT count(*) FROM leadroute.territory_entry), 1::bigint, 'an admin sees the entries of its tenant');
SELECT is(pg_temp.refusal($$INSERT INTO leadroute.territory_entry (territory, key, rep) VALUES ('area', '9', 1)$$), 'LR008|no territory "area"|detail and hint', 'of another it knows nothing');
SELECT is(pg_temp.refusal($$INSERT INTO leadroute.territory_entry (tenant, territory, key, rep) VALUES (7, 'area', '9', 1)$$), 'accepted', 'its own it does');
SELECT is(pg_temp.refusal($$DELETE FROM leadroute.territory_entry WHERE key = '9'$$), 'accepted', 'and deletes');
SET LOCAL ROLE lr_app;
SELECT is(pg_temp.refusal('SELECT * FROM leadroute.territory_entry'), '42501|permission denied for table territory_entry', 'an app has no right on them');
SET LOCAL ROLE lr_boss;
SELECT is(pg_temp.refusal('SELECT * FROM leadroute.territory'), '42501|permission denied for table territory', 'nor has a manager');
RESET ROLE;

SELECT results_eq('SELECT lost, double, overshoot, drift, orphan FROM leadroute.verify()', 'VALUES (0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint)', 'nothing is amiss');
SELECT * FROM finish();
ROLLBACK;
