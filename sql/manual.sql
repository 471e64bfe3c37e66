-- What people do to a lead: reassign(), release(), route(). The work is done here, but the lead's own
-- UPDATE is run by the library (src/pg/manual.cpp) outside of these functions' settings: the triggers of
-- the lead table run in it as in any UPDATE of the caller's.
--
-- The lead row is locked first, then its record, as an UPDATE or DELETE of the lead does. The record
-- says the new owner before the lead does, so follow_owner() finds nothing to do.

CREATE FUNCTION leadroute._lead_condition(attachment leadroute.lead_table, relation regclass, lead_id text,
    tenant bigint) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    key_type CONSTANT regtype := (SELECT a.atttypid FROM pg_attribute a
        WHERE a.attrelid = relation AND a.attname = attachment.key_column);
    wanted text := leadroute._lead_key(attachment, lead_id);
BEGIN
    IF key_type IN ('int4'::regtype, 'int8'::regtype) THEN
        wanted := CASE WHEN wanted !~ '^-?\d{1,19}$' THEN NULL
            WHEN wanted::numeric BETWEEN -9223372036854775808 AND 9223372036854775807 THEN wanted || '::pg_catalog.int8' END;
    ELSIF key_type = 'uuid'::regtype THEN
        wanted := CASE WHEN wanted ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN quote_literal(wanted) || '::pg_catalog.uuid' END;
    ELSE
        wanted := quote_literal(wanted) || '::pg_catalog.text';
    END IF;
    RETURN CASE
        WHEN wanted IS NULL OR tenant IS NULL OR (attachment.tenant_column IS NULL AND tenant <> 0) THEN 'false'
        ELSE format('l.%I OPERATOR(pg_catalog.=) %s', attachment.key_column, wanted)
            || CASE WHEN attachment.tenant_column IS NULL THEN ''
                ELSE format(' AND l.%I OPERATOR(pg_catalog.=) %s::pg_catalog.int8', attachment.tenant_column, tenant) END END;
END
$$;
COMMENT ON FUNCTION leadroute._lead_condition(leadroute.lead_table, regclass, text, bigint) IS
    'SQL that finds the lead with this id, as l, in its table by index; false when it can be none''s.';

CREATE FUNCTION leadroute._open_episode(attachment integer, lead_id text, tenant bigint) RETURNS leadroute.assignment
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT a.* FROM leadroute.assignment a
    WHERE a.tenant = _open_episode.tenant AND a.lead_table = _open_episode.attachment
      AND a.lead_id = _open_episode.lead_id AND a.ended_at IS NULL
$$;
COMMENT ON FUNCTION leadroute._open_episode(integer, text, bigint) IS 'The open episode of a lead, or NULL.';

CREATE FUNCTION leadroute._lock_lead(attachment leadroute.lead_table, relation regclass, lead_id text,
    tenant bigint, OUT key text, OUT was text, OUT episode leadroute.assignment)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    latest leadroute.assignment;
    problem text[];
BEGIN
    EXECUTE format('SELECT l.%I::text, l.%I::text FROM %s l WHERE %s FOR NO KEY UPDATE', attachment.key_column,
        attachment.owner_column, relation, leadroute._lead_condition(attachment, relation, lead_id, tenant))
        INTO key, was;
    episode := leadroute._open_episode(attachment.id, key, tenant);
    IF episode.lead_id IS NOT NULL THEN
        RETURN;
    END IF;
    SELECT e.* INTO latest FROM leadroute._episodes(attachment.id, key, tenant) e ORDER BY e.episode DESC LIMIT 1;
    problem := CASE
        WHEN key IS NULL THEN ARRAY[format('there is no lead %s in "%s"', coalesce(lead_id, 'NULL'), attachment.name),
            CASE WHEN tenant = 0 THEN 'No row of the table has this key.'
                ELSE format('No row of the table has this key in tenant %s.', coalesce(tenant::text, 'NULL')) END,
            'Give the primary key of a lead, and its tenant where there are several.']
        WHEN latest.lead_id IS NULL THEN ARRAY[format('lead %s of "%s" has no record', key, attachment.name),
            'It was there when the table was attached, and was left alone.',
            format('UPDATE %s gives it an owner without leadroute.', relation)]
        ELSE ARRAY[format('lead %s of "%s" has no open episode', key, attachment.name),
            format('Its latest one ended: %s.', latest.end_reason), 'leadroute.decision shows what is recorded.'] END;
    RAISE EXCEPTION USING ERRCODE = 'LR007', MESSAGE = problem[1], DETAIL = problem[2], HINT = problem[3];
