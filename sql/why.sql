-- why() and why_json(): one episode's explanation in words, and as JSON with names; the words are those
-- of words.sql.

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
    SELECT max(a.episode) INTO latest FROM leadroute.assignment a
    WHERE a.tenant = _require_episode.tenant AND a.lead_table = attachment.id AND a.lead_id = wanted
      AND a.ended_at IS NOT NULL;
    SELECT a.* INTO found_row FROM leadroute.assignment a
    WHERE a.tenant = _require_episode.tenant AND a.lead_table = attachment.id AND a.lead_id = wanted
      AND a.ended_at IS NULL;
    IF found_row.lead_id IS NOT NULL THEN
        -- an insert does not look whether the key was used before: the number is settled at the end
        found_row.episode := greatest(found_row.episode, latest + 1);
        latest := found_row.episode;
    END IF;
    IF found_row.lead_id IS NULL OR found_row.episode <> _require_episode.episode THEN
        SELECT a.* INTO found_row FROM leadroute.assignment a
        WHERE a.tenant = _require_episode.tenant AND a.lead_table = attachment.id AND a.lead_id = wanted
          AND a.ended_at IS NOT NULL AND a.episode = coalesce(_require_episode.episode, latest);
    END IF;
    IF found_row.lead_id IS NOT NULL THEN
        RETURN found_row;
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'LR007',
        MESSAGE = CASE WHEN latest IS NULL THEN format('lead %s of "%s" has no record', wanted, attachment.name)
            ELSE format('lead %s of "%s" has no episode %s', wanted, attachment.name, _require_episode.episode) END,
        DETAIL = CASE
            WHEN latest IS NOT NULL THEN format('Its latest episode is %s.', latest)
            WHEN EXISTS (SELECT FROM leadroute.unmanaged_lead u WHERE u.tenant = _require_episode.tenant
                         AND u.lead_table = attachment.id AND u.lead_id = wanted)
                THEN 'It was there when the table was attached, and was left alone.'
            WHEN _require_episode.tenant = 0 THEN 'Nothing is known of it.'
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
        'status', leadroute._status(a.rep, a.method, a.touched_at, a.ended_at, a.end_reason, a.offered_until),
        'method', a.method, 'decided_at', a.decided_at, 'ended_at', a.ended_at, 'end_reason', a.end_reason,
        'touched_at', a.touched_at, 'outcome', a.outcome, 'value', a.value,
        'rep', (SELECT jsonb_build_object('id', a.rep, 'name', (SELECT r.name FROM leadroute.rep r
                    WHERE r.tenant = a.tenant AND r.id = a.rep)) WHERE a.rep IS NOT NULL),
        'pool', (SELECT jsonb_build_object('id', a.pool, 'name', leadroute._pool_name(a.pool, a.tenant))
                 WHERE a.pool IS NOT NULL),
        'queue', CASE WHEN a.rep IS NULL AND a.method <> 'manual'
                 THEN coalesce(leadroute._pool_name(a.pool, a.tenant), 'unmatched') END,
        'rule', (SELECT jsonb_build_object('id', a.rule, 'name', (SELECT r.name FROM leadroute.rule r
                    WHERE r.tenant = a.tenant AND r.id = a.rule), 'version', a.rule_version) WHERE a.rule IS NOT NULL),
        'day', a.day, 'rep_cap', a.rep_cap, 'member_cap', a.member_cap, 'open_cap', a.open_cap, 'label', a.label,
        'score', a.score, 'needs', a.needs, 'offered_to', a.offered_to, 'offered_until', a.offered_until,
        'rule_errors', (SELECT coalesce(jsonb_agg(e.error || jsonb_build_object('name',
                    (SELECT r.name FROM leadroute.rule r WHERE r.tenant = a.tenant
                     AND r.id = (e.error ->> 'rule')::bigint)) ORDER BY e.n), '[]')
                FROM jsonb_array_elements(x.facts -> 'rule_errors') WITH ORDINALITY AS e (error, n)),
        'not_found', (SELECT coalesce(jsonb_agg(jsonb_build_object('rule', m.rule,
                    'name', (SELECT r.name FROM leadroute.rule r WHERE r.tenant = a.tenant
                             AND r.id = m.rule::text::bigint)) ORDER BY m.n), '[]')
                FROM jsonb_array_elements(x.facts -> 'not_found') WITH ORDINALITY AS m (rule, n)),
        'note', x.facts -> 'note',
        'tried', (SELECT coalesce(jsonb_agg(t.tried || jsonb_build_object(
                    'name', leadroute._pool_name(nullif((t.tried ->> 'pool')::integer, 0), a.tenant),
                    'candidates', (SELECT coalesce(jsonb_agg(c.candidate || jsonb_build_object('name',
                            (SELECT r.name FROM leadroute.rep r WHERE r.tenant = a.tenant
                             AND r.id = (c.candidate ->> 'rep')::bigint)) ORDER BY c.n), '[]')
                        FROM jsonb_array_elements(t.tried -> 'candidates') WITH ORDINALITY AS c (candidate, n))
                    ) ORDER BY t.n), '[]')
                FROM jsonb_array_elements(x.facts -> 'tried') WITH ORDINALITY AS t (tried, n)),
        'reason', coalesce(leadroute._missed_words(a.tenant, a.lead_table, a.lead_id COLLATE "default", a.episode, a.method, a.hops) || '; ', '')
            || leadroute._reason(a.rep, a.method, a.explanation,
            leadroute._pool_names(a.explanation, a.tenant), leadroute._origin(a)) || coalesce(': ' || a.remark, ''),
        'given_by', a.given_by, 'remark', a.remark, 'credited_at', a.credited_at, 'credited_by', a.credited_by,
        'credit_reason', a.credit_reason)
    FROM (SELECT leadroute._explanation(a.explanation) AS facts) x
