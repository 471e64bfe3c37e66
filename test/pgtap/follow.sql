-- The record follows what is done to the leads: owners changed by hand, keys, deletes, partitions,
-- tenants, DDL.
BEGIN;
SELECT plan(82);
SET LOCAL client_min_messages = warning;

CREATE FUNCTION pg_temp.kept(tenant bigint DEFAULT 0) RETURNS boolean LANGUAGE sql AS $$
    SELECT (v.lost, v.double, v.overshoot, v.drift, v.orphan) = (0, 0, 0, 0, 0) FROM leadroute.verify(tenant) v
$$;
-- the episodes of a lead as "episode:rep or -:method:end reason or open"
CREATE FUNCTION pg_temp.episodes(lead_table text, lead_id text, tenant bigint DEFAULT 0) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(format('%s:%s:%s:%s', d.episode, coalesce(d.rep::text, '-'), d.method, coalesce(d.end_reason, 'open')), ' '
        ORDER BY d.episode)
    FROM leadroute.decision d WHERE d.lead_table = $1 AND d.lead_id = $2 AND d.tenant = $3
$$;

-- loads the tenant, so that this transaction's own configuration stands beside what others see
SELECT ok(pg_temp.kept(), 'verify() is all 0 where there is nothing');

INSERT INTO leadroute.rep (tenant, id, name, daily_cap) VALUES (0, 1, 'Ann', NULL), (0, 2, 'Bob', 3), (5, 1, 'Eve', NULL), (6, 1, 'Fay', NULL);
INSERT INTO leadroute.pool (tenant, name) VALUES (0, 'team'), (5, 'team'), (6, 'team'), (6, 'rest');
INSERT INTO leadroute.pool_member (tenant, pool, rep) VALUES (0, 'team', 1), (5, 'team', 1), (6, 'rest', 1);

-- Owners ----------------------------------------------------------------------------------------

DO $$ BEGIN PERFORM leadroute.create_lead_table('public.leads'); END $$;
INSERT INTO leadroute.rule (lead_table, position, name, pool) VALUES ('leads', 1, 'all', 'team');
INSERT INTO public.leads (id, source) SELECT n, 'web' FROM generate_series(1, 6) n;
SELECT is((SELECT count(*) FROM public.leads WHERE owner_id = 1), 6::bigint, 'six leads are routed');

UPDATE public.leads SET owner_id = owner_id, source = 'mail', id = id;
SELECT is((SELECT count(*) FROM leadroute.assignment), 6::bigint, 'an UPDATE of every column with the same values does nothing');

UPDATE public.leads SET owner_id = 2 WHERE id = 1;
SELECT is(pg_temp.episodes('leads', '1'), '1:1:push:manual 2:2:manual:open', 'another owner: a manual episode follows');
SELECT is((SELECT used FROM leadroute._day_memory(0) WHERE rep = 2), 1, 'and counts as used');
SELECT is((SELECT reason FROM leadroute.decision WHERE lead_id = '1' AND status = 'assigned'), 'owner given by hand', 'by hand');
UPDATE public.leads SET owner_id = NULL WHERE id = 1;
SELECT is(pg_temp.episodes('leads', '1'), '1:1:push:manual 2:2:manual:released 3:-:push:open', 'NULL releases it');
UPDATE public.leads SET owner_id = NULL WHERE id = 2;
SELECT is((SELECT queue FROM leadroute.queue WHERE lead_id = '2'), 'team', 'to the queue of the pool that it came from');
SELECT is((SELECT queue FROM leadroute.queue WHERE lead_id = '1'), 'team', 'though others had it meanwhile');
UPDATE public.leads SET owner_id = 1 WHERE id = 2;
SELECT is(pg_temp.episodes('leads', '2'), '1:1:push:released 2:-:push:manual 3:1:manual:open', 'an owner given to a lead that waits');
SELECT ok(pg_temp.kept(), 'verify() is all 0');

-- Keys, deletes ---------------------------------------------------------------------------------

