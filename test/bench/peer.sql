-- The variant "peer": what a careful developer writes by hand in PL/pgSQL, to be compared with.
-- Rules in a table, tried in the order of their priority; a pointer row for each pool, which is
-- locked until the commit and so hands out exact turns; a counter row for each rep and day, which
-- holds the cap; the record by an AFTER trigger, with indexes for the lead, for the rep's open leads
-- and for what is due. In the variant "peer_notify" that trigger tells listeners, too. Psql variables:
-- as for routed.sql.
CREATE TABLE peer.pools (id integer PRIMARY KEY, next bigint NOT NULL, size bigint NOT NULL) WITH (fillfactor = 10);
CREATE TABLE peer.members (
    pool integer NOT NULL REFERENCES peer.pools, slot bigint NOT NULL, rep bigint NOT NULL,
    PRIMARY KEY (pool, slot)
);
CREATE TABLE peer.reps (id bigint PRIMARY KEY, timezone text NOT NULL, daily_cap integer NOT NULL);
CREATE TABLE peer.rules (
    id integer PRIMARY KEY, priority integer NOT NULL UNIQUE, pincode text,
    min_value numeric, max_value numeric, pool integer NOT NULL REFERENCES peer.pools
);
CREATE TABLE peer.rep_day (
    rep bigint NOT NULL, day date NOT NULL, taken integer NOT NULL, cap integer NOT NULL,
    PRIMARY KEY (rep, day)
) WITH (fillfactor = 50);
CREATE TABLE peer.assignments (
    lead_id bigint NOT NULL,
    assigned_at timestamptz NOT NULL DEFAULT now(),
    due_at timestamptz,
    touched_at timestamptz,
    rep_id bigint,
    rule_id integer,
    state text NOT NULL DEFAULT 'open'
);
CREATE INDEX ON peer.assignments (lead_id);
CREATE INDEX ON peer.assignments (rep_id) WHERE state = 'open';
CREATE INDEX ON peer.assignments (due_at) WHERE state = 'open' AND touched_at IS NULL;

INSERT INTO peer.pools SELECT i, 0, :reps FROM generate_series(1, :pools) i;
INSERT INTO peer.reps
SELECT i,
    ('{Asia/Kolkata,Europe/London,UTC,Asia/Dubai,America/New_York,Australia/Sydney}'::text[])[i % 6 + 1],
    1000000
FROM generate_series(1, :pools * :reps) i;
INSERT INTO peer.members
SELECT (i - 1) / :reps + 1, (i - 1) % :reps, i FROM generate_series(1, :pools * :reps) i;
INSERT INTO peer.rules
SELECT i, i, 400000 + i, 1000, 100000, (i - 1) % :pools + 1 FROM generate_series(1, :rules) i;

CREATE FUNCTION peer.take_turn(pool_id integer) RETURNS bigint
    LANGUAGE plpgsql
AS $$
DECLARE
    turn bigint;
    members bigint;
    owner bigint;
BEGIN
    -- mostly the member at the pointer is below the cap: one statement for both counters
    WITH pointer AS (UPDATE peer.pools SET next = next + 1 WHERE id = pool_id RETURNING next, size)
    INSERT INTO peer.rep_day AS d (rep, day, taken, cap)
    SELECT r.id, (clock_timestamp() AT TIME ZONE r.timezone)::date, 1, r.daily_cap
    FROM pointer p JOIN peer.members m ON m.pool = pool_id AND m.slot = p.next % p.size
    JOIN peer.reps r ON r.id = m.rep AND r.daily_cap > 0
    ON CONFLICT (rep, day) DO UPDATE SET taken = d.taken + 1, cap = EXCLUDED.cap WHERE d.taken < EXCLUDED.cap
    RETURNING d.rep INTO owner;
    IF FOUND THEN
        RETURN owner;
    END IF;
    SELECT p.next, p.size INTO turn, members FROM peer.pools p WHERE p.id = pool_id;
    FOR i IN 1 .. members - 1 LOOP
        INSERT INTO peer.rep_day AS d (rep, day, taken, cap)
        SELECT r.id, (clock_timestamp() AT TIME ZONE r.timezone)::date, 1, r.daily_cap
        FROM peer.members m JOIN peer.reps r ON r.id = m.rep
        WHERE m.pool = pool_id AND m.slot = (turn + i) % members AND r.daily_cap > 0
        ON CONFLICT (rep, day) DO UPDATE SET taken = d.taken + 1, cap = EXCLUDED.cap WHERE d.taken < EXCLUDED.cap
        RETURNING d.rep INTO owner;
        IF FOUND THEN
            RETURN owner;
        END IF;
    END LOOP;
    RETURN NULL;
END
$$;

CREATE FUNCTION peer.route() RETURNS trigger
    LANGUAGE plpgsql
AS $$
DECLARE
    matched record;
BEGIN
    SELECT r.id, r.pool INTO matched FROM peer.rules r
    WHERE (r.pincode IS NULL OR r.pincode = NEW.pincode)
      AND (r.min_value IS NULL OR NEW.deal_value >= r.min_value)
      AND (r.max_value IS NULL OR NEW.deal_value < r.max_value)
    ORDER BY r.priority LIMIT 1;
    IF FOUND THEN
        NEW.owner_id := peer.take_turn(matched.pool);
        PERFORM set_config('peer.rule', matched.id::text, true);
    END IF;
    RETURN NEW;
END
$$;

CREATE FUNCTION peer.record() RETURNS trigger
    LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO peer.assignments (lead_id, due_at, rep_id, rule_id)
    VALUES (NEW.id, now() + interval '30 minutes', NEW.owner_id, current_setting('peer.rule')::integer);
    RETURN NULL;
END
$$;

CREATE TRIGGER route BEFORE INSERT ON peer.leads FOR EACH ROW EXECUTE FUNCTION peer.route();
CREATE TRIGGER record AFTER INSERT ON peer.leads FOR EACH ROW EXECUTE FUNCTION peer.record();

-- In place of record() in the variant "peer_notify".
CREATE FUNCTION peer.record_and_notify() RETURNS trigger
    LANGUAGE plpgsql
AS $$
DECLARE
    due CONSTANT timestamptz := now() + interval '30 minutes';
    rule CONSTANT integer := current_setting('peer.rule')::integer;
BEGIN
    INSERT INTO peer.assignments (lead_id, due_at, rep_id, rule_id) VALUES (NEW.id, due, NEW.owner_id, rule);
    PERFORM pg_notify('peer', json_build_object('event', 'assigned', 'at', now(), 'lead_id', NEW.id,
        'rep', NEW.owner_id, 'rule', rule, 'due_at', due)::text);
    RETURN NULL;
END
$$;
CREATE TRIGGER record_and_notify AFTER INSERT ON peer.leads FOR EACH ROW EXECUTE FUNCTION peer.record_and_notify();
ALTER TABLE peer.leads DISABLE TRIGGER record_and_notify;
ANALYZE;
