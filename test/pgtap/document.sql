-- export_rules() and import_rules(): a document and back is the same document, an unchanged one changes
-- nothing, a changed one makes the configuration equal to it, and what is no document is refused with its path.
SELECT plan(42);
SET client_min_messages = warning;

DO $$ BEGIN PERFORM leadroute.create_lead_table('leads'), leadroute.create_lead_table('calls'); END $$;
INSERT INTO leadroute.calendar (name, timezone) VALUES ('office', 'Europe/London'), ('none', NULL);
INSERT INTO leadroute.calendar_hours (calendar, weekday, opens, closes) SELECT 'office', d, '09:00', '17:30' FROM generate_series(1, 5) d;
INSERT INTO leadroute.calendar_holiday (calendar, day, name) VALUES ('office', '2026-12-25', 'Christmas'), ('office', '2027-01-01', NULL);
INSERT INTO leadroute.rep (id, name, ref, skills, daily_cap, open_cap, location, calendar, timezone, paused) VALUES
    (1, 'Ann', 'ann@x', '{"en": 2, "fr": 1.5}', 20, NULL, '(1.5,-2)', 'office', 'Europe/London', true),
    (2, 'Bob', NULL, '{}', NULL, 0, NULL, NULL, 'UTC', false), (3, 'Cho "C" Ufør', 'cho@x', '{}', 0, NULL, NULL, NULL, 'UTC', false);
SELECT setval('leadroute.rep_id_seq', 10);
UPDATE leadroute.rep SET manager = 3 WHERE id < 3;
INSERT INTO leadroute.pool (name, method, manager, performance_won) VALUES ('sales', 'weighted', 3, '{won,sold}'), ('night', 'round_robin', NULL, '{won}'), ('bin', 'round_robin', NULL, '{won}');
INSERT INTO leadroute.sla_policy (name, first_touch, business_time, calendar, recycle_pool) VALUES ('fast', '5 minutes', true, 'office', 'bin'), ('slow', '1 day 02:00', false, NULL, NULL);
INSERT INTO leadroute.sla_step (policy, share, after, action, pool) VALUES ('fast', 0.5, NULL, 'remind', NULL), ('fast', NULL, '10 minutes', 'reroute', 'night'), ('fast', 0.50, NULL, 'remind', NULL);
UPDATE leadroute.pool SET sla = 'fast', overflow_pool = 'night' WHERE name = 'sales';
UPDATE leadroute.rep SET sla = 'slow' WHERE id = 2;
INSERT INTO leadroute.pool_member (pool, rep, weight, paused) VALUES ('sales', 1, 1.50, false), ('sales', 2, 1, true), ('night', 3, 1, false);
INSERT INTO leadroute.territory (name, key, match) VALUES ('zip', 'postal_code', 'prefix');
INSERT INTO leadroute.territory_entry (territory, key, pool, rep) VALUES ('zip', '01', 'sales', NULL), ('zip', '02', NULL, 2);
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool, label, valid, overflow_pool, active) VALUES
    ('leads', 10, 'north', $$region = 'N' AND source LIKE E'a\\%'$$, 'sales', '{"priority": 1}', '[2026-01-01,)', 'night', true),
    ('calls', 10, 'north', 'true', 'night', NULL, NULL, NULL, false);
INSERT INTO leadroute.rule (lead_table, position, name, territory) VALUES ('leads', 20, 'zip', 'zip');
INSERT INTO leadroute.rule (lead_table, position, name, rep, needs, sla) VALUES ('leads', 30, 'rest', 2, $$ARRAY['x']$$, 'slow');

CREATE TEMP TABLE kept AS SELECT leadroute.export_rules() AS document;
CREATE FUNCTION pg_temp.changes() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM leadroute.config_change';
CREATE FUNCTION pg_temp.import(document jsonb, tenant bigint DEFAULT 0) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(format('%s: %s %s', i.section, i.item, i.outcome), '; ') FROM leadroute.import_rules(document, tenant) i
$$;

-- the document ---------------------------------------------------------------------------------