END
$$;
COMMENT ON FUNCTION leadroute._lock_lead(leadroute.lead_table, regclass, text, bigint) IS
    'Locks the lead''s row until the end of the transaction (FOR NO KEY UPDATE) and gives its key, owner and open episode; raises LR007 when there is none.';

CREATE FUNCTION leadroute._owner_update(attachment leadroute.lead_table, relation regclass, lead_id text,
    tenant bigint, assignments text) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('UPDATE %s AS l SET %s WHERE %s RETURNING l.%I::pg_catalog.text', relation, assignments,
        leadroute._lead_condition(attachment, relation, lead_id, tenant), attachment.owner_column)
$$;
COMMENT ON FUNCTION leadroute._owner_update(leadroute.lead_table, regclass, text, bigint, text) IS
    'The UPDATE that tells the lead its owner; means the same under any search_path.';

CREATE FUNCTION leadroute._owner_value(attachment leadroute.lead_table, relation regclass, rep bigint,
    tenant bigint) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    owner_type CONSTANT regtype := (SELECT a.atttypid FROM pg_attribute a
        WHERE a.attrelid = relation AND a.attname = attachment.owner_column);
    taker leadroute.rep;
    problem text[];
BEGIN
    SELECT r.* INTO taker FROM leadroute.rep r WHERE r.tenant = tenant AND r.id = rep;
    IF taker.id IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LR008',
            MESSAGE = format('there is no rep %s', coalesce(rep::text, 'NULL')),
            DETAIL = CASE WHEN tenant = 0 THEN 'leadroute.rep has no such id.'
                ELSE format('leadroute.rep has no such id in tenant %s.', tenant) END,
            HINT = CASE WHEN rep IS NULL THEN 'leadroute.release() puts a lead back into its queue.'
                ELSE 'Give the id of a rep of the lead''s tenant.' END;
    END IF;
    problem := CASE
        WHEN owner_type = 'int4'::regtype AND rep > 2147483647 THEN ARRAY[
            format('is an integer, which cannot hold %s', rep), 'Give the owner column the type bigint.']
        WHEN owner_type IN ('text'::regtype, 'uuid'::regtype) AND taker.ref IS NULL THEN ARRAY[
            'holds a rep''s ref, and the rep has none', format('UPDATE leadroute.rep SET ref = … WHERE id = %s.', rep)]
        WHEN owner_type = 'uuid'::regtype AND lower(translate(taker.ref, '{}-', '')) !~ '^[0-9a-f]{32}$' THEN ARRAY[
            format('is a uuid, and the rep''s ref is "%s"', taker.ref), 'Give the rep a uuid as ref.'] END;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LR010',
            MESSAGE = format('leads of "%s" cannot be given to rep %s', attachment.name, rep),
            DETAIL = format('The owner column "%s" %s.', attachment.owner_column, problem[1]), HINT = problem[2];
    END IF;
    RETURN CASE owner_type WHEN 'text'::regtype THEN taker.ref WHEN 'uuid'::regtype THEN taker.ref::uuid::text ELSE rep::text END;
END
$$;
COMMENT ON FUNCTION leadroute._owner_value(leadroute.lead_table, regclass, bigint, bigint) IS
    'What the owner column holds for a rep, as text; raises LR008 when there is no such rep, LR010 when the column cannot name this one.';

