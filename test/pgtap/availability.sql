-- Calendars, absences and presence: what is refused, what a change of them does, who is available and
-- what why() and explain() say of it, also in the transaction that changes it.
BEGIN;
SELECT no_plan();
SET LOCAL client_min_messages = warning;

-- Passes when the statement is refused, twice, with the SQLSTATE, a message like the pattern, a detail and a hint.
CREATE FUNCTION pg_temp.refused(statement text, code text, pattern text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    state text; message text; detail text; hint text;
BEGIN
    FOR attempt IN 1 .. 2 LOOP
        state := 'nothing';
        BEGIN
            EXECUTE statement;
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
                detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
        END;
        IF state <> code OR message !~ pattern OR hint = '' OR detail = '' THEN
            RETURN fail(statement) || E'\n' || diag(format('%s: %s | %s | %s', state, message, detail, hint));
        END IF;
    END LOOP;
    RETURN pass('refused: ' || statement);
END $$;

DO $$ BEGIN PERFORM leadroute.create_lead_table('public.leads'); END $$;
INSERT INTO leadroute.rep (id, name) VALUES (1, 'Ann'), (2, 'Bob'), (3, 'Cho');
INSERT INTO leadroute.calendar (name, timezone) VALUES ('office', 'UTC'), ('spare', NULL);
INSERT INTO leadroute.calendar_hours (calendar, weekday, opens, closes) VALUES ('office', 1, '09:00', '17:00');
INSERT INTO leadroute.calendar_holiday (calendar, day, name) VALUES ('office', '2026-12-25', 'Christmas Day');
INSERT INTO leadroute.rep_absence (rep, during, reason) VALUES (3, '[2026-08-01,2026-08-15)', 'leave');

-- What is refused ----------------------------------------------------------------------------------

SELECT pg_temp.refused(format('INSERT INTO leadroute.calendar (name) VALUES (%L)', v), 'LR005', 'name of the calendar')
FROM unnest(ARRAY[NULL, '', ' x', E'x\x01', repeat('x', 64)]) v;
SELECT pg_temp.refused('INSERT INTO leadroute.calendar (name) VALUES (''office'')', 'LR005', 'another calendar is called "office"');
SELECT pg_temp.refused('UPDATE leadroute.calendar SET name = ''office'' WHERE name = ''spare''', 'LR005', 'another calendar is called');
SELECT pg_temp.refused(format('INSERT INTO leadroute.calendar (name, timezone) VALUES (''x'', %L)', v), 'LR005', 'unknown time zone')
FROM unnest(ARRAY['', 'PST', 'UTC+5', 'Mars/Phobos']) v;
SELECT pg_temp.refused('UPDATE leadroute.calendar SET tenant = 7 WHERE name = ''spare''', 'LR005', 'cannot change its tenant');
SELECT pg_temp.refused(format('INSERT INTO leadroute.calendar_hours (calendar, weekday, opens, closes) VALUES (%s)', v), 'LR005', p)
FROM (VALUES ('''office'', 0, ''9:00'', ''17:00''', 'weekday 0'), ('''office'', 8, ''9:00'', ''17:00''', 'weekday 8'),
    ('''office'', NULL, ''9:00'', ''17:00''', 'weekday NULL'), ('''office'', 1, ''24:00'', ''8:00''', 'begin at 24:00'),
    ('''office'', 2, ''9:00'', ''9:00''', 'from 09:00 to 09:00 are empty'), ('''office'', 2, NULL, ''9:00''', 'a time to open'),
    ('''office'', 2, ''9:00'', NULL', 'a time to close'), ('NULL, 2, ''9:00'', ''10:00''', 'need a calendar'),
    ('''office'', 1, ''9:00'', ''12:00''', 'opens at 09:00 on weekday 1 already')) AS x (v, p);
SELECT pg_temp.refused('INSERT INTO leadroute.calendar_hours (calendar, weekday, opens, closes) VALUES (''nix'', 1, ''9:00'', ''10:00'')', 'LR008', 'no calendar "nix"');
SELECT pg_temp.refused('INSERT INTO leadroute.calendar_hours (tenant, calendar, weekday, opens, closes) VALUES (7, ''office'', 1, ''9:00'', ''10:00'')', 'LR008', 'no calendar "office"');
SELECT pg_temp.refused(format('INSERT INTO leadroute.calendar_holiday (calendar, day) VALUES (%s)', v), c, p)
FROM (VALUES ('NULL, ''2026-01-01''', 'LR005', 'needs a calendar'), ('''office'', NULL', 'LR005', 'needs a day'), ('''office'', ''infinity''', 'LR005', 'needs a day'),
    ('''office'', ''2026-12-25''', 'LR005', '2026-12-25 is a holiday of calendar "office" already'), ('''nix'', ''2026-01-01''', 'LR008', 'no calendar "nix"')) AS x (v, c, p);
SELECT pg_temp.refused(format('INSERT INTO leadroute.rep_absence (rep, during) VALUES (%s)', v), c, p)
FROM (VALUES ('NULL, ''[2026-01-01,)''', 'LR005', 'needs a rep'), ('1, NULL', 'LR005', 'needs a time'), ('1, ''empty''', 'LR005', 'no time in it'),
    ('1, ''[infinity,infinity]''', 'LR005', 'no time in it'), ('3, ''[2026-08-01,2026-08-15)''', 'LR005', 'rep 3 is absent in .* already'),
    ('9, ''[2026-01-01,)''', 'LR008', 'no rep "9"')) AS x (v, c, p);
SELECT pg_temp.refused('UPDATE leadroute.rep SET calendar = ''nix'' WHERE id = 1', 'LR008', 'no calendar "nix"');
SELECT pg_temp.refused(format('SELECT leadroute.%s(%s)', f, v), 'LR008', p)
FROM unnest(ARRAY['sign_in', 'sign_out', 'heartbeat']) f, (VALUES ('9', 'no rep "9"'), ('NULL', 'no rep is named'), ('1, 7', 'no rep "1"'), ('1, NULL', 'no rep "1"')) AS x (v, p);
SELECT pg_temp.refused('SELECT leadroute.heartbeat(1)', 'LR010', 'rep 1 is not signed in');
SELECT throws_ok('SET leadroute.presence_timeout = ''1h''', '55P02', NULL, 'the timeout is the server''s');

-- Names, deletions, duplicates ----------------------------------------------------------------------

UPDATE leadroute.rep SET calendar = 'office' WHERE id = 1;
UPDATE leadroute.calendar SET name = 'desk' WHERE name = 'office';
SELECT results_eq($$ SELECT r.calendar, h.calendar, d.calendar FROM leadroute.rep r, leadroute.calendar_hours h, leadroute.calendar_holiday d WHERE r.id = 1 $$,
    $$ VALUES ('desk', 'desk', 'desk') $$, 'reps, hours and holidays follow a rename');
SELECT pg_temp.refused('DELETE FROM leadroute.calendar WHERE name = ''desk''', 'LR006', 'calendar "desk" is in use');
SAVEPOINT deleted;
UPDATE leadroute.rep SET calendar = NULL;
DELETE FROM leadroute.calendar WHERE name = 'desk';
SELECT is((SELECT count(*) FROM leadroute.calendar_hours) + (SELECT count(*) FROM leadroute.calendar_holiday), 0::bigint,
    'a deleted calendar takes its hours and holidays along');
SELECT leadroute.sign_in(3);
DELETE FROM leadroute.rep WHERE id = 3;
SELECT is((SELECT count(*) FROM leadroute.rep_absence) + (SELECT count(*) FROM leadroute.presence), 0::bigint,
    'and a deleted rep its absences and presence');
ROLLBACK TO deleted;
INSERT INTO leadroute.calendar_holiday (calendar, day) VALUES ('desk', '2026-12-25') ON CONFLICT DO NOTHING;
INSERT INTO leadroute.calendar_hours (calendar, weekday, opens, closes) VALUES ('desk', 1, '09:00', '18:00')
    ON CONFLICT (tenant, calendar, weekday, opens) DO UPDATE SET closes = excluded.closes;
INSERT INTO leadroute.rep_absence (rep, during) VALUES (3, '[2026-08-01,2026-08-15)') ON CONFLICT DO NOTHING;
SELECT is((SELECT closes FROM leadroute.calendar_hours), '18:00'::time, 'ON CONFLICT DO NOTHING and DO UPDATE work');

-- History ------------------------------------------------------------------------------------------

SELECT results_eq($$ SELECT table_name, key::text, version FROM leadroute.config_change
    WHERE table_name IN ('calendar', 'calendar_hours', 'calendar_holiday', 'rep_absence') ORDER BY id $$,
    $$ VALUES ('calendar', '{"name": "office"}', 1), ('calendar', '{"name": "spare"}', 1),
        ('calendar_hours', '{"opens": "09:00:00", "weekday": 1, "calendar": "office"}', 1),
        ('calendar_holiday', '{"day": "2026-12-25", "calendar": "office"}', 1),
        ('rep_absence', (SELECT jsonb_build_object('rep', 3, 'during', during)::text FROM leadroute.rep_absence), 1),
        ('calendar_hours', '{"opens": "09:00:00", "weekday": 1, "calendar": "desk"}', 2),
        ('calendar_holiday', '{"day": "2026-12-25", "calendar": "desk"}', 2),
        ('calendar', '{"name": "desk"}', 2), ('calendar_hours', '{"opens": "09:00:00", "weekday": 1, "calendar": "desk"}', 3) $$,
    'each change is in the history');

-- Who is available, and why not ---------------------------------------------------------------------

INSERT INTO leadroute.calendar (name) VALUES ('always'), ('never');
INSERT INTO leadroute.calendar_hours (calendar, weekday, opens, closes) SELECT 'always', d, '00:00', '24:00' FROM generate_series(1, 7) d;
INSERT INTO leadroute.rep (id, name, calendar) VALUES (11, 'Open', 'always'), (12, 'Closed', 'never'), (13, 'Ill', NULL), (14, 'Both', 'never'), (15, 'In', NULL);
INSERT INTO leadroute.rep_absence (rep, during) VALUES (13, '(,)'), (14, tstzrange(now() - interval '1 h', now() + interval '1 h')),
    (11, tstzrange(now() - interval '2 h', now() - interval '1 h')), (11, tstzrange(now() + interval '1 day', NULL)),
    (15, tstzrange(NULL, now() - interval '1 day'));
INSERT INTO leadroute.pool (name, presence_required) VALUES ('anytime', false), ('desk', true), ('empty', false);
INSERT INTO leadroute.pool_member (pool, rep) SELECT 'anytime', i FROM generate_series(11, 15) i;
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('desk', 11), ('desk', 12), ('desk', 15);
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool) VALUES ('leads', 1, 'any', $$source = 'any'$$, 'anytime'), ('leads', 2, 'desk', $$source = 'desk'$$, 'desk');
INSERT INTO leadroute.rule (lead_table, position, name, condition, rep, overflow_pool)
SELECT 'leads', 10 + i, 'own ' || i, format('source = ''%s''', i), i, CASE i WHEN 12 THEN 'anytime' END FROM generate_series(11, 13) i;

