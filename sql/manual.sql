-- What people do to a lead: reassign(), release(), route(). The record's part is done here as leadroute's
-- owner, for a caller whose level allows it; the lead's own UPDATE is run by the library
-- (src/pg/manual.cpp) with the caller's rights and settings: the triggers and policies of the lead table
-- count in it as in any UPDATE of the caller's.
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

CREATE FUNCTION leadroute._latest_episode(attachment integer, lead_id text, tenant bigint) RETURNS leadroute.assignment
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT e.* FROM leadroute._episodes(attachment, lead_id, tenant) e
    ORDER BY e.ended_at IS NOT NULL, e.episode DESC LIMIT 1
$$;
COMMENT ON FUNCTION leadroute._latest_episode(integer, text, bigint) IS
    'The open episode of a lead, else its last one; NULL when it has none.';

CREATE FUNCTION leadroute._require_update_for(caller name, attachment leadroute.lead_table, relation regclass)
    RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    namespace CONSTANT regnamespace := (SELECT c.relnamespace FROM pg_class c WHERE c.oid = relation);
    reads CONSTANT name[] := array_remove(
        ARRAY[attachment.key_column, attachment.owner_column, attachment.tenant_column], NULL);
BEGIN
    IF NOT has_schema_privilege(caller, namespace, 'USAGE')
        OR NOT has_column_privilege(caller, relation, attachment.owner_column, 'UPDATE')
        OR EXISTS (SELECT FROM unnest(reads) c WHERE NOT has_column_privilege(caller, relation, c, 'SELECT')) THEN
        RAISE EXCEPTION USING ERRCODE = 'LR012',
            MESSAGE = format('role "%s" may not change the owner of leads in "%s"', caller, attachment.name),
            DETAIL = 'A lead is updated with the rights of whoever calls, so that its triggers and policies meet him.',
            HINT = CASE WHEN has_schema_privilege(caller, namespace, 'USAGE') THEN '' ELSE
                    format('GRANT USAGE ON SCHEMA %s TO %I; ', namespace, caller) END
                || format('GRANT SELECT (%s), UPDATE (%I) ON %s TO %I;',
                    (SELECT string_agg(quote_ident(c), ', ' ORDER BY n) FROM unnest(reads) WITH ORDINALITY AS u (c, n)),
                    attachment.owner_column, relation, caller);
    END IF;
END
$$;
COMMENT ON FUNCTION leadroute._require_update_for(name, leadroute.lead_table, regclass) IS
    'Raises LR012 for a role without the rights on the lead table that _owner_update() takes.';

CREATE FUNCTION leadroute._read_lead(relation regclass, query text) RETURNS record
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'leadroute_read_lead';
COMMENT ON FUNCTION leadroute._read_lead(regclass, text) IS
    'The row of a query on a lead table, or NULL, run with the rights of the table''s owner: planning alone evaluates what he has put into its constraints and indexes.';

CREATE FUNCTION leadroute._lock_lead(caller name, level text, attachment leadroute.lead_table, relation regclass,
    lead_id text, tenant bigint, OUT key text, OUT was text, OUT episode leadroute.assignment)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    sees_all CONSTANT boolean := level IN ('admin', 'app');
    hidden boolean := NOT sees_all AND NOT leadroute._sees_for(caller,
        leadroute._latest_episode(attachment.id, leadroute._lead_key(attachment, lead_id), tenant));
    problem text[];
