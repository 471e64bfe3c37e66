-- What a policy did with a lead, in words: for why() and the views.

CREATE FUNCTION leadroute._missed_words(tenant bigint, lead_table integer, lead_id text, episode integer, method text, hops integer)
    RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    former leadroute.assignment;
BEGIN
    IF method <> 'reroute' THEN
        RETURN NULL;
    END IF;
    SELECT e.* INTO former FROM leadroute.assignment e
    WHERE e.tenant = tenant AND e.lead_table = lead_table AND e.lead_id = lead_id AND e.ended_at IS NOT NULL
      AND e.episode = episode - 1 AND e.end_reason = 'breached';
    RETURN CASE WHEN former.lead_id IS NULL THEN NULL
        ELSE format('%s %s, who did not touch it by %s', CASE WHEN coalesce(hops, 0) = 0 THEN 'into the recycle bin from' ELSE 'taken from' END,
            leadroute._rep_name(former.rep, tenant), former.due_at) END;
END
$$;
COMMENT ON FUNCTION leadroute._missed_words(bigint, integer, text, integer, text, integer) IS
    'Whom a policy took a lead from, at the beginning of this episode; NULL where none did, or the reader may not see it.';

CREATE FUNCTION leadroute._ended_words(end_reason text, policy integer, tenant bigint) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    policy_name text;
BEGIN
    IF end_reason IS DISTINCT FROM 'breached' THEN
        RETURN coalesce(end_reason, 'no reason is recorded');
    ELSIF has_table_privilege('leadroute.sla_policy', 'SELECT') THEN
        SELECT s.name INTO policy_name FROM leadroute.sla_policy s WHERE s.tenant = tenant AND s.id = policy;
    END IF;
    RETURN 'breached, not touched in time' || coalesce(' (policy "' || policy_name || '")', '');
END
$$;
COMMENT ON FUNCTION leadroute._ended_words(text, integer, bigint) IS 'How an episode ended; of a breach, by which policy, where the reader may see it.';
