-- What sweep() does with leads that nobody touches: each step once, in order, and what people hear of it.
SELECT no_plan();
SET client_min_messages = warning;

DO $$ BEGIN PERFORM leadroute.create_lead_table('public.leads'); END $$;
INSERT INTO leadroute.rep (id, name) VALUES (8, 'Top'), (9, 'Boss'), (10, 'Pool boss');
UPDATE leadroute.rep SET manager = 8 WHERE id = 9;
INSERT INTO leadroute.rep (id, name, manager) VALUES (1, 'Ann', 9), (2, 'Bob', 9), (3, 'Cho', NULL), (4, 'Dan', NULL), (5, 'Eve', NULL);
INSERT INTO leadroute.pool (name, manager) VALUES ('team', 10), ('bin', NULL), ('solo', NULL), ('other', NULL);
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('team', 1), ('team', 2), ('team', 3), ('bin', 4), ('solo', 5), ('other', 4);
INSERT INTO leadroute.sla_policy (name, first_touch, max_hops, recycle_pool) VALUES ('gold', '10 minutes', 2, 'bin');
INSERT INTO leadroute.sla_step (policy, share, action) VALUES ('gold', 0.5, 'remind');
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool, sla) VALUES ('leads', 1, 'team', 'source = ''team''', 'team', 'gold'),
    ('leads', 2, 'solo', 'source = ''solo''', 'solo', 'gold');

-- As if the open episode of these leads had begun so much earlier.
CREATE FUNCTION public.older(leads bigint[], by interval) RETURNS void LANGUAGE sql AS $$
    UPDATE leadroute.assignment SET decided_at = decided_at - by, due_at = due_at - by, next_step_at = next_step_at - by
    WHERE lead_id = ANY (leads::text[]) AND ended_at IS NULL $$;
CREATE FUNCTION public.new_lead(source text, owner bigint DEFAULT NULL) RETURNS bigint LANGUAGE sql AS $$
    INSERT INTO public.leads (source, owner_id) VALUES (source, owner) RETURNING id $$;
-- The lead's episodes: rep, method, how it ended, whether breached, hops.
CREATE FUNCTION public.story(lead bigint) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(format('%s %s %s%s%s', coalesce(a.rep::text, 'waits'), a.method, coalesce(a.end_reason, 'open'),
        CASE WHEN a.breached_at IS NOT NULL THEN '!' END, CASE WHEN a.hops IS NOT NULL THEN ' ' || a.hops END), ', ' ORDER BY a.episode)
    FROM leadroute.assignment a WHERE a.lead_id = lead::text $$;
-- What policies have done, whichever row tells of it.
CREATE VIEW public.told AS SELECT kind, lead_table, lead_id, rep, at FROM leadroute.sla_action
    UNION ALL SELECT 'breached', lead_table, lead_id, rep, ended_at FROM leadroute.assignment
    WHERE end_reason = 'breached' AND breached_at = ended_at AND tank_at IS NULL;
CREATE FUNCTION public.acts(lead bigint) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(format('%s %s', a.kind, a.rep), ', ' ORDER BY a.at) FROM public.told a WHERE a.lead_id = lead::text $$;
CREATE FUNCTION public.alerts(lead bigint) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(format('%s to %s', a.kind, a.manager), ', ' ORDER BY a.id) FROM leadroute.alert a WHERE a.lead_id = lead::text $$;

-- Reminded, re-routed, recycled --------------------------------------------------------------------

