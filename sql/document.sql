-- Rules and all that they stand on as one JSON document, to be kept in version control: export_rules()
-- writes it, import_rules() makes the configuration equal to one. A document holds no ids: reps are named
-- by their ref, or by their name where they have none, everything else by its name. What has its
-- column's default is left out. A rep's pause and database role are not in it: the one is a state, the
-- other of one server.

CREATE FUNCTION leadroute._document_parts()
    RETURNS TABLE (section text, child text, relation text, parent text, key text[], reps text[], ordering text)
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    VALUES ('calendars', NULL, 'calendar', NULL, ARRAY['name'], '{}'::text[], 't.name COLLATE "C"'),
        ('calendars', 'hours', 'calendar_hours', 'calendar', '{calendar,weekday,opens}', '{}', 't.weekday, t.opens'),
        ('calendars', 'holidays', 'calendar_holiday', 'calendar', '{calendar,day}', '{}', 't.day'),
        ('reps', NULL, 'rep', NULL, '{id}', '{manager}', 'coalesce(t.ref, t.name) COLLATE "C"'),
        ('pools', NULL, 'pool', NULL, '{name}', '{manager}', 't.name COLLATE "C"'),
        ('sla_policies', NULL, 'sla_policy', NULL, '{name}', '{}', 't.name COLLATE "C"'),
        -- the order is that of their ids, and nothing else tells steps apart
        ('sla_policies', 'steps', 'sla_step', 'policy', NULL, '{}', 't.id'),
        ('pools', 'members', 'pool_member', 'pool', '{pool,rep}', '{rep}',
            '(SELECT coalesce(r.ref, r.name) COLLATE "C" FROM leadroute.rep r WHERE r.tenant = t.tenant AND r.id = t.rep)'),
        ('territories', NULL, 'territory', NULL, '{name}', '{}', 't.name COLLATE "C"'),
        ('territories', 'entries', 'territory_entry', 'territory', '{territory,key}', '{rep}', 't.key COLLATE "C"'),
        ('rules', NULL, 'rule', NULL, '{lead_table,name}', '{rep}', 't.lead_table COLLATE "C", t.position')
$$;
COMMENT ON FUNCTION leadroute._document_parts() IS
    'The parts of a document, in the order in which they are written: a section''s table, or that of a list in each of its items; what tells rows apart, and which columns name reps.';

CREATE FUNCTION leadroute._document_defaults(relation text, parent text) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    col record;
    value jsonb;
    defaults jsonb := '{}';
BEGIN
    FOR col IN
        SELECT a.attname AS name, pg_get_expr(d.adbin, d.adrelid) AS expression
        FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attrelid = format('leadroute.%I', relation)::regclass AND a.attnum > 0 AND NOT a.attisdropped
          AND a.attname <> ALL (ARRAY['tenant', 'id', 'version', 'changed_at', 'author', 'value_since'])
          AND a.attname IS DISTINCT FROM parent AND NOT (relation = 'rep' AND a.attname IN ('db_role', 'paused'))
    LOOP
        EXECUTE format('SELECT to_jsonb(%s)', coalesce(col.expression, 'NULL::text')) INTO value;
        defaults := defaults || jsonb_build_object(col.name, value);
    END LOOP;
    RETURN defaults;
END
$$;
COMMENT ON FUNCTION leadroute._document_defaults(text, text) IS
    'The columns of a table that a document holds, with their defaults.';

CREATE FUNCTION leadroute._document_rep(rep bigint, tenant bigint) RETURNS text
    LANGUAGE plpgsql STABLE SET plan_cache_mode = force_custom_plan SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    label CONSTANT text := (SELECT coalesce(r.ref, r.name) FROM leadroute.rep r WHERE r.tenant = _document_rep.tenant AND r.id = _document_rep.rep);
BEGIN
    IF (SELECT count(*) FROM leadroute.rep r WHERE r.tenant = _document_rep.tenant AND (r.ref = label OR r.ref IS NULL AND r.name = label)) > 1 THEN
        PERFORM leadroute._refuse_import(format('more than one rep is "%s"', label), 'A document names a rep by the ref, or by the name where there is none.',
            format('Give each a ref of its own: UPDATE leadroute.rep SET ref = ... WHERE id = %s.', rep));
    END IF;
    RETURN label;
