-- replay() and replay_summary(): history through the rules, pools and reps as this transaction sees them;
-- src/pg/replay.h. They read the lead table as the caller, so that its rights and policies are in force.

CREATE FUNCTION leadroute._managed_table_for(caller name, lead_table text, tenant bigint,
    OUT relation regclass, OUT tenant_column name)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    attachment leadroute.lead_table;
BEGIN
    PERFORM leadroute._require_for(caller, tenant, '{manager}');
    attachment := leadroute._require_attached(lead_table);
    PERFORM leadroute._explain_tenant(attachment, '{}', tenant);
    relation := leadroute._lead_relation(attachment.id);
    tenant_column := attachment.tenant_column;
END
$$;
COMMENT ON FUNCTION leadroute._managed_table_for(name, text, bigint) IS '_managed_table() of a role.';
CREATE FUNCTION leadroute._managed_table(lead_table text, tenant bigint, OUT relation regclass, OUT tenant_column name)
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'leadroute_for_caller';
COMMENT ON FUNCTION leadroute._managed_table(text, bigint) IS
    'The relation whose leads or rules a manager asks about; raises LR002, LR005 where it has no leads of the tenant, LR012.';

CREATE FUNCTION leadroute._replay(relation regclass, tenant bigint, since timestamptz, until timestamptz)
    RETURNS TABLE (lead_id text, then_rep bigint, then_rule bigint, now_rep bigint, now_rule bigint, changed boolean, reason text,
        value double precision, filled text)
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'leadroute_replay';
COMMENT ON FUNCTION leadroute._replay(regclass, bigint, timestamptz, timestamptz) IS
    'replay() of a relation, with what each lead is worth and which limit of its rep it fills (daily cap, capacity).';

CREATE FUNCTION leadroute.replay(lead_table text, since timestamptz DEFAULT NULL, until timestamptz DEFAULT NULL, tenant bigint DEFAULT 0)
    RETURNS TABLE (lead_id text, then_rep bigint, then_rule bigint, now_rep bigint, now_rule bigint, changed boolean, reason text)
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT r.lead_id, r.then_rep, r.then_rule, r.now_rep, r.now_rule, r.changed, r.reason
    FROM leadroute._replay((leadroute._managed_table(replay.lead_table, replay.tenant)).relation, replay.tenant, replay.since, replay.until) r
$$;
COMMENT ON FUNCTION leadroute.replay(text, timestamptz, timestamptz, bigint) IS
    'Where the leads that arrived from since to before until (NULL: all) would have gone by the rules, pools, members and reps as this transaction sees them, in the order of arrival: what was decided then, what would be now, whether the owner (or the queue, of a lead that waits) is another, and why. Turns, caps and open leads are counted in memory of its own, with the clock of then: daily caps by the rep''s day, absences, working hours and validity of rules as they stand now for that time. What happened before since, owners given by hand, leads that are gone and those of the tenant''s other tables count as they did; a lead is open until its record ends. Leads are as they are now, without their owner; who was signed in is not kept, all count as signed in; leads that wait are not given out later, unless they waited then and somebody received them. Changes nothing, and works in a READ ONLY transaction. Takes the level manager, and SELECT on the lead table. Raises LR001, LR002, LR005 for a table without leads of the tenant and an until before since, LR012.';

CREATE FUNCTION leadroute.replay_summary(lead_table text, since timestamptz DEFAULT NULL, until timestamptz DEFAULT NULL, tenant bigint DEFAULT 0)
    RETURNS TABLE (rep bigint, rep_name text, then_leads bigint, now_leads bigint, then_value numeric, now_value numeric, caps_filled bigint)
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    WITH replayed AS MATERIALIZED (
        SELECT r.* FROM leadroute._replay((leadroute._managed_table(replay_summary.lead_table, replay_summary.tenant)).relation,
            replay_summary.tenant, replay_summary.since, replay_summary.until) r)
    SELECT s.rep, (SELECT p.name FROM leadroute.rep p WHERE p.tenant = replay_summary.tenant AND p.id = s.rep),
        count(*) FILTER (WHERE s.was), count(*) FILTER (WHERE NOT s.was),
        round(sum(s.value) FILTER (WHERE s.was)::numeric, 2), round(sum(s.value) FILTER (WHERE NOT s.was)::numeric, 2),
        count(s.filled) FILTER (WHERE NOT s.was)
    FROM (SELECT r.then_rep, true, r.value, NULL FROM replayed r
        UNION ALL SELECT r.now_rep, false, r.value, r.filled FROM replayed r) s (rep, was, value, filled)
    GROUP BY s.rep ORDER BY s.rep
$$;
COMMENT ON FUNCTION leadroute.replay_summary(text, timestamptz, timestamptz, bigint) IS
    'replay() by rep, and without a rep for the leads that wait: how many leads then and now, what they are worth by the lead table''s value_expression (NULL: it has none), and how often a lead filled a daily cap or the capacity. Rights and errors as for replay().';