CREATE FUNCTION pg_temp.state(pool text) RETURNS text LANGUAGE sql AS
    $$ SELECT string_agg(format('%s: %s', s.name, coalesce(s.unavailable_reason, 'available')), ', ' ORDER BY s.rep) FROM leadroute.pool_state s WHERE s.pool = state.pool $$;
CREATE FUNCTION pg_temp.give(source text, n int DEFAULT 1) RETURNS text LANGUAGE plpgsql AS $$
DECLARE owners text;
BEGIN
    WITH i AS (INSERT INTO public.leads (source) SELECT give.source FROM generate_series(1, n) RETURNING id, owner_id)
    SELECT string_agg(coalesce(owner_id::text, 'waits'), ' ' ORDER BY id) INTO owners FROM i;
    RETURN owners;
END $$;
CREATE FUNCTION pg_temp.latest() RETURNS bigint LANGUAGE sql AS $$ SELECT max(id) FROM public.leads $$;

SELECT is(pg_temp.state('anytime'), 'Open: available, Closed: outside working hours, Ill: absent, Both: absent, In: available', 'pool_state says who is available');
SELECT is(pg_temp.state('desk'), 'Open: not signed in, Closed: outside working hours, In: not signed in', 'and who is not there');
SELECT is(pg_temp.give('any', 4), '11 15 11 15', 'leads go to the available');
SELECT matches(leadroute.why('leads', pg_temp.latest()), 'First in turn of 5 in pool "anytime" \(2 absent, 1 outside working hours\)', 'why() counts the others');
SELECT matches(leadroute.why('leads', pg_temp.latest()), 'Closed \(12\): outside working hours\n +Ill \(13\): absent\n +Both \(14\): absent', 'and names each');
SELECT is((SELECT string_agg(reason, '; ' ORDER BY rep) FROM leadroute.explain('leads', '{"source": "any"}') WHERE rep IN (12, 13)), 'outside working hours; absent', 'with the same reasons');
SELECT is(pg_temp.give('desk'), 'waits', 'with nobody there a lead waits');
SELECT is((SELECT queue FROM leadroute.queue WHERE lead_id = pg_temp.latest()::text), 'desk', 'in the pool''s queue');
SELECT is((SELECT count(*) FROM leadroute.alert WHERE kind = 'nobody_available'), 1::bigint, 'with an alert');