SELECT new_lead('team') AS l \gset
CALL leadroute.sweep();
SELECT is(acts(:l), NULL, 'nothing is due');
SELECT older(ARRAY[:l], '6 minutes');
CALL leadroute.sweep();
SELECT is(acts(:l), 'reminder 1', 'half way the rep is reminded');
SELECT is((SELECT next_step_at - due_at FROM leadroute.assignment WHERE ended_at IS NULL), '0'::interval, 'the breach is next');
CALL leadroute.sweep();
SELECT is(acts(:l), 'reminder 1', 'once');
SELECT older(ARRAY[:l], '5 minutes');
CALL leadroute.sweep();
SELECT is(story(:l), '1 push breached!, 2 reroute open 1', 'a breached lead goes to the next rep');
SELECT is((SELECT owner_id FROM public.leads WHERE id = :l), 2::bigint, 'who is its owner');
SELECT is(acts(:l), 'reminder 1, breached 1', 'the old rep hears of it');
SELECT is(alerts(:l), 'sla_breach to 9', 'and its manager');
SELECT is((SELECT message ~ '^lead \d+ of "leads": rep 1 did not touch it by .*; it is now rep 2''s$' FROM leadroute.alert), true, 'in words');
SELECT is((SELECT due_at - decided_at FROM leadroute.assignment WHERE ended_at IS NULL), '10 minutes'::interval, 'the new rep has a clock');
SELECT matches(leadroute.why('leads', :l, 1), 'Ended at .*: breached, not touched in time \(policy "gold"\)\.$', 'why() says how the episode ended');
CREATE ROLE lr_words_ann; CREATE ROLE lr_words_bob;
SELECT leadroute.grant_access('lr_words_ann', 'rep'), leadroute.grant_access('lr_words_bob', 'rep') \g /dev/null
UPDATE leadroute.rep SET db_role = 'lr_words_ann' WHERE id = 1;
UPDATE leadroute.rep SET db_role = 'lr_words_bob' WHERE id = 2;
SET ROLE lr_words_ann;
SELECT matches(leadroute.why('leads', :l, 1), 'Ended at .*: breached, not touched in time\.$', 'a rep too, who reads no policies');
SET ROLE lr_words_bob;
SELECT matches(leadroute.why('leads', :l), 'Rule "team"', 'nor the episodes of others');
RESET ROLE;
UPDATE leadroute.rep SET db_role = NULL;
SELECT leadroute.revoke_access('lr_words_ann', 'rep'), leadroute.revoke_access('lr_words_bob', 'rep') \g /dev/null
DROP ROLE lr_words_ann, lr_words_bob;
SELECT matches(leadroute.why('leads', :l), E'\n  Taken from Ann \\(1\\), who did not touch it by .*\\.\n', 'and how the next one began');
SELECT matches((SELECT reason FROM leadroute.decision WHERE lead_id = :'l' AND ended_at IS NULL), '^taken from Ann \(1\), who did not touch it by .*; first in turn', 'as decision does');
SELECT results_eq($$ SELECT pool, rep, received FROM leadroute.pool_state WHERE pool = 'team' ORDER BY rep $$,
    $$ VALUES ('team', 1::bigint, 1::bigint), ('team', 2, 1), ('team', 3, 0) $$, 'both turns are used');
CALL leadroute.sweep();
SELECT is(story(:l), '1 push breached!, 2 reroute open 1', 'once');

SELECT older(ARRAY[:l], '1 hour');
CALL leadroute.sweep();
SELECT is(acts(:l), 'reminder 1, breached 1, reminder 2, breached 2', 'what was missed is caught up in one go, in order');
SELECT is(story(:l), '1 push breached!, 2 reroute breached! 1, 3 reroute open 2', 'never to one who missed it');
SELECT older(ARRAY[:l], '1 hour');
CALL leadroute.sweep();
SELECT is(story(:l), '1 push breached!, 2 reroute breached! 1, 3 reroute breached! 2, 4 reroute open', 'after the most hops it goes to the recycle bin');
SELECT is(acts(:l), 'reminder 1, breached 1, reminder 2, breached 2, reminder 3, breached 3, recycled 3', 'which is told');
SELECT matches(leadroute.why('leads', :l), E'\n  Into the recycle bin from Cho \\(3\\), who', 'and why() says');
SELECT is(alerts(:l), 'sla_breach to 9, sla_breach to 9, reroute_limit to 10, sla_breach to 10', 'to the pool''s manager where the rep has none');
SELECT is((SELECT p.name FROM leadroute.assignment a JOIN leadroute.pool p ON p.id = a.pool WHERE a.ended_at IS NULL), 'bin', 'the bin gives it out again');
SELECT older(ARRAY[:l], '1 hour');
CALL leadroute.sweep();
SELECT is(split_part(story(:l), ', ', 5), 'waits reroute open 1', 'to others of its own members; nobody is left');
SELECT is((SELECT owner_id FROM public.leads WHERE id = :l), NULL, 'and nobody owns it');
SELECT is((SELECT avoid FROM leadroute.assignment WHERE ended_at IS NULL), '{1,2,3,4}'::bigint[], 'all who missed it are known');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('bin', 5);
CALL leadroute.sweep();
SELECT is(split_part(story(:l), ', ', 6), '5 backlog open 1', 'who comes later gets it');
SELECT is((SELECT sla IS NOT NULL FROM leadroute.assignment WHERE ended_at IS NULL), true, 'with a clock');

