-- check_rules(): what is wrong with a lead table's rules, before leads show it. Conditions are looked
-- at by the library (src/pg/check_rules.cpp), against leads that the caller may read; what
-- configuration alone shows, and the words, are here, read as leadroute's owner for a caller with the
-- level.

CREATE FUNCTION leadroute._check_conditions(lead regclass, tenant bigint, sample integer,
    OUT rule bigint, OUT finding text, OUT certainty text, OUT other_rules bigint[], OUT witness text, OUT detail text)
    RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'leadroute_check_conditions';
COMMENT ON FUNCTION leadroute._check_conditions(regclass, bigint, integer) IS
    'What the conditions of the table''s active rules show by themselves and against the latest leads, as many as sample says, of those the caller may read; besides findings, value (what a condition asks a column, in detail, to be; its type in certainty) and leads (how many were looked at). Changes nothing. Raises LR012 without the level manager.';

CREATE FUNCTION leadroute._able_pools(tenant bigint, by_ref boolean)
    RETURNS TABLE (pool text, members bigint, able bigint, heir text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE each_pool AS (
        SELECT p.name, p.overflow_pool, count(m.rep) AS members, count(m.rep) FILTER (WHERE NOT m.paused AND NOT r.paused
            AND 0 IS DISTINCT FROM m.daily_cap AND 0 IS DISTINCT FROM r.daily_cap AND 0 IS DISTINCT FROM r.open_cap
            AND (r.ref IS NOT NULL OR NOT by_ref)) AS able
        FROM leadroute.pool p
            LEFT JOIN leadroute.pool_member m ON m.tenant = p.tenant AND m.pool = p.name
            LEFT JOIN leadroute.rep r ON r.tenant = m.tenant AND r.id = m.rep
        WHERE p.tenant = _able_pools.tenant
        GROUP BY p.tenant, p.name
    ), chain AS (
        SELECT e.name AS start, e.name, e.able, e.overflow_pool, ARRAY[e.name] AS path FROM each_pool e
        UNION ALL
        SELECT c.start, e.name, e.able, e.overflow_pool, c.path || e.name
        FROM chain c JOIN each_pool e ON e.name = c.overflow_pool
        WHERE c.able = 0 AND e.name <> ALL (c.path)
    )
    SELECT e.name, e.members, e.able, (SELECT c.name FROM chain c WHERE c.start = e.name AND c.able > 0)
    FROM each_pool e
$$;
COMMENT ON FUNCTION leadroute._able_pools(bigint, boolean) IS
    'The pools of a tenant, how many members each has and how many of them can ever receive a lead (not paused, no cap of 0, and with a ref where the owner column takes one), and the pool that takes its leads: itself, or the first by overflow that has somebody; NULL: none.';

CREATE FUNCTION leadroute._check_targets(attachment leadroute.lead_table, tenant bigint)
    RETURNS TABLE (rule bigint, finding text, detail text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH owner_type AS (
        SELECT NOT leadroute._lead_relation(attachment.id) IS NULL AND EXISTS (SELECT FROM pg_attribute a
            WHERE a.attrelid = leadroute._lead_relation(attachment.id) AND a.attname = attachment.owner_column
                AND NOT a.atttypid = ANY ('{int2,int4,int8}'::regtype[])) AS by_ref
    ), pools AS MATERIALIZED (
        SELECT a.* FROM owner_type o CROSS JOIN LATERAL leadroute._able_pools(tenant, o.by_ref) a
    ), active AS (
        SELECT r.* FROM leadroute.rule r
        WHERE r.tenant = _check_targets.tenant AND r.lead_table = attachment.name AND r.active
    ), idle_rep AS (
        SELECT p.id, p.name FROM leadroute.rep p CROSS JOIN owner_type o
        WHERE p.tenant = _check_targets.tenant
            AND (p.paused OR p.daily_cap = 0 OR p.open_cap = 0 OR (p.ref IS NULL AND o.by_ref))
    )
    SELECT r.id, 'empty_target', format('pool "%s" %s%s', p.pool,
            CASE WHEN p.members = 0 THEN 'has no members' ELSE format('has %s member%s, of whom none can receive a lead (paused, a cap of 0, or no ref)',
                p.members, CASE p.members WHEN 1 THEN '' ELSE 's' END) END,
            coalesce(': its leads go to pool "' || coalesce(p.heir, o.heir) || '"', ': its leads wait until somebody can'))
    FROM active r JOIN pools p ON p.pool = r.pool LEFT JOIN pools o ON o.pool = r.overflow_pool
    WHERE p.able = 0
    UNION ALL
    SELECT r.id, 'empty_target', format('rep "%s" can receive no lead (paused, a cap of 0, or no ref)%s', p.name,
            coalesce(': the leads go to pool "' || o.heir || '"', ': the leads wait until the rep can'))
    FROM active r JOIN idle_rep p ON p.id = r.rep LEFT JOIN pools o ON o.pool = r.overflow_pool
    UNION ALL
    SELECT r.id, 'empty_target', format('territory "%s" has no entries: every lead goes on to the next rule', r.territory)
    FROM active r WHERE r.territory IS NOT NULL AND NOT EXISTS (SELECT FROM leadroute.territory_entry e
        WHERE e.tenant = r.tenant AND e.territory = r.territory)
    UNION ALL
    SELECT r.id, 'empty_target', format('of the entries of territory "%s" %s, such as "%s", are for a pool or rep that can receive no lead',
            r.territory, count(*), min(e.key))
    FROM active r JOIN leadroute.territory_entry e ON e.tenant = r.tenant AND e.territory = r.territory
        LEFT JOIN pools p ON p.pool = e.pool LEFT JOIN idle_rep i ON i.id = e.rep
    WHERE (p.able = 0 AND p.heir IS NULL OR i.id IS NOT NULL) GROUP BY r.id, r.territory
    UNION ALL
    SELECT r.id, 'dead_end', format('nobody in pool "%s", nor where it overflows to, can receive a lead', o.pool)
    FROM active r JOIN pools o ON o.pool = r.overflow_pool WHERE o.heir IS NULL
    UNION ALL
    SELECT r.id, 'dead_end', format('pool "%s" overflows into pool "%s": nobody there, nor where that overflows to, can receive a lead', p.name, o.pool)
    FROM active r JOIN leadroute.pool p ON p.tenant = r.tenant AND p.name = r.pool JOIN pools o ON o.pool = p.overflow_pool
    WHERE o.heir IS NULL
    UNION ALL
    SELECT NULL, 'empty_target', format('nobody in the fallback pool "%s", nor where it overflows to, can receive a lead', p.pool)
    FROM pools p WHERE p.pool = attachment.fallback_pool AND p.heir IS NULL
$$;
COMMENT ON FUNCTION leadroute._check_targets(leadroute.lead_table, bigint) IS
    'Active rules whose target, or where it overflows to, can receive no lead, and why.';

CREATE FUNCTION leadroute._check_advice(finding text, certainty text, others text, witness text, detail text) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE finding
        WHEN 'unreachable' THEN CASE certainty
            WHEN 'proved' THEN format('No lead can reach this rule: each that its condition holds for goes to an earlier one (%s). Move it up, narrow those, or delete it.', others)
            ELSE format('None of the leads looked at reached this rule: each that its condition holds for, such as %s, went to an earlier one (%s). If that is not meant, move it up.', witness, others) END
        WHEN 'contradiction' THEN 'No lead can make this condition true. Look for AND where OR is meant, and for comparisons with NULL (write IS NULL).'
        WHEN 'overlap' THEN format('Leads such as %s fit this rule, too, but go elsewhere by an earlier one (%s). Move this rule up if it is the more special one.', witness, others)
        WHEN 'gap' THEN CASE WHEN witness IS NULL THEN 'No rule can take any lead, and there is no fallback pool: leads wait in the queue unmatched.'
            ELSE format('No rule takes lead %s, and there is no fallback pool: such leads wait in the queue unmatched. Add a last rule with the condition true, or set lead_table.fallback_pool.', witness) END
        WHEN 'empty_target' THEN format('%s. Add somebody, or change the target.', upper(left(detail, 1)) || substr(detail, 2))
        WHEN 'dead_end' THEN format('%s. Add somebody, or name another pool to overflow into.', upper(left(detail, 1)) || substr(detail, 2))
        WHEN 'unknown_value' THEN format('No lead that you may see has %s. Look for a misspelling, or for capitals that differ.', detail)
        WHEN 'error' THEN format('The condition, needs or key raised an error for lead %s, which went on to the next rule: %s. Guard it, such as with CASE or NULLIF.', witness, detail)
        WHEN 'broken' THEN format('The rule takes no leads: %s. Correct it, or have its author given the rights.', detail)
        WHEN 'not_indexable' THEN 'Each lead that comes to this rule is checked against it'
            || CASE detail WHEN 'bare' THEN ', at about 60 ns each.'
                WHEN 'guarded' THEN ' inside a subtransaction, as it may raise an error: about 1 µs each.'
                ELSE ' as its author, as it calls functions that are not built in or not immutable: a few µs each, and what they do.' END
            || ' If it is often the only thing in common, add column = value to the condition, and put it behind rules that take many leads.'
        WHEN 'not_checked' THEN CASE detail
            WHEN 'denied' THEN 'No lead was looked at, as you may not read the lead table: what is seen in leads is missing. Have SELECT on it granted.'
            WHEN 'leads' THEN 'So many rules have to be tried for each lead that fewer leads were looked at than asked for.'
            ELSE 'So many rules had to be compared with each other that not all proofs were tried: rules without a finding may still be unreachable.' END
    END
$$;
COMMENT ON FUNCTION leadroute._check_advice(text, text, text, text, text) IS 'What to do about a finding of check_rules().';

CREATE FUNCTION leadroute._check_words_for(caller name, of_table text, of_tenant bigint, findings jsonb)
    RETURNS TABLE (rule bigint, rule_name text, finding text, certainty text, other_rules bigint[], witness text, advice text)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    attachment leadroute.lead_table;
    has_fallback boolean;
BEGIN
    PERFORM leadroute._require_for(caller, of_tenant, '{manager}');
    attachment := leadroute._require_attached(of_table);
    has_fallback := EXISTS (SELECT FROM leadroute.pool p WHERE p.tenant = of_tenant AND p.name = attachment.fallback_pool);
    RETURN QUERY
    WITH found AS (
        SELECT f.rule, f.finding, f.certainty, f.other_rules, f.witness, f.detail
        FROM jsonb_to_recordset(findings) AS f (rule bigint, finding text, certainty text, other_rules bigint[], witness text, detail text)
        WHERE f.finding <> 'gap' OR NOT has_fallback
        UNION ALL
        SELECT t.rule, t.finding, 'proved', '{}', NULL, t.detail FROM leadroute._check_targets(attachment, of_tenant) t
    )
    SELECT f.rule, r.name, f.finding, f.certainty, coalesce(f.other_rules, '{}'), f.witness,
        leadroute._check_advice(f.finding, f.certainty, (SELECT string_agg(format('"%s"', o.name), ', ' ORDER BY o.position)
            FROM leadroute.rule o WHERE o.tenant = of_tenant AND o.id = ANY (f.other_rules)), f.witness, f.detail)
    FROM found f LEFT JOIN leadroute.rule r ON r.tenant = of_tenant AND r.id = f.rule
    ORDER BY r.position NULLS LAST, r.id, array_position('{broken,contradiction,unreachable,error,empty_target,dead_end,overlap,unknown_value,not_indexable,gap,not_checked}', f.finding), f.detail;
END
$$;
COMMENT ON FUNCTION leadroute._check_words_for(name, text, bigint, jsonb) IS '_check_words() of a role.';
CREATE FUNCTION leadroute._check_words(of_table text, of_tenant bigint, findings jsonb)
    RETURNS TABLE (rule bigint, rule_name text, finding text, certainty text, other_rules bigint[], witness text, advice text)
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'leadroute_for_caller';
COMMENT ON FUNCTION leadroute._check_words(text, bigint, jsonb) IS
    'What was found in conditions and leads, with what configuration shows, in words; raises LR012 without the level manager.';

CREATE FUNCTION leadroute._check_values(relation regclass, tenant_column name, tenant bigint, asked jsonb) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found jsonb := '[]';
    missing text[];
    one record;
BEGIN
    FOR one IN SELECT a.certainty AS type, a.detail AS name, array_agg(DISTINCT a.witness) AS values
        FROM jsonb_to_recordset(asked) AS a (certainty text, witness text, detail text) GROUP BY 1, 2
    LOOP
        EXECUTE format('SELECT array_agg(v) FROM unnest($1) v WHERE NOT EXISTS (SELECT FROM %s AS "leadroute row"
                WHERE "leadroute row".%I::%s = v::%s %s)', relation, one.name, one.type::regtype, one.type::regtype,
                CASE WHEN tenant_column IS NOT NULL THEN format('AND "leadroute row".%I = $2', tenant_column) ELSE '' END)
            INTO missing USING one.values, tenant;
        found := found || coalesce((SELECT jsonb_agg(DISTINCT jsonb_build_object('rule', a.rule, 'finding', 'unknown_value', 'certainty', 'seen',
                'detail', format('%s = %L', one.name, a.witness)))
            FROM jsonb_to_recordset(asked) AS a (rule bigint, certainty text, witness text, detail text)
            WHERE a.detail = one.name AND a.certainty = one.type AND a.witness = ANY (missing)), '[]');
    END LOOP;
    RETURN found;
END
$$;
COMMENT ON FUNCTION leadroute._check_values(regclass, name, bigint, jsonb) IS
    'Of the values that conditions ask for, those that no lead has which the caller may read: one scan of the table for each column.';

CREATE FUNCTION leadroute.check_rules(lead_table text, sample integer DEFAULT 10000, tenant bigint DEFAULT 0)
    RETURNS TABLE (rule bigint, rule_name text, finding text, certainty text, other_rules bigint[], witness text, advice text)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    asked record;
    findings jsonb;
    asked_values jsonb;
BEGIN
    SELECT t.* INTO asked FROM leadroute._managed_table(check_rules.lead_table, check_rules.tenant) t;
    IF sample IS NULL OR sample < 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'LR005', MESSAGE = 'the sample is not a number of leads',
            DETAIL = format('Given is %s.', coalesce(sample::text, 'NULL')),
            HINT = 'Give how many of the latest leads to look at, 0 for none.';
    END IF;
    SELECT jsonb_agg(to_jsonb(c)) FILTER (WHERE c.finding NOT IN ('value', 'leads')), jsonb_agg(to_jsonb(c)) FILTER (WHERE c.finding = 'value')
        INTO findings, asked_values FROM leadroute._check_conditions(asked.relation, tenant, sample) c;
    IF asked_values IS NOT NULL THEN
        findings := coalesce(findings, '[]') || leadroute._check_values(asked.relation, asked.tenant_column, tenant, asked_values);
    END IF;
    RETURN QUERY SELECT w.* FROM leadroute._check_words(check_rules.lead_table, check_rules.tenant, coalesce(findings, '[]')) w;
END
$$;
COMMENT ON FUNCTION leadroute.check_rules(text, integer, bigint) IS
    'What is wrong with the active rules of a lead table, as this transaction sees them: one row for each finding, by position, those of the whole table last (rule is NULL). finding: broken (takes no leads: does not compile, its author is gone or lacks a right), contradiction (no lead can match), unreachable (earlier rules, in other_rules, take all of its leads), error (it raised one for the lead in witness), empty_target (nobody can receive its leads; also the fallback pool), dead_end (nobody where it overflows to), overlap (the lead in witness fits, but an earlier rule with another target takes it), unknown_value (the condition asks for a value that no lead has), not_indexable (each lead is checked against it, with what that costs; of cheap ones only where there are 50 rules), gap (no rule takes the lead in witness, and there is no fallback pool), not_checked (what was left out). certainty: proved (true whatever leads come), or seen (in the leads that are there). At most 8 other_rules. advice says what to do. A rule with a period of validity, a territory, needs that are computed, or a condition that is stable or may raise an error is never taken to hide another. Looks at the latest leads by key, sample of them (0: none), with the caller''s rights: needs SELECT on the lead table; at 20 million conditions it stops; unknown_value scans the table once for each column with values in a condition. Changes nothing and takes no locks but ACCESS SHARE on the lead table. Takes the level manager. Raises LR002 for a table that is not attached, LR005 for a table without leads of the tenant and a sample that is no number, LR012.';