CREATE FUNCTION leadroute._reassign(lead_table text, lead_id text, rep bigint, reason text, tenant bigint,
    OUT attachment integer, OUT key text, OUT was text, OUT wanted text, OUT statement text)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    lead CONSTANT leadroute.lead_table := leadroute._require_attached(lead_table);
    relation CONSTANT regclass := leadroute._lead_relation(lead.id);
    episode leadroute.assignment;
    locked record;
BEGIN
    wanted := leadroute._owner_value(lead, relation, rep, tenant);
    SELECT l.* INTO locked FROM leadroute._lock_lead(lead, relation, lead_id, tenant) l;
    episode := locked.episode;
    IF episode.rep = rep THEN
        RAISE EXCEPTION USING ERRCODE = 'LR009',
            MESSAGE = format('lead %s of "%s" is rep %s''s already', locked.key, lead.name, rep),
            DETAIL = format('Since %s (%s).', episode.decided_at, episode.method),
            HINT = format('leadroute.why(%L, %L) tells how.', lead.name, locked.key);
    END IF;
    PERFORM leadroute._hand_over(lead, tenant, locked.key, true, rep, 'reassigned', tenant, reason);
    attachment := lead.id;
    key := locked.key;
    was := locked.was;
    statement := leadroute._owner_update(lead, relation, key, tenant, format('%I = %L', lead.owner_column, wanted));
END
$$;
COMMENT ON FUNCTION leadroute._reassign(text, text, bigint, text, bigint) IS
    'The record''s part of reassign(), and the UPDATE of the lead that has to follow: was and wanted are its owner before and after.';

CREATE FUNCTION leadroute._release(lead_table text, lead_id text, reason text, tenant bigint,
    OUT attachment integer, OUT key text, OUT was text, OUT wanted text, OUT statement text)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    lead CONSTANT leadroute.lead_table := leadroute._require_attached(lead_table);
    relation CONSTANT regclass := leadroute._lead_relation(lead.id);
    episode leadroute.assignment;
    locked record;
BEGIN
    SELECT l.* INTO locked FROM leadroute._lock_lead(lead, relation, lead_id, tenant) l;
    episode := locked.episode;
    attachment := lead.id;
    key := locked.key;
    IF episode.rep IS NULL AND episode.method <> 'manual' THEN
        RETURN;
    END IF;
    PERFORM leadroute._hand_over(lead, tenant, key, false, NULL, 'released', tenant, reason);
    was := locked.was;
    statement := leadroute._owner_update(lead, relation, key, tenant, format('%I = NULL', lead.owner_column));
END
$$;
COMMENT ON FUNCTION leadroute._release(text, text, text, bigint) IS
    'The record''s part of release(), and the UPDATE of the lead that has to follow; no statement where the lead waits already.';

CREATE FUNCTION leadroute._route_lead(relation regclass, tenant bigint, lead_row record,
    OUT assignments text, OUT wanted text)
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'leadroute_route_waiting';
COMMENT ON FUNCTION leadroute._route_lead(regclass, bigint, record) IS
    'Routes a lead that waits, whose row is locked: takes the turn and writes the record. Gives the columns to set on the lead, with its owner; NULLs: it goes on waiting as before.';

CREATE FUNCTION leadroute._route(lead_table text, lead_id text, tenant bigint,
    OUT attachment integer, OUT key text, OUT was text, OUT wanted text, OUT statement text)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    lead CONSTANT leadroute.lead_table := leadroute._require_attached(lead_table);
    relation CONSTANT regclass := leadroute._lead_relation(lead.id);
    condition CONSTANT text := leadroute._lead_condition(lead, relation, lead_id, tenant);
    episode leadroute.assignment;
    locked record;
    assignments text;
