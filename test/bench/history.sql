-- A year of assignments of routed.sql's reps, in the order of time: :older until yesterday, most of
-- them ended, and :today within the last hour. Run where triggers do not fire.
INSERT INTO leadroute.assignment (decided_at, rep, rule, lead_table, pool, day, rep_cap, deficit, lead_id,
    explanation, ended_at, end_reason)
SELECT a.decided_at, a.rep, 1 + a.i % 100, 1, 1 + (a.rep - 1) / 100,
    (a.decided_at AT TIME ZONE r.timezone)::date, r.daily_cap, -0.5, (1000000000 + a.i)::text,
    '\x010000000112c8010400c20cbb0f01c40c1401c60c1401c80c140101c001',
    CASE WHEN a.i % 10 < 9 AND a.i <= :older THEN a.decided_at + interval '1 hour' END,
    CASE WHEN a.i % 10 < 9 AND a.i <= :older THEN 'closed' END
FROM (
    SELECT i, 1 + floor(random() * 1000)::bigint AS rep,
        CASE WHEN i <= :older
            THEN now() - interval '1 day' - interval '364 days' * (1 - i::double precision / :older)
            ELSE now() - interval '1 hour' * (1 - (i - :older)::double precision / :today)
        END AS decided_at
    FROM generate_series(1, :older + :today) i
) a JOIN leadroute.rep r ON r.tenant = 0 AND r.id = a.rep;
