-- Every decision explains itself: the record's explanation in words, and as JSON with names. What the
-- views call for each row is PL/pgSQL, which keeps its plans; an SQL function within another does not.

CREATE FUNCTION leadroute._state_words(state text, used integer DEFAULT NULL, cap integer DEFAULT NULL)
    RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN CASE state
        WHEN 'rep_cap' THEN concat('daily cap ', 'of ' || cap || ' ', 'reached')
        WHEN 'member_cap' THEN concat('daily cap ', 'of ' || cap || ' ', 'in this pool reached')
        WHEN 'rep_paused' THEN 'paused'
        WHEN 'member_paused' THEN 'paused in this pool'
        WHEN 'no_ref' THEN 'has no ref that the owner column can hold'
        WHEN 'open_cap' THEN concat('capacity ', 'of ' || cap || ' open leads ', 'reached')
        WHEN 'absent' THEN 'absent'
        WHEN 'off_shift' THEN 'outside working hours'
        WHEN 'signed_out' THEN 'not signed in'
        WHEN 'unskilled' THEN 'lacks a skill that the lead needs'
        WHEN 'lower_tier' THEN 'of a later tier'
        WHEN 'gave_up' THEN 'has given this lead up, or lost it'
        WHEN 'turn' THEN 'others were due first'
        ELSE state END || CASE WHEN used > cap THEN format(' (%s used)', used) ELSE '' END;
END
$$;
COMMENT ON FUNCTION leadroute._state_words(text, integer, integer) IS
    'Why a member is, or was, not the one to receive a lead.';

CREATE FUNCTION leadroute._count_words(state text, many bigint) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN many || ' ' || CASE state
        WHEN 'rep_cap' THEN 'at the daily cap'
        WHEN 'member_cap' THEN 'at the daily cap of this pool'
        WHEN 'no_ref' THEN 'without a ref that the owner column can hold'
        WHEN 'open_cap' THEN 'at their capacity'
        WHEN 'unskilled' THEN 'without the skills that the lead needs'
        WHEN 'gave_up' THEN 'who gave this lead up, or lost it'
        WHEN 'turn' THEN 'due later'
        ELSE leadroute._state_words(state) END;
END
$$;
COMMENT ON FUNCTION leadroute._count_words(text, bigint) IS 'How many members were in a state, in words.';

CREATE FUNCTION leadroute._turns(deficit numeric) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN turns = 0 THEN 'level'
        ELSE format('%s %s %s', trim_scale(abs(turns)), CASE abs(turns) WHEN 1 THEN 'turn' ELSE 'turns' END,
                    CASE WHEN turns > 0 THEN 'due' ELSE 'ahead' END) END
    FROM round(deficit, 3) AS turns WHERE turns IS NOT NULL
$$;
COMMENT ON FUNCTION leadroute._turns(numeric) IS 'Turns due minus turns received, in words.';