BEGIN
    SELECT l.* INTO locked FROM leadroute._lock_lead(lead, relation, lead_id, tenant) l;
    episode := locked.episode;
    IF episode.rep IS NOT NULL OR episode.method = 'manual' THEN
        RAISE EXCEPTION USING ERRCODE = 'LR009',
            MESSAGE = format('lead %s of "%s" does not wait', locked.key, lead.name),
            DETAIL = format('%s has it since %s (%s).',
                coalesce('Rep ' || episode.rep, 'Somebody who is not a rep'), episode.decided_at, episode.method),
            HINT = 'leadroute.release() lets it wait, leadroute.reassign() gives it to another rep.';
    END IF;
    EXECUTE format('SELECT r.assignments, r.wanted FROM %s l, leadroute._route_lead($1, $2, l) r WHERE %s', relation, condition)
        INTO assignments, wanted USING relation, tenant;
    key := locked.key;
    IF assignments IS NOT NULL THEN
        attachment := lead.id;
        was := locked.was;
        statement := leadroute._owner_update(lead, relation, key, tenant, assignments);
    END IF;
END
$$;
COMMENT ON FUNCTION leadroute._route(text, text, bigint) IS
    'The record''s part of route(), and the UPDATE of the lead that has to follow; no attachment where nothing changes.';

CREATE FUNCTION leadroute.reassign(lead_table text, lead_id integer, rep bigint, reason text DEFAULT NULL, tenant bigint DEFAULT 0)
    RETURNS leadroute.assignment LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'leadroute_reassign';
COMMENT ON FUNCTION leadroute.reassign(text, integer, bigint, text, bigint) IS
    'Gives the lead to a rep by hand, and returns the episode: method manual, with who (given_by) and why (remark). Counts as used on the reps day and may exceed caps; takes no turn in a pool. Locks the leads row. Raises LR002, LR007 (no such lead, or nothing open), LR008 (no such rep), LR009 (the rep has it already), LR010 (the owner column cannot name the rep, or a trigger of the lead table keeps the owner).';
CREATE FUNCTION leadroute.reassign(lead_table text, lead_id bigint, rep bigint, reason text DEFAULT NULL, tenant bigint DEFAULT 0)
    RETURNS leadroute.assignment LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'leadroute_reassign';
COMMENT ON FUNCTION leadroute.reassign(text, bigint, bigint, text, bigint) IS
    'Gives the lead to a rep by hand, and returns the episode: method manual, with who (given_by) and why (remark). Counts as used on the reps day and may exceed caps; takes no turn in a pool. Locks the leads row. Raises LR002, LR007 (no such lead, or nothing open), LR008 (no such rep), LR009 (the rep has it already), LR010 (the owner column cannot name the rep, or a trigger of the lead table keeps the owner).';
CREATE FUNCTION leadroute.reassign(lead_table text, lead_id uuid, rep bigint, reason text DEFAULT NULL, tenant bigint DEFAULT 0)
    RETURNS leadroute.assignment LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'leadroute_reassign';
COMMENT ON FUNCTION leadroute.reassign(text, uuid, bigint, text, bigint) IS
    'Gives the lead to a rep by hand, and returns the episode: method manual, with who (given_by) and why (remark). Counts as used on the reps day and may exceed caps; takes no turn in a pool. Locks the leads row. Raises LR002, LR007 (no such lead, or nothing open), LR008 (no such rep), LR009 (the rep has it already), LR010 (the owner column cannot name the rep, or a trigger of the lead table keeps the owner).';
CREATE FUNCTION leadroute.reassign(lead_table text, lead_id text, rep bigint, reason text DEFAULT NULL, tenant bigint DEFAULT 0)
    RETURNS leadroute.assignment LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'leadroute_reassign';
COMMENT ON FUNCTION leadroute.reassign(text, text, bigint, text, bigint) IS
    'Gives the lead to a rep by hand, and returns the episode: method manual, with who (given_by) and why (remark). Counts as used on the reps day and may exceed caps; takes no turn in a pool. Locks the leads row. Raises LR002, LR007 (no such lead, or nothing open), LR008 (no such rep), LR009 (the rep has it already), LR010 (the owner column cannot name the rep, or a trigger of the lead table keeps the owner).';
CREATE FUNCTION leadroute.release(lead_table text, lead_id integer, reason text DEFAULT NULL, tenant bigint DEFAULT 0)
    RETURNS leadroute.assignment LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'leadroute_release';
COMMENT ON FUNCTION leadroute.release(text, integer, text, bigint) IS
    'Takes the lead from its owner, and returns the episode that waits: in the queue of the pool it came from, else of the fallback pool, else in unmatched. A lead that waits already is left as it is. Locks the leads row. Raises LR002, LR007, LR010.';
