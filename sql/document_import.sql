-- import_rules(): a document's items as complete rows, and the statements that make the tables equal to
-- them. Nothing is written that is not different, so that an unchanged document changes nothing.

-- A row carries its path in the document as "$", which is no column.
CREATE FUNCTION leadroute._document_rows(document jsonb, relation text, tenant bigint) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC' SET datestyle = 'ISO' SET intervalstyle = 'postgres'
AS $$
#variable_conflict use_variable
DECLARE
    part record;
    defaults jsonb;
    lists text[];
    rows jsonb;
    problem text;
    one jsonb;
BEGIN
    SELECT * INTO part FROM leadroute._document_parts() p WHERE p.relation = _document_rows.relation;
    defaults := leadroute._document_defaults(relation, part.parent);
    lists := ARRAY(SELECT p.child FROM leadroute._document_parts() p WHERE p.section = part.section AND p.child IS NOT NULL AND part.child IS NULL);
    SELECT format('%s: there is no %s here, but %s', i.path, e.key, (SELECT string_agg(k, ', ' ORDER BY k) FROM jsonb_object_keys(defaults) k)) INTO problem
    FROM leadroute._document_items(document, part.section, part.child, part.parent) i, jsonb_object_keys(i.item) e (key)
    WHERE NOT defaults ? e.key AND e.key <> ALL (lists) AND e.key IS DISTINCT FROM part.parent LIMIT 1;
    IF problem IS NULL THEN
        rows := (SELECT coalesce(jsonb_agg(defaults || (i.item - lists) || jsonb_build_object('tenant', tenant, '$', i.path)
                || (SELECT coalesce(jsonb_object_agg(c, leadroute._rep_of_document(i.item ->> c, i.path || '.' || c, tenant)), '{}') FROM unnest(part.reps) c WHERE i.item ? c)
                || CASE WHEN relation = 'rep' THEN jsonb_build_object('id', leadroute._rep_of_document(coalesce(i.item ->> 'ref', i.item ->> 'name'), i.path, tenant)) ELSE '{}' END), '[]')
            FROM leadroute._document_items(document, part.section, part.child, part.parent) i);
        SELECT format('%s: there is no %s', r ->> '$', k) INTO problem
        FROM jsonb_array_elements(rows) r, unnest(part.key) k WHERE coalesce(r ->> k, '') = '' LIMIT 1;
        problem := coalesce(problem, (SELECT format('%s: this is in the list twice', max(r ->> '$')) FROM jsonb_array_elements(rows) r
            WHERE part.key IS NOT NULL GROUP BY ARRAY(SELECT r ->> k FROM unnest(part.key) k) HAVING count(*) > 1 LIMIT 1));
    END IF;
    IF problem IS NULL THEN
        BEGIN
            EXECUTE format('SELECT count(to_jsonb(t)) FROM jsonb_populate_recordset(NULL::leadroute.%I, $1) t', relation) USING rows;
        EXCEPTION WHEN data_exception OR cannot_coerce OR program_limit_exceeded OR feature_not_supported THEN
            FOR one IN SELECT r FROM jsonb_array_elements(rows) r LOOP
                BEGIN
                    EXECUTE format('SELECT to_jsonb(t) FROM jsonb_populate_record(NULL::leadroute.%I, $1) t', relation) USING one;
                EXCEPTION WHEN data_exception OR cannot_coerce OR program_limit_exceeded OR feature_not_supported THEN
                    problem := coalesce(problem, format('%s: %s', one ->> '$', SQLERRM));
                END;
            END LOOP;
        END;
    END IF;
    IF problem IS NOT NULL THEN
        PERFORM leadroute._refuse_import(problem, format('A document''s %s are as leadroute.%s has them.', coalesce(part.child, part.section), relation),
            'Give what export_rules() writes; what is left out has its default.');
    END IF;
    RETURN rows;
END
$$;
COMMENT ON FUNCTION leadroute._document_rows(jsonb, text, bigint) IS
    'The rows of a table that a document asks for, complete; LR015 with the path for what is no row.';

CREATE FUNCTION leadroute._write_rows(relation text, rows jsonb, actions text[], tenant bigint, lead_table text DEFAULT NULL)
    RETURNS TABLE (item text, outcome text)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC' SET datestyle = 'ISO' SET intervalstyle = 'postgres'
