-- explain(): what would become of a lead that does not exist. The library decides on copies
-- (src/pg/explain.cpp); here the lead becomes a row, and the answer words. What reads configuration
-- runs as leadroute's owner, for a caller with the level; what the lead's types and the defaults of
-- its table call runs with the caller's rights.

CREATE FUNCTION leadroute._explain(lead regclass, tenant bigint, lead_row record, given jsonb,
    OUT kind text, OUT rule bigint, OUT pool integer, OUT rep bigint, OUT outcome text,
    OUT measure text, OUT amount double precision, OUT used integer, OUT cap integer, OUT message text, OUT explanation bytea)
    RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'leadroute_explain_lead';
COMMENT ON FUNCTION leadroute._explain(regclass, bigint, record, jsonb) IS
    'Decides for a row of the lead table without taking a turn or writing anything: a row for the known owner of its contact, or why none was asked, and for each member asked, in order, for each rule that failed or whose territory does not know the key, and the decision. Columns that given does not name have their defaults, evaluated with the caller''s rights. Raises LR005 for a default that cannot be evaluated without writing, LR012 without the level that explain() takes.';

CREATE FUNCTION leadroute._explain_tenant(attachment leadroute.lead_table, lead jsonb, tenant bigint) RETURNS bigint
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    said CONSTANT text := lead ->> attachment.tenant_column::text;
    problem text[];
BEGIN
    problem := CASE
        WHEN tenant IS NULL THEN ARRAY['the tenant is NULL', 'Each lead belongs to one tenant.',
            'Leave it out where there is only one.']
        WHEN attachment.tenant_column IS NULL AND tenant <> 0 THEN ARRAY[
            format('lead table "%s" has no leads of tenant %s', attachment.name, tenant),
            'It has no tenant column: all its leads are of tenant 0.', 'Leave the tenant out.']
        WHEN said !~ '^-?\d{1,18}$' THEN ARRAY[format('the lead''s %I is not a tenant', attachment.tenant_column),
            format('It is %s.', said), 'Give a number, or leave it out.']
        WHEN tenant <> 0 AND said::bigint <> tenant THEN ARRAY[
            format('the lead is of tenant %s, not of tenant %s', said, tenant),
            format('Its column "%s" says so.', attachment.tenant_column), 'Give the tenant once.']
    END;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LR005', MESSAGE = problem[1], DETAIL = problem[2], HINT = problem[3];
    END IF;
    RETURN coalesce(said::bigint, tenant);
END
$$;
COMMENT ON FUNCTION leadroute._explain_tenant(leadroute.lead_table, jsonb, bigint) IS
    'The tenant of a lead to explain: the one it names itself, else the one asked for; raises LR005 when they differ.';

CREATE FUNCTION leadroute._explain_lead_for(caller name, lead_table text, lead jsonb, tenant bigint,
    OUT relation regclass, OUT of_tenant bigint, OUT given jsonb)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    attachment leadroute.lead_table;
    unknown text;
BEGIN
    -- who has the level nowhere learns nothing of lead tables; which tenant it takes, the lead may say
    IF leadroute._my_tenants_for(caller, '{app,manager,admin}') IS NULL THEN
        PERFORM leadroute._require_for(caller, tenant, '{app,manager}');
    END IF;
    attachment := leadroute._require_attached(lead_table);
    relation := leadroute._lead_relation(attachment.id);
    IF jsonb_typeof(lead) IS DISTINCT FROM 'object' THEN
        RAISE EXCEPTION USING ERRCODE = 'LR005', MESSAGE = 'the lead is not a JSON object',
            DETAIL = format('Given is %s.', coalesce(lead::text, 'NULL')),
            HINT = 'Give its columns by name, such as {"region": "North"}.';
    END IF;
    of_tenant := leadroute._explain_tenant(attachment, lead, tenant);
    PERFORM leadroute._require_for(caller, of_tenant, '{app,manager}');
    SELECT string_agg(format('"%s"', k), ', ' ORDER BY k) INTO unknown FROM jsonb_object_keys(lead) k
    WHERE octet_length(k) > 63 OR NOT leadroute._has_column(relation, k::name);
    IF unknown IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LR005',
            MESSAGE = format('lead table "%s" has no column %s', attachment.name, unknown),
            DETAIL = format('Its columns are %s.', (SELECT string_agg(a.attname, ', ' ORDER BY a.attnum)
                FROM pg_attribute a WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped)),
            HINT = 'The keys of the lead are names of columns; leave out what is none.';
    END IF;
    given := lead || CASE WHEN attachment.tenant_column IS NULL THEN '{}'
        ELSE jsonb_build_object(attachment.tenant_column, of_tenant) END;