BEGIN
    -- a lead that one may not know of does not keep one waiting either
    IF NOT hidden THEN
        SELECT l.key, l.was INTO key, was FROM leadroute._read_lead(relation,
            format('SELECT l.%I::text, l.%I::text FROM %s l WHERE %s FOR NO KEY UPDATE', attachment.key_column,
                attachment.owner_column, relation, leadroute._lead_condition(attachment, relation, lead_id, tenant)))
            AS l (key text, was text);
        episode := leadroute._latest_episode(attachment.id, key, tenant);
        hidden := NOT sees_all AND NOT leadroute._sees_for(caller, episode);
    END IF;
    IF episode.lead_id IS NOT NULL AND episode.ended_at IS NULL AND NOT hidden THEN
        RETURN;
    END IF;
    problem := CASE
        WHEN key IS NULL OR hidden THEN ARRAY[format('there is no lead %s in "%s"', coalesce(lead_id, 'NULL'), attachment.name),
            CASE WHEN sees_all THEN 'No row of the table has this key'
                ELSE format('No lead that role "%s" may see has this key', caller) END
                || CASE WHEN tenant = 0 THEN '.' ELSE format(' in tenant %s.', coalesce(tenant::text, 'NULL')) END,
            'Give the primary key of a lead, and its tenant where there are several.']
        WHEN episode.lead_id IS NULL THEN ARRAY[format('lead %s of "%s" has no record', key, attachment.name),
            'It was there when the table was attached, and was left alone.',
            format('UPDATE %s gives it an owner without leadroute.', relation)]
        WHEN episode.end_reason = 'closed' THEN ARRAY[format('lead %s of "%s" is closed', key, attachment.name),
            format('Since %s%s.', episode.ended_at, ': ' || episode.outcome), 'An UPDATE of its owner opens it again.']
        ELSE ARRAY[format('lead %s of "%s" has no open episode', key, attachment.name),
            format('Its latest one ended: %s.', episode.end_reason), 'leadroute.decision shows what is recorded.'] END;
    RAISE EXCEPTION USING ERRCODE = 'LR007', MESSAGE = problem[1], DETAIL = problem[2], HINT = problem[3];
END
$$;
COMMENT ON FUNCTION leadroute._lock_lead(name, text, leadroute.lead_table, regclass, text, bigint) IS
    'Locks the row of a lead that the caller, of this level, sees until the end of the transaction (FOR NO KEY UPDATE) and gives its key, owner and open episode; raises LR007 when there is none.';

CREATE FUNCTION leadroute._owner_update(attachment leadroute.lead_table, relation regclass, lead_id text,
    tenant bigint, assignments text) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('UPDATE %s AS l SET %s WHERE %s RETURNING l.%I::pg_catalog.text', relation, assignments,
        leadroute._lead_condition(attachment, relation, lead_id, tenant), attachment.owner_column)
$$;
COMMENT ON FUNCTION leadroute._owner_update(leadroute.lead_table, regclass, text, bigint, text) IS
    'The UPDATE that tells the lead its owner; means the same under any search_path.';

CREATE FUNCTION leadroute._owner_type(attachment leadroute.lead_table, relation regclass) RETURNS regtype
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT a.atttypid::regtype FROM pg_attribute a WHERE a.attrelid = relation AND a.attname = attachment.owner_column $$;
COMMENT ON FUNCTION leadroute._owner_type(leadroute.lead_table, regclass) IS 'The type of a lead table''s owner column.';

CREATE FUNCTION leadroute._owner_problem(attachment leadroute.lead_table, relation regclass, taker leadroute.rep) RETURNS text[]
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    owner_type CONSTANT regtype := leadroute._owner_type(attachment, relation);
BEGIN
    RETURN CASE
        WHEN owner_type = 'int4'::regtype AND taker.id > 2147483647 THEN ARRAY[
            format('is an integer, which cannot hold %s', taker.id), 'Give the owner column the type bigint.']
        WHEN owner_type IN ('text'::regtype, 'uuid'::regtype) AND taker.ref IS NULL THEN ARRAY[
            'holds a rep''s ref, and the rep has none', format('UPDATE leadroute.rep SET ref = … WHERE id = %s.', taker.id)]
        WHEN owner_type = 'uuid'::regtype AND lower(translate(taker.ref, '{}-', '')) !~ '^[0-9a-f]{32}$' THEN ARRAY[
            format('is a uuid, and the rep''s ref is "%s"', taker.ref), 'Give the rep a uuid as ref.'] END;
END
$$;
COMMENT ON FUNCTION leadroute._owner_problem(leadroute.lead_table, regclass, leadroute.rep) IS
    'Why the owner column cannot name a rep, and what to do; NULL: it can.';

CREATE FUNCTION leadroute._owner_value(attachment leadroute.lead_table, relation regclass, rep bigint,
    tenant bigint) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    owner_type CONSTANT regtype := leadroute._owner_type(attachment, relation);
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
    problem := leadroute._owner_problem(attachment, relation, taker);
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

CREATE FUNCTION leadroute._require_colleague(caller name, lead leadroute.lead_table, episode leadroute.assignment, rep bigint)
    RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    of_pool CONSTANT leadroute.pool := (SELECT p FROM leadroute.pool p WHERE p.tenant = episode.tenant
        AND p.id = coalesce(episode.pool, (leadroute._came_from(lead.id, episode.tenant, episode.lead_id, episode.episode)).pool));
    member leadroute.pool_member;
    problem text[];