CREATE FUNCTION leadroute._measure(candidate jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN candidate ? 'open' THEN format('%s open %s', candidate ->> 'open',
            CASE candidate ->> 'open' WHEN '1' THEN 'lead' ELSE 'leads' END)
        WHEN (candidate ->> 'km')::numeric < 0 THEN 'at no known place'
        WHEN candidate ? 'km' THEN round((candidate ->> 'km')::numeric, 1) || ' km'
        WHEN candidate ? 'value' THEN format('%s of value %s', abs(trim_scale(round((candidate ->> 'value')::numeric, 2))),
            CASE WHEN (candidate ->> 'value')::numeric < 0 THEN 'ahead' ELSE 'due' END)
        ELSE leadroute._turns((candidate ->> 'deficit')::numeric) END
$$;
COMMENT ON FUNCTION leadroute._measure(jsonb) IS
    'What a pool''s method compared a member by, in words: turns due or ahead, open leads, kilometres to the lead, value due or ahead.';

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
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY SELECT s.state, sum(s.many)::bigint FROM (
        SELECT c ->> 'state' AS state, 1::bigint AS many FROM jsonb_array_elements(tried -> 'candidates') c
        UNION ALL SELECT o.key, o.value::bigint FROM jsonb_each_text(tried -> 'others') o) s
    GROUP BY s.state;
END
$$;
COMMENT ON FUNCTION leadroute._state_counts(jsonb) IS 'Members that were asked, counted by state.';

CREATE FUNCTION leadroute._tried_words(tried jsonb, pool_names jsonb) RETURNS text
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    pool CONSTANT text := coalesce(pool_names ->> (tried ->> 'pool'), format('(deleted %s)', tried ->> 'pool'));
    known CONSTANT boolean := tried ? 'known';
    own_rep CONSTANT boolean := tried -> 'pool' = '0';
    taker CONSTANT jsonb := jsonb_path_query_first(tried, '$.candidates[*] ? (@.state == "picked")');
    picked boolean;
    absent text;
BEGIN
    SELECT coalesce(bool_or(s.state = 'picked'), false),
        string_agg(CASE WHEN own_rep OR tried ->> 'members' = '1' THEN leadroute._state_words(s.state)
            ELSE leadroute._count_words(s.state, s.many) END, ', ' ORDER BY s.many DESC, s.state)
            FILTER (WHERE s.state NOT IN ('picked', 'turn'))
    INTO picked, absent FROM leadroute._state_counts(tried) s;
    RETURN CASE
        WHEN known AND picked THEN 'the contact is known: this rep had its latest lead'
        WHEN known AND tried -> 'members' = '0' THEN 'the contact is known, but the rep who had it is gone'
        WHEN known THEN concat('the contact is known, but the rep who had it is not available', ': ' || absent)
        WHEN own_rep AND picked THEN 'the rule names this rep'
        WHEN own_rep THEN concat('the rule''s rep is not available', ': ' || absent)
        WHEN picked THEN format('%s of %s in pool "%s"', CASE
                WHEN taker ? 'open' THEN format('fewest open leads (%s)', taker ->> 'open')
                WHEN (taker ->> 'km')::numeric < 0 THEN 'first in turn, at no known place,'
                WHEN taker ? 'km' THEN format('nearest, %s,', leadroute._measure(taker))
                WHEN taker ? 'value' THEN 'most value due'
                ELSE 'first in turn' END, tried ->> 'members', pool)
            || coalesce(' (' || absent || ')', '')
        WHEN tried -> 'members' = '0' THEN format('pool "%s" has no members', pool)
        ELSE format('nobody available in pool "%s"', pool) || coalesce(' (' || absent || ')', '') END;
END
$$;
COMMENT ON FUNCTION leadroute._tried_words(jsonb, jsonb) IS
    'What asking one pool came to, in one phrase. Reads no table: the names of the pools are given, by id.';

CREATE FUNCTION leadroute._tried_pools(explanation bytea) RETURNS integer[]
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN ARRAY(SELECT (t.tried ->> 'pool')::integer
        FROM jsonb_array_elements(leadroute._explanation(explanation) -> 'tried') AS t (tried) WHERE NOT t.tried ? 'known');
END
$$;
COMMENT ON FUNCTION leadroute._tried_pools(bytea) IS 'The pools that an explanation names.';

CREATE FUNCTION leadroute._reason(rep bigint, method text, explanation bytea, pool_names jsonb, origin text)
    RETURNS text
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    facts CONSTANT jsonb := leadroute._explanation(explanation);
    valueless CONSTANT boolean := coalesce(facts -> 'rule_errors' @? '$[*] ? (@.rule == -1)', false);
    unknown CONSTANT boolean := coalesce(facts -> 'rule_errors' @? '$[*] ? (@.rule == 0)', false);
    failed CONSTANT integer := coalesce(jsonb_array_length(facts -> 'rule_errors'), 0) - valueless::integer - unknown::integer;
    missed CONSTANT integer := coalesce(jsonb_array_length(facts -> 'not_found'), 0);
    words text;
BEGIN
    words := concat_ws('; ',
        CASE WHEN unknown THEN 'sticky_on failed and was skipped' END,
        CASE WHEN failed = 1 THEN '1 rule failed and was skipped'
             WHEN failed > 1 THEN format('%s rules failed and were skipped', failed) END,
        CASE WHEN valueless THEN 'value_expression failed: the lead counts as the average one' END,
        CASE WHEN missed = 1 THEN 'not found in the territory of 1 rule'
             WHEN missed > 1 THEN format('not found in the territories of %s rules', missed) END,
        CASE facts ->> 'note' WHEN 'unmatched' THEN 'no rule matched'
            WHEN 'pool_gone' THEN 'the pool no longer exists'
            WHEN 'nobody' THEN CASE WHEN facts #> '{tried,0}' IS NULL THEN 'could not be routed' END END,
        CASE WHEN method = 'manual' AND origin = 'attached' THEN 'had this owner when the table was attached'
            WHEN method = 'manual' THEN 'owner given by hand'
            WHEN origin = 'attached' THEN 'was there when the table was attached'
            WHEN origin = 'released' THEN 'released by hand'
            WHEN method = 'sticky' AND facts IS NULL THEN 'the contact is known' END,
        (SELECT string_agg(leadroute._tried_words(t.tried, pool_names), '; ' ORDER BY t.n)
         FROM jsonb_array_elements(facts -> 'tried') WITH ORDINALITY AS t (tried, n)));
    RETURN coalesce(nullif(words, ''), CASE WHEN rep IS NULL THEN 'put into the queue' ELSE 'not explained' END);
END
$$;
COMMENT ON FUNCTION leadroute._reason(bigint, text, bytea, jsonb, text) IS
    'A decision''s reason in one line. Reads no table: views give it the names of pools, and what else they know of an episode without an explanation, attached or released.';

CREATE FUNCTION leadroute._pool_names(explanation bytea, tenant bigint) RETURNS jsonb
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_object_agg(p.id, p.name) FROM leadroute.pool p
    WHERE p.tenant = _pool_names.tenant AND p.id = ANY (leadroute._tried_pools(explanation))
$$;
COMMENT ON FUNCTION leadroute._pool_names(bytea, bigint) IS 'Present names, by id, of the pools that an explanation names.';

CREATE FUNCTION leadroute._origin(a leadroute.assignment) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN a.explanation IS NOT NULL THEN NULL
        WHEN EXISTS (SELECT FROM leadroute.lead_table t WHERE t.id = a.lead_table AND t.attached_at = a.decided_at)
            THEN 'attached'
        WHEN a.rep IS NULL AND a.method <> 'manual' THEN (
            SELECT e.end_reason FROM leadroute.assignment e
            WHERE e.tenant = a.tenant AND e.lead_table = a.lead_table AND e.lead_id = a.lead_id
              AND e.episode = a.episode - 1 AND e.ended_at IS NOT NULL) END
$$;
COMMENT ON FUNCTION leadroute._origin(leadroute.assignment) IS
    'Where an episode without an explanation comes from: attached, released; NULL when that is not known. As in the view decision.';

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
        'status', leadroute._status(a.rep, a.method, a.touched_at, a.ended_at, a.end_reason),
        'method', a.method, 'decided_at', a.decided_at, 'ended_at', a.ended_at, 'end_reason', a.end_reason,
        'touched_at', a.touched_at, 'outcome', a.outcome, 'value', a.value,
        'rep', (SELECT jsonb_build_object('id', a.rep, 'name', (SELECT r.name FROM leadroute.rep r
                    WHERE r.tenant = a.tenant AND r.id = a.rep)) WHERE a.rep IS NOT NULL),
        'pool', (SELECT jsonb_build_object('id', a.pool, 'name', leadroute._pool_name(a.pool, a.tenant))
                 WHERE a.pool IS NOT NULL),
        'queue', CASE WHEN a.rep IS NULL AND a.method <> 'manual'
                 THEN coalesce(leadroute._pool_name(a.pool, a.tenant), 'unmatched') END,
        'rule', (SELECT jsonb_build_object('id', a.rule, 'name', (SELECT r.name FROM leadroute.rule r
                    WHERE r.tenant = a.tenant AND r.id = a.rule)) WHERE a.rule IS NOT NULL),
        'day', a.day, 'rep_cap', a.rep_cap, 'member_cap', a.member_cap, 'open_cap', a.open_cap, 'label', a.label,
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
        'reason', leadroute._reason(a.rep, a.method, a.explanation,
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
        WHEN facts ->> 'note' = 'unmatched' THEN '  No rule matched.'
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
            coalesce(a.end_reason, 'no reason is recorded'), a.outcome, 'value ' || a.value))
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