UPDATE public.leads SET id = 102 WHERE id = 2;
SELECT is(pg_temp.episodes('leads', '102'), '1:1:push:released 2:-:push:manual 3:1:manual:open', 'a changed key takes the record along');
SELECT is(pg_temp.episodes('leads', '2'), NULL, 'and leaves nothing behind');
UPDATE public.leads SET id = 103, owner_id = 2 WHERE id = 3;
SELECT is(pg_temp.episodes('leads', '103'), '1:1:push:manual 2:2:manual:open', 'key and owner at once');
DELETE FROM public.leads WHERE id = 4;
SELECT is(pg_temp.episodes('leads', '4'), '1:1:push:deleted', 'a deleted lead''s episode ends');
SELECT is((SELECT received FROM leadroute._pool_memory(0) WHERE rep = 1), 6::bigint, 'it has used its turn');
UPDATE public.leads SET id = 4 WHERE id = 5;
SELECT is(pg_temp.episodes('leads', '4'), '1:1:push:deleted 2:1:push:open', 'a key that a deleted lead had counts on');
SELECT throws_like('UPDATE public.leads SET id = 4 WHERE id = 6', '%"leads_pkey"%', 'a key that another lead has: its own index refuses it');
SELECT is(pg_temp.episodes('leads', '6'), '1:1:push:open', 'and the record stays');
INSERT INTO public.leads (id) VALUES (5);
SELECT is(pg_temp.episodes('leads', '5'), '1:1:push:open', 'a key that was given up starts anew');
SAVEPOINT before_truncate;
TRUNCATE public.leads;
SELECT is((SELECT count(*) FROM leadroute.open_assignment), 0::bigint, 'TRUNCATE ends all');
SELECT ok(pg_temp.kept(), 'verify() is all 0');
ROLLBACK TO before_truncate;
SELECT is((SELECT count(*) FROM leadroute.open_assignment), 6::bigint, 'and ROLLBACK brings them back');
SELECT ok(pg_temp.kept(), 'verify() is all 0');

-- Keys that are used again -----------------------------------------------------------------------

