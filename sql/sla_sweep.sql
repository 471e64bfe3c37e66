-- What is done when the step of a policy is due: found by one index, done lead by lead, each with what
-- it does in one transaction with the mark that it is done. Sweeps at the same time pass over each
-- other's leads, and a touch, claim or anything else that is done to a lead holds its row as a step does:
-- whoever comes second finds the clock stopped, or moved on.
--
-- assignment.stepped says up to which time after the assignment the steps are done, next_step_at when
-- the next one is. Steps missed meanwhile are caught up in one go, in their order.

-- In PL/pgSQL, which keeps its plans: these run for every lead.

CREATE FUNCTION leadroute._sla_steps_left(episode leadroute.assignment, policy leadroute.sla_policy)
    RETURNS TABLE (at timestamptz, after interval, step bigint, action text, pool text)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT CASE WHEN s.step = 0 THEN episode.due_at
            WHEN policy.business_time THEN leadroute._sla_at(episode.tenant, policy.id, episode.rep, episode.decided_at, s.after)
            ELSE episode.decided_at + make_interval(secs => date_part('epoch', s.after)) END AS at,
        s.after, s.step, s.action, s.pool
    FROM (SELECT policy.first_touch AS after, 0::bigint AS step, policy.on_breach AS action, NULL::text AS pool
        UNION ALL
        SELECT coalesce(t.after, greatest(policy.first_touch * t.share::double precision, interval '1 microsecond')), t.id, t.action, t.pool
        FROM leadroute.sla_step t WHERE t.tenant = policy.tenant AND t.policy = policy.name) s
    WHERE policy.id IS NOT NULL AND CASE WHEN s.step = 0 THEN episode.breached_at IS NULL
        ELSE s.after > coalesce(episode.stepped, '0') END
    ORDER BY 1, s.after, s.step;
END
$$;
COMMENT ON FUNCTION leadroute._sla_steps_left(leadroute.assignment, leadroute.sla_policy) IS
    'The steps that are left of an episode, and when they are to be done: the breach (step 0) when the first touch was due by the policy as it was at the assignment, the others by the policy as it is now.';

CREATE FUNCTION leadroute._sla_manager(episode leadroute.assignment, above boolean) RETURNS bigint
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    near CONSTANT bigint := coalesce(
        (SELECT r.manager FROM leadroute.rep r WHERE r.tenant = episode.tenant AND r.id = episode.rep),
        (SELECT p.manager FROM leadroute.pool p WHERE p.tenant = episode.tenant AND p.id = episode.pool),
        (SELECT t.manager FROM leadroute.lead_table t WHERE t.id = episode.lead_table));
BEGIN
    RETURN coalesce(CASE WHEN above THEN (SELECT r.manager FROM leadroute.rep r
        WHERE r.tenant = episode.tenant AND r.id = near) END, near);
END
$$;
COMMENT ON FUNCTION leadroute._sla_manager(leadroute.assignment, boolean) IS
    'Who is told of an episode: the rep''s manager, else the pool''s, else the lead table''s; above: that manager''s own, where there is one.';