BEGIN
    -- what he sees as a manager of another level is not his own
    IF NOT EXISTS (SELECT FROM leadroute._my_reps_for(caller) m WHERE (m.tenant, m.rep) = (episode.tenant, episode.rep)) THEN
        RAISE EXCEPTION USING ERRCODE = 'LR012',
            MESSAGE = format('role "%s" may not hand over lead %s of "%s"', caller, episode.lead_id, lead.name),
            DETAIL = 'A rep hands over leads of its own.', HINT = 'Ask a manager.';
    END IF;
    SELECT m.* INTO member FROM leadroute.pool_member m WHERE m.tenant = episode.tenant AND m.pool = of_pool.name AND m.rep = rep;
    problem := CASE
        WHEN of_pool.id IS NULL THEN ARRAY['The lead is of no pool.', 'Ask a manager, or release the lead: leadroute.release().']
        WHEN member.rep IS NULL THEN ARRAY[format('It is handed over within its pool, "%s", of which the rep is no member.', of_pool.name),
            'Name a member of that pool, or ask a manager.']
        WHEN member.paused OR (SELECT r.paused FROM leadroute.rep r WHERE r.tenant = episode.tenant AND r.id = rep) THEN ARRAY[
            format('The rep is paused%s.', CASE WHEN member.paused THEN format(' in pool "%s"', of_pool.name) ELSE '' END),
            'Name a member who takes leads, or ask a manager.'] END;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LR010',
            MESSAGE = format('lead %s of "%s" cannot be handed over to rep %s', episode.lead_id, lead.name, rep),
            DETAIL = problem[1], HINT = problem[2];
    END IF;
END
$$;
COMMENT ON FUNCTION leadroute._require_colleague(name, leadroute.lead_table, leadroute.assignment, bigint) IS
    'Raises LR010 unless a role of level rep may hand this lead of its own over to the rep: an unpaused member of the lead''s pool, which is the one it came from. LR012 where it is not its own.';

CREATE FUNCTION leadroute._reassign_for(caller name, lead_table text, lead_id text, rep bigint, reason text, tenant bigint,
    OUT attachment integer, OUT key text, OUT was text, OUT wanted text, OUT statement text)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    level CONSTANT text := leadroute._require_for(caller, tenant, '{app,manager,rep}');
    lead CONSTANT leadroute.lead_table := leadroute._require_attached(lead_table);
    relation CONSTANT regclass := leadroute._lead_relation(lead.id);
    episode leadroute.assignment;
    locked record;
BEGIN
    PERFORM leadroute._require_update_for(caller, lead, relation);
    IF level = 'manager' THEN
        PERFORM leadroute._require_rep_for(caller, tenant, rep);
    END IF;
    wanted := leadroute._owner_value(lead, relation, rep, tenant);
    SELECT l.* INTO locked FROM leadroute._lock_lead(caller, level, lead, relation, lead_id, tenant) l;
    episode := locked.episode;
    IF episode.rep = rep THEN
        RAISE EXCEPTION USING ERRCODE = 'LR009',
            MESSAGE = format('lead %s of "%s" is rep %s''s already', locked.key, lead.name, rep),
            DETAIL = format('Since %s (%s).', episode.decided_at, episode.method),
            HINT = format('leadroute.why(%L, %L) tells how.', lead.name, locked.key);
    END IF;
    IF level = 'rep' THEN
        PERFORM leadroute._require_colleague(caller, lead, episode, rep);
    END IF;
    PERFORM leadroute._hand_over(lead, tenant, locked.key, true, rep, 'reassigned', tenant, reason, level = 'rep');
    attachment := lead.id;
    key := locked.key;
    was := locked.was;
    statement := leadroute._owner_update(lead, relation, key, tenant, format('%I = %L', lead.owner_column, wanted));
END
$$;
COMMENT ON FUNCTION leadroute._reassign_for(name, text, text, bigint, text, bigint) IS
    'The record''s part of reassign(), and the UPDATE of the lead that has to follow: was and wanted are its owner before and after.';

CREATE FUNCTION leadroute._release_for(caller name, lead_table text, lead_id text, reason text, tenant bigint,
    OUT attachment integer, OUT key text, OUT was text, OUT wanted text, OUT statement text)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    level CONSTANT text := leadroute._require_for(caller, tenant, '{rep,manager,app}');
    lead CONSTANT leadroute.lead_table := leadroute._require_attached(lead_table);
    relation CONSTANT regclass := leadroute._lead_relation(lead.id);
    episode leadroute.assignment;
    locked record;