-- A touch stops the clock ---------------------------------------------------------------------------

SELECT leadroute.touch('leads', :l, 'call');
SELECT older(ARRAY[:l], '1 hour');
CALL leadroute.sweep();
SELECT is(split_part(story(:l), ', ', 6), '5 backlog open 1', 'a touched lead stays');
DELETE FROM public.leads;

-- People ----------------------------------------------------------------------------------------------

SELECT new_lead('team', 3) AS l \gset
UPDATE leadroute.lead_table SET sla = 'gold';
SELECT new_lead('team', 3) AS l \gset
SELECT older(ARRAY[:l], '1 hour');
CALL leadroute.sweep();
SELECT is(story(:l), '3 manual open!', 'whom a person gave it keeps it');
SELECT is(acts(:l), 'reminder 3, breached 3', 'but the clock runs');
SELECT is(alerts(:l) ~ 'sla_breach', true, 'and people hear of it');
UPDATE leadroute.sla_policy SET moves_manual = true;
SELECT new_lead('team', 3) AS l \gset
SELECT older(ARRAY[:l], '1 hour');
CALL leadroute.sweep();
SELECT is(split_part(story(:l), ',', 1), '3 manual breached!', 'unless the policy says so');
SELECT is((SELECT rep <> 3 FROM leadroute.assignment WHERE lead_id = :'l' AND ended_at IS NULL), true, 'by the rules');
UPDATE leadroute.sla_policy SET moves_manual = false;
UPDATE leadroute.lead_table SET sla = NULL;

-- Nobody else, and no bin -----------------------------------------------------------------------------

SELECT new_lead('solo') AS l \gset
SELECT older(ARRAY[:l], '1 hour');
CALL leadroute.sweep();
SELECT is(story(:l), '5 push breached!, waits reroute open 1', 'a lead that nobody else can take waits');
SELECT matches((SELECT message FROM leadroute.alert WHERE kind = 'sla_breach' AND lead_id = :'l'), '; it waits now$', 'as the alert says');
UPDATE leadroute.sla_policy SET recycle_pool = NULL, max_hops = 0;
SELECT new_lead('solo') AS l \gset
SELECT older(ARRAY[:l], '1 hour');
CALL leadroute.sweep();
SELECT is(story(:l), '5 push open!', 'without hops and bin it stays');
SELECT is(alerts(:l), 'reroute_limit to , sla_breach to ', 'with an alert');
UPDATE leadroute.sla_policy SET recycle_pool = 'bin', max_hops = 2;
DELETE FROM public.leads;

-- Managers --------------------------------------------------------------------------------------------

