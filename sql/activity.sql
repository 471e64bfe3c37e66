-- touch() and close(): what a rep does with a lead. They write the record alone, with the rights of
-- leadroute's owner, for a caller who sees the lead; the lead itself is locked, as by all that changes
-- its record, and stays as it is.

CREATE FUNCTION leadroute._note_activity(a leadroute.assignment, kind text, at timestamptz, channel text,
    disposition text, details jsonb) RETURNS void
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO leadroute.activity (tenant, lead_table, lead_id, episode, kind, at, rep, pool, rule,
        channel, disposition, details, done_by)
    -- an insert does not look whether the key was used before: the number is settled at the end
    SELECT a.tenant, a.lead_table, a.lead_id,
        CASE WHEN a.ended_at IS NOT NULL THEN a.episode ELSE greatest(a.episode, 1 + (
            SELECT max(e.episode) FROM leadroute.assignment e
            WHERE e.tenant = a.tenant AND e.lead_table = a.lead_table AND e.lead_id = a.lead_id
              AND e.ended_at IS NOT NULL)) END,
        kind, at, a.rep, a.pool, a.rule, channel, disposition, details, leadroute._actor()
$$;
COMMENT ON FUNCTION leadroute._note_activity(leadroute.assignment, text, timestamptz, text, text, jsonb) IS
    'Writes what was done in an episode that is open, or was ended by it, to activity.';

CREATE FUNCTION leadroute._touch_for(caller name, lead_table text, lead_id text, channel text, disposition text,
    details jsonb, tenant bigint) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    level CONSTANT text := leadroute._require_for(caller, tenant, '{rep,manager,app}');
    lead CONSTANT leadroute.lead_table := leadroute._require_attached(lead_table);
    locked record;
    episode leadroute.assignment;
    at timestamptz;
BEGIN
    IF coalesce(btrim(channel), '') = '' THEN
        RAISE EXCEPTION USING ERRCODE = 'LR005', MESSAGE = 'a touch needs a channel',
            DETAIL = 'It says how the lead was touched.', HINT = 'Give one, such as ''call'', ''e-mail'' or ''visit''.';
    END IF;
    SELECT l.* INTO locked FROM leadroute._lock_lead(caller, level, lead, leadroute._lead_relation(lead.id),
        lead_id, tenant) l;
    episode := locked.episode;
    IF episode.rep IS NULL AND episode.method <> 'manual' THEN
        RAISE EXCEPTION USING ERRCODE = 'LR010',
            MESSAGE = format('lead %s of "%s" has nobody to touch it', locked.key, lead.name),
            DETAIL = format('It waits in the queue "%s" since %s.',
                coalesce(leadroute._pool_name(episode.pool, tenant), 'unmatched'), episode.decided_at),
            HINT = 'leadroute.reassign() gives it to a rep, leadroute.route() to whose turn it is.';
    END IF;
    at := clock_timestamp();
    -- also where it was touched before: a transaction with an old snapshot must fail, not touch what is closed
    UPDATE leadroute.assignment a SET touched_at = coalesce(a.touched_at, at)
    WHERE a.tenant = tenant AND a.lead_table = lead.id AND a.lead_id = locked.key AND a.ended_at IS NULL;
    PERFORM leadroute._note_activity(episode, 'touch', at, channel, disposition, details);
END
$$;
COMMENT ON FUNCTION leadroute._touch_for(name, text, text, text, text, jsonb, bigint) IS 'touch() of a role.';
CREATE FUNCTION leadroute._touch(lead_table text, lead_id text, channel text, disposition text, details jsonb,
    tenant bigint) RETURNS void
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'leadroute_for_caller';
COMMENT ON FUNCTION leadroute._touch(text, text, text, text, jsonb, bigint) IS 'touch() for an id of any type, as text.';

CREATE FUNCTION leadroute._close_for(caller name, lead_table text, lead_id text, outcome text, value numeric,
    tenant bigint) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    level CONSTANT text := leadroute._require_for(caller, tenant, '{rep,manager,app}');
    lead CONSTANT leadroute.lead_table := leadroute._require_attached(lead_table);
    locked record;
    closed leadroute.assignment;
