-- A member who left, was forgotten by a checkpoint, and comes back: what it received before counts.
SELECT plan(4);
DO $$ BEGIN PERFORM leadroute.create_lead_table('public.leads'); END $$;
INSERT INTO leadroute.rep (id, name) VALUES (1, 'Ann'), (2, 'Bob');
INSERT INTO leadroute.pool (name) VALUES ('team');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('team', 1), ('team', 2);
INSERT INTO leadroute.rule (lead_table, position, name, pool) VALUES ('leads', 1, 'all', 'team');
INSERT INTO public.leads (source) SELECT 'web' FROM generate_series(1, 10);
DELETE FROM leadroute.pool_member WHERE rep = 2;
INSERT INTO public.leads (source) VALUES ('web');
INSERT INTO public.leads (source) VALUES ('web');
SELECT is((SELECT reps FROM leadroute.checkpoint ORDER BY ticket DESC LIMIT 1), ARRAY[1]::bigint[], 'a checkpoint without the member');
SELECT ok(leadroute._forget(0), 'memory is to be rebuilt from it');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('team', 2);
SELECT results_eq('SELECT rep, received FROM leadroute.pool_state ORDER BY rep', 'VALUES (1::bigint, 7::bigint), (2, 5)', 'all that the member received counts');
SELECT is((SELECT drift FROM leadroute.verify()), 0::bigint, 'as the record has it');
SELECT * FROM finish();