AS $$
#variable_conflict use_column
DECLARE
    part record;
    columns text[];
    action text;
    here text;
    there text;
    same text;
    label text;
    command text;
    wanted boolean;
BEGIN
    SELECT * INTO part FROM leadroute._document_parts() p WHERE p.relation = _write_rows.relation;
    columns := ARRAY(SELECT k FROM jsonb_object_keys(leadroute._document_defaults(relation, part.parent)) k WHERE k <> ALL (part.key) ORDER BY k);
    here := (SELECT string_agg(format('t.%I', k), ', ') FROM unnest(ARRAY['tenant'] || part.key) k);
    there := (SELECT string_agg(format('n.%I', k), ', ') FROM unnest(ARRAY['tenant'] || part.key) k);
    same := format('(%s) = (%s)', here, there);
    label := CASE relation WHEN 'rep' THEN 'coalesce(t.ref, t.name)' WHEN 'pool_member' THEN 't.pool || '', '' || leadroute._document_rep(t.rep, t.tenant)'
        ELSE (SELECT string_agg(format('t.%I::text', k), ' || '', '' || ') FROM unnest(part.key) k) END;
    FOREACH action IN ARRAY actions LOOP
        command := CASE action
            WHEN 'removed' THEN format('FROM leadroute.%1$I t WHERE t.tenant = $2 AND %2$s AND NOT EXISTS (SELECT FROM jsonb_populate_recordset(NULL::leadroute.%1$I, $1) n WHERE %3$s)',
                relation, CASE WHEN relation = 'rule' THEN 't.lead_table = coalesce($3, t.lead_table)' ELSE 'true' END, same)
            WHEN 'changed' THEN format('FROM jsonb_populate_recordset(NULL::leadroute.%1$I, $1) n %2$s %3$s AND (%4$s) IS DISTINCT FROM (%5$s)',
                relation, '%s', same, (SELECT string_agg(format('t.%I::text', c), ', ') FROM unnest(columns) c), (SELECT string_agg(format('n.%I::text', c), ', ') FROM unnest(columns) c))
            ELSE format('FROM jsonb_populate_recordset(NULL::leadroute.%1$I, $1) t WHERE NOT EXISTS (SELECT FROM leadroute.%1$I n WHERE %2$s)', relation, same) END;
        -- asked first: a statement without rows would still be one to the triggers
        EXECUTE format('SELECT EXISTS (SELECT %s)', CASE action WHEN 'changed' THEN format(command, format('JOIN leadroute.%I t ON', relation)) ELSE command END)
            USING rows, tenant, lead_table INTO wanted;
        CONTINUE WHEN NOT wanted;
        RETURN QUERY EXECUTE CASE action
            WHEN 'removed' THEN format('DELETE %s RETURNING %s, %L', command, label, action)
            WHEN 'changed' THEN format('UPDATE leadroute.%I t SET (%s) = ROW(%s) %s RETURNING %s, %L', relation,
                (SELECT string_agg(quote_ident(c), ', ') FROM unnest(columns) c), (SELECT string_agg(format('n.%I', c), ', ') FROM unnest(columns) c),
                format(command, 'WHERE'), label, action)
            ELSE format('INSERT INTO leadroute.%I AS t (%s) SELECT %s %s RETURNING %s, %L', relation,
                (SELECT string_agg(quote_ident(c), ', ') FROM unnest(ARRAY['tenant'] || part.key || columns) c),
                (SELECT string_agg(format('t.%I', c), ', ') FROM unnest(ARRAY['tenant'] || part.key || columns) c), command, label, action) END
        USING rows, tenant, lead_table;
    END LOOP;
END
$$;
COMMENT ON FUNCTION leadroute._write_rows(text, jsonb, text[], bigint, text) IS
    'Makes a table''s rows equal to those of a document: adds, changes and removes, as asked, and tells what it did.';

CREATE FUNCTION leadroute._write_steps(rows jsonb, tenant bigint) RETURNS TABLE (item text, outcome text)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC' SET datestyle = 'ISO' SET intervalstyle = 'postgres'
AS $$
#variable_conflict use_column
DECLARE
    differing record;
