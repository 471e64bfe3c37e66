-- What is done when the step of a policy is due: by the library, which finds it by one index and does it
-- lead by lead (src/pg/sla_sweep.cpp). Here is what it asks of SQL.
--
-- assignment.stepped says up to which time after the assignment the steps are done, next_step_at when
-- the next one is. Steps missed meanwhile are caught up in one go, in their order.

CREATE FUNCTION leadroute._sla_set_away(tenant bigint, rep bigint, away_for interval, policy text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    moment CONSTANT timestamptz := clock_timestamp();
BEGIN
    -- whoever is away already has not missed more by being away
    IF EXISTS (SELECT FROM leadroute.rep r WHERE r.tenant = tenant AND r.id = rep AND r.paused)
        OR EXISTS (SELECT FROM leadroute.rep_absence b WHERE b.tenant = tenant AND b.rep = rep AND b.during @> moment)
        OR NOT EXISTS (SELECT FROM leadroute.rep r WHERE r.tenant = tenant AND r.id = rep) THEN
        RETURN false;
    ELSIF away_for IS NULL THEN
        UPDATE leadroute.rep r SET paused = true WHERE r.tenant = tenant AND r.id = rep;
    ELSE
        INSERT INTO leadroute.rep_absence (tenant, rep, during, reason)
        VALUES (tenant, rep, tstzrange(moment, moment + away_for), format('policy "%s"', policy));
    END IF;
    RETURN true;
END
$$;
COMMENT ON FUNCTION leadroute._sla_set_away(bigint, bigint, interval, text) IS
    'Lets the rep receive no more leads, for as long as the policy says (NULL: until a person lifts it); false where it is away already.';

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
        SELECT tenant, 'sla_error', attachment, lead_id, e.rep, e.pool, e.rule, coalesce(
                (SELECT r.manager FROM leadroute.rep r WHERE r.tenant = tenant AND r.id = e.rep),
                (SELECT p.manager FROM leadroute.pool p WHERE p.tenant = tenant AND p.id = e.pool), t.manager),
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
