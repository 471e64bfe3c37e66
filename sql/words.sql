-- Every decision explains itself: the record's explanation in words. What the views call for each row is
-- PL/pgSQL, which keeps its plans; an SQL function within another does not.

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
    end_reason text, offered_until timestamptz DEFAULT NULL) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN ended_at IS NOT NULL THEN CASE end_reason WHEN 'closed' THEN 'closed' ELSE 'ended' END
        WHEN rep IS NULL AND method <> 'manual' THEN CASE WHEN offered_until IS NULL THEN 'waiting' ELSE 'offered' END
        WHEN touched_at IS NOT NULL THEN 'working' ELSE 'assigned' END
$$;
COMMENT ON FUNCTION leadroute._status(bigint, text, timestamptz, timestamptz, text, timestamptz) IS
    'Status of an episode: assigned, offered, waiting, working, closed, ended.';

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
    offered bigint;
BEGIN
    SELECT coalesce(bool_or(s.state = 'picked'), false),
        string_agg(CASE WHEN own_rep OR tried ->> 'members' = '1' THEN leadroute._state_words(s.state)
            ELSE leadroute._count_words(s.state, s.many) END, ', ' ORDER BY s.many DESC, s.state)
            FILTER (WHERE s.state NOT IN ('picked', 'turn', 'offered')),
        sum(s.many) FILTER (WHERE s.state = 'offered')
    INTO picked, absent, offered FROM leadroute._state_counts(tried) s;
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
        WHEN offered > 0 THEN format('offered to %s of %s in pool "%s"', offered, tried ->> 'members', pool)
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
        CASE WHEN facts ->> 'note' IN ('pull', 'offered') AND origin = 'unmatched' THEN 'no rule matched' END,
        CASE facts ->> 'note' WHEN 'unmatched' THEN 'no rule matched'
            WHEN 'pool_gone' THEN 'the pool no longer exists'
            WHEN 'nobody' THEN CASE WHEN facts #> '{tried,0}' IS NULL THEN 'could not be routed' END END,
        CASE WHEN method = 'manual' AND origin = 'attached' THEN 'had this owner when the table was attached'
            WHEN method = 'manual' THEN 'owner given by hand'
            WHEN method = 'claim' THEN 'claimed'
            WHEN origin = 'attached' THEN 'was there when the table was attached'
            WHEN origin = 'released' THEN 'released by hand'
            WHEN method = 'sticky' AND facts IS NULL THEN 'the contact is known' END,
        (SELECT string_agg(leadroute._tried_words(t.tried, pool_names), '; ' ORDER BY t.n)
         FROM jsonb_array_elements(facts -> 'tried') WITH ORDINALITY AS t (tried, n)),
        CASE WHEN facts ->> 'note' = 'pull' AND rep IS NULL THEN 'waits for a member to claim it' END);
    RETURN coalesce(nullif(words, ''), CASE WHEN rep IS NULL THEN 'put into the queue' ELSE 'not explained' END);
END
$$;
COMMENT ON FUNCTION leadroute._reason(bigint, text, bytea, jsonb, text) IS
    'A decision''s reason in one line. Reads no table: views give it the names of pools, and what else they know: of an episode without an explanation attached or released, of one without a rule unmatched.';

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
    SELECT CASE WHEN a.explanation IS NOT NULL THEN CASE WHEN a.rule IS NULL THEN 'unmatched' END
        WHEN EXISTS (SELECT FROM leadroute.lead_table t WHERE t.id = a.lead_table AND t.attached_at = a.decided_at)
            THEN 'attached'
        WHEN a.rep IS NULL AND a.method <> 'manual' THEN (
            SELECT e.end_reason FROM leadroute.assignment e
            WHERE e.tenant = a.tenant AND e.lead_table = a.lead_table AND e.lead_id = a.lead_id
              AND e.episode = a.episode - 1 AND e.ended_at IS NOT NULL) END
$$;
COMMENT ON FUNCTION leadroute._origin(leadroute.assignment) IS
    'Where an episode without an explanation comes from: attached, released; NULL when that is not known. With one: unmatched, where it has no rule. As in the view decision.';
