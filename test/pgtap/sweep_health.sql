-- What sweep() notes of itself, what health() says of it, and the alert where it is late; with a job of
-- pg_cron: test/t/125_pg_cron.pl.
SELECT no_plan();
SET client_min_messages = warning;
SELECT is(leadroute._cron_every(schedule), every::interval, format('"%s"', schedule)) FROM (VALUES ('* * * * *', '1 minute'), ('*/5 * * * *', '5 minutes'),
    ('0,30 * * * *', '1 hour'), ('0 */2 * * *', '2 hours'), ('* 9-17 * * *', '1 day'), ('0 3 * * 1-5', '7 days'), ('0 0 1 * *', '31 days'),
    ('0 0 1 1 *', '366 days'), (' 30 seconds', '30 seconds')) v (schedule, every);

CREATE FUNCTION public.detail(name text) RETURNS text LANGUAGE sql AS $$ SELECT CASE WHEN ok THEN 'ok: ' ELSE 'NOT: ' END || detail FROM leadroute.health() WHERE item = name $$;
CREATE FUNCTION public.late() RETURNS bigint LANGUAGE sql AS $$ SELECT count(*) FROM leadroute.alert WHERE kind = 'sweep_late' $$;
DO $$ BEGIN PERFORM leadroute.create_lead_table('public.leads'); END $$;
INSERT INTO leadroute.rep (id, name) VALUES (1, 'Ann');
INSERT INTO leadroute.pool (name) VALUES ('team');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('team', 1);
INSERT INTO leadroute.rule (lead_table, position, name, pool) VALUES ('leads', 1, 'all', 'team');
INSERT INTO public.leads (source) VALUES ('web');
SELECT matches(detail('sweep'), '^ok: not scheduled by pg_cron here; has not run to its end yet$', 'nothing has to be done by it');
SELECT is(detail('sweep job'), 'ok: none of pg_cron in this database', 'nor is there a job');
SELECT is(leadroute._sweep_watch(), false, 'nothing is late');

INSERT INTO leadroute.sla_policy (name, first_touch, on_breach) VALUES ('soon', '1 hour', NULL);
UPDATE leadroute.pool SET sla = 'soon';
INSERT INTO public.leads (source) VALUES ('web');
SELECT matches(detail('sweep'), '^NOT: .*leads have clocks that only it looks at.*schedule_sweep', 'a clock that nobody looks at');
SELECT matches(detail('overdue leads'), '^ok: none', 'is not overdue');
CALL leadroute.sweep(max_rows => 0);
SELECT is((SELECT ended_at IS NULL AND begun_at > now() - interval '1 minute' FROM leadroute.sweep_run), true, 'one that ends early has not come to its end');
CALL leadroute.sweep();
SELECT is((SELECT ended_at >= begun_at AND took > '0' FROM leadroute.sweep_run), true, 'when one ran, and how long');
SELECT matches(detail('sweep'), '^ok: not scheduled by pg_cron here; ran to its end at .*, in 00:00', 'is told');

UPDATE leadroute.assignment SET next_step_at = now() - interval '4 minutes', due_at = now() - interval '4 minutes' WHERE next_step_at IS NOT NULL;
UPDATE leadroute.sweep_run SET begun_at = begun_at - interval '10 minutes', ended_at = ended_at - interval '10 minutes';
SELECT matches(detail('overdue leads'), '^ok: the longest overdue waits', 'a lead that waits a little');
SELECT is(leadroute._sweep_watch(), false, 'is no alert');
UPDATE leadroute.assignment SET next_step_at = now() - interval '6 minutes' WHERE next_step_at IS NOT NULL;
SELECT matches(detail('overdue leads'), '^NOT: the longest overdue waits .* since .*: CALL leadroute.sweep', 'one that waits for long');
SELECT is(leadroute._sweep_watch(), true, 'is');
SELECT is(leadroute._sweep_watch(), true, 'again');
UPDATE leadroute.alert SET raised_at = now() - interval '2 minutes' WHERE kind = 'sweep_late';
SELECT is(leadroute._sweep_watch(), true, 'and again');
SELECT is(late(), 1::bigint, 'one alert for as long as none runs');
SELECT matches((SELECT message FROM leadroute.alert WHERE kind = 'sweep_late'), '^sweep\(\) has not run since .*, and is not scheduled here; leads wait for it since ', 'in words');
UPDATE leadroute.alert SET acknowledged_at = now();
CALL leadroute.sweep();
SELECT is(late(), 2::bigint, 'the sweep that comes late says so itself');
CALL leadroute.sweep();
SELECT is(late(), 2::bigint, 'the next one is in time');
SELECT matches(detail('overdue leads'), '^ok: none', 'and nothing is overdue');

CREATE ROLE lr_sweep_some;
SELECT leadroute.grant_access('lr_sweep_some', 'admin', 7) \g /dev/null
SELECT ended_at AS ended FROM leadroute.sweep_run \gset
SET ROLE lr_sweep_some;
CALL leadroute.sweep();
RESET ROLE;
SELECT is((SELECT ended_at FROM leadroute.sweep_run), :'ended', 'one of a tenant alone is not one of all');
SELECT leadroute.revoke_access('lr_sweep_some', 'admin', 7) \g /dev/null
DROP ROLE lr_sweep_some;
SELECT * FROM finish();