BEGIN
    FOR differing IN
        WITH wanted AS (
            SELECT n.policy, array_agg(ROW(n.after, n.share, n.action, n.pool)::text ORDER BY r.number) AS steps
            FROM jsonb_array_elements(rows) WITH ORDINALITY r (item, number), jsonb_populate_record(NULL::leadroute.sla_step, r.item) n GROUP BY n.policy),
        present AS (
            SELECT t.policy, array_agg(ROW(t.after, t.share, t.action, t.pool)::text ORDER BY t.id) AS steps
            FROM leadroute.sla_step t WHERE t.tenant = _write_steps.tenant GROUP BY t.policy)
        SELECT coalesce(w.policy, p.policy) AS policy FROM wanted w FULL JOIN present p ON p.policy = w.policy
        WHERE w.steps IS DISTINCT FROM p.steps ORDER BY 1
    LOOP
        DELETE FROM leadroute.sla_step t WHERE t.tenant = _write_steps.tenant AND t.policy = differing.policy;
        INSERT INTO leadroute.sla_step (tenant, policy, after, share, action, pool)
        SELECT _write_steps.tenant, n.policy, n.after, n.share, n.action, n.pool
        FROM jsonb_array_elements(rows) WITH ORDINALITY r (item, number), jsonb_populate_record(NULL::leadroute.sla_step, r.item) n
        WHERE n.policy = differing.policy ORDER BY r.number;
        item := differing.policy;
        outcome := 'changed';
        RETURN NEXT;
    END LOOP;
END
$$;
COMMENT ON FUNCTION leadroute._write_steps(jsonb, bigint) IS 'Replaces the steps of the policies whose steps are others than in a document.';

-- Reps are made first, since everything else names them; what else is said of them comes later.
CREATE FUNCTION leadroute._write_reps(document jsonb, tenant bigint) RETURNS TABLE (item text, outcome text)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    one record;
    known bigint[];
BEGIN
    FOR one IN SELECT i.path, i.item ->> 'name' AS name, i.item ->> 'ref' AS ref FROM leadroute._document_items(document, 'reps', NULL, NULL) i LOOP
        CONTINUE WHEN EXISTS (SELECT FROM leadroute.rep r WHERE r.tenant = _write_reps.tenant
            AND (r.ref = coalesce(one.ref, one.name) OR r.ref IS NULL AND r.name = coalesce(one.ref, one.name)));
        IF coalesce(one.name, '') = '' THEN
            PERFORM leadroute._refuse_import(one.path || ': there is no name', 'A rep has a name.', 'Give what export_rules() writes.');
        END IF;
        item := coalesce(one.ref, one.name);
        known := (SELECT array_agg(r.id) FROM leadroute.rep r WHERE r.tenant = _write_reps.tenant AND r.ref IS NULL AND r.name = one.name);
        IF cardinality(known) = 1 THEN
            UPDATE leadroute.rep r SET ref = one.ref WHERE r.tenant = _write_reps.tenant AND r.id = known[1];
            outcome := 'changed';
        ELSE
            INSERT INTO leadroute.rep (tenant, name, ref) VALUES (_write_reps.tenant, one.name, one.ref);
            outcome := 'added';
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;
COMMENT ON FUNCTION leadroute._write_reps(jsonb, bigint) IS
    'Makes the reps of a document that are missing; one who is there by name and has no ref yet receives it.';

CREATE FUNCTION leadroute._write_document(document jsonb, tenant bigint) RETURNS TABLE (section text, item text, outcome text)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    only_table CONSTANT text := document ->> 'lead_table';
    company CONSTANT bigint := _write_document.tenant;
    pools jsonb;
    policies jsonb;
    territories jsonb;
    calendars jsonb;
    other text;
