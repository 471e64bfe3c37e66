-- reroute_on: columns whose change routes a lead again.
BEGIN;
SELECT plan(51);
SET LOCAL client_min_messages = warning;

CREATE FUNCTION pg_temp.kept(tenant bigint DEFAULT 0) RETURNS boolean LANGUAGE sql AS $$
    SELECT (v.lost, v.double, v.overshoot, v.drift, v.orphan) = (0, 0, 0, 0, 0) FROM leadroute.verify(tenant) v
$$;
CREATE FUNCTION pg_temp.episodes(lead_id text, lead_table text DEFAULT 'leads') RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(format('%s:%s:%s:%s', d.episode, coalesce(d.rep::text, '-'), d.method, coalesce(d.end_reason, 'open')), ' '
        ORDER BY d.episode)
    FROM leadroute.decision d WHERE d.lead_table = $2 AND d.lead_id = $1
$$;
CREATE FUNCTION pg_temp.refused(statement text, code text, pattern text, description text) RETURNS text
    LANGUAGE plpgsql AS $$
DECLARE
    state text := 'nothing';
    message text;
    detail text;
    hint text;
BEGIN
    BEGIN
        EXECUTE statement;
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    END;
    RETURN ok(state = code AND message ~ pattern AND detail <> '' AND hint <> '', description)
        || CASE WHEN state = code AND message ~ pattern THEN '' ELSE E'\n' || diag(state, ' ', message) END;
END
$$;

SELECT ok(pg_temp.kept(), 'verify() is all 0 where there is nothing');
INSERT INTO leadroute.rep (id, name) VALUES (1, 'Ann'), (2, 'Bob'), (3, 'Cy');
INSERT INTO leadroute.pool (name) VALUES ('north'), ('south'), ('none');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('north', 1), ('south', 2);
CREATE TABLE public.leads (id bigint PRIMARY KEY, region text, deal_value numeric, spot point, note text, twice numeric GENERATED ALWAYS AS (deal_value * 2) STORED, owner_id bigint);
SELECT pg_temp.refused(format('SELECT leadroute.attach(''public.leads'', reroute_on => %L)', c), 'LR005', p, 'refused: ' || p)
FROM (VALUES ('{nix}', 'no such column'), ('{region,id}', 'is the key column'), ('{owner_id}', 'is the owner column'), ('{twice}', 'a generated column'),
    ('{}', 'names no column'), ('{region,NULL}', 'names no column'), ('{ctid}', 'no such column')) AS x (c, p);
DO $$ BEGIN PERFORM leadroute.attach('public.leads', reroute_on => '{region,deal_value,spot}'); END $$;
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool, rep, label) VALUES
    ('leads', 1, 'rich', 'deal_value > 1000', NULL, 3, NULL), ('leads', 2, 'north', $c$region = 'north'$c$, 'north', NULL, '{"note": "up"}'),
    ('leads', 3, 'south', $c$region = 'south'$c$, 'south', NULL, '{"note": "down", "deal_value": 5}'), ('leads', 4, 'none', $c$region = 'none'$c$, 'none', NULL, NULL);
INSERT INTO public.leads (id, region) SELECT n, 'north' FROM generate_series(1, 9) n;

-- What happens, and what does not ---------------------------------------------------------------------

UPDATE public.leads SET id = id, region = region, deal_value = deal_value, spot = spot, note = note, owner_id = owner_id;
UPDATE public.leads SET note = 'x';
UPDATE public.leads SET deal_value = 10, spot = '(1,2)';
SELECT is((SELECT count(*) FROM leadroute.assignment), 9::bigint, 'the same values, other columns, a change that the same rule matches: nothing happens');
PREPARE south AS UPDATE public.leads SET region = 'south' WHERE id = 1 RETURNING owner_id, note, deal_value;
SELECT results_eq('south', $$ VALUES (2::bigint, 'down', 5::numeric) $$, 'another rule: RETURNING shows the new owner and label');
SELECT is(pg_temp.episodes('1'), '1:1:push:rerouted 2:2:reroute:open', 'one episode ends, one begins');
SELECT is((SELECT reason FROM leadroute.decision WHERE lead_id = '1' AND status = 'assigned'), 'first in turn of 1 in pool "south"', 'explained as an insert');
UPDATE public.leads SET deal_value = 5000 WHERE id = 1;
SELECT is(pg_temp.episodes('1'), '1:1:push:rerouted 2:2:reroute:rerouted 3:3:reroute:open', 'another column');
UPDATE public.leads SET region = 'none', deal_value = 0 WHERE id = 1;
SELECT is(pg_temp.episodes('1'), '1:1:push:rerouted 2:2:reroute:rerouted 3:3:reroute:rerouted 4:-:reroute:open', 'nobody there: it waits');
SELECT is((SELECT queue FROM leadroute.queue), 'none', 'in the queue of the pool');
SELECT is((SELECT owner_id FROM public.leads WHERE id = 1), NULL, 'without an owner');
SELECT is((SELECT kind FROM leadroute.alert), 'nobody_available', 'and somebody is alerted');
UPDATE public.leads SET deal_value = 1 WHERE id = 1;
SELECT is(pg_temp.episodes('1'), '1:1:push:rerouted 2:2:reroute:rerouted 3:3:reroute:rerouted 4:-:reroute:open', 'and goes on waiting');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('none', 3);
UPDATE public.leads SET deal_value = 2 WHERE id = 1;
SELECT is((SELECT owner_id FROM public.leads WHERE id = 1), 3::bigint, 'until somebody is there');
SELECT ok(pg_temp.kept(), 'verify() is all 0');