INSERT INTO leadroute.sla_policy (name, first_touch, on_breach) VALUES ('steps', '10 minutes', NULL);
INSERT INTO leadroute.sla_step (policy, after, action) VALUES ('steps', '2 minutes', 'notify_manager'), ('steps', '20 minutes', 'escalate'), ('steps', '20 minutes', 'remind');
UPDATE leadroute.rule SET sla = 'steps' WHERE name = 'team';
UPDATE leadroute.pool_member SET paused = rep <> 1 WHERE pool = 'team';
SELECT new_lead('team') AS l \gset
SELECT older(ARRAY[:l], '3 minutes');
CALL leadroute.sweep();
SELECT is(alerts(:l), 'escalated to 9', 'the manager is told before the breach');
SELECT older(ARRAY[:l], '10 minutes');
CALL leadroute.sweep();
SELECT is(alerts(:l), 'escalated to 9, sla_breach to 9', 'at the breach');
SELECT is(story(:l), '1 push open!', 'which changes nothing else by this policy');
SELECT older(ARRAY[:l], '10 minutes');
CALL leadroute.sweep();
SELECT is(alerts(:l), 'escalated to 9, sla_breach to 9, escalated to 8', 'and the manager''s manager after it');
SELECT is(acts(:l), 'breached 1, reminder 1', 'several steps at one time');
SELECT is((SELECT next_step_at IS NULL AND stepped = '20 minutes' FROM leadroute.assignment WHERE ended_at IS NULL), true, 'no step is left');

-- a digest instead of a flood
INSERT INTO public.leads (source) SELECT 'team' FROM generate_series(1, 12);
SELECT older(array_agg(id), '12 minutes') FROM public.leads;
DELETE FROM leadroute.alert;
CALL leadroute.sweep();
SELECT is((SELECT count(*) FROM public.told WHERE kind = 'breached' AND lead_id IN (SELECT id::text FROM public.leads)), 13::bigint, 'many breach together');
SELECT results_eq($$ SELECT kind, manager, lead_id, message ~ '^12 leads of "leads" by policy "steps", not touched( in time)?: (\d+, ){10}\.\.\.$' FROM leadroute.alert ORDER BY kind $$,
    $$ VALUES ('escalated', 9::bigint, NULL, true), ('sla_breach', 9, NULL, true) $$, 'the manager hears of them once');
DELETE FROM public.leads;

-- Reps who miss their leads ---------------------------------------------------------------------------

UPDATE leadroute.sla_policy SET away_after_breaches = 2 WHERE name = 'gold';
UPDATE leadroute.rule SET sla = 'gold' WHERE name = 'team';
-- older() has the record counted anew: these have no past
INSERT INTO leadroute.rep (id, name) VALUES (6, 'Fay'), (7, 'Gus');
INSERT INTO leadroute.pool (name) VALUES ('pair');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('pair', 6), ('pair', 7);
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool, sla) VALUES ('leads', 3, 'pair', 'source = ''pair''', 'pair', 'gold');
INSERT INTO public.leads (source) SELECT 'pair' FROM generate_series(1, 4);
SELECT min(id) FILTER (WHERE owner_id = 6) AS fay, max(id) FILTER (WHERE owner_id = 6) AS fay_too, min(id) FILTER (WHERE owner_id = 7) AS gus FROM public.leads \gset
SELECT leadroute.touch('leads', :gus, 'call');
SELECT older(ARRAY[:fay], '1 hour');
CALL leadroute.sweep();
SELECT is((SELECT paused FROM leadroute.rep WHERE id = 6), false, 'one miss is none too many');
SELECT older(ARRAY[:fay_too], '1 hour');
CALL leadroute.sweep();
SELECT is((SELECT paused FROM leadroute.rep WHERE id = 6), true, 'two in a row set the rep away');
SELECT is((SELECT paused FROM leadroute.rep WHERE id = 7), false, 'nobody else');
UPDATE leadroute.rep SET paused = false WHERE id = 6;
UPDATE leadroute.sla_policy SET away_for = '1 hour' WHERE name = 'gold';
SELECT older(array_agg(id), '1 hour') FROM public.leads WHERE owner_id = 7;
CALL leadroute.sweep();
SELECT is((SELECT during @> now() AND upper(during) > now() + interval '59 minutes' FROM leadroute.rep_absence WHERE rep = 7), true, 'for a time');
SELECT is((SELECT paused FROM leadroute.rep WHERE id = 6), false, 'what was before a return does not count');
UPDATE leadroute.sla_policy SET away_after_breaches = NULL, away_for = NULL;
DELETE FROM leadroute.rep_absence;
DELETE FROM public.leads;

-- Where it goes, and whose turn it was -----------------------------------------------------------------