$$;
COMMENT ON FUNCTION leadroute._why_json(leadroute.assignment) IS 'One episode''s explanation as JSON, with names.';

CREATE FUNCTION leadroute._candidate_words(candidate jsonb) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE candidate ->> 'state'
        WHEN 'picked' THEN 'picked' || coalesce(CASE WHEN candidate ?| '{deficit,value}' THEN ', now ' ELSE ', ' END
            || leadroute._measure(candidate), '')
        WHEN 'turn' THEN CASE WHEN candidate ? 'open' THEN 'others have fewer open leads or wait longer'
            WHEN candidate ? 'km' THEN 'others are nearer or were due first' ELSE 'others were due first' END
            || coalesce(', ' || leadroute._measure(candidate), '')
        WHEN 'rep_cap' THEN format('daily cap reached, %s of %s', candidate ->> 'used', candidate ->> 'cap')
        WHEN 'member_cap' THEN format('daily cap in this pool reached, %s of %s', candidate ->> 'used', candidate ->> 'cap')
        WHEN 'open_cap' THEN format('capacity reached, %s of %s leads open', candidate ->> 'used', candidate ->> 'cap')
        ELSE leadroute._state_words(candidate ->> 'state') END
$$;
COMMENT ON FUNCTION leadroute._candidate_words(jsonb) IS 'Why one member was, or was not, the one to receive a lead, with counts.';

CREATE FUNCTION leadroute._why_candidate(candidate jsonb, tenant bigint) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('    %s: %s', leadroute._rep_name((candidate ->> 'rep')::bigint, tenant), leadroute._candidate_words(candidate))
$$;
COMMENT ON FUNCTION leadroute._why_candidate(jsonb, bigint) IS 'why()''s line about one member.';

CREATE FUNCTION leadroute._why_tried(tried jsonb, pool_names jsonb, tenant bigint) RETURNS SETOF text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT '  ' || upper(left(words, 1)) || substr(words, 2) || '.' FROM leadroute._tried_words(tried, pool_names) AS words
    UNION ALL
    (SELECT leadroute._why_candidate(c.candidate, tenant)
     FROM jsonb_array_elements(tried -> 'candidates') WITH ORDINALITY AS c (candidate, n) ORDER BY c.n)
    UNION ALL
    SELECT '    and others: ' || string_agg(leadroute._count_words(o.key, o.value::bigint), ', ' ORDER BY o.key)
    FROM jsonb_each_text(tried -> 'others') o HAVING count(*) > 0
$$;
COMMENT ON FUNCTION leadroute._why_tried(jsonb, jsonb, bigint) IS 'why()''s lines about one pool that was asked.';

CREATE FUNCTION leadroute._why_given(a leadroute.assignment, facts jsonb, origin text) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN origin = 'attached' AND a.method = 'manual' THEN '  It had this owner when the table was attached.'
        WHEN origin = 'attached' THEN '  It was there, without an owner, when the table was attached.'
        WHEN origin = 'released' THEN format('  It was released by hand: %s took the owner away.', coalesce(a.given_by, 'somebody'))
        WHEN a.method = 'manual' THEN CASE facts ->> 'note' WHEN 'manual' THEN '  Whoever wrote the lead gave the owner'
                ELSE format('  %s gave it this owner by hand', coalesce(a.given_by, 'Somebody')) END
            || CASE WHEN a.day IS NULL THEN '.' ELSE ': counted as a lead of the rep''s day.' END
        WHEN a.rule IS NOT NULL THEN format('  Rule %s was the first to match.', leadroute._rule_name(a.rule, a.tenant))
        WHEN facts ->> 'note' IN ('unmatched', 'pull', 'offered') THEN '  No rule matched.'
        WHEN facts ->> 'note' = 'nobody' AND facts #> '{tried,0}' IS NULL THEN
            '  It could not be routed: another trigger took the owner away, or leadroute was not loaded.'
        WHEN facts IS NULL AND a.method = 'sticky' THEN '  The contact is known.'
        WHEN facts IS NULL THEN '  How it was decided is not recorded.' END