BEGIN
    RETURN QUERY SELECT 'reps', w.* FROM leadroute._write_reps(document, company) w;
    calendars := leadroute._document_rows(document, 'calendar', company);
    pools := leadroute._document_rows(document, 'pool', company);
    policies := leadroute._document_rows(document, 'sla_policy', company);
    territories := leadroute._document_rows(document, 'territory', company);
    RETURN QUERY SELECT 'calendars', w.* FROM leadroute._write_rows('calendar', calendars, '{added,changed}', company) w;
    RETURN QUERY SELECT 'calendars.hours', w.* FROM leadroute._write_rows('calendar_hours', leadroute._document_rows(document, 'calendar_hours', company), '{removed,changed,added}', company) w;
    RETURN QUERY SELECT 'calendars.holidays', w.* FROM leadroute._write_rows('calendar_holiday', leadroute._document_rows(document, 'calendar_holiday', company), '{removed,changed,added}', company) w;
    -- pools and policies name each other
    RETURN QUERY SELECT 'pools', w.* FROM leadroute._write_rows('pool',
        (SELECT coalesce(jsonb_agg(p || '{"sla": null}'), '[]') FROM jsonb_array_elements(pools) p), '{added}', company) w;
    RETURN QUERY SELECT 'sla_policies', w.* FROM leadroute._write_rows('sla_policy', policies, '{added,changed}', company) w;
    RETURN QUERY SELECT 'sla_policies.steps', w.* FROM leadroute._write_steps(leadroute._document_rows(document, 'sla_step', company), company) w;
    RETURN QUERY SELECT 'reps', w.* FROM leadroute._write_rows('rep', leadroute._document_rows(document, 'rep', company), '{changed}', company) w;
    RETURN QUERY SELECT 'pools', w.* FROM leadroute._write_rows('pool', pools, '{changed}', company) w;
    RETURN QUERY SELECT 'pools.members', w.* FROM leadroute._write_rows('pool_member', leadroute._document_rows(document, 'pool_member', company), '{removed,changed,added}', company) w;
    RETURN QUERY SELECT 'territories', w.* FROM leadroute._write_rows('territory', territories, '{added,changed}', company) w;
    RETURN QUERY SELECT 'territories.entries', w.* FROM leadroute._write_rows('territory_entry', leadroute._document_rows(document, 'territory_entry', company), '{removed,changed,added}', company) w;
    SELECT format('$.rules[%s]', r.number - 1) INTO other FROM jsonb_array_elements(document -> 'rules') WITH ORDINALITY r (item, number)
    WHERE r.item ->> 'lead_table' <> only_table LIMIT 1;
    IF other IS NOT NULL THEN
        PERFORM leadroute._refuse_import(format('%s: the rule is not for "%s"', other, only_table), 'The document is of one lead table.', 'Take the rule out, or $.lead_table.');
    END IF;
    RETURN QUERY SELECT 'rules', w.* FROM leadroute._write_rows('rule', leadroute._document_rows(document, 'rule', company), '{removed,changed,added}', company, only_table) w;
    -- what is removed must not be in the way of what is removed, too
    UPDATE leadroute.pool p SET sla = NULL, overflow_pool = NULL WHERE p.tenant = company AND num_nonnulls(p.sla, p.overflow_pool) > 0
        AND NOT EXISTS (SELECT FROM jsonb_array_elements(pools) n WHERE n ->> 'name' = p.name);
    RETURN QUERY SELECT 'territories', w.* FROM leadroute._write_rows('territory', territories, '{removed}', company) w;
    RETURN QUERY SELECT 'sla_policies', w.* FROM leadroute._write_rows('sla_policy', policies, '{removed}', company) w;
    RETURN QUERY SELECT 'pools', w.* FROM leadroute._write_rows('pool', pools, '{removed}', company) w;
    RETURN QUERY SELECT 'calendars', w.* FROM leadroute._write_rows('calendar', calendars, '{removed}', company) w;
END
$$;
COMMENT ON FUNCTION leadroute._write_document(jsonb, bigint) IS
    'Makes the configuration equal to a document, each table after those that it refers to, and tells what it did, in the order in which it did it.';

CREATE FUNCTION leadroute.import_rules(document jsonb, tenant bigint DEFAULT 0) RETURNS TABLE (section text, item text, outcome text)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM leadroute._require(import_rules.tenant, 'admin');
    PERFORM leadroute._check_document(document);
    RETURN QUERY
    SELECT d.section, d.item, (array_agg(d.outcome ORDER BY d.number))[1]
    FROM leadroute._write_document(document, import_rules.tenant) WITH ORDINALITY d (section, item, outcome, number)
    GROUP BY d.section, d.item ORDER BY min(d.number);
END
$$;
COMMENT ON FUNCTION leadroute.import_rules(jsonb, bigint) IS
    'Makes a tenant''s rules (of the document''s lead table, where it names one), pools with their members, territories, policies and calendars equal to a document that export_rules() has written: what is not in it is removed, except reps, who are only added and changed. All or nothing; one row for each thing that was added, changed or removed, none for an unchanged document. Lead tables must be attached. Needs the level admin; the caller is the author of the conditions that change. LR015, with the path, for what is no such document; LR006 where what would be removed is in use; otherwise as when the rows are written by hand.';