-- twice: the first life of a key leaves an ended episode 1 behind, and an insert does not look
CREATE FUNCTION pg_temp.again(statement text, reason text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    CREATE TABLE public.again (id text PRIMARY KEY, owner_id bigint) PARTITION BY LIST (id);
    CREATE TABLE public.again_x PARTITION OF public.again FOR VALUES IN ('x');
    PERFORM leadroute.attach('public.again');
    FOR life IN 1 .. 2 LOOP
        INSERT INTO public.again VALUES ('x', 1);
        DELETE FROM public.again;
    END LOOP;
    INSERT INTO public.again VALUES ('x', 2);
    RETURN NEXT is((SELECT max(d.episode) FROM leadroute.decision d WHERE d.lead_table = 'again'), 3, 'the third life of a key');
    RETURN NEXT is((SELECT o.episode FROM leadroute.open_assignment o WHERE o.lead_table = 'again'), 3, 'in both views');
    RETURN NEXT matches(leadroute.why('again', 'x') || leadroute.why('again', 'x', 3) || leadroute.why('again', 'x', 2),
        'episode 3.*Bob.*episode 3.*Bob.*episode 2.*Ann.*deleted', 'and for why()');
    EXECUTE statement;
    RETURN NEXT results_eq('SELECT a.episode, a.end_reason FROM leadroute.assignment a WHERE a.lead_id = ''x'' AND a.ended_at IS NOT NULL ORDER BY 1',
        format('VALUES (1, ''deleted''), (2, ''deleted''), (3, %L)', reason), statement);
    DROP TABLE IF EXISTS public.again;
    DROP TABLE IF EXISTS public.again_x;
    DELETE FROM leadroute.assignment a WHERE a.lead_id = 'x';
END
$$;
SELECT pg_temp.again('DELETE FROM public.again', 'deleted');
SELECT pg_temp.again('UPDATE public.again SET owner_id = 1', 'manual');
SELECT pg_temp.again('UPDATE public.again SET owner_id = NULL', 'released');
SELECT pg_temp.again('TRUNCATE public.again', 'truncated');
SELECT pg_temp.again('DROP TABLE public.again', 'dropped');
SELECT pg_temp.again('ALTER TABLE public.again DETACH PARTITION public.again_x', 'detached');
SELECT pg_temp.again('SELECT leadroute.detach(''again'')', 'detached');
SELECT ok(pg_temp.kept(), 'verify() is all 0');
INSERT INTO public.leads (id) VALUES (90);
DELETE FROM public.leads WHERE id = 90;
INSERT INTO public.leads (id) VALUES (90);
UPDATE public.leads SET id = 91 WHERE id = 90;
UPDATE public.leads SET owner_id = 2 WHERE id = 91;
SELECT is(pg_temp.episodes('leads', '91'), '1:1:push:deleted 2:1:push:manual 3:2:manual:open', 'a reused key that changes, then its owner');

-- The app needs no right on leadroute's tables ----------------------------------------------------

CREATE ROLE leadroute_test_app;
GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON public.leads TO leadroute_test_app;
GRANT USAGE ON SEQUENCE public.leads_id_seq TO leadroute_test_app;
SET LOCAL ROLE leadroute_test_app;
INSERT INTO public.leads (id) VALUES (7), (8);
UPDATE public.leads SET owner_id = 2 WHERE id = 7;
UPDATE public.leads SET id = 70 WHERE id = 7;
DELETE FROM public.leads WHERE id = 8;
RESET ROLE;
SELECT is(pg_temp.episodes('leads', '70'), '1:1:push:manual 2:2:manual:open', 'an app without rights: owner and key');
SELECT is(pg_temp.episodes('leads', '8'), '1:1:push:deleted', 'and delete');
CREATE TABLE public.planted (id bigint PRIMARY KEY, owner_id bigint);
CREATE TRIGGER planted AFTER DELETE ON public.planted FOR EACH ROW EXECUTE FUNCTION leadroute.follow_delete(1);
INSERT INTO public.planted VALUES (70);
SELECT throws_ok('DELETE FROM public.planted', 'LR002', NULL, 'a trigger put on another table ends nobody''s episodes');

-- Partitions ------------------------------------------------------------------------------------

CREATE TABLE public.parts (id bigint PRIMARY KEY, extra text, owner_id bigint) PARTITION BY RANGE (id);
CREATE TABLE public.parts_1 (owner_id bigint, extra text, id bigint NOT NULL);
ALTER TABLE public.parts ATTACH PARTITION public.parts_1 FOR VALUES FROM (0) TO (100);
DO $$ BEGIN PERFORM leadroute.attach('public.parts'); END $$;
INSERT INTO leadroute.rule (lead_table, position, name, pool) VALUES ('parts', 1, 'all', 'team');
CREATE TABLE public.parts_2 PARTITION OF public.parts FOR VALUES FROM (100) TO (200);
CREATE TABLE public.parts_3 (id bigint NOT NULL, extra text, owner_id bigint);
ALTER TABLE public.parts ATTACH PARTITION public.parts_3 FOR VALUES FROM (200) TO (300);
INSERT INTO public.parts (id) VALUES (1), (2), (101), (102), (201), (202);
INSERT INTO public.parts_1 (id) VALUES (3);
SELECT is((SELECT count(*) FROM leadroute.open_assignment WHERE lead_table = 'parts' AND rep = 1), 7::bigint, 'root and leaf are routed');
UPDATE public.parts SET id = 150 WHERE id = 1;
SELECT is(pg_temp.episodes('parts', '150'), '1:1:push:open', 'a row that moves to another partition takes its record along');
SELECT is(pg_temp.episodes('parts', '1'), NULL, 'and only that');
UPDATE public.parts SET id = 151, owner_id = 2 WHERE id = 2;
SELECT is(pg_temp.episodes('parts', '151'), '1:1:push:manual 2:2:manual:open', 'also with another owner');
TRUNCATE public.parts_1;
SELECT is(pg_temp.episodes('parts', '3'), '1:1:push:truncated', 'TRUNCATE of a leaf ends its leads');
TRUNCATE public.parts_3;
SELECT is(pg_temp.episodes('parts', '201'), '1:1:push:truncated', 'also of one that was attached later');
SELECT ok(pg_temp.kept(), 'verify() is all 0');
SAVEPOINT trigger_dropped;
DROP TRIGGER zz_leadroute ON public.parts;
SELECT is((SELECT count(*) FROM leadroute.rule WHERE lead_table = 'parts'), 1::bigint, 'a trigger that is dropped by hand takes no rules along');
SELECT is((SELECT count(*) FROM leadroute.open_assignment WHERE lead_table = 'parts'), 4::bigint, 'and ends no leads');
ROLLBACK TO trigger_dropped;
ALTER TABLE public.parts DETACH PARTITION public.parts_2;
SELECT is(pg_temp.episodes('parts', '150'), '1:1:push:detached', 'DETACH PARTITION ends its leads');
INSERT INTO public.parts (id) VALUES (4), (203);
DROP TABLE public.parts_1;
SELECT is(pg_temp.episodes('parts', '4'), '1:1:push:dropped', 'DROP of a partition ends its leads');
SELECT is(pg_temp.episodes('parts', '203'), '1:1:push:open', 'and no others');
SELECT ok(pg_temp.kept(), 'verify() is all 0');

-- Tenants ---------------------------------------------------------------------------------------

CREATE TABLE public.shared_leads (org integer NOT NULL, id bigint, owner_id bigint, PRIMARY KEY (org, id));
DO $$ BEGIN PERFORM leadroute.attach('public.shared_leads', tenant_column => 'org', fallback_pool => 'rest'); END $$;
INSERT INTO leadroute.rule (tenant, lead_table, position, name, pool) VALUES (5, 'shared_leads', 1, 'all', 'team');
INSERT INTO public.shared_leads VALUES (5, 1), (6, 1), (7, 1);
SELECT is(pg_temp.episodes('shared_leads', '1', 5), '1:1:push:open', 'a tenant''s rule');
SELECT is(pg_temp.episodes('shared_leads', '1', 6), '1:1:push:open', 'a tenant''s fallback pool');
SELECT is(pg_temp.episodes('shared_leads', '1', 7), '1:-:push:open', 'a tenant without either waits');
UPDATE public.shared_leads SET org = 7, id = 2 WHERE org = 5;
SELECT is(pg_temp.episodes('shared_leads', '1', 5), NULL, 'a lead that moves to another tenant');
SELECT is((SELECT count(*) FROM leadroute.verify(5) v WHERE (lost, double, drift, orphan) = (0, 0, 0, 0)), 1::bigint, 'leaves no trace that is wrong');
SELECT ok(pg_temp.kept(5) AND pg_temp.kept(6) AND pg_temp.kept(7), 'verify() is all 0 for each tenant');

-- DDL -------------------------------------------------------------------------------------------

ALTER TABLE public.leads RENAME COLUMN owner_id TO seller;
ALTER TABLE public.leads RENAME COLUMN id TO number;
INSERT INTO public.leads (number) VALUES (200);
SELECT is(pg_temp.episodes('leads', '200'), '1:1:push:open', 'renamed key and owner columns are followed');
SELECT throws_ok('ALTER TABLE public.leads DROP COLUMN seller', '2BP01', NULL, 'the owner column cannot be dropped unnoticed');
SELECT throws_ok('ALTER TABLE public.leads ALTER COLUMN number TYPE integer', '0A000', NULL, 'nor the key change its type');
DROP TABLE public.leads;
SELECT is((SELECT count(*) FROM leadroute.open_assignment WHERE lead_table = 'leads'), 0::bigint, 'DROP TABLE ends the leads');
SELECT is((SELECT count(*) FROM leadroute.lead_table WHERE name = 'leads'), 0::bigint, 'and the attachment');
SELECT ok(pg_temp.kept(), 'verify() is all 0 at the end');

SELECT * FROM finish();
ROLLBACK;
