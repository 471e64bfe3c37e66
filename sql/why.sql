-- Every decision explains itself: the record's explanation in words, and as JSON with names.

CREATE FUNCTION leadroute._state_words(state text, used integer DEFAULT NULL, cap integer DEFAULT NULL)
    RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE state
        WHEN 'rep_cap' THEN concat('daily cap ', 'of ' || cap || ' ', 'reached')
        WHEN 'member_cap' THEN concat('daily cap ', 'of ' || cap || ' ', 'in this pool reached')
        WHEN 'rep_paused' THEN 'paused'
        WHEN 'member_paused' THEN 'paused in this pool'
        WHEN 'no_ref' THEN 'has no ref that the owner column can hold'
        WHEN 'turn' THEN 'others were due first'
        ELSE state END || CASE WHEN used > cap THEN format(' (%s used)', used) ELSE '' END
$$;
COMMENT ON FUNCTION leadroute._state_words(text, integer, integer) IS
    'Why a member is, or was, not the one to receive a lead.';

CREATE FUNCTION leadroute._turns(deficit numeric) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN deficit IS NULL THEN NULL WHEN round(deficit, 3) = 0 THEN 'level'
        ELSE format('%s turns %s', trim_scale(round(abs(deficit), 3)),
                    CASE WHEN deficit > 0 THEN 'due' ELSE 'ahead' END) END
$$;
COMMENT ON FUNCTION leadroute._turns(numeric) IS 'Turns due minus turns received, in words.';

