-- credit_back(): a lead that turned out to be worth nothing has used nobody's turn.
--
-- Only the record is written: the lead may be gone, and keeps its owner otherwise. The turn comes back in
-- memory when that is committed (_record_credited()).

CREATE FUNCTION leadroute._credit_episode(caller name, level text, lead leadroute.lead_table, lead_id text,
    tenant bigint) RETURNS leadroute.assignment
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    key CONSTANT text := leadroute._lead_key(lead, lead_id);
    latest CONSTANT leadroute.assignment := leadroute._latest_episode(lead.id, key, tenant);
    found_episode leadroute.assignment;
    problem text[];
BEGIN
    SELECT e.* INTO found_episode FROM leadroute._episodes(lead.id, key, tenant) e
    WHERE e.rep IS NOT NULL AND e.method <> 'manual'
    ORDER BY e.ended_at IS NOT NULL, e.episode DESC LIMIT 1;
    problem := CASE
        WHEN latest.lead_id IS NULL OR level = 'manager'
            AND NOT leadroute._sees_for(caller, latest) AND NOT leadroute._sees_for(caller, found_episode) THEN ARRAY['LR007',
            format('there is no lead %s in "%s"', coalesce(lead_id, 'NULL'), lead.name),
            CASE level WHEN 'manager' THEN format('No lead that role "%s" may see has this key.', caller)
                ELSE 'No lead with this key has a record.' END,
            'Give the primary key of a lead, and its tenant where there are several.']
        WHEN found_episode.lead_id IS NULL THEN ARRAY['LR010',
            format('lead %s of "%s" has used nobody''s turn', key, lead.name),
            'No rep has, or had, it through the engine.', 'A lead given by hand takes no turn in a pool.']
        WHEN found_episode.credited_at IS NOT NULL THEN ARRAY['LR009',
            format('lead %s of "%s" is credited back already', key, lead.name),
            format('By %s at %s: %s.', found_episode.credited_by, found_episode.credited_at, found_episode.credit_reason),
            'A turn is returned once.'] END;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = problem[1], MESSAGE = problem[2], DETAIL = problem[3], HINT = problem[4];
    END IF;
    IF level = 'manager' THEN
        PERFORM leadroute._require_rep_for(caller, tenant, found_episode.rep);
    END IF;
    RETURN found_episode;
END
$$;
COMMENT ON FUNCTION leadroute._credit_episode(name, text, leadroute.lead_table, text, bigint) IS
    'The episode of a lead whose turn credit_back() returns: its latest one with a rep through the engine. Raises LR007, LR009, LR010, LR012.';

CREATE FUNCTION leadroute._credit_back_for(caller name, lead_table text, lead_id text, reason text, tenant bigint)
    RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    level CONSTANT text := leadroute._require_for(caller, tenant, '{app,manager}');
    lead CONSTANT leadroute.lead_table := leadroute._require_attached(lead_table);
    episode leadroute.assignment;
    day_too boolean;
BEGIN
    IF coalesce(btrim(reason), '') = '' THEN
        RAISE EXCEPTION USING ERRCODE = 'LR010', MESSAGE = format('lead %s of "%s" is not credited back without a reason', lead_id, lead.name),
            DETAIL = 'The reason is kept in the record.', HINT = 'Say what was wrong with the lead.';
    END IF;
    LOOP
        episode := leadroute._credit_episode(caller, level, lead, lead_id, tenant);
        day_too := episode.day IS NOT NULL AND coalesce((SELECT p.credit_returns_cap FROM leadroute.pool p
            WHERE p.tenant = tenant AND p.id = episode.pool), true);
        IF episode.ended_at IS NULL THEN
            UPDATE leadroute.assignment a SET credited_at = clock_timestamp(), credited_by = leadroute._actor(),
                credit_reason = reason, credit_day = day_too
            WHERE a.tenant = episode.tenant AND a.lead_table = episode.lead_table AND a.lead_id = episode.lead_id
              AND a.ended_at IS NULL AND a.rep = episode.rep AND a.ticket = episode.ticket AND a.credited_at IS NULL;
        ELSE
            UPDATE leadroute.assignment a SET credited_at = clock_timestamp(), credited_by = leadroute._actor(),
                credit_reason = reason, credit_day = day_too
            WHERE a.tenant = episode.tenant AND a.lead_table = episode.lead_table AND a.lead_id = episode.lead_id
              AND a.ended_at IS NOT NULL AND a.episode = episode.episode AND a.credited_at IS NULL;
        END IF;
        -- not found: somebody ended or credited it meanwhile
        EXIT WHEN FOUND;
    END LOOP;