SELECT is((SELECT document::jsonb #- '{reps}' #- '{calendars}' #- '{sla_policies}' FROM kept), $$
    {"leadroute": 1,
     "pools": [{"name": "bin"}, {"name": "night", "members": [{"rep": "cho@x"}]},
         {"name": "sales", "method": "weighted", "manager": "cho@x", "performance_won": ["won", "sold"], "sla": "fast", "overflow_pool": "night",
          "members": [{"rep": "Bob", "paused": true}, {"rep": "ann@x", "weight": 1.50}]}],
     "territories": [{"name": "zip", "key": "postal_code", "match": "prefix", "entries": [{"key": "01", "pool": "sales"}, {"key": "02", "rep": "Bob"}]}],
     "rules": [{"lead_table": "calls", "position": 10, "name": "north", "pool": "night", "active": false},
         {"lead_table": "leads", "position": 10, "name": "north", "condition": "region = 'N' AND source LIKE E'a\\\\%'", "pool": "sales", "label": {"priority": 1},
          "valid": "[\"2026-01-01 00:00:00+00\",)", "overflow_pool": "night"},
         {"lead_table": "leads", "position": 20, "name": "zip", "territory": "zip"},
         {"lead_table": "leads", "position": 30, "name": "rest", "rep": "Bob", "needs": "ARRAY['x']", "sla": "slow"}]}$$::jsonb, 'names, no ids, and no defaults');
SELECT ok(document !~ 'paused": true[^}]*daily_cap|db_role|author|version', 'neither state nor what is this database''s') FROM kept;
SELECT is((SELECT document::jsonb -> 'sla_policies' -> 0 FROM kept), '{"name": "fast", "first_touch": "00:05:00", "business_time": true, "calendar": "office", "recycle_pool": "bin",
    "steps": [{"share": 0.5, "action": "remind"}, {"after": "00:10:00", "action": "reroute", "pool": "night"}, {"share": 0.50, "action": "remind"}]}', 'steps in their order');
SET timezone = 'Asia/Kolkata';
SET datestyle = 'SQL, DMY';
SET intervalstyle = 'iso_8601';
SELECT is(leadroute.export_rules(), document, 'the same in every session') FROM kept;
SELECT is((SELECT count(*) FROM leadroute.import_rules(leadroute.export_rules()::jsonb)), 0::bigint, 'for an import, too');
RESET timezone;
RESET datestyle;
RESET intervalstyle;
SELECT is((SELECT jsonb_path_query_array(leadroute.export_rules('calls')::jsonb, '$.rules[*].lead_table')), '["calls"]', 'the rules of one lead table');

-- and back -------------------------------------------------------------------------------------

CREATE TEMP TABLE before AS SELECT pg_temp.changes() AS changes;
SELECT is(pg_temp.import(document::jsonb), NULL, 'an unchanged document: no changes') FROM kept;
SELECT is(pg_temp.changes(), changes, 'nor versions of anything') FROM before;

UPDATE leadroute.rule SET position = 50 - position, condition = 'false', label = NULL WHERE lead_table = 'leads';
DELETE FROM leadroute.rule WHERE lead_table = 'calls';
INSERT INTO leadroute.pool (name, sla, overflow_pool) VALUES ('new', 'fast', 'bin');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('new', 1);
INSERT INTO leadroute.sla_policy (name, first_touch, recycle_pool) VALUES ('new', '1 hour', 'new');
UPDATE leadroute.pool SET sla = 'new', overflow_pool = NULL WHERE name IN ('new', 'night');
INSERT INTO leadroute.rule (lead_table, position, name, pool) VALUES ('leads', 60, 'new', 'new');
INSERT INTO leadroute.calendar (name) VALUES ('new');
INSERT INTO leadroute.calendar_hours (calendar, weekday, opens, closes) VALUES ('new', 1, '01:00', '02:00');
UPDATE leadroute.calendar_hours SET closes = '18:00' WHERE calendar = 'office' AND weekday = 2;
DELETE FROM leadroute.calendar_holiday;
DELETE FROM leadroute.sla_step WHERE action = 'remind';
UPDATE leadroute.pool_member SET weight = 3 WHERE rep = 1 AND pool = 'sales';
DELETE FROM leadroute.pool_member WHERE rep = 3;
UPDATE leadroute.territory_entry SET pool = 'night' WHERE key = '01';
INSERT INTO leadroute.territory_entry (territory, key, pool) VALUES ('zip', '03', 'new');
INSERT INTO leadroute.territory (name, key) VALUES ('new', 'city');
UPDATE leadroute.rep SET skills = '{}', sla = NULL, manager = NULL, location = '(0,0)', paused = false WHERE id IN (1, 2);
CREATE TEMP TABLE changed AS SELECT leadroute.export_rules() AS document;
SELECT isnt(c.document, k.document, 'much has changed') FROM changed c, kept k;
SELECT set_eq($$SELECT section || ': ' || item || ' ' || outcome FROM leadroute.import_rules((SELECT document FROM kept)::jsonb)$$, ARRAY[
    'calendars.hours: new, 1, 01:00:00 removed', 'calendars.hours: office, 2, 09:00:00 changed', 'calendars.holidays: office, 2026-12-25 added', 'calendars.holidays: office, 2027-01-01 added',
    'sla_policies.steps: fast changed', 'reps: ann@x changed', 'reps: Bob changed', 'pools: night changed', 'pools.members: new, ann@x removed', 'pools.members: sales, ann@x changed',
    'pools.members: night, cho@x added', 'territories.entries: zip, 01 changed', 'territories.entries: zip, 03 removed',
    'rules: leads, new removed', 'rules: leads, north changed', 'rules: leads, rest changed', 'rules: leads, zip changed', 'rules: calls, north added',
    'territories: new removed', 'sla_policies: new removed', 'pools: new removed', 'calendars: new removed'], 'an import puts all of it back, and says so');
SELECT is(leadroute.export_rules(), document, 'byte for byte') FROM kept;
SELECT is((SELECT paused FROM leadroute.rep WHERE id = 1), false, 'whether a rep is paused is not of the document');
SELECT ok(pg_temp.import(document::jsonb) LIKE '%pools: new added%', 'and the other way') FROM changed;
SELECT is(leadroute.export_rules(), document, 'byte for byte, too') FROM changed;
SELECT ok(pg_temp.import(document::jsonb) LIKE '%pools: new removed%', 'and back again') FROM kept;

-- of one lead table: the rules of the others stay
SELECT is(pg_temp.import(jsonb_set(leadroute.export_rules('leads')::jsonb, '{rules}', '[]')), 'rules: leads, north removed; rules: leads, rest removed; rules: leads, zip removed', 'a document of one lead table');
SELECT is((SELECT string_agg(lead_table, ' ') FROM leadroute.rule WHERE tenant = 0), 'calls', 'is about no other');
SELECT ok(pg_temp.import(document::jsonb) LIKE 'rules: %added', 'back') FROM kept;

SELECT ok(pg_temp.import(document::jsonb, 7) LIKE '%rules: leads, rest added', 'into another tenant') FROM kept;
SELECT is(leadroute.export_rules(tenant => 7), document, 'from where it comes back the same, byte for byte') FROM kept;
SELECT is(leadroute.export_rules(), document, 'and is left alone') FROM kept;

-- reps are known by their refs, or names
UPDATE leadroute.rep SET ref = 'cho@y' WHERE id = 3 AND tenant = 0;
SELECT ok(pg_temp.import(document::jsonb) LIKE 'reps: cho@x added;%', 'another ref is another rep') FROM kept;
SELECT is((SELECT count(*) FROM leadroute.rep WHERE tenant = 0), 4::bigint, 'and no rep is removed');

-- refusals -------------------------------------------------------------------------------------

SELECT throws_ok(format('SELECT pg_temp.import(%L)', r.document), 'LR015', r.message, r.message)
FROM (SELECT jsonb_set(k.document::jsonb, c.path, c.value::jsonb), c.message FROM kept k, (VALUES
    ('{leadroute}'::text[], '2', '$.leadroute: the form of the document is 2, not 1'),
    ('{leadroute}', 'null', '$.leadroute is missing: the form of the document'),
    ('{extra}', '[]', '$.extra: there is no such section'),
    ('{pools}', '{}', '$.pools: this is no list'),
    ('{pools,0}', '1', '$.pools[0]: this is no object'),
    ('{pools,1,members}', '[1]', '$.pools[1]: this is no object, or its members are no list of objects'),
    ('{pools,0,colour}', '1', NULL),
    ('{pools,0,name}', 'null', '$.pools[0]: there is no name'),
    ('{pools,0,name}', '"night"', '$.pools[1]: this is in the list twice'),
    ('{pools,2,manager}', '"nobody"', '$.pools[2].manager: no rep is "nobody"'),
    ('{rules,1,position}', '"first"', '$.rules[1]: invalid input syntax for type integer: "first"'),
    ('{rules,1,valid}', '"always"', '$.rules[1]: malformed range literal: "always"'),
    ('{lead_table}', '"calls"', '$.rules[1]: the rule is not for "calls"')) c (path, value, message)) r (document, message);
SELECT throws_ok($$SELECT pg_temp.import('[]')$$, 'LR015', '$: the document is no JSON object', 'no object');
SELECT throws_ok($$SELECT pg_temp.import('{"leadroute": 1}')$$, 'LR015', '$.calendars: the section is missing', 'nothing is removed by leaving a section out');
SELECT throws_ok(format('SELECT pg_temp.import(%L)', (SELECT jsonb_set(document::jsonb, '{rules,1,condition}', '"nowhere = 1"') FROM kept)), 'LR004', NULL, 'a condition is checked as ever');
INSERT INTO public.calls (source) VALUES ('x');
UPDATE leadroute.rule SET active = true WHERE lead_table = 'calls' AND tenant = 0;
INSERT INTO public.calls (source) VALUES ('x');
SELECT throws_ok($$SELECT pg_temp.import('{"leadroute": 1, "reps": [], "pools": [], "rules": [], "calendars": [], "territories": [], "sla_policies": []}')$$,
    'LR006', NULL, 'what is in use stays, and with it all');
SELECT is((SELECT count(*) FROM leadroute.rule WHERE tenant = 0), 4::bigint, 'all or nothing');
INSERT INTO leadroute.rep (name) VALUES ('Bob');
SELECT throws_ok('SELECT leadroute.export_rules()', 'LR015', 'more than one rep is "Bob"', 'two who cannot be told apart');
SELECT * FROM finish();