END
$$;
COMMENT ON FUNCTION leadroute._document_rep(bigint, bigint) IS 'What a document calls a rep; LR015 when that names another, too.';

-- Export ----------------------------------------------------------------------------------------------

CREATE FUNCTION leadroute._document_section(section text, lead_table text, tenant bigint) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC' SET datestyle = 'ISO' SET intervalstyle = 'postgres'
AS $$
#variable_conflict use_variable
DECLARE
    part record;
    items text;
    lists text := '';
    answer jsonb;
BEGIN
    FOR part IN SELECT p.* FROM leadroute._document_parts() p WHERE p.section = _document_section.section ORDER BY p.child NULLS LAST LOOP
        items := format(
            $sql$(SELECT jsonb_object_agg(e.key, CASE WHEN e.key = ANY (%1$L) THEN to_jsonb(leadroute._document_rep((e.value #>> '{}')::bigint, t.tenant)) ELSE e.value END)
                FROM jsonb_each(to_jsonb(t)) e, (SELECT %2$L::jsonb AS of_column) d
                WHERE d.of_column ? e.key AND e.value IS DISTINCT FROM d.of_column -> e.key)$sql$,
            part.reps, leadroute._document_defaults(part.relation, part.parent));
        IF part.child IS NOT NULL THEN
            lists := lists || format($sql$ || coalesce((SELECT jsonb_build_object(%1$L, jsonb_agg(%2$s ORDER BY %3$s))
                FROM leadroute.%4$I t WHERE t.tenant = parent.tenant AND t.%5$I = parent.name HAVING count(*) > 0), '{}')$sql$,
                part.child, items, part.ordering, part.relation, part.parent);
        ELSE
            EXECUTE format('SELECT coalesce(jsonb_agg(%s%s ORDER BY %s), ''[]'') FROM leadroute.%I t%s WHERE t.tenant = $1%s', items, lists,
                part.ordering, part.relation, CASE WHEN lists <> '' THEN format(' CROSS JOIN LATERAL (SELECT t.tenant, t.name) parent') ELSE '' END,
                CASE WHEN part.relation = 'rule' THEN ' AND t.lead_table = coalesce($2, t.lead_table)' ELSE '' END)
            USING tenant, lead_table INTO answer;
        END IF;
    END LOOP;
    RETURN answer;
END
$$;
COMMENT ON FUNCTION leadroute._document_section(text, text, bigint) IS 'One section of a document: the rows of its table, with those of the tables below it in lists.';

CREATE FUNCTION leadroute.export_rules(lead_table text DEFAULT NULL, tenant bigint DEFAULT 0) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    PERFORM leadroute._require(tenant, 'admin');
    IF lead_table IS NOT NULL THEN
        PERFORM leadroute._require_attached(lead_table);
    END IF;
    RETURN (SELECT jsonb_pretty(jsonb_build_object('leadroute', 1)
            || CASE WHEN lead_table IS NULL THEN '{}' ELSE jsonb_build_object('lead_table', lead_table) END
            || jsonb_object_agg(s.section, leadroute._document_section(s.section, lead_table, tenant)))
        FROM (SELECT DISTINCT p.section FROM leadroute._document_parts() p) s);
END
$$;
COMMENT ON FUNCTION leadroute.export_rules(text, bigint) IS
    'A tenant''s rules (of one lead table, where one is named), and its pools with their members, territories, policies, calendars and reps, as one JSON document for version control: always in the same order and form, without ids, and without what has its default. import_rules() reads it, here or in another database. Needs the level admin. LR015 when two reps cannot be told apart.';

-- Import ----------------------------------------------------------------------------------------------

CREATE FUNCTION leadroute._rep_of_document(label text, path text, tenant bigint) RETURNS bigint
    LANGUAGE plpgsql STABLE SET plan_cache_mode = force_custom_plan SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found CONSTANT bigint[] := (SELECT array_agg(r.id) FROM leadroute.rep r
        WHERE r.tenant = _rep_of_document.tenant AND (r.ref = label OR r.ref IS NULL AND r.name = label));
BEGIN
    IF label IS NOT NULL AND coalesce(cardinality(found), 0) <> 1 THEN
        PERFORM leadroute._refuse_import(format('%s: %s rep is "%s"', path, CASE WHEN found IS NULL THEN 'no' ELSE 'more than one' END, label),
            'A rep is named by the ref, or by the name where there is none.', 'Correct it, or add the rep to the section reps.');
    END IF;
    RETURN found[1];
END
$$;
COMMENT ON FUNCTION leadroute._rep_of_document(text, text, bigint) IS 'Whom a document names; LR015 with the path when that is not one rep.';

CREATE FUNCTION leadroute._check_document(document jsonb) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    problem text;
BEGIN
    problem := CASE WHEN jsonb_typeof(document) IS DISTINCT FROM 'object' THEN '$: the document is no JSON object'
        WHEN document -> 'leadroute' IS DISTINCT FROM '1' THEN coalesce('$.leadroute: the form of the document is ' || (document ->> 'leadroute') || ', not 1', '$.leadroute is missing: the form of the document')
        WHEN document ? 'lead_table' AND jsonb_typeof(document -> 'lead_table') <> 'string' THEN '$.lead_table: this is no text'
        ELSE (SELECT min(CASE WHEN p.section IS NULL AND d.key NOT IN ('leadroute', 'lead_table') THEN format('$.%s: there is no such section', d.key)
                WHEN p.section IS NOT NULL AND jsonb_typeof(d.value) <> 'array' THEN format('$.%s: this is no list', d.key) END)
            FROM jsonb_each(document) d LEFT JOIN (SELECT DISTINCT section FROM leadroute._document_parts()) p ON p.section = d.key) END;
    problem := coalesce(problem, (SELECT format('$.%s: the section is missing', p.section) FROM leadroute._document_parts() p
        WHERE NOT document ? p.section ORDER BY p.section LIMIT 1));
    IF problem IS NOT NULL THEN
        PERFORM leadroute._refuse_import(problem, 'The document says all of the configuration that it covers: what is not in it is removed.',
            'Give what export_rules() writes; an empty section is [].');
    END IF;
END
$$;
COMMENT ON FUNCTION leadroute._check_document(jsonb) IS 'Refuses (LR015) what has not the form of a document.';

CREATE FUNCTION leadroute._document_items(document jsonb, section text, child text, parent text)
    RETURNS TABLE (path text, item jsonb)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    problem text;
BEGIN
    SELECT format('$.%s[%s]', _document_items.section, x.number - 1) INTO problem
    FROM jsonb_array_elements(document -> _document_items.section) WITH ORDINALITY x (item, number)
    WHERE jsonb_typeof(x.item) <> 'object' OR child IS NOT NULL AND jsonb_typeof(coalesce(x.item -> child, '[]')) <> 'array'
       OR EXISTS (SELECT FROM jsonb_array_elements(CASE WHEN jsonb_typeof(x.item -> child) = 'array' THEN x.item -> child ELSE '[]' END) y WHERE jsonb_typeof(y) <> 'object')
    LIMIT 1;
    IF problem IS NOT NULL THEN
        PERFORM leadroute._refuse_import(format('%s: this is no object%s', problem, coalesce(', or its ' || child || ' are no list of objects', '')),
            'A section is a list of objects, and so are the lists in them.', 'Give what export_rules() writes.');
    END IF;
    RETURN QUERY
    SELECT format('$.%s[%s]', _document_items.section, x.number - 1), x.item
    FROM jsonb_array_elements(document -> _document_items.section) WITH ORDINALITY x (item, number) WHERE child IS NULL
    UNION ALL
    SELECT format('$.%s[%s].%s[%s]', _document_items.section, x.number - 1, child, y.number - 1), y.item || jsonb_build_object(parent, x.item -> 'name')
    FROM jsonb_array_elements(document -> _document_items.section) WITH ORDINALITY x (item, number),
        jsonb_array_elements(coalesce(x.item -> child, '[]')) WITH ORDINALITY y (item, number) WHERE child IS NOT NULL;
END
$$;
COMMENT ON FUNCTION leadroute._document_items(jsonb, text, text, text) IS 'The items of a section, or of the lists in them with the name of the item around, each with its path.';