END
$$;
COMMENT ON FUNCTION leadroute._credit_back_for(name, text, text, text, bigint) IS 'credit_back() of a role.';

CREATE FUNCTION leadroute.credit_back(lead_table text, lead_id text, reason text, tenant bigint DEFAULT 0)
    RETURNS void LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'leadroute_for_caller';
COMMENT ON FUNCTION leadroute.credit_back(text, text, text, bigint) IS
    'Returns the turn of a bad lead, once: that of its latest episode with a rep through the engine, open or ended. When this is committed the rep is due one turn more, so that the next lead goes there, and where the pool says so (credit_returns_cap) the day''s caps have one more. The episode stays as it is. Takes the level app, or manager for a lead and a rep of his own. Raises LR002, LR007 (no such lead), LR009 (credited back already), LR010 (nobody''s turn was used, or no reason), LR012.';
CREATE FUNCTION leadroute.credit_back(lead_table text, lead_id integer, reason text, tenant bigint DEFAULT 0)
    RETURNS void LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$ SELECT leadroute.credit_back(lead_table, lead_id::text, reason, tenant) $$;
COMMENT ON FUNCTION leadroute.credit_back(text, integer, text, bigint) IS
    'Returns the turn of a bad lead, once: that of its latest episode with a rep through the engine, open or ended. When this is committed the rep is due one turn more, so that the next lead goes there, and where the pool says so (credit_returns_cap) the day''s caps have one more. The episode stays as it is. Takes the level app, or manager for a lead and a rep of his own. Raises LR002, LR007 (no such lead), LR009 (credited back already), LR010 (nobody''s turn was used, or no reason), LR012.';
CREATE FUNCTION leadroute.credit_back(lead_table text, lead_id bigint, reason text, tenant bigint DEFAULT 0)
    RETURNS void LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$ SELECT leadroute.credit_back(lead_table, lead_id::text, reason, tenant) $$;
COMMENT ON FUNCTION leadroute.credit_back(text, bigint, text, bigint) IS
    'Returns the turn of a bad lead, once: that of its latest episode with a rep through the engine, open or ended. When this is committed the rep is due one turn more, so that the next lead goes there, and where the pool says so (credit_returns_cap) the day''s caps have one more. The episode stays as it is. Takes the level app, or manager for a lead and a rep of his own. Raises LR002, LR007 (no such lead), LR009 (credited back already), LR010 (nobody''s turn was used, or no reason), LR012.';
CREATE FUNCTION leadroute.credit_back(lead_table text, lead_id uuid, reason text, tenant bigint DEFAULT 0)
    RETURNS void LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$ SELECT leadroute.credit_back(lead_table, lead_id::text, reason, tenant) $$;
COMMENT ON FUNCTION leadroute.credit_back(text, uuid, text, bigint) IS
    'Returns the turn of a bad lead, once: that of its latest episode with a rep through the engine, open or ended. When this is committed the rep is due one turn more, so that the next lead goes there, and where the pool says so (credit_returns_cap) the day''s caps have one more. The episode stays as it is. Takes the level app, or manager for a lead and a rep of his own. Raises LR002, LR007 (no such lead), LR009 (credited back already), LR010 (nobody''s turn was used, or no reason), LR012.';