$$;
COMMENT ON FUNCTION leadroute._why_given(leadroute.assignment, jsonb, text) IS 'why()''s line about what led to the decision.';

CREATE FUNCTION leadroute._why_result(a leadroute.assignment) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN a.rep IS NULL AND a.method <> 'manual' THEN
            format('put into the queue "%s" at %s', coalesce(leadroute._pool_name(a.pool, a.tenant), 'unmatched'), a.decided_at)
        ELSE format('assigned to %s at %s (%s)',
            CASE WHEN a.rep IS NULL THEN 'somebody who is not a rep'
                WHEN a.method = 'manual' AND a.day IS NULL AND NOT EXISTS (
                    SELECT FROM leadroute.rep r WHERE r.tenant = a.tenant AND r.id = a.rep)
                    THEN format('somebody who is not a rep (%s)', a.rep)
                ELSE leadroute._rep_name(a.rep, a.tenant) END,
            a.decided_at, a.method) END
$$;
COMMENT ON FUNCTION leadroute._why_result(leadroute.assignment) IS 'why()''s words for who received the lead, or where it went.';

CREATE FUNCTION leadroute._why(a leadroute.assignment) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    facts CONSTANT jsonb := leadroute._explanation(a.explanation);
    pool_names CONSTANT jsonb := leadroute._pool_names(a.explanation, a.tenant);
    lines text[];
BEGIN
    lines := ARRAY[format('Lead %s of "%s", episode %s: %s.', a.lead_id,
        (SELECT t.name FROM leadroute.lead_table t WHERE t.id = a.lead_table), a.episode, leadroute._why_result(a))];
    lines := lines || ARRAY(
        SELECT format('  %s (SQLSTATE %s).', CASE e.error ->> 'rule'
            WHEN '0' THEN 'What sticky_on says of the contact failed and was skipped'
            WHEN '-1' THEN 'value_expression failed: the lead counts as the average one'
            ELSE format('Rule %s failed and was skipped', leadroute._rule_name((e.error ->> 'rule')::bigint, a.tenant)) END,
            e.error ->> 'sqlstate')
        FROM jsonb_array_elements(facts -> 'rule_errors') WITH ORDINALITY AS e (error, n) ORDER BY e.n);
    lines := lines || ARRAY(
        SELECT format('  Rule %s was passed over: its territory has no entry for the lead.',
            leadroute._rule_name(m.rule::bigint, a.tenant))
        FROM jsonb_array_elements_text(facts -> 'not_found') WITH ORDINALITY AS m (rule, n) ORDER BY m.n);
    lines := lines || ('  ' || (SELECT upper(left(m, 1)) || substr(m, 2)
        FROM leadroute._missed_words(a.tenant, a.lead_table, a.lead_id COLLATE "default", a.episode, a.method, a.hops) m) || '.');
    lines := lines || leadroute._why_given(a, facts, leadroute._origin(a));
    lines := lines || ('  Remark: ' || a.remark);
    lines := lines || CASE WHEN a.credited_at IS NOT NULL THEN format('  Its turn was credited back%s at %s by %s: %s.',
        CASE WHEN a.credit_day THEN ' with the day''s cap' ELSE '' END, a.credited_at, a.credited_by, a.credit_reason) END;
    lines := lines || CASE facts ->> 'note' WHEN 'pool_gone' THEN '  The pool it was meant for no longer exists.' END;
    lines := lines || ARRAY(
        SELECT w.line FROM jsonb_array_elements(facts -> 'tried') WITH ORDINALITY AS t (tried, n),
            leadroute._why_tried(t.tried, pool_names, a.tenant) WITH ORDINALITY AS w (line, m) ORDER BY t.n, w.m);
    lines := lines || CASE
        WHEN a.ended_at IS NOT NULL THEN format('  Ended at %s: %s.', a.ended_at, concat_ws(', ',
            leadroute._ended_words(a.end_reason, a.sla, a.tenant), a.outcome, 'value ' || a.value))
        WHEN a.rep IS NULL AND a.offered_until IS NOT NULL THEN format('  The first of them to claim it has it%s.',
            CASE WHEN isfinite(a.offered_until) THEN format('; at %s it is given out', a.offered_until) ELSE '' END)
        WHEN a.rep IS NULL AND a.offered_to IS NOT NULL THEN
            '  The offer is over, and nobody could be given it. It waits there for a member to claim it.'
        WHEN a.rep IS NULL AND facts ->> 'note' = 'pull' THEN '  It waits there for a member to claim it.'
        WHEN a.rep IS NULL AND a.method <> 'manual' THEN '  It waits there.' END;
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