CREATE FUNCTION leadroute._status(rep bigint, method text, touched_at timestamptz, ended_at timestamptz,
    end_reason text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN ended_at IS NOT NULL THEN CASE end_reason WHEN 'closed' THEN 'closed' ELSE 'ended' END
        WHEN rep IS NULL AND method <> 'manual' THEN 'waiting'
        WHEN touched_at IS NOT NULL THEN 'working' ELSE 'assigned' END
$$;
COMMENT ON FUNCTION leadroute._status(bigint, text, timestamptz, timestamptz, text) IS
    'Status of an episode: assigned, waiting, working, closed, ended.';

CREATE FUNCTION leadroute._pool_name(pool integer, tenant bigint) RETURNS text
    LANGUAGE sql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((SELECT p.name FROM leadroute.pool p
                     WHERE p.tenant = _pool_name.tenant AND p.id = _pool_name.pool),
                    format('(deleted %s)', pool))
    WHERE pool IS NOT NULL
$$;
COMMENT ON FUNCTION leadroute._pool_name(integer, bigint) IS 'Present name of a pool of the record; NULL for none.';

CREATE FUNCTION leadroute._rep_name(rep bigint, tenant bigint) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((SELECT format('%s (%s)', r.name, r.id) FROM leadroute.rep r
                     WHERE r.tenant = _rep_name.tenant AND r.id = _rep_name.rep),
                    format('(deleted %s)', rep))
    WHERE rep IS NOT NULL
$$;
COMMENT ON FUNCTION leadroute._rep_name(bigint, bigint) IS 'Present name and id of a rep of the record; NULL for none.';

CREATE FUNCTION leadroute._rule_name(rule bigint, tenant bigint) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((SELECT format('"%s" (%s)', r.name, r.id) FROM leadroute.rule r
                     WHERE r.tenant = _rule_name.tenant AND r.id = _rule_name.rule),
                    format('(deleted %s)', rule))
    WHERE rule IS NOT NULL
$$;
COMMENT ON FUNCTION leadroute._rule_name(bigint, bigint) IS 'Present name and id of a rule of the record; NULL for none.';

-- One element of an explanation's "tried": a pool, or as pool 0 a rule's own rep, that was asked.

CREATE FUNCTION leadroute._state_counts(tried jsonb) RETURNS TABLE (state text, many bigint)
    LANGUAGE sql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS $$
    SELECT s.state, sum(s.many)::bigint FROM (
        SELECT c ->> 'state' AS state, 1::bigint AS many FROM jsonb_array_elements(tried -> 'candidates') c
        UNION ALL SELECT o.key, o.value::bigint FROM jsonb_each_text(tried -> 'others') o) s
    GROUP BY s.state
$$;
COMMENT ON FUNCTION leadroute._state_counts(jsonb) IS 'Members that were asked, counted by state.';

CREATE FUNCTION leadroute._tried_words(tried jsonb, tenant bigint) RETURNS text
    LANGUAGE sql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN tried -> 'pool' = '0' AND picked THEN 'the rule names this rep'
        WHEN tried -> 'pool' = '0' THEN concat('the rule''s rep is not available: ', absent)
        WHEN picked THEN format('first in turn of %s in pool "%s"', tried ->> 'members', pool)
            || coalesce(' (' || absent || ')', '')
        WHEN tried -> 'members' = '0' THEN format('pool "%s" has no members', pool)
        ELSE format('nobody available in pool "%s"', pool) || coalesce(' (' || absent || ')', '') END
    FROM (SELECT coalesce(bool_or(s.state = 'picked'), false) AS picked,
              string_agg(CASE tried ->> 'members' WHEN '1' THEN '' ELSE s.many || ' ' END
                  || leadroute._state_words(s.state), ', ' ORDER BY s.many DESC, s.state)
                  FILTER (WHERE s.state NOT IN ('picked', 'turn')) AS absent
          FROM leadroute._state_counts(tried) s) counted,
        leadroute._pool_name((tried ->> 'pool')::integer, tenant) AS pool
$$;
COMMENT ON FUNCTION leadroute._tried_words(jsonb, bigint) IS 'What asking one pool came to, in one phrase.';

CREATE FUNCTION leadroute._reason(tenant bigint, rep bigint, method text, explanation bytea) RETURNS text
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    facts CONSTANT jsonb := leadroute._explanation(explanation);
    failed CONSTANT integer := coalesce(jsonb_array_length(facts -> 'rule_errors'), 0);
    words text;
BEGIN
    words := concat_ws('; ',
        CASE WHEN failed = 1 THEN '1 rule failed and was skipped'
             WHEN failed > 1 THEN format('%s rules failed and were skipped', failed) END,
        CASE facts ->> 'note' WHEN 'unmatched' THEN 'no rule matched'
            WHEN 'pool_gone' THEN 'the pool no longer exists' END,
        CASE WHEN method = 'manual' THEN 'owner given by hand' END,
        (SELECT string_agg(leadroute._tried_words(t.tried, tenant), '; ' ORDER BY t.n)
         FROM jsonb_array_elements(facts -> 'tried') WITH ORDINALITY AS t (tried, n)));
    RETURN coalesce(nullif(words, ''), CASE WHEN rep IS NULL THEN 'put into the queue' ELSE 'not explained' END);
END
$$;
COMMENT ON FUNCTION leadroute._reason(bigint, bigint, text, bytea) IS 'A decision''s reason in one line.';

-- The episode that is asked about ---------------------------------------------------------------

CREATE FUNCTION leadroute._lead_key(attachment leadroute.lead_table, lead_id text) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    key_type CONSTANT regtype := (SELECT a.atttypid FROM pg_attribute a
        WHERE a.attrelid = leadroute._lead_relation(attachment.id) AND a.attname = attachment.key_column);
BEGIN
    RETURN CASE key_type
        WHEN 'int4'::regtype THEN lead_id::bigint::text
        WHEN 'int8'::regtype THEN lead_id::bigint::text
        WHEN 'uuid'::regtype THEN lead_id::uuid::text
        ELSE lead_id END;
EXCEPTION WHEN invalid_text_representation OR numeric_value_out_of_range THEN
    RETURN lead_id;
END
$$;
COMMENT ON FUNCTION leadroute._lead_key(leadroute.lead_table, text) IS
    'A lead id as the record has it: the output form of the key''s type.';

CREATE FUNCTION leadroute._require_episode(lead_table text, lead_id text, episode integer, tenant bigint)
    RETURNS leadroute.assignment
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    attachment CONSTANT leadroute.lead_table := leadroute._require_attached(_require_episode.lead_table);
    wanted CONSTANT text := leadroute._lead_key(attachment, _require_episode.lead_id);
    found_row leadroute.assignment;
    latest integer;
BEGIN
    SELECT e.* INTO found_row FROM leadroute._episodes(attachment.id, wanted, _require_episode.tenant) e
    WHERE e.episode = coalesce(_require_episode.episode, e.episode) ORDER BY e.episode DESC LIMIT 1;
    IF found_row.lead_id IS NOT NULL THEN
        RETURN found_row;
    END IF;
    SELECT max(e.episode) INTO latest FROM leadroute._episodes(attachment.id, wanted, _require_episode.tenant) e;
    RAISE EXCEPTION USING ERRCODE = 'LR007',
        MESSAGE = CASE WHEN latest IS NULL THEN format('lead %s of "%s" has no record', wanted, attachment.name)
            ELSE format('lead %s of "%s" has no episode %s', wanted, attachment.name, _require_episode.episode) END,
        DETAIL = CASE
            WHEN latest IS NOT NULL THEN format('Its latest episode is %s.', latest)
            WHEN EXISTS (SELECT FROM leadroute.unmanaged_lead u WHERE u.tenant = _require_episode.tenant
                         AND u.lead_table = attachment.id AND u.lead_id = wanted)
                THEN 'It was there when the table was attached, and was left alone.'
            ELSE format('Nothing is known of it in tenant %s.', _require_episode.tenant) END,
        HINT = 'leadroute.decision shows what is recorded.';
END
$$;
COMMENT ON FUNCTION leadroute._require_episode(text, text, integer, bigint) IS
    'A lead''s episode, the latest if NULL; raises LR007 when there is none, LR002 when the table is not attached.';

-- why and why_json ------------------------------------------------------------------------------

CREATE FUNCTION leadroute._why_json(a leadroute.assignment) RETURNS jsonb
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_build_object(
        'tenant', a.tenant,
        'lead_table', (SELECT t.name FROM leadroute.lead_table t WHERE t.id = a.lead_table),
        'lead_id', a.lead_id, 'episode', a.episode,
        'status', leadroute._status(a.rep, a.method, a.touched_at, a.ended_at, a.end_reason),
        'method', a.method, 'decided_at', a.decided_at, 'ended_at', a.ended_at, 'end_reason', a.end_reason,
        'rep', (SELECT jsonb_build_object('id', a.rep, 'name', (SELECT r.name FROM leadroute.rep r
                    WHERE r.tenant = a.tenant AND r.id = a.rep)) WHERE a.rep IS NOT NULL),
        'pool', (SELECT jsonb_build_object('id', a.pool, 'name', leadroute._pool_name(a.pool, a.tenant))
                 WHERE a.pool IS NOT NULL),
        'queue', CASE WHEN a.rep IS NULL AND a.method <> 'manual'
                 THEN coalesce(leadroute._pool_name(a.pool, a.tenant), 'unmatched') END,
        'rule', (SELECT jsonb_build_object('id', a.rule, 'name', (SELECT r.name FROM leadroute.rule r
                    WHERE r.tenant = a.tenant AND r.id = a.rule)) WHERE a.rule IS NOT NULL),
        'day', a.day, 'rep_cap', a.rep_cap, 'member_cap', a.member_cap, 'label', a.label,
        'rule_errors', (SELECT coalesce(jsonb_agg(e.error || jsonb_build_object('name',
                    (SELECT r.name FROM leadroute.rule r WHERE r.tenant = a.tenant
                     AND r.id = (e.error ->> 'rule')::bigint)) ORDER BY e.n), '[]')
                FROM jsonb_array_elements(x.facts -> 'rule_errors') WITH ORDINALITY AS e (error, n)),
        'note', x.facts -> 'note',
        'tried', (SELECT coalesce(jsonb_agg(t.tried || jsonb_build_object(
                    'name', leadroute._pool_name(nullif((t.tried ->> 'pool')::integer, 0), a.tenant),
                    'candidates', (SELECT coalesce(jsonb_agg(c.candidate || jsonb_build_object('name',
                            (SELECT r.name FROM leadroute.rep r WHERE r.tenant = a.tenant
                             AND r.id = (c.candidate ->> 'rep')::bigint)) ORDER BY c.n), '[]')
                        FROM jsonb_array_elements(t.tried -> 'candidates') WITH ORDINALITY AS c (candidate, n))
                    ) ORDER BY t.n), '[]')
                FROM jsonb_array_elements(x.facts -> 'tried') WITH ORDINALITY AS t (tried, n)),
        'reason', leadroute._reason(a.tenant, a.rep, a.method, a.explanation))
    FROM (SELECT leadroute._explanation(a.explanation) AS facts) x
$$;
COMMENT ON FUNCTION leadroute._why_json(leadroute.assignment) IS 'One episode''s explanation as JSON, with names.';

CREATE FUNCTION leadroute._why_candidate(candidate jsonb, tenant bigint) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('    %s: ', leadroute._rep_name((candidate ->> 'rep')::bigint, tenant)) || CASE candidate ->> 'state'
        WHEN 'picked' THEN 'picked' || coalesce(', now ' || leadroute._turns((candidate ->> 'deficit')::numeric), '')
        WHEN 'turn' THEN 'others were due first' || coalesce(', ' || leadroute._turns((candidate ->> 'deficit')::numeric), '')
        WHEN 'rep_cap' THEN format('daily cap reached, %s of %s', candidate ->> 'used', candidate ->> 'cap')
        WHEN 'member_cap' THEN format('daily cap in this pool reached, %s of %s', candidate ->> 'used', candidate ->> 'cap')
        ELSE leadroute._state_words(candidate ->> 'state') END
$$;
COMMENT ON FUNCTION leadroute._why_candidate(jsonb, bigint) IS 'why()''s line about one member.';

CREATE FUNCTION leadroute._why_tried(tried jsonb, tenant bigint) RETURNS SETOF text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT '  ' || upper(left(words, 1)) || substr(words, 2) || '.' FROM leadroute._tried_words(tried, tenant) AS words
    UNION ALL
    (SELECT leadroute._why_candidate(c.candidate, tenant)
     FROM jsonb_array_elements(tried -> 'candidates') WITH ORDINALITY AS c (candidate, n) ORDER BY c.n)
    UNION ALL
    SELECT '    and others: ' || string_agg(format('%s %s', o.value,
        CASE o.key WHEN 'turn' THEN 'due later' ELSE leadroute._state_words(o.key) END), ', ' ORDER BY o.key)
    FROM jsonb_each_text(tried -> 'others') o HAVING count(*) > 0
$$;
COMMENT ON FUNCTION leadroute._why_tried(jsonb, bigint) IS 'why()''s lines about one pool that was asked.';

CREATE FUNCTION leadroute._why(a leadroute.assignment) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    facts CONSTANT jsonb := leadroute._explanation(a.explanation);
    status CONSTANT text := leadroute._status(a.rep, a.method, a.touched_at, a.ended_at, a.end_reason);
    lines text[];
BEGIN
    lines := ARRAY[format('Lead %s of "%s", episode %s: %s at %s (%s).', a.lead_id,
        (SELECT t.name FROM leadroute.lead_table t WHERE t.id = a.lead_table), a.episode,
        CASE WHEN a.rep IS NOT NULL THEN 'assigned to ' || leadroute._rep_name(a.rep, a.tenant)
             WHEN a.method = 'manual' THEN 'assigned to somebody who is not a rep'
             ELSE format('put into the queue "%s"', coalesce(leadroute._pool_name(a.pool, a.tenant), 'unmatched')) END,
        a.decided_at, a.method)];
    lines := lines || ARRAY(
        SELECT format('  Rule %s failed and was skipped (SQLSTATE %s).',
            leadroute._rule_name((e.error ->> 'rule')::bigint, a.tenant), e.error ->> 'sqlstate')
        FROM jsonb_array_elements(facts -> 'rule_errors') WITH ORDINALITY AS e (error, n) ORDER BY e.n);
    lines := lines || CASE
        WHEN a.method = 'manual' THEN ARRAY['  Whoever wrote the lead gave the owner: kept, and counted as the rep''s lead of the day.']
        WHEN a.rule IS NOT NULL THEN ARRAY[format('  Rule %s was the first to match.', leadroute._rule_name(a.rule, a.tenant))]
        WHEN facts ->> 'note' = 'unmatched' THEN ARRAY['  No rule matched.']
        WHEN facts IS NULL THEN ARRAY['  How it was decided is not recorded.'] ELSE '{}' END;
    lines := lines || CASE facts ->> 'note'
        WHEN 'pool_gone' THEN ARRAY['  The pool it was meant for no longer exists.'] ELSE '{}' END;
    lines := lines || ARRAY(
        SELECT w.line FROM jsonb_array_elements(facts -> 'tried') WITH ORDINALITY AS t (tried, n),
            leadroute._why_tried(t.tried, a.tenant) WITH ORDINALITY AS w (line, m) ORDER BY t.n, w.m);
    lines := lines || CASE
        WHEN status = 'waiting' THEN ARRAY['  It waits there.']
        WHEN a.ended_at IS NOT NULL THEN ARRAY[format('  Ended at %s: %s.', a.ended_at, a.end_reason)] ELSE '{}' END;
    RETURN array_to_string(lines, E'\n');
END
$$;
COMMENT ON FUNCTION leadroute._why(leadroute.assignment) IS 'One episode''s explanation in a person''s words.';

CREATE FUNCTION leadroute.why(lead_table text, lead_id integer, episode integer DEFAULT NULL, tenant bigint DEFAULT 0)
    RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT leadroute._why(leadroute._require_episode(lead_table, lead_id::text, episode, tenant)) $$;
COMMENT ON FUNCTION leadroute.why(text, integer, integer, bigint) IS
    'Why the lead has its owner, or waits, in a person''s words; the latest episode unless one is given.';
CREATE FUNCTION leadroute.why(lead_table text, lead_id bigint, episode integer DEFAULT NULL, tenant bigint DEFAULT 0)
    RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT leadroute._why(leadroute._require_episode(lead_table, lead_id::text, episode, tenant)) $$;
COMMENT ON FUNCTION leadroute.why(text, bigint, integer, bigint) IS
    'Why the lead has its owner, or waits, in a person''s words; the latest episode unless one is given.';
CREATE FUNCTION leadroute.why(lead_table text, lead_id uuid, episode integer DEFAULT NULL, tenant bigint DEFAULT 0)
    RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT leadroute._why(leadroute._require_episode(lead_table, lead_id::text, episode, tenant)) $$;
COMMENT ON FUNCTION leadroute.why(text, uuid, integer, bigint) IS
    'Why the lead has its owner, or waits, in a person''s words; the latest episode unless one is given.';
CREATE FUNCTION leadroute.why(lead_table text, lead_id text, episode integer DEFAULT NULL, tenant bigint DEFAULT 0)
    RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT leadroute._why(leadroute._require_episode(lead_table, lead_id, episode, tenant)) $$;
COMMENT ON FUNCTION leadroute.why(text, text, integer, bigint) IS
    'Why the lead has its owner, or waits, in a person''s words; the latest episode unless one is given.';
CREATE FUNCTION leadroute.why_json(lead_table text, lead_id integer, episode integer DEFAULT NULL, tenant bigint DEFAULT 0)
    RETURNS jsonb LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT leadroute._why_json(leadroute._require_episode(lead_table, lead_id::text, episode, tenant)) $$;
COMMENT ON FUNCTION leadroute.why_json(text, integer, integer, bigint) IS
    'why() as JSON: the same facts, with ids and names.';
CREATE FUNCTION leadroute.why_json(lead_table text, lead_id bigint, episode integer DEFAULT NULL, tenant bigint DEFAULT 0)
    RETURNS jsonb LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT leadroute._why_json(leadroute._require_episode(lead_table, lead_id::text, episode, tenant)) $$;
COMMENT ON FUNCTION leadroute.why_json(text, bigint, integer, bigint) IS
    'why() as JSON: the same facts, with ids and names.';
CREATE FUNCTION leadroute.why_json(lead_table text, lead_id uuid, episode integer DEFAULT NULL, tenant bigint DEFAULT 0)
    RETURNS jsonb LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT leadroute._why_json(leadroute._require_episode(lead_table, lead_id::text, episode, tenant)) $$;
COMMENT ON FUNCTION leadroute.why_json(text, uuid, integer, bigint) IS
    'why() as JSON: the same facts, with ids and names.';
CREATE FUNCTION leadroute.why_json(lead_table text, lead_id text, episode integer DEFAULT NULL, tenant bigint DEFAULT 0)
    RETURNS jsonb LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT leadroute._why_json(leadroute._require_episode(lead_table, lead_id, episode, tenant)) $$;
COMMENT ON FUNCTION leadroute.why_json(text, text, integer, bigint) IS
    'why() as JSON: the same facts, with ids and names.';
