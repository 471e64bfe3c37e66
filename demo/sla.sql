-- A moment of a policy's life: a lead that nobody touches in time goes to somebody else, and people hear
-- of it. Run by show.sql.

\echo 'First touch in time. Who gets a lead by the sea has two seconds to touch it (in earnest: minutes of business'
\echo 'hours); half way the rep is reminded. Two leads arrive; only the first one''s rep calls:'
\echo
INSERT INTO leadroute.sla_policy (name, first_touch) VALUES ('two seconds', '2 seconds');
INSERT INTO leadroute.sla_step (policy, share, action) VALUES ('two seconds', 0.5, 'remind');
UPDATE leadroute.pool SET sla = 'two seconds' WHERE name = 'marina';
INSERT INTO lead (id, arrived, channel, location) VALUES
    ('SEA-1', '2026-01-01', 'Website', 'Dubai Marina'), ('SEA-2', '2026-01-01', 'Website', 'Palm Jumeirah') RETURNING id, owner;
DO $$ BEGIN PERFORM leadroute.touch('lead', 'SEA-1', 'call'); END $$;
SELECT lead_id, rep, round(extract(epoch FROM due_at - clock_timestamp()), 1) || ' s' AS due_in, hops FROM leadroute.sla;
SELECT pg_sleep(1) \g /dev/null
CALL leadroute.sweep();
SELECT pg_sleep(greatest(0, date_part('epoch', max(due_at) - clock_timestamp()))) FROM leadroute.sla \g /dev/null

\echo 'Two seconds later CALL leadroute.sweep() has taken the other lead away. (SELECT leadroute.schedule_sweep() lets'
\echo 'pg_cron call it every minute.) The lead''s episodes:'
\echo
CALL leadroute.sweep();
SELECT episode, rep_name AS rep, method, status, end_reason, age(ended_at, decided_at) AS had_it
FROM leadroute.decision WHERE lead_id = 'SEA-2' ORDER BY episode;
\echo 'The manager''s alert, open until leadroute.acknowledge() takes note of it:'
\echo
SELECT a.kind, r.name AS "for", a.message FROM leadroute.alert a JOIN leadroute.rep r ON r.id = a.manager WHERE a.kind = 'sla_breach';
\echo 'And what both managers, who listen on their channels, have heard of it by NOTIFY:'
\echo
\! for try in 1 2 3 4 5 6 7 8 9 10; do grep -q sla_breach "$HEARD.managers" && break; sleep 0.2; done
\! sed -n 's/.*notification "\([a-z_0-9]*\)" with payload "\(.*sla_breach.*\)" received.*/\1: \2/p' "$HEARD.managers"
\echo