CREATE FUNCTION leadroute._sla_act(episode leadroute.assignment, kind text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO leadroute.sla_action (tenant, kind, lead_table, lead_id, episode, rep, pool, rule, policy, due_at)
    VALUES (episode.tenant, kind, episode.lead_table, episode.lead_id, episode.episode, episode.rep, episode.pool,
        episode.rule, episode.sla, episode.due_at);
END
$$;
COMMENT ON FUNCTION leadroute._sla_act(leadroute.assignment, text) IS 'Writes what was done to sla_action, which tells listeners.';

-- Reps who miss their leads -------------------------------------------------------------------------

CREATE FUNCTION leadroute._sla_missed(tenant bigint, rep bigint, times integer) RETURNS boolean
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    -- Both halves of a rep's leads, by index; what came before the rep was back, or changed, is past.
    WITH since (at) AS (SELECT greatest(r.changed_at, (SELECT max(upper(b.during))
            FROM leadroute.rep_absence b WHERE b.tenant = r.tenant AND b.rep = r.id AND upper(b.during) < clock_timestamp()))
        FROM leadroute.rep r WHERE r.tenant = _sla_missed.tenant AND r.id = _sla_missed.rep)
    SELECT count(*) = times AND bool_and(l.missed) FROM (
        SELECT e.missed FROM (
            SELECT a.breached_at IS NOT NULL AS missed, coalesce(a.breached_at, a.touched_at) AS at FROM leadroute.assignment a
            WHERE a.tenant = _sla_missed.tenant AND a.rep = _sla_missed.rep AND a.ended_at IS NULL AND a.day > current_date - 60 AND a.due_at IS NOT NULL
            UNION ALL
            SELECT a.breached_at IS NOT NULL, coalesce(a.breached_at, a.touched_at) FROM leadroute.assignment a
            WHERE a.tenant = _sla_missed.tenant AND a.rep = _sla_missed.rep AND a.ended_at IS NOT NULL AND a.day > current_date - 60 AND a.due_at IS NOT NULL
            ) e, since
        WHERE e.at > since.at ORDER BY e.at DESC LIMIT times) l
$$;
COMMENT ON FUNCTION leadroute._sla_missed(bigint, bigint, integer) IS
    'Whether the rep has missed so many leads in a row: the latest that were touched or breached, of those with a clock and of the last 60 days.';

CREATE FUNCTION leadroute._sla_set_away(episode leadroute.assignment, policy leadroute.sla_policy) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    moment CONSTANT timestamptz := clock_timestamp();
BEGIN
    -- whoever is away already has not missed more by being away
    IF EXISTS (SELECT FROM leadroute.rep r WHERE r.tenant = episode.tenant AND r.id = episode.rep AND r.paused)
        OR EXISTS (SELECT FROM leadroute.rep_absence b WHERE b.tenant = episode.tenant AND b.rep = episode.rep AND b.during @> moment)
        OR NOT EXISTS (SELECT FROM leadroute.rep r WHERE r.tenant = episode.tenant AND r.id = episode.rep) THEN
        RETURN false;
    ELSIF policy.away_for IS NULL THEN
        UPDATE leadroute.rep r SET paused = true WHERE r.tenant = episode.tenant AND r.id = episode.rep;
    ELSE
        INSERT INTO leadroute.rep_absence (tenant, rep, during, reason)
        VALUES (episode.tenant, episode.rep, tstzrange(moment, moment + policy.away_for), format('policy "%s"', policy.name));
    END IF;
    RETURN true;
END
$$;
COMMENT ON FUNCTION leadroute._sla_set_away(leadroute.assignment, leadroute.sla_policy) IS
    'Lets the rep receive no more leads, for as long as the policy says; false where it is away already.';

-- Taking a lead away --------------------------------------------------------------------------------

CREATE FUNCTION leadroute._sla_route(relation regclass, lead_row record, pool integer, bound boolean, avoid bigint[], hops integer,
    OUT assignments text, OUT wanted text, OUT taker bigint)
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'leadroute_sla_route';
COMMENT ON FUNCTION leadroute._sla_route(regclass, record, integer, boolean, bigint[], integer) IS
    'Takes a lead, whose row is locked, from its rep: ends the episode as breached and writes the next one, by the rules or (pool) to another member of a pool, else waiting, for that pool alone if it is bound to it. Gives the columns to set on the lead, with its owner, and who has it now.';

CREATE FUNCTION leadroute._sla_avoid(episode leadroute.assignment, most integer) RETURNS bigint[]
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    missed CONSTANT bigint[] := ARRAY(SELECT e.rep FROM leadroute.assignment e
        WHERE e.tenant = episode.tenant AND e.lead_table = episode.lead_table AND e.lead_id = episode.lead_id
          AND e.ended_at IS NOT NULL AND e.rep IS NOT NULL AND e.breached_at IS NOT NULL
        ORDER BY e.tenant DESC, e.lead_table DESC, e.lead_id USING OPERATOR(leadroute.>#), e.episode DESC);
    latest bigint[] := ARRAY[episode.rep];
    rep bigint;
BEGIN
    FOREACH rep IN ARRAY missed LOOP
        EXIT WHEN cardinality(latest) >= most;
        IF rep <> ALL (latest) THEN
            latest := latest || rep;
        END IF;
    END LOOP;
    RETURN ARRAY(SELECT DISTINCT l FROM unnest(latest || ARRAY(SELECT g FROM unnest(episode.avoid) g WHERE g <> ALL (missed))) l ORDER BY l);
END
$$;
COMMENT ON FUNCTION leadroute._sla_avoid(leadroute.assignment, integer) IS
    'Who does not get a lead that is taken from its rep: the latest so many (NULL: all) who missed it, this one included, and those who gave it up.';

CREATE FUNCTION leadroute._sla_move(lead leadroute.lead_table, relation regclass, episode leadroute.assignment, was text,
    policy leadroute.sla_policy, target integer, bound boolean, recycled boolean) RETURNS text
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    decided record;
BEGIN
    EXECUTE format('SELECT r.* FROM leadroute._read_lead($1, $2) AS o (l %s), leadroute._sla_route($1, o.l, $3, $4, $5, $6) r', relation)
        INTO decided
        USING relation, format('SELECT l FROM %s l WHERE %s', relation, leadroute._lead_condition(lead, relation, episode.lead_id, episode.tenant)),
            target, bound,
            leadroute._sla_avoid(episode, policy.exclude_last), CASE WHEN recycled THEN 0 ELSE coalesce(episode.hops, 0) + 1 END;
    IF policy.returns_turn AND episode.method <> 'manual' AND episode.pool IS NOT NULL THEN
        UPDATE leadroute.assignment a SET credited_at = clock_timestamp(), credited_by = 'leadroute',
            credit_reason = format('policy "%s"', policy.name),
            credit_day = coalesce((SELECT p.credit_returns_cap FROM leadroute.pool p WHERE p.tenant = a.tenant AND p.id = a.pool), true)
        WHERE a.tenant = episode.tenant AND a.lead_table = episode.lead_table AND a.lead_id = episode.lead_id AND a.ended_at IS NOT NULL
          AND a.rep = episode.rep AND a.ticket = episode.ticket AND a.decided_at = episode.decided_at AND a.credited_at IS NULL;
    END IF;
    PERFORM leadroute._update_lead(relation,
        leadroute._owner_update(lead, relation, episode.lead_id, episode.tenant, decided.assignments), was, decided.wanted,
        leadroute._search_path_of((SELECT c.relowner FROM pg_class c WHERE c.oid = relation)));
    RETURN coalesce(format('is now rep %s''s', decided.taker), 'waits now');
END
$$;
COMMENT ON FUNCTION leadroute._sla_move(leadroute.lead_table, regclass, leadroute.assignment, text, leadroute.sla_policy, integer, boolean, boolean) IS
    'Takes a lead from its rep, to a pool (NULL: by the rules; bound: for that pool alone), and tells it its new owner; says where it is now.';

-- One lead ------------------------------------------------------------------------------------------

CREATE FUNCTION leadroute._sla_lead(attachment integer, lead_id text, tenant bigint, OUT outcome text, OUT alerts jsonb, OUT away boolean)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    lead CONSTANT leadroute.lead_table := (SELECT t FROM leadroute.lead_table t WHERE t.id = attachment);
    relation CONSTANT regclass := leadroute._lead_relation(attachment);
    moment CONSTANT timestamptz := clock_timestamp();
    locked record;
    episode leadroute.assignment;
    policy leadroute.sla_policy;
    step record;
    next_at timestamptz;
    done interval;
    breached boolean := false;
    move text;
    target integer;
    bound boolean := false;
    place text;
BEGIN
    outcome := 'skipped';
    alerts := '[]';
    away := false;
    IF relation IS NULL THEN
        RETURN;
    END IF;
    EXECUTE format('LOCK TABLE %s IN ROW EXCLUSIVE MODE NOWAIT', relation);
    SELECT l.key, l.was INTO locked FROM leadroute._read_lead(relation,
        format('SELECT l.%I::text, l.%I::text FROM %s l WHERE %s FOR NO KEY UPDATE SKIP LOCKED', lead.key_column,
            lead.owner_column, relation, leadroute._lead_condition(lead, relation, lead_id, tenant))) AS l (key text, was text);
    episode := leadroute._open_episode(attachment, locked.key, tenant);
    IF locked.key IS NULL OR episode.lead_id IS NULL OR episode.touched_at IS NOT NULL
        OR coalesce(episode.next_step_at > moment, true) THEN
        RETURN;
    END IF;
    SELECT s.* INTO policy FROM leadroute.sla_policy s WHERE s.tenant = tenant AND s.id = episode.sla;

    done := episode.stepped;
    FOR step IN SELECT s.* FROM leadroute._sla_steps_left(episode, policy) s LOOP
        IF step.at > moment THEN
            next_at := nullif(step.at, 'infinity');
            EXIT;
        END IF;
        done := greatest(done, step.after);
        IF step.step = 0 THEN
            breached := true;
            -- coming into the shark tank tells the same
            IF step.action IS DISTINCT FROM 'shark_tank' OR NOT leadroute._to_shark_tank(attachment, locked.key, tenant) THEN
                PERFORM leadroute._sla_act(episode, 'breached');
            END IF;
        END IF;
        CASE
        WHEN step.action = 'remind' THEN
            PERFORM leadroute._sla_act(episode, 'reminder');
        WHEN step.action = 'escalate' OR step.action = 'notify_manager' AND step.step <> 0 THEN
            alerts := alerts || jsonb_build_object('kind', 'escalated', 'manager', leadroute._sla_manager(episode, step.action = 'escalate'),
                'text', format('rep %s has not touched it since %s', episode.rep, episode.decided_at));
        WHEN step.action = 'shark_tank' AND step.step <> 0 THEN
            PERFORM leadroute._to_shark_tank(attachment, locked.key, tenant);
        WHEN step.action = 'set_away' THEN
            away := leadroute._sla_set_away(episode, policy) OR away;
        WHEN step.action IN ('reroute', 'recycle') AND episode.method = 'manual' AND NOT policy.moves_manual THEN
            place := 'stays, since a person gave it';
        WHEN step.action IN ('reroute', 'recycle') THEN
            move := step.action;
            SELECT p.id INTO target FROM leadroute.pool p WHERE p.tenant = tenant AND p.name = step.pool;
            bound := target IS NOT NULL;
            IF move = 'reroute' AND coalesce(episode.hops, 0) >= policy.max_hops THEN
                alerts := alerts || jsonb_build_object('kind', 'reroute_limit', 'manager', leadroute._sla_manager(episode, false),
                    'text', format('%s reps have missed it', coalesce(episode.hops, 0) + 1));
                move := 'recycle';
                target := NULL;
            END IF;
            IF move = 'recycle' THEN
                bound := true;
                target := coalesce(target, (SELECT p.id FROM leadroute.pool p WHERE p.tenant = tenant AND p.name = policy.recycle_pool));
                place := 'stays, for there is no other recycle bin';
            ELSIF policy.reroute_to = 'pool' THEN
                target := coalesce(target, episode.pool);
                bound := bound OR coalesce(episode.pool_bound, false) AND target = episode.pool;
            END IF;
            EXIT WHEN move = 'reroute' OR target <> episode.pool OR target IS NOT NULL AND episode.pool IS NULL;
            move := NULL;
        ELSE
        END CASE;
    END LOOP;

    UPDATE leadroute.assignment a SET stepped = done, next_step_at = next_at,
        breached_at = coalesce(a.breached_at, CASE WHEN breached THEN moment END)
    WHERE a.tenant = tenant AND a.lead_table = attachment AND a.lead_id = locked.key AND a.ended_at IS NULL;
    outcome := 'stepped';
    IF breached AND policy.away_after_breaches IS NOT NULL AND leadroute._sla_missed(tenant, episode.rep, policy.away_after_breaches) THEN
        away := leadroute._sla_set_away(episode, policy) OR away;
    END IF;

    IF move IS NOT NULL THEN
        IF move = 'recycle' THEN
            PERFORM leadroute._sla_act(episode, 'recycled');
        END IF;
        place := leadroute._sla_move(lead, relation, episode, locked.was, policy, target, bound, move = 'recycle');
        outcome := 'moved';
    END IF;
    IF breached THEN
        alerts := alerts || jsonb_build_object('kind', 'sla_breach', 'manager', leadroute._sla_manager(episode, false), 'text',
            format('rep %s did not touch it by %s%s', episode.rep, episode.due_at, '; it ' || place));
    END IF;
    alerts := (SELECT jsonb_agg(x || jsonb_build_object('tenant', tenant, 'lead_table', attachment, 'lead_id', locked.key,
        'rep', episode.rep, 'pool', episode.pool, 'rule', episode.rule, 'policy', policy.id)) FROM jsonb_array_elements(alerts) x);
END
$$;
COMMENT ON FUNCTION leadroute._sla_lead(integer, text, bigint) IS
    'Does the steps of a lead that are due: skipped (it is locked, was touched or has changed), stepped, or moved to somebody else. alerts: what people have to be told; away: the rep receives no more leads. Never waits for the lead.';

CREATE FUNCTION leadroute._sla_failed(attachment integer, lead_id text, tenant bigint, message text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    UPDATE leadroute.alert a SET raised_at = clock_timestamp()
    WHERE a.tenant = tenant AND a.kind = 'sla_error' AND a.acknowledged_at IS NULL
      AND a.lead_table = attachment AND a.lead_id = lead_id;
    IF NOT FOUND THEN
        INSERT INTO leadroute.alert (tenant, kind, lead_table, lead_id, rep, pool, rule, manager, message)
        SELECT tenant, 'sla_error', attachment, lead_id, e.rep, e.pool, e.rule, leadroute._sla_manager(e, false),
            format('the step that is due for lead %s of "%s" cannot be done: %s', lead_id, t.name, message)
        FROM leadroute.lead_table t LEFT JOIN leadroute._open_episode(attachment, lead_id, tenant) e ON true WHERE t.id = attachment;
    END IF;
    -- who has the record locked does something to the lead himself
    UPDATE leadroute.assignment a SET next_step_at = clock_timestamp() + interval '10 minutes'
    WHERE a.ended_at IS NULL AND (a.tenant, a.lead_table, a.lead_id) IN (SELECT l.tenant, l.lead_table, l.lead_id
        FROM leadroute.assignment l WHERE l.tenant = tenant AND l.lead_table = attachment AND l.lead_id = lead_id
          AND l.ended_at IS NULL FOR NO KEY UPDATE SKIP LOCKED);
END
$$;
COMMENT ON FUNCTION leadroute._sla_failed(integer, text, bigint, text) IS
    'Sets a lead aside whose step could not be done: alerts, and lets it rest for ten minutes.';

CREATE FUNCTION leadroute._sla_tell(alerts jsonb) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO leadroute.alert (tenant, kind, lead_table, lead_id, rep, pool, rule, manager, message)
    WITH told AS (
        SELECT x.*, t.name, s.name AS policy_name, count(*) OVER same > s.digest_over AS digest
        FROM jsonb_to_recordset(alerts) AS x (tenant bigint, kind text, lead_table integer, lead_id text, rep bigint, pool integer,
                rule bigint, manager bigint, policy integer, "text" text)
            JOIN leadroute.lead_table t ON t.id = x.lead_table
            JOIN leadroute.sla_policy s ON s.tenant = x.tenant AND s.id = x.policy
        WINDOW same AS (PARTITION BY x.tenant, x.kind, x.manager, x.policy, x.lead_table))
    SELECT tenant, kind, lead_table, lead_id, rep, pool, rule, manager, format('lead %s of "%s": %s', lead_id, name, "text")
    FROM told WHERE NOT digest
    UNION ALL
    SELECT tenant, kind, lead_table, NULL, NULL, NULL, NULL, manager, format('%s leads of "%s" by policy "%s", %s: %s%s', count(*), name, policy_name,
        CASE kind WHEN 'sla_breach' THEN 'not touched in time' WHEN 'reroute_limit' THEN 'missed by too many reps' ELSE 'not touched' END,
        array_to_string((array_agg(lead_id ORDER BY lead_id))[1:10], ', '), CASE WHEN count(*) > 10 THEN ', ...' ELSE '' END)
    FROM told WHERE digest GROUP BY tenant, kind, manager, policy, policy_name, lead_table, name;
END
$$;
COMMENT ON FUNCTION leadroute._sla_tell(jsonb) IS
    'Raises the alerts of a batch of leads: one for each, or for all of one manager, kind and policy together where they are many.';

-- A walk --------------------------------------------------------------------------------------------

CREATE FUNCTION leadroute._sla_due(tenants bigint[], passed text[], until timestamptz, most integer)
    RETURNS TABLE (tenant bigint, lead_table integer, lead_id text)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
AS $$
BEGIN
    -- nothing orders those that are due at one moment, as many are when hours begin
    RETURN QUERY EXECUTE 'SELECT a.tenant, a.lead_table, a.lead_id FROM leadroute.assignment a
        WHERE a.next_step_at <= $1 AND a.next_step_at IS NOT NULL AND a.ended_at IS NULL AND a.touched_at IS NULL'
        || CASE WHEN tenants IS NULL THEN '' ELSE ' AND a.tenant = ANY ($2)' END
        || CASE WHEN cardinality(passed) = 0 THEN '' ELSE ' AND concat_ws(''/'', a.tenant, a.lead_table, a.lead_id) <> ALL ($3)' END
        || ' ORDER BY a.next_step_at LIMIT $4'
    USING until, tenants, passed, most;
END
$$;
COMMENT ON FUNCTION leadroute._sla_due(bigint[], text[], timestamptz, integer) IS
    'The next leads whose step is due, the longest due first, of these tenants (NULL: all), without those that were passed over.';

CREATE FUNCTION leadroute._sla_walk(tenants bigint[], work jsonb, most integer, OUT next_work jsonb, OUT done integer)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    until CONSTANT timestamptz := coalesce((work ->> 'until')::timestamptz, clock_timestamp());
    passed text[] := ARRAY(SELECT jsonb_array_elements_text(work -> 'passed'));
    candidate record;
    stepped record;
    alerts jsonb := '[]';
    tried integer := 0;
BEGIN
    done := 0;
    -- triggers of lead tables run here, with their owners' rights, and not at the end with ours
    SET CONSTRAINTS ALL IMMEDIATE;
    FOR candidate IN SELECT d.* FROM leadroute._sla_due(tenants, passed, until, most) d LOOP
        tried := tried + 1;
        BEGIN
            SELECT l.* INTO stepped FROM leadroute._sla_lead(candidate.lead_table, candidate.lead_id, candidate.tenant) l;
        EXCEPTION WHEN OTHERS THEN
            SELECT 'skipped' AS outcome, NULL::jsonb AS alerts, false AS away INTO stepped;
            -- those will pass
            IF left(SQLSTATE, 2) NOT IN ('40', '53', '55', '57') THEN
                PERFORM leadroute._sla_failed(candidate.lead_table, candidate.lead_id, candidate.tenant, SQLERRM);
            END IF;
        END;
        IF stepped.outcome = 'skipped' THEN
            passed := passed || concat_ws('/', candidate.tenant, candidate.lead_table, candidate.lead_id);
        ELSE
            done := done + 1;
            alerts := alerts || coalesce(stepped.alerts, '[]');
        END IF;
        -- the leads that follow are for those who are there by then
        EXIT WHEN stepped.away;
    END LOOP;
    PERFORM leadroute._sla_tell(alerts);
    IF tried > 0 THEN
        next_work := jsonb_build_object('until', until, 'passed', to_jsonb(passed));
    END IF;
END
$$;
COMMENT ON FUNCTION leadroute._sla_walk(bigint[], jsonb, integer) IS
    'Does what is due for at most so many leads, to be committed; tells what is left (NULL: nothing) and for how many something was done. What comes due after the walk began is left to the next.';
