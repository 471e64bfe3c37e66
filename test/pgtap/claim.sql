-- claim() and claim_next(): who may take which lead, what is said to whom may not, what counts.
BEGIN;
SELECT no_plan();
SET LOCAL client_min_messages = warning;

CREATE FUNCTION pg_temp.kept(tenant bigint DEFAULT 0) RETURNS boolean LANGUAGE sql AS $$
    SELECT (v.lost, v.double, v.overshoot, v.drift, v.orphan) = (0, 0, 0, 0, 0) FROM leadroute.verify(tenant) v
$$;
CREATE FUNCTION pg_temp.episodes(lead_id text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(format('%s:%s:%s:%s', d.episode, coalesce(d.rep::text, '-'), d.method, coalesce(d.end_reason, 'open')), ' '
        ORDER BY d.episode)
    FROM leadroute.decision d WHERE d.lead_table = 'leads' AND d.lead_id = $1
$$;
-- what a statement is refused with, as 'SQLSTATE message | detail | hint'
CREATE FUNCTION pg_temp.refusal(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    state text; message text; detail text; hint text;
BEGIN
    EXECUTE statement;
    RETURN 'nothing';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN format('%s %s | %s | %s', state, message, detail, hint);
END $$;
CREATE FUNCTION pg_temp.used(rep bigint) RETURNS text LANGUAGE sql AS $$
    SELECT format('%s of %s today, %s open, received %s', m.rep_used, m.member_used, m.open_used, m.received)
    FROM leadroute._pool_memory(0) m WHERE m.rep = $1 AND m.pool = 1
$$;
-- the leads that claim_next() gives, one after the other
CREATE FUNCTION pg_temp.taken(rep bigint, many integer, pool text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    leads text[];
BEGIN
    FOR i IN 1 .. many LOOP
        leads := leads || (SELECT n.lead_id FROM leadroute.claim_next(taken.rep, taken.pool) n);
    END LOOP;
    RETURN array_to_string(leads, ' ');
END $$;
CREATE FUNCTION pg_temp.day_end(zone text DEFAULT 'UTC') RETURNS text LANGUAGE sql AS $$
    SELECT (((now() AT TIME ZONE zone)::date + 1)::timestamp AT TIME ZONE zone)::text
$$;

DO $$ BEGIN PERFORM leadroute.create_lead_table('public.leads'); END $$;
INSERT INTO leadroute.rep (id, name, ref, skills, open_cap) VALUES (1, 'Ann', 'ann', '{"dutch": 2}', 1000), (2, 'Bob', NULL, '{}', NULL), (3, 'Cy', NULL, '{}', NULL), (4, 'Dee', NULL, '{}', NULL);
INSERT INTO leadroute.pool (id, name, mode) VALUES (1, 'desk', 'pull'), (2, 'push', 'push'), (3, 'side', 'pull');
INSERT INTO leadroute.pool_member (pool, rep, tier) VALUES ('desk', 1, 1), ('desk', 2, 2), ('desk', 4, 2), ('push', 1, 1), ('side', 1, 1), ('side', 4, 1);
INSERT INTO leadroute.rule (lead_table, position, name, condition, needs, pool, label) VALUES
    ('leads', 1, 'push', $c$source = 'push'$c$, NULL, 'push', NULL), ('leads', 2, 'side', $c$source = 'side'$c$, NULL, 'side', '{"priority": 5}'),
    ('leads', 3, 'dutch', $c$language = 'nl'$c$, $c$ARRAY['dutch>=2']$c$, 'desk', NULL), ('leads', 4, 'desk', $c$source IS NULL$c$, NULL, 'desk', '{"product": "x"}');
INSERT INTO leads (id) SELECT generate_series(1, 9);

-- a claim -----------------------------------------------------------------------------------------

SELECT results_eq($$ SELECT lead_id, episode, rep, method, pool, rule, day, label, ended_at, explanation FROM leadroute.claim('leads', 1, 1) $$,
    $$ VALUES ('1' COLLATE "C", 2, 1::bigint, 'claim', 1, 4::bigint, (now() AT TIME ZONE 'UTC')::date, '{"product": "x"}'::jsonb, NULL::timestamptz, NULL::bytea) $$, 'claim() returns the new episode');
SELECT is((SELECT owner_id FROM leads WHERE id = 1), 1::bigint, 'the lead has its owner');
SELECT is(pg_temp.episodes('1'), '1:-:push:claimed 2:1:claim:open', 'the waiting episode ended, the next one is open');
SELECT is(pg_temp.used(1), '1 of 1 today, 1 open, received 1', 'it counts as a turn of the pool, for the day and as open');
SELECT results_eq($$ SELECT round(due, 3) FROM leadroute.pool_state WHERE pool = 'desk' ORDER BY rep $$, '{0.333,0.333,0.333}'::numeric[], 'which was due to all members alike');
SELECT results_eq($$ SELECT lead_id, episode, decided_at FROM leadroute.claim('leads', 1::bigint, 1) $$,
    $$ SELECT lead_id, episode, decided_at FROM leadroute.assignment WHERE lead_id = '1' AND ended_at IS NULL $$, 'once more: the same episode');
SELECT is(pg_temp.used(1), '1 of 1 today, 1 open, received 1', 'which costs nothing');
SELECT is(pg_temp.refusal($$ SELECT leadroute.claim('leads', 1, 2) $$),
    format('LR009 lead 1 of "leads" is taken | Rep 1 has it since %s (claim). | Claim another one: leadroute.claim_next(2), or of leadroute.available_leads(2).',
        (SELECT decided_at FROM leadroute.assignment WHERE lead_id = '1' AND ended_at IS NULL)), 'the loser is told who has it, and since when');
SELECT matches(leadroute.why('leads', 1), 'assigned to Ann \(1\).*\(claim\)', 'why() tells of the claim');
SELECT is((SELECT lead_id FROM leadroute.claim('leads', '2', 2)), '2', 'an id as a literal');
SELECT ok(pg_temp.kept(), 'verify() is all 0');

-- other ends --------------------------------------------------------------------------------------

DELETE FROM leads WHERE id = 3;
INSERT INTO leads (id) VALUES (3);
SELECT is((SELECT episode FROM leadroute.claim('leads', 3, 2)), 3, 'episodes count on from those of an earlier lead with the key');
SELECT is(pg_temp.episodes('3'), '1:-:push:deleted 2:-:push:claimed 3:2:claim:open', 'all of them have their number');
SELECT is((SELECT method FROM leadroute.release('leads', 2)), 'push', 'a claimed lead is released');
SELECT is((SELECT needs IS NULL AND label = '{"product": "x"}' AND rule = 4 AND pool = 1 FROM leadroute.assignment WHERE lead_id = '2' AND ended_at IS NULL), true, 'into its queue, with its label');
SELECT is((SELECT rep FROM leadroute.claim('leads', 2, 4)), 4::bigint, 'and claimed again');
UPDATE leads SET owner_id = NULL WHERE id = 2;
SELECT is((SELECT rep FROM leadroute.claim('leads', 2, 2)), 2::bigint, 'an owner taken away by UPDATE');
SELECT is((SELECT rep FROM leadroute.reassign('leads', 2, 3)), 3::bigint, 'given to another');
SELECT is((SELECT count(*) FROM leads WHERE owner_id = 3), 1::bigint, 'as the lead says');
SELECT ok(pg_temp.kept(), 'verify() after these');

-- refusals ----------------------------------------------------------------------------------------

SELECT is(pg_temp.refusal($$ SELECT leadroute.claim('nope', 4, 1) $$), 'LR002 lead table "nope" is not attached | Attached are: leads. | Attach it with leadroute.attach(), or use the name that leadroute.lead_table shows.', 'no such lead table');
SELECT is(pg_temp.refusal($$ SELECT leadroute.claim(NULL, 4, 1) $$), 'LR002 lead table "" is not attached | Attached are: leads. | Attach it with leadroute.attach(), or use the name that leadroute.lead_table shows.', 'none at all');
SELECT is(pg_temp.refusal(format('SELECT leadroute.claim(%L, %s, 1)', 'leads', id)), message, 'no such lead: ' || id) FROM (VALUES
    ('99', 'LR007 there is no lead 99 in "leads" | No row of the table has this key. | Give the primary key of a lead, and its tenant where there are several.'),
    ('NULL::text', 'LR007 there is no lead NULL in "leads" | No row of the table has this key. | Give the primary key of a lead, and its tenant where there are several.'),
    ($$'x'$$, 'LR007 there is no lead x in "leads" | No row of the table has this key. | Give the primary key of a lead, and its tenant where there are several.')) v (id, message);
SELECT is(pg_temp.refusal($$ SELECT leadroute.claim('leads', 4, 1, 6) $$), 'LR008 there is no rep 1 | leadroute.rep has no such id in tenant 6. | Give the id of a rep of the lead''s tenant.', 'no rep of that tenant');
SELECT is(pg_temp.refusal($$ SELECT leadroute.claim('leads', 4, 77) $$), 'LR008 there is no rep 77 | leadroute.rep has no such id. | Give the id of a rep of the lead''s tenant.', 'no such rep');
SELECT is(pg_temp.refusal($$ SELECT leadroute.claim('leads', 4, NULL) $$), 'LR008 there is no rep NULL | A lead is claimed for a rep. | Give the id of a rep of the lead''s tenant.', 'no rep');
SELECT leadroute.close('leads', 4, 'lost');
SELECT matches(pg_temp.refusal($$ SELECT leadroute.claim('leads', 4, 1) $$), '^LR007 lead 4 of "leads" is closed \| Since .*: lost\. \| An UPDATE', 'a closed lead');
SELECT is(pg_temp.refusal($$ SELECT leadroute.claim('leads', 5, 3) $$), 'LR010 rep 3 may not claim lead 5 of "leads" | It waits in pool desk, of which the rep is not a member. | An admin may INSERT INTO leadroute.pool_member (pool, rep) VALUES (''desk'', 3).', 'who is no member');
INSERT INTO leads (id, source) VALUES (10, 'nowhere');
SELECT is(pg_temp.refusal($$ SELECT leadroute.claim('leads', 10, 1) $$), 'LR010 rep 1 may not claim lead 10 of "leads" | It waits in the queue unmatched, which no rep is a member of. | leadroute.reassign() gives it to a rep, leadroute.route() tries the rules again.', 'of no pool');
UPDATE leadroute.rep SET paused = true;
INSERT INTO leads (id, source) VALUES (11, 'push');
SELECT is(pg_temp.refusal($$ SELECT leadroute.claim('leads', 5, 1) $$), 'LR010 rep 1 may not claim lead 5 of "leads" | The rep is paused. | UPDATE leadroute.rep SET paused = false WHERE id = 1.', 'a paused rep');
SELECT is(pg_temp.refusal($$ SELECT leadroute.claim_next(1) $$), 'LR010 rep 1 may not claim leads | The rep is paused. | UPDATE leadroute.rep SET paused = false WHERE id = 1.', 'the same of claim_next()');
UPDATE leadroute.rep SET paused = false;
SELECT is(pg_temp.refusal($$ SELECT leadroute.claim('leads', 11, 1) $$), 'LR010 rep 1 may not claim lead 11 of "leads" | Pool push gives its leads out itself (mode push). | Leads are claimed from pools with the mode pull or broadcast, and where somebody released them.', 'a pool that gives them out');
UPDATE leadroute.pool_member SET paused = true WHERE (pool, rep) = ('desk', 1);
SELECT is(pg_temp.refusal($$ SELECT leadroute.claim('leads', 5, 1) $$), 'LR010 rep 1 may not claim lead 5 of "leads" | The rep is paused in pool desk. | UPDATE leadroute.pool_member SET paused = false WHERE pool = ''desk'' AND rep = 1.', 'a paused member');
UPDATE leadroute.pool_member SET paused = false;
UPDATE leadroute.pool SET presence_required = true WHERE name = 'desk';
SELECT is(pg_temp.refusal($$ SELECT leadroute.claim('leads', 5, 1) $$), 'LR010 rep 1 may not claim lead 5 of "leads" | The rep is not signed in, and pool desk asks for it. | SELECT leadroute.sign_in(1).', 'who is not signed in');
SELECT leadroute.sign_in(1);
SELECT is((SELECT rep FROM leadroute.claim('leads', 5, 1)), 1::bigint, 'and who is');
UPDATE leadroute.pool SET presence_required = false WHERE name = 'desk';
INSERT INTO leadroute.rep_absence (rep, during) VALUES (1, tstzrange(now() - interval '1 hour', now() + interval '1 hour'));
INSERT INTO leads (id, language) VALUES (12, 'nl'), (13, 'nl');
SELECT is((SELECT needs FROM leadroute.assignment WHERE lead_id = '12'), '{dutch>=2}', 'a lead with needs');
SELECT is(pg_temp.refusal($$ SELECT leadroute.claim('leads', 12, 2) $$), 'LR010 rep 2 may not claim lead 12 of "leads" | The rep lacks a skill that the lead needs. | assignment.needs tells which it needs, rep.skills which the rep has.', 'who lacks a skill');
SELECT is((SELECT rep FROM leadroute.claim('leads', 12, 1)), 1::bigint, 'who has it, even on leave: who takes a lead is there');
SELECT is((SELECT needs FROM leadroute.assignment WHERE lead_id = '12' AND ended_at IS NULL), '{dutch>=2}', 'the needs are kept for whoever has it next');
SELECT ok(pg_temp.kept(), 'verify() with a member who is away');
DELETE FROM leadroute.rep_absence;
UPDATE leadroute.pool SET claim_exclusive = '1 hour' WHERE name = 'desk';
SELECT is(pg_temp.refusal($$ SELECT leadroute.claim('leads', 6, 2) $$), format('LR010 rep 2 may not claim lead 6 of "leads" | Until %s it is for members of the first tier of pool desk (claim_exclusive). | Claim it then, or another one.',
    (SELECT decided_at + interval '1 hour' FROM leadroute.assignment WHERE lead_id = '6')), 'another tier within claim_exclusive');
SELECT is_empty($$ SELECT * FROM leadroute.claim_next(2) $$, 'claim_next() leaves it out');
SELECT is((SELECT rep FROM leadroute.claim('leads', 6, 1)), 1::bigint, 'the first tier');
UPDATE leadroute.pool SET claim_exclusive = NULL, claim_blind = true WHERE name = 'desk';
SELECT is(pg_temp.refusal($$ SELECT leadroute.claim('leads', 7, 1) $$), 'LR010 rep 1 may not claim lead 7 of "leads" | Leads of pool desk are claimed unseen (claim_blind). | leadroute.claim_next(1, ''desk'') takes the next one.', 'blind');
SELECT is(pg_temp.taken(2, 1), '7', 'claim_next() works');
UPDATE leadroute.pool SET claim_blind = false WHERE name = 'desk';
SELECT is(pg_temp.refusal($$ SELECT leadroute.claim_next(1, 'nope') $$), 'LR008 there is no pool "nope" | leadroute.pool has no such name. | Leave the pool out to claim from any that the rep is a member of.', 'no such pool');
SELECT is(pg_temp.refusal($$ SELECT leadroute.claim_next(2, 'side') $$), 'LR010 rep 2 may not claim leads of pool "side" | The rep is not a member of it. | An admin may INSERT INTO leadroute.pool_member (pool, rep) VALUES (''side'', 2).', 'not of that pool');
SELECT ok(pg_temp.kept(), 'verify() after the refusals');

-- order -------------------------------------------------------------------------------------------

INSERT INTO leads (id, source) VALUES (20, NULL), (21, NULL), (22, 'side'), (23, 'side');
SELECT is(pg_temp.taken(4, 3, 'desk'), '8 9 20', 'the oldest first, without those that the rep lacks a skill for');
SELECT is(pg_temp.taken(4, 2), '22 23', 'of several pools the best place first');
SELECT is(pg_temp.taken(4, 2), '21', 'then the others, and in the end none');
SELECT is(pg_temp.taken(1, 3), '13', 'the one that needs what this rep has');
INSERT INTO leads (id) VALUES (24), (25);
SELECT is((SELECT count(*) FROM leadroute.release('leads', 21)), 1::bigint, 'a lead that its rep gives up');
UPDATE leadroute.assignment SET avoid = '{4}' WHERE lead_id = '21' AND ended_at IS NULL;
SELECT is(pg_temp.taken(4, 3), '24 25', 'claim_next() does not give it to the rep again');
SELECT is((SELECT rep FROM leadroute.claim('leads', 21, 4)), 4::bigint, 'claim() does');
SELECT ok(pg_temp.kept(), 'verify() after claim_next()');

-- caps --------------------------------------------------------------------------------------------

INSERT INTO leadroute.rep (id, name, timezone) VALUES (5, 'Eve', 'Asia/Tokyo'), (6, 'Fay', 'UTC');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('desk', 5), ('desk', 6);
INSERT INTO leads (id) SELECT generate_series(30, 60);
UPDATE leadroute.rep SET daily_cap = 1 WHERE id = 5;
SELECT is((SELECT rep_cap FROM leadroute.claim('leads', 30, 5)), 1, 'the cap in force is on record');
SELECT is(pg_temp.refusal($$ SELECT leadroute.claim('leads', 31, 5) $$), format('LR011 rep 5 may not claim more leads now | daily_cap: 1 of 1 leads today, until %s. | rep.daily_cap says how many.', pg_temp.day_end('Asia/Tokyo')), 'the rep''s daily cap');
SELECT is(pg_temp.refusal($$ SELECT leadroute.claim_next(5) $$), format('LR011 rep 5 may not claim more leads now | daily_cap: 1 of 1 leads today, until %s. | rep.daily_cap says how many.', pg_temp.day_end('Asia/Tokyo')), 'of claim_next()');
UPDATE leadroute.rep SET daily_cap = NULL, open_cap = 2 WHERE id = 5;
SELECT is((SELECT open_cap FROM leadroute.claim('leads', 31, 5)), 2, 'room under the capacity');
SELECT is(pg_temp.refusal($$ SELECT leadroute.claim('leads', 32, 5) $$), 'LR011 rep 5 may not claim more leads now | open_cap: 2 of 2 leads are open, until one of them ends. | leadroute.close() or leadroute.release() ends one.', 'none');
UPDATE leadroute.rep SET open_cap = NULL WHERE id = 5;
UPDATE leadroute.pool_member SET daily_cap = 3 WHERE rep = 5;
SELECT is((SELECT member_cap FROM leadroute.claim('leads', 32, 5)), 3, 'room under the member''s cap');
SELECT is(pg_temp.refusal($$ SELECT leadroute.claim('leads', 33, 5) $$), format('LR011 rep 5 may not claim more leads now | daily_cap: 3 of 3 leads of pool desk today, until %s. | pool_member.daily_cap says how many.', pg_temp.day_end('Asia/Tokyo')), 'none there');
UPDATE leadroute.pool_member SET daily_cap = NULL WHERE rep = 5;
SELECT ok(pg_temp.kept(), 'verify() with caps');

-- allowances --------------------------------------------------------------------------------------

UPDATE leadroute.pool SET claim_daily = 2 WHERE name = 'desk';
SELECT is(pg_temp.taken(6, 2), '33 34', 'two a day');
SELECT is(pg_temp.refusal($$ SELECT leadroute.claim_next(6) $$), format('LR011 rep 6 may not claim more leads now | claim_daily: 2 of 2 leads claimed from pool desk today, until %s. | pool_member.claim_daily and pool.claim_daily say how many.', pg_temp.day_end()), 'and no third');
UPDATE leadroute.pool_member SET claim_daily = 3 WHERE rep = 6;
SELECT is((SELECT lead_id FROM leadroute.claim('leads', 35, 6)), '35', 'the member''s own counts in its place');
SELECT matches(pg_temp.refusal($$ SELECT leadroute.claim('leads', 36, 6) $$), '^LR011 .*claim_daily: 3 of 3', 'up to that');
SELECT leadroute.close('leads', 33, 'won');
SELECT matches(pg_temp.refusal($$ SELECT leadroute.claim('leads', 36, 6) $$), '^LR011 .*claim_daily: 3 of 3', 'also when a lead has ended');
SELECT leadroute.credit_back('leads', 34, 'wrong number');
SELECT is((SELECT lead_id FROM leadroute.claim('leads', 36, 6)), '36', 'but a turn that was credited back does not count');
UPDATE leadroute.pool_member SET claim_daily = 9, claim_open = 4 WHERE rep = 6;
SELECT is((SELECT lead_id FROM leadroute.claim('leads', 37, 6)), '37', 'claim_open: three were open');
SELECT is(pg_temp.refusal($$ SELECT leadroute.claim('leads', 38, 6) $$), 'LR011 rep 6 may not claim more leads now | claim_open: 4 of 4 leads claimed from pool desk are open, until one of them ends. | leadroute.close() or leadroute.release() ends one.', 'and no fifth is');
SELECT leadroute.close('leads', 37, 'won');
SELECT is((SELECT lead_id FROM leadroute.claim('leads', 38, 6)), '38', 'after one has ended');
UPDATE leadroute.pool_member SET claim_open = NULL, claim_delay = '10 minutes' WHERE rep = 6;
SELECT is(pg_temp.refusal($$ SELECT leadroute.claim_next(6) $$), format('LR011 rep 6 may not claim more leads now | claim_delay: the next lead may be claimed from pool desk at %s. | pool_member.claim_delay and pool.claim_delay say how soon.',
    (SELECT max(decided_at) + interval '10 minutes' FROM leadroute.assignment WHERE rep = 6)), 'claim_delay');
UPDATE leadroute.assignment SET decided_at = decided_at - interval '10 minutes' WHERE rep = 6;
SELECT is((SELECT lead_id FROM leadroute.claim_next(6)), '39', 'after it');
UPDATE leadroute.pool_member SET claim_delay = NULL, claim_daily = 0 WHERE rep = 6;
SELECT matches(pg_temp.refusal($$ SELECT leadroute.claim('leads', 40, 6) $$), '^LR011 .*claim_daily: 6 of 0', 'none at all');
SELECT ok(pg_temp.kept(), 'verify() with allowances');

-- given back --------------------------------------------------------------------------------------

UPDATE leadroute.pool SET claim_daily = NULL; UPDATE leadroute.pool_member SET claim_daily = NULL;
UPDATE leadroute.rep SET daily_cap = 100, open_cap = 100;
INSERT INTO leadroute.rep (id, name, daily_cap, open_cap) VALUES (7, 'Guy', 3, 3);
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('desk', 7);
COMMIT;
SELECT is(pg_temp.used(7), '0 of 0 today, 0 open, received 0', 'nobody has claimed for Guy');
BEGIN;
SELECT is((SELECT lead_id FROM leadroute.claim('leads', 41, 7)), '41', 'a claim in a transaction');
SAVEPOINT s;
SELECT is((SELECT lead_id FROM leadroute.claim('leads', 42, 7)), '42', 'another in a subtransaction');
ROLLBACK TO s;
SELECT is(pg_temp.used(7), '1 of 1 today, 1 open, received 1', 'which is rolled back');
DO $$ BEGIN PERFORM leadroute.claim('leads', 43, 7); RAISE EXCEPTION 'no'; EXCEPTION WHEN raise_exception THEN END $$;
SELECT is(pg_temp.used(7), '1 of 1 today, 1 open, received 1', 'another in an exception block');
SELECT is(pg_temp.episodes('43'), '1:-:push:open', 'whose lead waits as before');
ROLLBACK;
SELECT is(pg_temp.used(7), '0 of 0 today, 0 open, received 0', 'and all are given back');
SELECT is((SELECT owner_id FROM leads WHERE id = 41), NULL, 'with the leads');
BEGIN;
UPDATE leadroute.rep SET daily_cap = 1 WHERE id = 7;
SELECT is((SELECT rep_cap FROM leadroute.claim('leads', 41, 7)), 1, 'a draft goes by its own cap');
SELECT matches(pg_temp.refusal($$ SELECT leadroute.claim('leads', 42, 7) $$), '^LR011 .*1 of 1', 'and refuses by it');
SELECT ok(pg_temp.kept(), 'verify() in a draft');
ROLLBACK;
CREATE TEMP TABLE stand AS SELECT rep, received, round(due, 3) AS due FROM leadroute.pool_state WHERE pool = 'desk';
DO $$ BEGIN FOR lead IN 43 .. 49 LOOP BEGIN PERFORM leadroute.claim('leads', lead, 7); RAISE EXCEPTION 'no'; EXCEPTION WHEN raise_exception THEN END; END LOOP; END $$;
SELECT results_eq('SELECT rep, received, round(due, 3) FROM leadroute.pool_state WHERE pool = $$desk$$ ORDER BY rep', 'SELECT * FROM stand ORDER BY rep', 'turns come back in full, however many');
SELECT leadroute._forget(0);
SELECT results_eq('SELECT rep, received, round(due, 3) FROM leadroute.pool_state WHERE pool = $$desk$$ ORDER BY rep', 'SELECT * FROM stand ORDER BY rep', 'and the record knows where everybody stands');
SELECT is((SELECT rep_cap FROM leadroute.claim('leads', 41, 7)), 3, 'nothing is left of it');
SELECT is((SELECT count(*) FROM leadroute.events_since() WHERE event ->> 'event' = 'claimed' AND event ->> 'lead_id' = '41' AND event ->> 'rep' = '7'), 1::bigint, 'an event claimed');
SELECT ok(pg_temp.kept(), 'verify() after the rollbacks');
SELECT leadroute._forget(0);
SELECT is(pg_temp.used(7), '1 of 1 today, 1 open, received 1', 'the record tells the same');
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT is((SELECT lead_id FROM leadroute.claim_next(7)), '40', 'in a serializable transaction');
COMMIT;

-- the shark tank ----------------------------------------------------------------------------------

SELECT is(leadroute._to_shark_tank(t.id, '41', 0), true, 'an untouched lead goes into the shark tank') FROM leadroute.lead_table t;
SELECT is(leadroute._to_shark_tank(t.id, v.lead, 0), false, v.what) FROM leadroute.lead_table t, (VALUES
    ('41', 'once'), ('44', 'not one that waits'), ('33', 'nor one that has ended')) v (lead, what);
SELECT is((SELECT owner_id FROM leads WHERE id = 41), 7::bigint, 'it stays its rep''s');
SELECT is(pg_temp.refusal($$ SELECT leadroute.claim('leads', 41, 3) $$), 'LR010 rep 3 may not claim lead 41 of "leads" | It waits in pool desk, of which the rep is not a member. | An admin may INSERT INTO leadroute.pool_member (pool, rep) VALUES (''desk'', 3).', 'for members of the pool');
SELECT is((SELECT count(*) FROM leadroute.claim('leads', 41, 7)), 1::bigint, 'who has claimed it has it still');
SELECT is_empty($$ SELECT leadroute.claim_next(7, 'desk', true) $$, 'claim_next() does not give one one''s own');
SELECT results_eq($$ SELECT lead_id, rep, method, episode, avoid FROM leadroute.claim_next(1, 'desk', true) $$, $$ VALUES ('41' COLLATE "C", 1::bigint, 'claim', 3, '{7}'::bigint[]) $$, 'another takes it');
SELECT is((SELECT owner_id FROM leads WHERE id = 41), 1::bigint, 'the lead is told');
SELECT is(pg_temp.episodes('41'), '1:-:push:claimed 2:7:claim:claimed 3:1:claim:open', 'and the record');
SELECT is(pg_temp.used(7), '2 of 2 today, 1 open, received 2', 'the loser has room again');
SELECT bag_eq($$ SELECT concat(event ->> 'event', ' ', event ->> 'rep') FROM leadroute.events_since() WHERE event ->> 'lead_id' = '41' $$,
    '{"waiting ","claimed 7","breached 7","released 7","claimed 1"}'::text[], 'and is told');
SELECT is((SELECT count(*) FROM leadroute._to_shark_tank((SELECT id FROM leadroute.lead_table), '41', 0)), 1::bigint, 'into the tank once more');
SELECT is_empty($$ SELECT leadroute.claim_next(7, from_shark_tank => true) $$, 'claim_next() gives nobody what he lost');
SELECT is(pg_temp.refusal($$ SELECT leadroute.claim('leads', 41, 7) $$), 'LR010 rep 7 may not claim lead 41 of "leads" | The rep has had it, and lost it to another in the shark tank. | leadroute.reassign() gives it to a rep again.', 'nor does claim()');
SELECT leadroute.touch('leads', 41, 'call');
SELECT is_empty($$ SELECT leadroute.claim_next(2, from_shark_tank => true) $$, 'a touch takes it out');
SELECT is(split_part(pg_temp.refusal($$ SELECT leadroute.claim('leads', 41, 2) $$), ' |', 1), 'LR009 lead 41 of "leads" is taken', 'it is taken then');
SELECT is((SELECT count(*) FROM leadroute.events_since() WHERE event ->> 'event' = 'breached' AND event ->> 'lead_id' = '41'), 2::bigint, 'a touched lead was breached before');
SELECT ok(pg_temp.kept(), 'verify() after the shark tank');

-- other lead tables -------------------------------------------------------------------------------

CREATE TABLE text_lead (id text PRIMARY KEY, owner text);
CREATE TABLE uuid_lead (company int, id uuid, owner uuid, PRIMARY KEY (company, id)) PARTITION BY LIST (company);
CREATE TABLE uuid_lead_0 PARTITION OF uuid_lead FOR VALUES IN (0);
CREATE TABLE uuid_lead_5 PARTITION OF uuid_lead FOR VALUES IN (5);
CREATE TABLE person (id int PRIMARY KEY);
INSERT INTO person SELECT generate_series(1, 2);
CREATE TABLE small_lead (id int PRIMARY KEY, owner int REFERENCES person DEFERRABLE INITIALLY DEFERRED);
INSERT INTO leadroute.rep (tenant, id, name, ref) VALUES (5, 1, 'Gil', '00000000-0000-0000-0000-00000000000A');
INSERT INTO leadroute.pool (tenant, name, mode) VALUES (5, 'desk', 'pull');
INSERT INTO leadroute.pool_member (tenant, pool, rep) VALUES (5, 'desk', 1);
DO $$ BEGIN
    PERFORM leadroute.attach('text_lead', owner_column => 'owner', fallback_pool => 'desk');
    PERFORM leadroute.attach('uuid_lead', owner_column => 'owner', tenant_column => 'company', fallback_pool => 'desk');
    PERFORM leadroute.attach('small_lead', owner_column => 'owner', fallback_pool => 'desk');
END $$;
INSERT INTO text_lead VALUES ('a', NULL), ('b', NULL), ('12', NULL);
INSERT INTO uuid_lead VALUES (5, '00000000-0000-0000-0000-0000000000f1', NULL), (0, '00000000-0000-0000-0000-0000000000f1', NULL);
INSERT INTO small_lead VALUES (1, NULL), (2, NULL), (3, NULL);
SELECT is((SELECT rep FROM leadroute.claim('text_lead', 'a', 1)), 1::bigint, 'a text key');
SELECT is((SELECT rep FROM leadroute.claim('text_lead', 12, 1)), 1::bigint, 'given as a number');
SELECT is((SELECT owner FROM text_lead WHERE id = 'a'), 'ann', 'whose owner is a ref');
SELECT is(pg_temp.refusal($$ SELECT leadroute.claim('text_lead', 'b', 2) $$), 'LR010 rep 2 may not claim lead b of "text_lead" | The lead table''s owner column cannot name the rep. | UPDATE leadroute.rep SET ref = … WHERE id = 2, or give the owner column the type bigint.', 'who has none');
SELECT is((SELECT rep FROM leadroute.claim('uuid_lead', '00000000-0000-0000-0000-0000000000F1'::uuid, 1, 5)), 1::bigint, 'a uuid, of a tenant, in a partition');
SELECT is((SELECT owner FROM uuid_lead WHERE company = 5), '00000000-0000-0000-0000-00000000000a', 'whose owner is a uuid');
SELECT is((SELECT owner FROM uuid_lead WHERE company = 0), NULL, 'and not the other tenant''s');
SELECT is((SELECT lead_id FROM leadroute.claim('uuid_lead', '00000000-0000-0000-0000-0000000000F1', 1, 5)), '00000000-0000-0000-0000-0000000000f1', 'as a literal');
SELECT is((SELECT rep FROM leadroute.claim('small_lead', 1, 1)), 1::bigint, 'a deferred constraint');
SELECT matches(pg_temp.refusal($$ SELECT leadroute.claim('small_lead', 2, 4) $$), '^23503 ', 'is checked at once');
SELECT is((SELECT count(*) FROM leadroute.assignment WHERE rep = 4 AND lead_id = '2' AND ended_at IS NULL), 0::bigint, 'and nothing is claimed then');

-- triggers of the table ---------------------------------------------------------------------------

CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.id = 2 THEN RETURN NULL; END IF;
    NEW.owner := 2;
    RETURN NEW;
END $$;
CREATE TRIGGER meddle BEFORE UPDATE ON small_lead FOR EACH ROW EXECUTE FUNCTION meddle();
SELECT is(pg_temp.refusal($$ SELECT leadroute.claim('small_lead', 2, 1) $$), 'LR010 the owner of lead 2 did not change | A trigger, rule or policy of the lead table has left the row as it was. | Nothing is recorded. Let the owner column be updated.', 'one that keeps the owner');
SELECT results_eq($$ SELECT rep, method FROM leadroute.claim('small_lead', 3, 1) $$, $$ VALUES (2::bigint, 'manual') $$, 'one that names another');
DROP TRIGGER meddle ON small_lead;
-- one that changes the owner twice while the claim is under way
CREATE FUNCTION and_back() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF pg_trigger_depth() = 1 THEN
        UPDATE small_lead SET owner = 2 WHERE id = NEW.id;
        UPDATE small_lead SET owner = 1 WHERE id = NEW.id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER and_back AFTER UPDATE ON small_lead FOR EACH ROW EXECUTE FUNCTION and_back();
SELECT is((SELECT rep FROM leadroute.claim('small_lead', 2, 1)), 1::bigint, 'one that changes it and back');
SELECT is((SELECT string_agg(concat(rep, method), ' ' ORDER BY episode) FROM leadroute.decision WHERE lead_table = 'small_lead' AND lead_id = '2'), 'push 1claim 2manual 1manual', 'is all on record');
DROP TRIGGER and_back ON small_lead;
CREATE FUNCTION away() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE small_lead SET owner = 2 WHERE id = NEW.id AND owner <> 2; RETURN NULL; END $$;
CREATE TRIGGER away AFTER UPDATE ON small_lead FOR EACH ROW EXECUTE FUNCTION away();
INSERT INTO small_lead VALUES (4, NULL);
SELECT results_eq($$ SELECT rep, method, episode FROM leadroute.claim('small_lead', 4, 1) $$, $$ VALUES (2::bigint, 'manual', 3) $$, 'one that gives it to another afterwards');
SELECT is((SELECT owner FROM small_lead WHERE id = 4), 2, 'as the lead says');
UPDATE small_lead SET owner = 1 WHERE id = 4;
SELECT is((SELECT string_agg(concat(rep, method), ' ' ORDER BY episode) FROM leadroute.decision WHERE lead_table = 'small_lead' AND lead_id = '4'), 'push 1claim 2manual', 'and the record, of an UPDATE too');
DROP TRIGGER away ON small_lead;

-- the rights of the caller ------------------------------------------------------------------------

CREATE ROLE lr_claim_rep; CREATE ROLE lr_claim_app;
SELECT leadroute.grant_access('lr_claim_rep', 'rep'), leadroute.grant_access('lr_claim_app', 'app');
UPDATE leadroute.rep SET db_role = 'lr_claim_rep' WHERE id = 1;
SET ROLE lr_claim_rep;
SELECT is((SELECT rep FROM leadroute.claim('leads', 50, 1)), 1::bigint, 'a rep claims without a right on the lead table');
SELECT matches(pg_temp.refusal($$ SELECT leadroute.claim('leads', 51, 2) $$), '^LR012 role "lr_claim_rep" may not act for rep 2 ', 'for itself alone');
SELECT matches(pg_temp.refusal($$ SELECT leadroute.claim('leads', 35, 1) $$), '^LR009 lead 35 of "leads" is taken \| Rep 6 has it since ', 'is told of leads of its pools');
SELECT matches(pg_temp.refusal($$ SELECT leadroute.claim('leads', 10, 1) $$), '^LR007 there is no lead 10 in "leads" \| No lead that role "lr_claim_rep" may see has this key\.', 'and not of others');
SET ROLE lr_claim_app;
SELECT is((SELECT rep FROM leadroute.claim_next(2)), 2::bigint, 'an app for any');
RESET ROLE;
DELETE FROM leadroute.access WHERE role = 'lr_claim_app';
SET ROLE lr_claim_app;
SELECT matches(pg_temp.refusal($$ SELECT leadroute.claim_next(2) $$), '^(LR012|42501) ', 'until it may not any more');
RESET ROLE;
UPDATE leadroute.rep SET db_role = NULL WHERE id = 1;
SET ROLE lr_claim_rep;
SELECT matches(pg_temp.refusal($$ SELECT leadroute.claim('leads', 51, 1) $$), '^LR012 ', 'nor a rep who is somebody else');
RESET ROLE;
SELECT ok(pg_temp.kept() AND pg_temp.kept(5), 'verify() at the end');
SELECT * FROM finish();