-- What a person gave stays ------------------------------------------------------------------------------

UPDATE public.leads SET owner_id = 3 WHERE id = 2;
UPDATE public.leads SET region = 'south' WHERE id = 2;
SELECT is(pg_temp.episodes('2'), '1:1:push:manual 2:3:manual:open', 'an owner that a person gave stays');
UPDATE public.leads SET region = 'south', owner_id = 3 WHERE id = 3;
SELECT is(pg_temp.episodes('3'), '1:1:push:manual 2:3:manual:open', 'also one given in the same UPDATE');
UPDATE public.leads SET region = 'south', owner_id = NULL WHERE id = 4;
SELECT is(pg_temp.episodes('4'), '1:1:push:released 2:-:push:open', 'or taken away');
UPDATE public.leads SET region = 'north' WHERE id = 4;
SELECT is((SELECT owner_id FROM public.leads WHERE id = 4), NULL, 'to whoever has not given it up: nobody');
UPDATE leadroute.assignment SET avoid = NULL WHERE lead_id = '4' AND ended_at IS NULL;
UPDATE public.leads SET deal_value = 3 WHERE id = 4;
SELECT is((SELECT owner_id FROM public.leads WHERE id = 4), 1::bigint, 'what waits is routed');
SELECT is((leadroute.reassign('leads', 5, 2)).rep, 2::bigint, 'reassigned');
UPDATE public.leads SET region = 'south' WHERE id = 5;
SELECT is(pg_temp.episodes('5'), '1:1:push:reassigned 2:2:manual:open', 'stays');
SELECT ok(pg_temp.kept(), 'verify() is all 0');

-- Rows that do not arrive, or arrive otherwise -------------------------------------------------------------

CREATE FUNCTION public.later() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    CASE NEW.note WHEN 'down' THEN
        CASE NEW.id WHEN 6 THEN RETURN NULL; WHEN 7 THEN NEW.owner_id := 3; WHEN 8 THEN NEW.owner_id := OLD.owner_id; WHEN 9 THEN NEW.region := 'north'; END CASE;
    ELSE END CASE;
    RETURN NEW;