BEGIN
    IF coalesce(btrim(outcome), '') = '' OR value IN ('NaN', 'Infinity', '-Infinity') THEN
        RAISE EXCEPTION USING ERRCODE = 'LR005',
            MESSAGE = CASE WHEN value IS NULL OR coalesce(btrim(outcome), '') = '' THEN 'a closed lead needs an outcome'
                ELSE format('%s is not the value of a lead', value) END,
            DETAIL = 'The outcome says what became of the lead, the value what it was worth.',
            HINT = 'Give an outcome, such as ''won'' or ''lost''; the value is a number, or left out.';
    END IF;
    SELECT l.* INTO locked FROM leadroute._lock_lead(caller, level, lead, leadroute._lead_relation(lead.id),
        lead_id, tenant) l;
    UPDATE leadroute.assignment a SET outcome = outcome, value = value
    WHERE a.tenant = tenant AND a.lead_table = lead.id AND a.lead_id = locked.key AND a.ended_at IS NULL;
    SELECT (e.ended).* INTO closed FROM leadroute._end_episode(lead.id, tenant, locked.key, 'closed') e;
    PERFORM leadroute._note_activity(closed, 'close', closed.ended_at, NULL, outcome,
        CASE WHEN value IS NOT NULL THEN jsonb_build_object('value', value) END);
END
$$;
COMMENT ON FUNCTION leadroute._close_for(name, text, text, text, numeric, bigint) IS 'close() of a role.';
CREATE FUNCTION leadroute._close(lead_table text, lead_id text, outcome text, value numeric, tenant bigint) RETURNS void
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'leadroute_for_caller';
COMMENT ON FUNCTION leadroute._close(text, text, text, numeric, bigint) IS 'close() for an id of any type, as text.';

CREATE FUNCTION leadroute.touch(lead_table text, lead_id integer, channel text, disposition text DEFAULT NULL,
    details jsonb DEFAULT NULL, tenant bigint DEFAULT 0)
    RETURNS void LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$ SELECT leadroute._touch(lead_table, lead_id::text, channel, disposition, details, tenant) $$;
COMMENT ON FUNCTION leadroute.touch(text, integer, text, text, jsonb, bigint) IS
    'Notes that the lead''s rep touched it: by which channel (call, e-mail, visit, ...), with what disposition and other details, in leadroute.activity. The first touch sets assignment.touched_at: the episode''s status is working. Takes the level app, manager or rep, for a lead that the role sees, and no right on the lead table. Locks the lead''s row, which stays as it is. Raises LR002, LR005 (no channel), LR007 (no such lead, or closed), LR010 (the lead waits: nobody has it), LR012.';
CREATE FUNCTION leadroute.touch(lead_table text, lead_id bigint, channel text, disposition text DEFAULT NULL,
    details jsonb DEFAULT NULL, tenant bigint DEFAULT 0)
    RETURNS void LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$ SELECT leadroute._touch(lead_table, lead_id::text, channel, disposition, details, tenant) $$;
COMMENT ON FUNCTION leadroute.touch(text, bigint, text, text, jsonb, bigint) IS
    'Notes that the lead''s rep touched it: by which channel (call, e-mail, visit, ...), with what disposition and other details, in leadroute.activity. The first touch sets assignment.touched_at: the episode''s status is working. Takes the level app, manager or rep, for a lead that the role sees, and no right on the lead table. Locks the lead''s row, which stays as it is. Raises LR002, LR005 (no channel), LR007 (no such lead, or closed), LR010 (the lead waits: nobody has it), LR012.';
CREATE FUNCTION leadroute.touch(lead_table text, lead_id uuid, channel text, disposition text DEFAULT NULL,
    details jsonb DEFAULT NULL, tenant bigint DEFAULT 0)
    RETURNS void LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$ SELECT leadroute._touch(lead_table, lead_id::text, channel, disposition, details, tenant) $$;
COMMENT ON FUNCTION leadroute.touch(text, uuid, text, text, jsonb, bigint) IS
    'Notes that the lead''s rep touched it: by which channel (call, e-mail, visit, ...), with what disposition and other details, in leadroute.activity. The first touch sets assignment.touched_at: the episode''s status is working. Takes the level app, manager or rep, for a lead that the role sees, and no right on the lead table. Locks the lead''s row, which stays as it is. Raises LR002, LR005 (no channel), LR007 (no such lead, or closed), LR010 (the lead waits: nobody has it), LR012.';
