-- The demo's story: the leads arrive, and what became of them. Run by demo/run after load.sql and
-- setup.sql; every statement can be repeated by hand.
\set QUIET on
\set ON_ERROR_STOP on
\pset footer off
\pset pager off
\pset null ''

\echo 'demo/setup.sql has made a lead table, 45 agents, 5 pools and these 6 rules; the first that matches decides:'
\echo
SELECT position, name AS rule, condition, pool FROM leadroute.rule ORDER BY position;

\echo '5,000 leads arrive. The app does nothing but INSERT; the owner is there when the statement ends:'
\echo
INSERT INTO lead (id, arrived, channel, campaign, customer_type, location, budget, price, bedrooms)
    SELECT l.lead_id, l.lead_date, l.marketing_channel, l.campaign_name, c.customer_type,
        c.preferred_location, c.budget_aed, p.property_price_aed, p.bedrooms
    FROM raw.leads l JOIN raw.customers c USING (customer_id) JOIN raw.properties p USING (property_id)
    ORDER BY l.lead_date, l.lead_id;
SELECT id, channel, location, trim_scale(budget) AS budget, priority, owner FROM lead ORDER BY arrived, id LIMIT 6;

\echo 'Where they went. Overflow: all of luxury had reached their cap, so the investors'' reps took over.'
\echo 'When those had reached theirs too, the leads wait; those that no rule matches wait in "unmatched".'
\echo
SELECT coalesce(pool, 'unmatched') AS pool, count(*) FILTER (WHERE method = 'push' AND rep IS NOT NULL) AS push,
    count(*) FILTER (WHERE method = 'overflow') AS overflow,
    count(*) FILTER (WHERE status = 'waiting') AS waiting, count(*) AS leads
FROM leadroute.decision GROUP BY pool ORDER BY pool IS NULL, pool;

\echo 'Shares by weight: received is never a whole turn away from what is due.'
\echo
SELECT pool, name, weight, received, round(due, 2) AS due, round(deficit, 2) AS deficit
FROM leadroute.pool_state WHERE pool = 'marina' ORDER BY weight DESC, rep;

\echo 'Caps: nobody has more than allowed, and every cap is full before a lead waits.'
\echo
SELECT pool, unavailable_reason, count(*) AS reps, min(today) AS least, max(today) AS most
FROM leadroute.pool_state WHERE NOT available GROUP BY pool, unavailable_reason ORDER BY pool;

\echo 'Every decision explains itself. One that was assigned:'
\echo
\pset tuples_only on
\pset format unaligned
SELECT leadroute.why('lead', lead_id) FROM leadroute.decision
    WHERE pool = 'marina' AND rep = 12 ORDER BY decided_at, lead_id LIMIT 1;
\echo
\echo 'And one that waits:'
\echo
SELECT leadroute.why('lead', lead_id) FROM leadroute.decision
    WHERE pool = 'investors' AND status = 'waiting' ORDER BY decided_at, lead_id LIMIT 1;
\pset format aligned
\pset tuples_only off
\echo
\echo 'Rule "large rooms" is faulty: for a studio it divides by zero. It is skipped for those leads, the'
\echo 'next rules decide, and a person is alerted once. No lead is lost:'
\echo
SELECT count(*) AS failed, count(d.rep) AS assigned_by_other_rules, count(*) FILTER (WHERE d.status = 'waiting') AS waiting
FROM leadroute.decision d WHERE d.reason LIKE '%rule failed and was skipped%';
SELECT a.kind, count(*) AS alerts, min(r.name) AS "for", min(a.message) AS message
FROM leadroute.alert a LEFT JOIN leadroute.rep r ON r.tenant = a.tenant AND r.id = a.manager
GROUP BY a.kind, a.manager ORDER BY a.kind, a.manager;

\echo 'Who listens hears of it. A dispatcher has listened on "leadroute" all the time; now one more lead arrives,'
\echo 'and this is what the dispatcher heard. Each rep has a channel, and each manager.'
\echo
INSERT INTO lead (id, arrived, channel, location, budget) VALUES ('LIVE-1', '2026-01-01', 'Website', 'Palm Jumeirah', 900000)
    RETURNING id, owner;
\! for try in 1 2 3 4 5 6 7 8 9 10; do grep -q LIVE-1 "$HEARD" && break; sleep 0.2; done
\! echo "notifications: $(grep -c notification "$HEARD"), events in them: $(grep -o '"event"' "$HEARD" | wc -l), the latest:"
\! grep -o '{[^{}]*LIVE-1[^{}]*}' "$HEARD"
\echo

\ir sla.sql
\echo 'verify() compares the leads, the record and the counters in shared memory: 0 is right.'
\echo
SELECT * FROM leadroute.verify();
SELECT string_agg(name || ' ' || value, ', ') AS "leadroute.stat" FROM leadroute.stat WHERE value > 0;