BEGIN
    PERFORM leadroute._require_update_for(caller, lead, relation);
    SELECT l.* INTO locked FROM leadroute._lock_lead(caller, level, lead, relation, lead_id, tenant) l;
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
COMMENT ON FUNCTION leadroute._release_for(name, text, text, text, bigint) IS
    'The record''s part of release(), and the UPDATE of the lead that has to follow; no statement where the lead waits already.';

CREATE FUNCTION leadroute._route_lead(relation regclass, tenant bigint, lead_row record,
    OUT assignments text, OUT wanted text)
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'leadroute_route_waiting';
COMMENT ON FUNCTION leadroute._route_lead(regclass, bigint, record) IS
    'Routes a lead that waits, whose row is locked: takes the turn and writes the record. Gives the columns to set on the lead, with its owner; NULLs: it goes on waiting as before.';

CREATE FUNCTION leadroute._route_for(caller name, lead_table text, lead_id text, tenant bigint,
    OUT attachment integer, OUT key text, OUT was text, OUT wanted text, OUT statement text)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    level CONSTANT text := leadroute._require_for(caller, tenant, '{app,manager}');
    lead CONSTANT leadroute.lead_table := leadroute._require_attached(lead_table);
    relation CONSTANT regclass := leadroute._lead_relation(lead.id);
    condition CONSTANT text := leadroute._lead_condition(lead, relation, lead_id, tenant);
    episode leadroute.assignment;
    locked record;
    assignments text;