UPDATE leadroute.pool_member SET paused = false WHERE pool = 'team';
UPDATE leadroute.sla_policy SET returns_turn = true, exclude_last = 1, max_hops = NULL WHERE name = 'gold';
UPDATE leadroute.pool_member SET paused = rep = 3 WHERE pool = 'team';
SELECT new_lead('team') AS l \gset
SELECT received AS before FROM leadroute.pool_state WHERE pool = 'team' AND rep = (SELECT owner_id FROM public.leads) \gset
SELECT owner_id AS first FROM public.leads \gset
SELECT older(ARRAY[:l], '1 hour');
CALL leadroute.sweep();
SELECT is((SELECT received FROM leadroute.pool_state WHERE pool = 'team' AND rep = :first), :before - 1::bigint, 'the turn is returned by policy');
SELECT is((SELECT credited_by || ' ' || credit_reason FROM leadroute.assignment WHERE lead_id = :'l' AND rep = :first), 'leadroute policy "gold"', 'as a credit');
SELECT older(ARRAY[:l], '1 hour');
CALL leadroute.sweep();
SELECT is((SELECT owner_id FROM public.leads), :first::bigint, 'with exclude_last 1 it may come back');
SELECT is((SELECT hops FROM leadroute.assignment WHERE ended_at IS NULL AND lead_id = :'l'), 2, 'hops go on');
UPDATE leadroute.sla_policy SET reroute_to = 'rules' WHERE name = 'gold';
UPDATE leadroute.rule SET pool = 'other' WHERE name = 'team';
SELECT older(ARRAY[:l], '1 hour');
CALL leadroute.sweep();
SELECT is((SELECT owner_id FROM public.leads), 4::bigint, 'by the rules');
INSERT INTO leadroute.sla_step (policy, after, action, pool) VALUES ('gold', '3 minutes', 'reroute', 'solo');
DELETE FROM public.leads;
SELECT new_lead('team') AS l \gset
SELECT older(ARRAY[:l], '4 minutes');
CALL leadroute.sweep();
SELECT is((SELECT owner_id FROM public.leads), 5::bigint, 'a step may name a pool, and come before the breach');
SELECT is((SELECT breached_at IS NULL FROM leadroute.assignment WHERE lead_id = :'l' AND rep = 4), true, 'which is none then');
DELETE FROM leadroute.sla_step WHERE pool = 'solo';
UPDATE leadroute.rule SET pool = 'team' WHERE name = 'team';
DELETE FROM public.leads;

-- The shark tank, and leads that are claimed ---------------------------------------------------------

UPDATE leadroute.sla_policy SET on_breach = 'shark_tank', returns_turn = false, exclude_last = NULL, reroute_to = 'pool' WHERE name = 'gold';
SELECT new_lead('team') AS l \gset
SELECT owner_id AS first, 3 - owner_id AS second FROM public.leads WHERE id = :l \gset
SELECT older(ARRAY[:l], '1 hour');
CALL leadroute.sweep();
SELECT is((SELECT format('%s %s %s', rep = :first, tank_pool IS NOT NULL, breached_at IS NOT NULL) FROM leadroute.assignment WHERE ended_at IS NULL AND lead_id = :'l'),
    't t t', 'a lead in the shark tank stays with its rep');
SELECT is((SELECT count(*) FROM leadroute.claim('leads', :l, :second)), 1::bigint, 'until another takes it');
SELECT is((SELECT format('%s %s', s.name, a.due_at - a.decided_at) FROM leadroute.assignment a JOIN leadroute.sla_policy s ON s.id = a.sla
    WHERE ended_at IS NULL AND lead_id = :'l'), 'gold 00:10:00', 'whose clock is that of the lead''s rule');
UPDATE leadroute.sla_policy SET on_breach = 'reroute' WHERE name = 'gold';
UPDATE leadroute.pool SET mode = 'pull' WHERE name = 'other';
UPDATE leadroute.lead_table SET sla = 'steps', fallback_pool = 'other';
SELECT new_lead('nobody') AS l \gset
SELECT is((SELECT count(*) FROM leadroute.claim('leads', :l, 4)), 1::bigint, 'a lead that is claimed');
SELECT is((SELECT format('%s %s', s.name, a.due_at - a.decided_at) FROM leadroute.assignment a JOIN leadroute.sla_policy s ON s.id = a.sla
    WHERE ended_at IS NULL AND lead_id = :'l'), 'steps 00:10:00', 'has the lead table''s where nobody else has one');