END
$$;
COMMENT ON FUNCTION leadroute._explain_lead_for(name, text, jsonb, bigint) IS '_explain_lead() of a role.';
CREATE FUNCTION leadroute._explain_lead(lead_table text, lead jsonb, tenant bigint,
    OUT relation regclass, OUT of_tenant bigint, OUT given jsonb)
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'leadroute_for_caller';
COMMENT ON FUNCTION leadroute._explain_lead(text, jsonb, bigint) IS
    'The relation of the lead, its tenant, and the lead with it; raises LR005 where its table has no such columns, LR002, LR012.';

CREATE FUNCTION leadroute._explain_rules(lead_table text, tenant bigint, matched bigint,
    faults jsonb, misses jsonb) RETURNS TABLE (rule bigint, rule_name text, outcome text, reason text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT r.id, r.name, o.outcome, CASE o.outcome
        WHEN 'matched' THEN 'the first to match'
        WHEN 'not reached' THEN 'an earlier rule matched'
        WHEN 'inactive' THEN coalesce(f.message, 'not active')
        WHEN 'error' THEN format('%s (SQLSTATE %s)', f.message, f.outcome)
        ELSE CASE WHEN r.valid @> clock_timestamp() IS FALSE THEN 'outside its period of validity'
            ELSE coalesce(n.message, 'its condition does not hold') END END
    FROM leadroute.rule r
        LEFT JOIN jsonb_to_recordset(faults) AS f (rule bigint, outcome text, message text) ON f.rule = r.id
        LEFT JOIN jsonb_to_recordset(misses) AS n (rule bigint, message text) ON n.rule = r.id
        -- rules are tried by position, then id
        LEFT JOIN leadroute.rule m ON m.tenant = r.tenant AND m.id = _explain_rules.matched
        CROSS JOIN LATERAL (SELECT CASE
            WHEN r.id = m.id THEN 'matched'
            WHEN NOT r.active OR f.rule IS NOT NULL AND f.outcome IS NULL THEN 'inactive'
            WHEN f.rule IS NOT NULL THEN 'error'
            WHEN (r.position, r.id) > (m.position, m.id) THEN 'not reached'
            ELSE 'not matched' END) o (outcome)
    WHERE r.tenant = _explain_rules.tenant AND r.lead_table = _explain_rules.lead_table
    ORDER BY r.position, r.id
$$;
COMMENT ON FUNCTION leadroute._explain_rules(text, bigint, bigint, jsonb, jsonb) IS
    'What became of each rule, in the order they are tried.';

CREATE FUNCTION leadroute._explain_member(outcome text, measure text, amount double precision, used integer,
    cap integer, pool text) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN outcome IS NULL THEN format('pool "%s" has no members', pool)
        WHEN outcome = 'picked' AND pool IS NULL THEN 'the rule names this rep'
        ELSE leadroute._candidate_words(jsonb_build_object('state', outcome, coalesce(measure, ''), amount,
            'used', used, 'cap', cap)) END
$$;
COMMENT ON FUNCTION leadroute._explain_member(text, text, double precision, integer, integer, text) IS
    'explain()''s words for one member.';

CREATE FUNCTION leadroute._explain_sticky(outcome text, used integer, cap integer, message text) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE outcome
        WHEN 'no contact' THEN 'the lead has no contact: sticky_on gives NULL'
        WHEN 'not known' THEN 'the contact is not known'
        WHEN 'gone' THEN 'the contact is known, but the rep who had it is gone'
        WHEN 'error' THEN message
        WHEN 'picked' THEN 'the contact is known: this rep had its latest lead'
        ELSE 'the contact is known, but the rep who had it is not available: '
            || leadroute._candidate_words(jsonb_build_object('state', outcome, 'used', used, 'cap', cap)) END
$$;
COMMENT ON FUNCTION leadroute._explain_sticky(text, integer, integer, text) IS
    'explain()''s words for the known owner of the lead''s contact.';

CREATE FUNCTION leadroute._explain_words_for(caller name, lead_table text, tenant bigint, findings jsonb)
    RETURNS TABLE (step integer, kind text, rule bigint, rule_name text, pool text, rep bigint,
        outcome text, reason text, picked boolean)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    of_tenant CONSTANT bigint := tenant;
    decision record;
    manual boolean;
    fails boolean;
BEGIN
    PERFORM leadroute._require_for(caller, of_tenant, '{app,manager}');
    SELECT d.* INTO decision FROM jsonb_to_record(findings -> -1)
        AS d (rule bigint, pool integer, rep bigint, outcome text, explanation bytea);
    manual := decision.outcome = 'manual';
    fails := current_setting('leadroute.on_rule_error') = 'error'
        AND findings @? '$[*] ? (@.kind == "fault" && @.outcome != null || @.kind == "sticky" && @.outcome == "error")';
    step := 0;

    FOR kind, rep, outcome, reason, picked IN
        SELECT 'sticky', s.rep, CASE s.outcome WHEN 'picked' THEN 'eligible' ELSE s.outcome END,
            leadroute._explain_sticky(s.outcome, s.used, s.cap, s.message), s.outcome = 'picked'
        FROM jsonb_to_recordset(findings) AS s (kind text, rep bigint, outcome text, used integer, cap integer, message text)
        WHERE s.kind = 'sticky'
    LOOP
        step := step + 1;
        RETURN NEXT;
    END LOOP;

    FOR kind, rule, rule_name, pool, rep, outcome, reason, picked IN
        SELECT 'rule', r.rule, r.rule_name, NULL, NULL::bigint, r.outcome, r.reason, false
        FROM leadroute._explain_rules(_explain_words_for.lead_table, of_tenant, decision.rule,
            jsonb_path_query_array(findings, '$[*] ? (@.kind == "fault")'),
            jsonb_path_query_array(findings, '$[*] ? (@.kind == "missed")')) r WHERE NOT manual AND decision.outcome <> 'sticky'
    LOOP
        step := step + 1;
        RETURN NEXT;
    END LOOP;
    FOR kind, rule, rule_name, pool, rep, outcome, reason, picked IN
        SELECT 'member', NULL::bigint, NULL, n.name, m.rep,
            CASE WHEN m.outcome IN ('picked', 'turn', 'offered') THEN 'eligible' ELSE coalesce(m.outcome, 'empty') END,
            leadroute._explain_member(m.outcome, m.measure, m.amount, m.used, m.cap, n.name),
            m.outcome IS NOT DISTINCT FROM 'picked'
        FROM jsonb_to_recordset(findings) AS m (kind text, n integer, pool integer, rep bigint, outcome text,
                measure text, amount double precision, used integer, cap integer)
            CROSS JOIN LATERAL (SELECT leadroute._pool_name(m.pool, of_tenant)) n (name)
        WHERE m.kind = 'member' AND NOT fails ORDER BY m.n
    LOOP
        step := step + 1;
        RETURN NEXT;
    END LOOP;

    step := step + 1;
    kind := 'result';
    rule := decision.rule;
    rule_name := (SELECT r.name FROM leadroute.rule r WHERE r.tenant = of_tenant AND r.id = decision.rule);
    pool := CASE WHEN NOT fails THEN leadroute._pool_name(decision.pool, of_tenant) END;
    rep := CASE WHEN NOT fails THEN decision.rep END;
    outcome := CASE WHEN fails THEN 'error' WHEN manual THEN 'manual'
        WHEN decision.rep IS NOT NULL THEN 'assigned'
        WHEN leadroute._explanation(decision.explanation) ->> 'note' = 'offered' THEN 'offered' ELSE 'waiting' END;
    reason := CASE WHEN fails THEN 'leadroute.on_rule_error is error: the insert would fail'
        ELSE leadroute._reason(decision.rep, decision.outcome, decision.explanation,
            leadroute._pool_names(decision.explanation, of_tenant), CASE WHEN decision.rule IS NULL THEN 'unmatched' END) END;
    picked := false;
    RETURN NEXT;
END
$$;
COMMENT ON FUNCTION leadroute._explain_words_for(name, text, bigint, jsonb) IS '_explain_words() of a role.';
CREATE FUNCTION leadroute._explain_words(lead_table text, tenant bigint, findings jsonb)
    RETURNS TABLE (step integer, kind text, rule bigint, rule_name text, pool text, rep bigint,
        outcome text, reason text, picked boolean)
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'leadroute_for_caller';
COMMENT ON FUNCTION leadroute._explain_words(text, bigint, jsonb) IS
    'What _explain() found, in words, rule by rule; raises LR012 without the level that explain() takes.';

CREATE FUNCTION leadroute.explain(lead_table text, lead jsonb, tenant bigint DEFAULT 0)
    RETURNS TABLE (step integer, kind text, rule bigint, rule_name text, pool text, rep bigint,
        outcome text, reason text, picked boolean)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    asked record;
    findings jsonb;
BEGIN
    SELECT l.* INTO asked FROM leadroute._explain_lead(explain.lead_table, explain.lead, explain.tenant) l;
    BEGIN
        EXECUTE format('SELECT jsonb_populate_record(NULL::%s, $1)', asked.relation) USING asked.given;
    EXCEPTION WHEN data_exception OR integrity_constraint_violation OR wrong_object_type THEN
        RAISE EXCEPTION USING ERRCODE = 'LR005',
            MESSAGE = format('the lead does not fit table "%s": %s', lead_table, SQLERRM),
            DETAIL = 'An insert of these values would fail.',
            HINT = 'Give each column a value that its type accepts.';
    END;
    EXECUTE format('SELECT jsonb_agg(to_jsonb(e) ORDER BY e.n) FROM leadroute._explain($1, $2,
            jsonb_populate_record(NULL::%s, $3), $3) WITH ORDINALITY AS e (kind, rule, pool, rep, outcome,
                measure, amount, used, cap, message, explanation, n)', asked.relation)
        INTO findings USING asked.relation, asked.of_tenant, asked.given;
    RETURN QUERY SELECT w.* FROM leadroute._explain_words(lead_table, asked.of_tenant, findings) w;
END
$$;
COMMENT ON FUNCTION leadroute.explain(text, jsonb, bigint) IS
    'What would become of a lead with these columns, if it were inserted now: where the table has a sticky_on, the known owner of the contact (step sticky); each rule (matched, not matched, error, inactive, not reached), each member asked (eligible, or why not; picked is the one who would receive it) and the result (assigned, offered, waiting, manual, error) in why()''s words. Columns left out have their defaults; numbers of sequences are looked up, not taken; triggers of the table do not run. Changes nothing, and works in a READ ONLY transaction. Takes the level app or manager. Raises LR002 for a table that is not attached, LR005 for a lead that the table could not hold, LR012.';