-- a rule's own rep
SELECT is(pg_temp.give('11') || ' ' || pg_temp.give('12') || ' ' || pg_temp.give('13'), '11 11 waits', 'a rule''s own rep: available; else the overflow pool; else the lead waits');
SELECT is((SELECT queue FROM leadroute.queue WHERE lead_id = pg_temp.latest()::text), 'unmatched', 'in unmatched');
SELECT matches(leadroute.why('leads', pg_temp.latest()), 'absent', 'why() says that the rep is absent');
SELECT matches(leadroute.why('leads', pg_temp.latest() - 1), 'outside working hours', 'or outside working hours');

-- Presence ------------------------------------------------------------------------------------------

SELECT leadroute.sign_in(15);
SELECT is(pg_temp.state('desk'), 'Open: not signed in, Closed: outside working hours, In: available', 'who signs in is there');
SELECT is(pg_temp.give('desk', 3), '15 15 15', 'and receives leads');
SELECT is(pg_temp.state('anytime') ~ 'In: available', true, 'other pools ask for no presence');
SAVEPOINT out;
SELECT leadroute.sign_out(15);
SELECT is(pg_temp.give('desk'), 'waits', 'who signs out does not');
SELECT leadroute.sign_in(11);
SELECT is(pg_temp.give('desk'), '11', 'the next one does');
SAVEPOINT deeper;
SELECT leadroute.sign_out(11);
SELECT leadroute.sign_in(15);
SELECT is(pg_temp.give('desk'), '15', 'and so on');
ROLLBACK TO deeper;
SELECT is(pg_temp.state('desk'), 'Open: available, Closed: outside working hours, In: not signed in', 'a savepoint back');
ROLLBACK TO out;
SELECT is(pg_temp.state('desk'), 'Open: not signed in, Closed: outside working hours, In: available', 'and another');
SELECT lives_ok('SELECT leadroute.heartbeat(15)', 'a heartbeat of one who is there');
SELECT pg_temp.refused('SELECT leadroute.heartbeat(11)', 'LR010', 'rep 11 is not signed in');
SELECT lives_ok('SELECT leadroute.sign_out(11), leadroute.sign_out(15), leadroute.sign_out(15)', 'to sign out twice does no harm');
SELECT is((SELECT string_agg(format('%s v%s %s', rep, version, signed_out_at IS NULL), ', ') FROM leadroute.presence), '15 v2 f', 'and counts once');
SELECT leadroute.sign_in(12);
SELECT is(pg_temp.give('desk'), 'waits', 'signed in outside working hours does not help');

SELECT results_eq('SELECT lost, double, overshoot, drift, orphan FROM leadroute.verify()', 'VALUES (0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint)', 'verify finds nothing');
SELECT * FROM finish();
ROLLBACK;