END $$;
CREATE TRIGGER zzz_later BEFORE UPDATE ON public.leads FOR EACH ROW EXECUTE FUNCTION public.later();
CREATE TEMP TABLE before AS SELECT received, rep FROM leadroute._pool_memory(0);
UPDATE public.leads SET region = 'south' WHERE id BETWEEN 6 AND 9;
SELECT is(pg_temp.episodes('6'), '1:1:push:open', 'a row that a later trigger drops');
SELECT is(pg_temp.episodes('7'), '1:1:push:manual 2:3:manual:open', 'an owner that a later trigger names is not ours');
SELECT is(pg_temp.episodes('8'), '1:1:push:open', 'nor one that it keeps');
SELECT is(pg_temp.episodes('9'), '1:1:push:rerouted 2:2:reroute:open', 'a column that it puts back');
SELECT is((SELECT m.received - b.received FROM leadroute._pool_memory(0) m JOIN before b USING (rep) WHERE m.rep = 2), 1::bigint, 'turns of what did not arrive go back');
SELECT ok(pg_temp.kept(), 'verify() is all 0');
DROP TRIGGER zzz_later ON public.leads;
UPDATE public.leads SET region = 'north' WHERE id = 8;
SAVEPOINT a;
UPDATE public.leads SET region = 'south' WHERE id IN (6, 8);
SELECT is((SELECT count(*) FROM leadroute.open_assignment WHERE method = 'reroute' AND rep = 2), 3::bigint, 'three');
ROLLBACK TO a;
SELECT is((SELECT count(*) FROM leadroute.open_assignment WHERE method = 'reroute' AND rep = 2), 1::bigint, 'and back');
INSERT INTO public.leads (id, region) VALUES (6, 'none'), (60, 'north') ON CONFLICT (id) DO UPDATE SET region = 'south';
SELECT is(pg_temp.episodes('6'), '1:1:push:rerouted 2:2:reroute:open', 'ON CONFLICT DO UPDATE');
UPDATE public.leads SET region = 'south', id = 80 WHERE id = 8;
SELECT is(pg_temp.episodes('80'), '1:1:push:rerouted 2:2:reroute:open', 'with another key');
SELECT is((SELECT string_agg(pg_temp.episodes('60') || coalesce(pg_temp.episodes('8'), ''), '')), '1:1:push:open', 'and no other');
SELECT ok(pg_temp.kept(), 'verify() is all 0');

-- Columns that change ------------------------------------------------------------------------------------------

ALTER TABLE public.leads RENAME spot TO place;
SELECT is((SELECT reroute_on FROM leadroute.lead_table), '{deal_value,place,region}'::name[], 'a renamed column is followed');
SELECT throws_ok('ALTER TABLE public.leads DROP place', '2BP01', NULL, 'and cannot be dropped unnoticed');
ALTER TABLE public.leads DROP place CASCADE;
SELECT is((SELECT reroute_on FROM leadroute.lead_table), '{deal_value,region}'::name[], 'dropped with CASCADE, the others stay');
UPDATE public.leads SET region = 'none' WHERE id = 60;
SELECT is((SELECT owner_id FROM public.leads WHERE id = 60), 3::bigint, 'and route');
UPDATE leadroute.lead_table SET reroute_on = '{note}';
UPDATE public.leads SET region = 'north' WHERE id = 60;
SELECT is((SELECT owner_id FROM public.leads WHERE id = 60), 3::bigint, 'others by UPDATE of lead_table');
UPDATE public.leads SET note = 'y' WHERE id = 60;
SELECT is((SELECT owner_id FROM public.leads WHERE id = 60), 1::bigint, 'which route');
SELECT pg_temp.refused('UPDATE leadroute.lead_table SET reroute_on = ''{nix}''', 'LR005', 'no such column', 'but these');
UPDATE leadroute.lead_table SET reroute_on = NULL;
SELECT hasnt_trigger('public', 'leads', 'zz_leadroute_reroute', 'none');

-- Partitions, with their own layout ----------------------------------------------------------------------------

CREATE TABLE public.parts (id int PRIMARY KEY, region text, owner_id bigint) PARTITION BY RANGE (id);
CREATE TABLE public.parts_1 (owner_id bigint, gone int, region text, id int NOT NULL);
ALTER TABLE public.parts_1 DROP gone;
ALTER TABLE public.parts ATTACH PARTITION public.parts_1 FOR VALUES FROM (0) TO (10);
DO $$ BEGIN PERFORM leadroute.attach('public.parts', reroute_on => '{region}'); END $$;
CREATE TABLE public.parts_2 PARTITION OF public.parts FOR VALUES FROM (10) TO (20);
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool) VALUES ('parts', 1, 'north', $c$region = 'north'$c$, 'north'), ('parts', 2, 'south', $c$region = 'south'$c$, 'south');
INSERT INTO public.parts (id, region) VALUES (1, 'north'), (2, 'north'), (11, 'north');
UPDATE public.parts SET region = 'south', id = CASE id WHEN 2 THEN 12 ELSE id END;
SELECT is(concat_ws(' / ', pg_temp.episodes('1', 'parts'), pg_temp.episodes('12', 'parts'), pg_temp.episodes('11', 'parts')),
    '1:1:push:rerouted 2:2:reroute:open / 1:1:push:rerouted 2:2:reroute:open / 1:1:push:rerouted 2:2:reroute:open', 'in each, and from one to another');
SELECT is((SELECT count(*) FROM public.parts WHERE owner_id = 2), 3::bigint, 'with their owner');
SELECT ok(pg_temp.kept(), 'verify() is all 0');

SELECT * FROM finish();
ROLLBACK;