BEGIN
    PERFORM leadroute._require_update_for(caller, lead, relation);
    SELECT l.* INTO locked FROM leadroute._lock_lead(caller, level, lead, relation, lead_id, tenant) l;
    episode := locked.episode;
    IF episode.rep IS NOT NULL OR episode.method = 'manual' THEN
        RAISE EXCEPTION USING ERRCODE = 'LR009',
            MESSAGE = format('lead %s of "%s" does not wait', locked.key, lead.name),
            DETAIL = format('%s has it since %s (%s).',
                coalesce('Rep ' || episode.rep, 'Somebody who is not a rep'), episode.decided_at, episode.method),
            HINT = 'leadroute.release() lets it wait, leadroute.reassign() gives it to another rep.';
    END IF;
    EXECUTE format('SELECT r.assignments, r.wanted FROM leadroute._read_lead($1, $3) AS o (l %s),
            leadroute._route_lead($1, $2, o.l) r', relation)
        INTO assignments, wanted
        USING relation, tenant, format('SELECT l FROM %s l WHERE %s', relation, condition);
    key := locked.key;
    IF assignments IS NOT NULL THEN
        attachment := lead.id;
        was := locked.was;
        statement := leadroute._owner_update(lead, relation, key, tenant, assignments);
    END IF;
END
$$;
COMMENT ON FUNCTION leadroute._route_for(name, text, text, bigint) IS
    'The record''s part of route(), and the UPDATE of the lead that has to follow; no attachment where nothing changes.';

CREATE FUNCTION leadroute.reassign(lead_table text, lead_id integer, rep bigint, reason text DEFAULT NULL, tenant bigint DEFAULT 0)
    RETURNS leadroute.assignment LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'leadroute_reassign';
COMMENT ON FUNCTION leadroute.reassign(text, integer, bigint, text, bigint) IS
    'Gives the lead to a rep by hand, and returns the episode: method manual, with who (given_by) and why (remark). Counts as used on the reps day and may exceed caps; takes no turn in a pool. Takes the level app, or manager for a lead and a rep of his own, or rep, who hands a lead of his own over to an unpaused member of the pool it came from and does not get it again; and from all of them the right to update the leads owner, since the lead is updated with the callers rights. Locks the leads row. Raises LR002, LR007 (no such lead, or nothing open), LR008 (no such rep), LR009 (the rep has it already), LR010 (the owner column cannot name the rep, a rep may not hand it over to this one, or a trigger of the lead table keeps the owner), LR012.';
CREATE FUNCTION leadroute.reassign(lead_table text, lead_id bigint, rep bigint, reason text DEFAULT NULL, tenant bigint DEFAULT 0)
    RETURNS leadroute.assignment LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'leadroute_reassign';
COMMENT ON FUNCTION leadroute.reassign(text, bigint, bigint, text, bigint) IS
    'Gives the lead to a rep by hand, and returns the episode: method manual, with who (given_by) and why (remark). Counts as used on the reps day and may exceed caps; takes no turn in a pool. Takes the level app, or manager for a lead and a rep of his own, or rep, who hands a lead of his own over to an unpaused member of the pool it came from and does not get it again; and from all of them the right to update the leads owner, since the lead is updated with the callers rights. Locks the leads row. Raises LR002, LR007 (no such lead, or nothing open), LR008 (no such rep), LR009 (the rep has it already), LR010 (the owner column cannot name the rep, a rep may not hand it over to this one, or a trigger of the lead table keeps the owner), LR012.';
CREATE FUNCTION leadroute.reassign(lead_table text, lead_id uuid, rep bigint, reason text DEFAULT NULL, tenant bigint DEFAULT 0)
    RETURNS leadroute.assignment LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'leadroute_reassign';
COMMENT ON FUNCTION leadroute.reassign(text, uuid, bigint, text, bigint) IS
    'Gives the lead to a rep by hand, and returns the episode: method manual, with who (given_by) and why (remark). Counts as used on the reps day and may exceed caps; takes no turn in a pool. Takes the level app, or manager for a lead and a rep of his own, or rep, who hands a lead of his own over to an unpaused member of the pool it came from and does not get it again; and from all of them the right to update the leads owner, since the lead is updated with the callers rights. Locks the leads row. Raises LR002, LR007 (no such lead, or nothing open), LR008 (no such rep), LR009 (the rep has it already), LR010 (the owner column cannot name the rep, a rep may not hand it over to this one, or a trigger of the lead table keeps the owner), LR012.';
CREATE FUNCTION leadroute.reassign(lead_table text, lead_id text, rep bigint, reason text DEFAULT NULL, tenant bigint DEFAULT 0)
    RETURNS leadroute.assignment LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'leadroute_reassign';
COMMENT ON FUNCTION leadroute.reassign(text, text, bigint, text, bigint) IS
    'Gives the lead to a rep by hand, and returns the episode: method manual, with who (given_by) and why (remark). Counts as used on the reps day and may exceed caps; takes no turn in a pool. Takes the level app, or manager for a lead and a rep of his own, or rep, who hands a lead of his own over to an unpaused member of the pool it came from and does not get it again; and from all of them the right to update the leads owner, since the lead is updated with the callers rights. Locks the leads row. Raises LR002, LR007 (no such lead, or nothing open), LR008 (no such rep), LR009 (the rep has it already), LR010 (the owner column cannot name the rep, a rep may not hand it over to this one, or a trigger of the lead table keeps the owner), LR012.';
CREATE FUNCTION leadroute.release(lead_table text, lead_id integer, reason text DEFAULT NULL, tenant bigint DEFAULT 0)
    RETURNS leadroute.assignment LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'leadroute_release';
COMMENT ON FUNCTION leadroute.release(text, integer, text, bigint) IS
    'Takes the lead from its owner, and returns the episode that waits, with the reason as remark: in the queue of the pool it came from, else of the fallback pool, else in unmatched; in front or not, and with the turn returned or not, as the pool says (release_to, release_returns_turn). A rep who has released a lead does not get it again from the engine. A lead that waits already is left as it is. Takes the level app, or manager or rep for a lead of his own, and from all of them the right to update the leads owner, since the lead is updated with the callers rights. Locks the leads row. Raises LR002, LR007, LR010, LR012.';
CREATE FUNCTION leadroute.release(lead_table text, lead_id bigint, reason text DEFAULT NULL, tenant bigint DEFAULT 0)
    RETURNS leadroute.assignment LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'leadroute_release';
COMMENT ON FUNCTION leadroute.release(text, bigint, text, bigint) IS
    'Takes the lead from its owner, and returns the episode that waits, with the reason as remark: in the queue of the pool it came from, else of the fallback pool, else in unmatched; in front or not, and with the turn returned or not, as the pool says (release_to, release_returns_turn). A rep who has released a lead does not get it again from the engine. A lead that waits already is left as it is. Takes the level app, or manager or rep for a lead of his own, and from all of them the right to update the leads owner, since the lead is updated with the callers rights. Locks the leads row. Raises LR002, LR007, LR010, LR012.';
CREATE FUNCTION leadroute.release(lead_table text, lead_id uuid, reason text DEFAULT NULL, tenant bigint DEFAULT 0)
    RETURNS leadroute.assignment LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'leadroute_release';
COMMENT ON FUNCTION leadroute.release(text, uuid, text, bigint) IS
    'Takes the lead from its owner, and returns the episode that waits, with the reason as remark: in the queue of the pool it came from, else of the fallback pool, else in unmatched; in front or not, and with the turn returned or not, as the pool says (release_to, release_returns_turn). A rep who has released a lead does not get it again from the engine. A lead that waits already is left as it is. Takes the level app, or manager or rep for a lead of his own, and from all of them the right to update the leads owner, since the lead is updated with the callers rights. Locks the leads row. Raises LR002, LR007, LR010, LR012.';
CREATE FUNCTION leadroute.release(lead_table text, lead_id text, reason text DEFAULT NULL, tenant bigint DEFAULT 0)
    RETURNS leadroute.assignment LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'leadroute_release';
COMMENT ON FUNCTION leadroute.release(text, text, text, bigint) IS
    'Takes the lead from its owner, and returns the episode that waits, with the reason as remark: in the queue of the pool it came from, else of the fallback pool, else in unmatched; in front or not, and with the turn returned or not, as the pool says (release_to, release_returns_turn). A rep who has released a lead does not get it again from the engine. A lead that waits already is left as it is. Takes the level app, or manager or rep for a lead of his own, and from all of them the right to update the leads owner, since the lead is updated with the callers rights. Locks the leads row. Raises LR002, LR007, LR010, LR012.';
CREATE FUNCTION leadroute.route(lead_table text, lead_id integer, tenant bigint DEFAULT 0)
    RETURNS SETOF leadroute.assignment LANGUAGE c VOLATILE ROWS 1 AS 'MODULE_PATHNAME', 'leadroute_route';
COMMENT ON FUNCTION leadroute.route(text, integer, bigint) IS
    'Routes a lead that waits by the rules of now, as an insert would, and returns the new episode: method backlog; no row where it goes on waiting as before. Takes the level app, or manager for a lead of his own, and the right to update the leads owner and the columns of the rules label. Locks the leads row. Raises LR002, LR007, LR009 (the lead has an owner), LR010, LR012.';
CREATE FUNCTION leadroute.route(lead_table text, lead_id bigint, tenant bigint DEFAULT 0)
    RETURNS SETOF leadroute.assignment LANGUAGE c VOLATILE ROWS 1 AS 'MODULE_PATHNAME', 'leadroute_route';
COMMENT ON FUNCTION leadroute.route(text, bigint, bigint) IS
    'Routes a lead that waits by the rules of now, as an insert would, and returns the new episode: method backlog; no row where it goes on waiting as before. Takes the level app, or manager for a lead of his own, and the right to update the leads owner and the columns of the rules label. Locks the leads row. Raises LR002, LR007, LR009 (the lead has an owner), LR010, LR012.';
CREATE FUNCTION leadroute.route(lead_table text, lead_id uuid, tenant bigint DEFAULT 0)
    RETURNS SETOF leadroute.assignment LANGUAGE c VOLATILE ROWS 1 AS 'MODULE_PATHNAME', 'leadroute_route';
COMMENT ON FUNCTION leadroute.route(text, uuid, bigint) IS
    'Routes a lead that waits by the rules of now, as an insert would, and returns the new episode: method backlog; no row where it goes on waiting as before. Takes the level app, or manager for a lead of his own, and the right to update the leads owner and the columns of the rules label. Locks the leads row. Raises LR002, LR007, LR009 (the lead has an owner), LR010, LR012.';
CREATE FUNCTION leadroute.route(lead_table text, lead_id text, tenant bigint DEFAULT 0)
    RETURNS SETOF leadroute.assignment LANGUAGE c VOLATILE ROWS 1 AS 'MODULE_PATHNAME', 'leadroute_route';
COMMENT ON FUNCTION leadroute.route(text, text, bigint) IS
    'Routes a lead that waits by the rules of now, as an insert would, and returns the new episode: method backlog; no row where it goes on waiting as before. Takes the level app, or manager for a lead of his own, and the right to update the leads owner and the columns of the rules label. Locks the leads row. Raises LR002, LR007, LR009 (the lead has an owner), LR010, LR012.';
