-- The set-up of the demo, as a DBA would write it: a lead table, reps, pools and rules.
-- Everything is rows in SQL; run it again in a database of your own and change what you like.

CREATE EXTENSION leadroute;

-- 1. The lead table. Any table with a primary key will do; the owner column receives the rep's ref.
CREATE TABLE lead (
    id text PRIMARY KEY,
    arrived date NOT NULL,
    channel text NOT NULL,
    campaign text,
    customer_type text,
    location text,
    budget numeric,
    price numeric,
    bedrooms integer,
    priority text,
    owner text
);

-- 2. The people. A rep's day, and so the daily cap, begins at midnight in the rep's time zone.
INSERT INTO leadroute.rep (id, ref, name, team, timezone) VALUES
    (101, 'MGR-1', 'Head of Luxury', 'Management', 'Asia/Dubai'),
    (102, 'MGR-2', 'Head of Sales', 'Management', 'Asia/Dubai');

INSERT INTO leadroute.rep (id, ref, name, team, manager, timezone, daily_cap)
    SELECT right(agent_id, 2)::integer, agent_id, 'Agent ' || right(agent_id, 2)::integer, agent_department,
        CASE WHEN agent_department LIKE 'Luxury%' THEN 101 ELSE 102 END, 'Asia/Dubai',
        -- who sells luxury homes takes 25 leads a day; for the others there is no cap
        CASE WHEN agent_department LIKE 'Luxury%' THEN 25 END
    FROM raw.agents;

-- From now on each lead inserted into the table gets its owner in the same statement.
SELECT leadroute.attach('lead', owner_column => 'owner', manager => 102);

-- 3. The pools: who shares which leads, and how.
INSERT INTO leadroute.pool (name, method, manager) VALUES
    ('investors', 'round_robin', 102),
    ('off-plan',  'round_robin', 102),
    ('marina',    'weighted',    102),
    ('city',      'round_robin', 102);
-- When all of luxury have had their 25 leads, the investors' reps help out.
INSERT INTO leadroute.pool (name, method, manager, overflow_pool) VALUES
    ('luxury',    'round_robin', 101, 'investors');

INSERT INTO leadroute.pool_member (pool, rep)
    SELECT 'luxury', id FROM leadroute.rep WHERE team = 'Luxury & Branded Residences'
    UNION ALL SELECT 'off-plan', id FROM leadroute.rep WHERE team = 'Off-Plan Sales';
-- A cap per pool: at most 75 leads a day from this pool for each, whatever else the rep gets.
INSERT INTO leadroute.pool_member (pool, rep, daily_cap)
    SELECT 'investors', id, 75 FROM leadroute.rep WHERE team = 'Investor Relations';
-- Shares by weight: agent 2 gets three leads for each one that agent 21 gets.
INSERT INTO leadroute.pool_member (pool, rep, weight) VALUES
    ('marina', 2, 3), ('marina', 6, 2), ('marina', 10, 2), ('marina', 12, 1), ('marina', 21, 1);
INSERT INTO leadroute.pool_member (pool, rep) VALUES
    ('city', 22), ('city', 28), ('city', 29), ('city', 31), ('city', 38), ('city', 44);

-- 4. The rules: tried by position, the first whose condition holds decides.
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool, label) VALUES
    ('lead', 10, 'high budget', $$budget >= 4000000$$, 'luxury', '{"priority": "high"}');
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool) VALUES
    -- Faulty on purpose: a studio has 0 bedrooms, so this divides by zero.
    ('lead', 20, 'large rooms', $$price / bedrooms > 2500000$$, 'luxury'),
    ('lead', 30, 'known investors', $$customer_type = 'Investor' AND channel IN ('Referral', 'LinkedIn')$$, 'investors'),
    ('lead', 40, 'off-plan', $$channel = 'Instagram' OR campaign LIKE '%OffPlan%' OR campaign LIKE '%NewLaunch%'$$, 'off-plan'),
    ('lead', 50, 'by the sea', $$location IN ('Dubai Marina', 'Palm Jumeirah', 'Jumeirah Lake Towers (JLT)')$$, 'marina'),
    ('lead', 60, 'in the city', $$location IS NOT NULL$$, 'city');