CREATE FUNCTION leadroute.release(lead_table text, lead_id bigint, reason text DEFAULT NULL, tenant bigint DEFAULT 0)
    RETURNS leadroute.assignment LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'leadroute_release';
COMMENT ON FUNCTION leadroute.release(text, bigint, text, bigint) IS
    'Takes the lead from its owner, and returns the episode that waits: in the queue of the pool it came from, else of the fallback pool, else in unmatched. A lead that waits already is left as it is. Locks the leads row. Raises LR002, LR007, LR010.';
CREATE FUNCTION leadroute.release(lead_table text, lead_id uuid, reason text DEFAULT NULL, tenant bigint DEFAULT 0)
    RETURNS leadroute.assignment LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'leadroute_release';
COMMENT ON FUNCTION leadroute.release(text, uuid, text, bigint) IS
    'Takes the lead from its owner, and returns the episode that waits: in the queue of the pool it came from, else of the fallback pool, else in unmatched. A lead that waits already is left as it is. Locks the leads row. Raises LR002, LR007, LR010.';
CREATE FUNCTION leadroute.release(lead_table text, lead_id text, reason text DEFAULT NULL, tenant bigint DEFAULT 0)
    RETURNS leadroute.assignment LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'leadroute_release';
COMMENT ON FUNCTION leadroute.release(text, text, text, bigint) IS
    'Takes the lead from its owner, and returns the episode that waits: in the queue of the pool it came from, else of the fallback pool, else in unmatched. A lead that waits already is left as it is. Locks the leads row. Raises LR002, LR007, LR010.';
CREATE FUNCTION leadroute.route(lead_table text, lead_id integer, tenant bigint DEFAULT 0)
    RETURNS SETOF leadroute.assignment LANGUAGE c VOLATILE ROWS 1 AS 'MODULE_PATHNAME', 'leadroute_route';
COMMENT ON FUNCTION leadroute.route(text, integer, bigint) IS
    'Routes a lead that waits by the rules of now, as an insert would, and returns the new episode: method backlog; no row where it goes on waiting as before. Locks the leads row. Raises LR002, LR007, LR009 (the lead has an owner), LR010.';
CREATE FUNCTION leadroute.route(lead_table text, lead_id bigint, tenant bigint DEFAULT 0)
    RETURNS SETOF leadroute.assignment LANGUAGE c VOLATILE ROWS 1 AS 'MODULE_PATHNAME', 'leadroute_route';
COMMENT ON FUNCTION leadroute.route(text, bigint, bigint) IS
    'Routes a lead that waits by the rules of now, as an insert would, and returns the new episode: method backlog; no row where it goes on waiting as before. Locks the leads row. Raises LR002, LR007, LR009 (the lead has an owner), LR010.';
CREATE FUNCTION leadroute.route(lead_table text, lead_id uuid, tenant bigint DEFAULT 0)
    RETURNS SETOF leadroute.assignment LANGUAGE c VOLATILE ROWS 1 AS 'MODULE_PATHNAME', 'leadroute_route';
COMMENT ON FUNCTION leadroute.route(text, uuid, bigint) IS
    'Routes a lead that waits by the rules of now, as an insert would, and returns the new episode: method backlog; no row where it goes on waiting as before. Locks the leads row. Raises LR002, LR007, LR009 (the lead has an owner), LR010.';
CREATE FUNCTION leadroute.route(lead_table text, lead_id text, tenant bigint DEFAULT 0)
    RETURNS SETOF leadroute.assignment LANGUAGE c VOLATILE ROWS 1 AS 'MODULE_PATHNAME', 'leadroute_route';
COMMENT ON FUNCTION leadroute.route(text, text, bigint) IS
    'Routes a lead that waits by the rules of now, as an insert would, and returns the new episode: method backlog; no row where it goes on waiting as before. Locks the leads row. Raises LR002, LR007, LR009 (the lead has an owner), LR010.';