UPDATE leadroute.lead_table SET sla = NULL, fallback_pool = NULL;
UPDATE leadroute.pool SET mode = 'push' WHERE name = 'other';
DELETE FROM public.leads;

-- What fails is set aside -------------------------------------------------------------------------------

CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'never mind'; END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON public.leads FOR EACH ROW WHEN (OLD.name = 'stuck') EXECUTE FUNCTION public.refuse();
INSERT INTO public.leads (source, name) SELECT 'team', CASE i WHEN 1 THEN 'stuck' END FROM generate_series(1, 3) i;
SELECT older(array_agg(id), '1 hour') FROM public.leads;
SELECT id AS stuck FROM public.leads WHERE name = 'stuck' \gset
CALL leadroute.sweep();
SELECT is((SELECT count(*) FROM leadroute.assignment a JOIN public.leads l ON a.lead_id = l.id::text WHERE a.method = 'reroute' AND a.ended_at IS NULL), 2::bigint, 'a lead that fails does not keep up the others');
SELECT is(story(:stuck) ~ '^\d push open$', true, 'nothing of it is done');
SELECT is(acts(:stuck), NULL, 'nor told');
SELECT is((SELECT message ~ 'cannot be done: never mind' FROM leadroute.alert WHERE kind = 'sla_error' AND lead_id = :'stuck'), true, 'but that it fails');
UPDATE public.leads SET name = 'free' WHERE false;
DROP TRIGGER refuse ON public.leads;
CALL leadroute.sweep();
SELECT is(story(:stuck) ~ '^\d push open$', true, 'it rests');
UPDATE leadroute.assignment SET next_step_at = next_step_at - interval '10 minutes' WHERE lead_id = :'stuck' AND ended_at IS NULL;
CALL leadroute.sweep();
SELECT is(story(:stuck) ~ '^\d push breached!, \d reroute open 1$', true, 'and is tried again after ten minutes');

-- in batches
DELETE FROM public.leads;
INSERT INTO public.leads (source) SELECT 'team' FROM generate_series(1, 250);
SELECT older(array_agg(id), '1 hour') FROM public.leads;
CALL leadroute.sweep(max_rows => 30);
SELECT is((SELECT count(*) FROM leadroute.assignment WHERE end_reason = 'breached' AND lead_id IN (SELECT id::text FROM public.leads)), 30::bigint, 'at most max_rows');
CALL leadroute.sweep(budget => '0 seconds');
SELECT is((SELECT count(*) FROM leadroute.assignment WHERE end_reason = 'breached' AND lead_id IN (SELECT id::text FROM public.leads)), 30::bigint, 'no batch after the budget');
CALL leadroute.sweep();
SELECT is((SELECT count(*) FROM leadroute.assignment WHERE end_reason = 'breached' AND lead_id IN (SELECT id::text FROM public.leads)), 250::bigint, 'all of them');
SELECT is((SELECT count(*) FROM public.leads l JOIN leadroute.assignment a ON a.lead_id = l.id::text AND a.ended_at IS NULL WHERE a.rep = l.owner_id AND a.hops = 1), 250::bigint, 'each once');

-- a policy that is gone stops the clock
UPDATE leadroute.assignment SET sla = 999 WHERE ended_at IS NULL;
SELECT older(array_agg(id), '1 hour') FROM public.leads;
CALL leadroute.sweep();
SELECT is((SELECT count(*) FROM leadroute.assignment WHERE ended_at IS NULL AND next_step_at IS NOT NULL), 0::bigint, 'a policy that is gone stops the clock');

SELECT results_eq('SELECT * FROM leadroute.verify()', 'VALUES (0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint)', 'verify()');
SELECT * FROM finish();