CREATE FUNCTION leadroute.touch(lead_table text, lead_id text, channel text, disposition text DEFAULT NULL,
    details jsonb DEFAULT NULL, tenant bigint DEFAULT 0)
    RETURNS void LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$ SELECT leadroute._touch(lead_table, lead_id, channel, disposition, details, tenant) $$;
COMMENT ON FUNCTION leadroute.touch(text, text, text, text, jsonb, bigint) IS
    'Notes that the lead''s rep touched it: by which channel (call, e-mail, visit, ...), with what disposition and other details, in leadroute.activity. The first touch sets assignment.touched_at: the episode''s status is working. Takes the level app, manager or rep, for a lead that the role sees, and no right on the lead table. Locks the lead''s row, which stays as it is. Raises LR002, LR005 (no channel), LR007 (no such lead, or closed), LR010 (the lead waits: nobody has it), LR012.';
CREATE FUNCTION leadroute.close(lead_table text, lead_id integer, outcome text, value numeric DEFAULT NULL,
    tenant bigint DEFAULT 0)
    RETURNS void LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$ SELECT leadroute._close(lead_table, lead_id::text, outcome, value, tenant) $$;
COMMENT ON FUNCTION leadroute.close(text, integer, text, numeric, bigint) IS
    'Closes the lead: its episode ends with reason closed, this outcome and value (NULL: none), and frees its rep''s capacity. The lead keeps its owner; giving it another one, or none, opens it again. A lead that waits leaves its queue. Noted in leadroute.activity. Takes the level app, manager or rep, for a lead that the role sees, and no right on the lead table. Locks the lead''s row, which stays as it is. Raises LR002, LR005 (no outcome, or a value that is not a number), LR007 (no such lead, or closed already), LR012.';
CREATE FUNCTION leadroute.close(lead_table text, lead_id bigint, outcome text, value numeric DEFAULT NULL,
    tenant bigint DEFAULT 0)
    RETURNS void LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$ SELECT leadroute._close(lead_table, lead_id::text, outcome, value, tenant) $$;
COMMENT ON FUNCTION leadroute.close(text, bigint, text, numeric, bigint) IS
    'Closes the lead: its episode ends with reason closed, this outcome and value (NULL: none), and frees its rep''s capacity. The lead keeps its owner; giving it another one, or none, opens it again. A lead that waits leaves its queue. Noted in leadroute.activity. Takes the level app, manager or rep, for a lead that the role sees, and no right on the lead table. Locks the lead''s row, which stays as it is. Raises LR002, LR005 (no outcome, or a value that is not a number), LR007 (no such lead, or closed already), LR012.';
CREATE FUNCTION leadroute.close(lead_table text, lead_id uuid, outcome text, value numeric DEFAULT NULL,
    tenant bigint DEFAULT 0)
    RETURNS void LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$ SELECT leadroute._close(lead_table, lead_id::text, outcome, value, tenant) $$;
COMMENT ON FUNCTION leadroute.close(text, uuid, text, numeric, bigint) IS
    'Closes the lead: its episode ends with reason closed, this outcome and value (NULL: none), and frees its rep''s capacity. The lead keeps its owner; giving it another one, or none, opens it again. A lead that waits leaves its queue. Noted in leadroute.activity. Takes the level app, manager or rep, for a lead that the role sees, and no right on the lead table. Locks the lead''s row, which stays as it is. Raises LR002, LR005 (no outcome, or a value that is not a number), LR007 (no such lead, or closed already), LR012.';
CREATE FUNCTION leadroute.close(lead_table text, lead_id text, outcome text, value numeric DEFAULT NULL,
    tenant bigint DEFAULT 0)
    RETURNS void LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$ SELECT leadroute._close(lead_table, lead_id, outcome, value, tenant) $$;
COMMENT ON FUNCTION leadroute.close(text, text, text, numeric, bigint) IS
    'Closes the lead: its episode ends with reason closed, this outcome and value (NULL: none), and frees its rep''s capacity. The lead keeps its owner; giving it another one, or none, opens it again. A lead that waits leaves its queue. Noted in leadroute.activity. Takes the level app, manager or rep, for a lead that the role sees, and no right on the lead table. Locks the lead''s row, which stays as it is. Raises LR002, LR005 (no outcome, or a value that is not a number), LR007 (no such lead, or closed already), LR012.';
