-- Assignment rules of Salesforce (AssignmentRules metadata) as rules, pools and reps. An entry becomes
-- a condition that says the same of a lead as the entry does of a record: blank and NULL are one,
-- criteria compare text without case, and what is not known of a file is refused rather than guessed.

CREATE FUNCTION leadroute._formula(formula text, names text[], expressions text[], kinds text[]) RETURNS text[]
    LANGUAGE c IMMUTABLE STRICT AS 'MODULE_PATHNAME', 'leadroute_formula';
COMMENT ON FUNCTION leadroute._formula(text, text[], text[], text[]) IS
    'A Salesforce formula as an SQL condition: {condition}, or {NULL, problem, position in characters, field that is not mapped}.';

CREATE FUNCTION leadroute._filter(filter text, conditions text[]) RETURNS text[]
    LANGUAGE c IMMUTABLE STRICT AS 'MODULE_PATHNAME', 'leadroute_filter';
COMMENT ON FUNCTION leadroute._filter(text, text[]) IS
    'Conditions combined by their numbers, as in 1 AND (2 OR NOT 3): {condition}, or {NULL, problem, position in characters}.';

CREATE FUNCTION leadroute._expression_type(lead regclass, name text, expression text) RETURNS oid
    LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'leadroute_expression_type';
COMMENT ON FUNCTION leadroute._expression_type(regclass, text, text) IS
    'The type of an expression over a lead; LR004, with the name, for what a rule cannot use.';

CREATE FUNCTION leadroute._refuse_import(message text, detail text, hint text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'LR015', MESSAGE = message, DETAIL = detail, HINT = hint;
END
$$;
COMMENT ON FUNCTION leadroute._refuse_import(text, text, text) IS 'Raises LR015.';

-- The file ------------------------------------------------------------------------------------------

CREATE FUNCTION leadroute._salesforce_document(file text) RETURNS xml
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    parsed xml;
    problem text;
BEGIN
    -- Metadata has no document type, and so no entities of its own, which could be anything's.
    IF file ~* '<!(DOCTYPE|ENTITY)' THEN
        PERFORM leadroute._refuse_import('the XML has a document type', 'Files of AssignmentRules metadata have none, and entities are not read.',
            'Give the file as Salesforce exports it.');
    END IF;
    BEGIN
        parsed := xmlparse(DOCUMENT ltrim(file, chr(65279)));
    EXCEPTION WHEN data_exception OR invalid_xml_document OR invalid_xml_content OR not_an_xml_document THEN
        GET STACKED DIAGNOSTICS problem = PG_EXCEPTION_DETAIL;
        PERFORM leadroute._refuse_import('the XML cannot be read', coalesce(nullif(problem, ''), SQLERRM),
            'Give the text of one AssignmentRules metadata file.');
    END;
    IF (xpath('local-name(/*)', parsed))[1]::text <> 'AssignmentRules' THEN
        PERFORM leadroute._refuse_import(format('the XML is %s, not AssignmentRules', (xpath('local-name(/*)', parsed))[1]::text),
            'Assignment rules are in files such as Lead.assignmentRules-meta.xml.', 'Give such a file.');
    END IF;
    RETURN parsed;
END
$$;
COMMENT ON FUNCTION leadroute._salesforce_document(text) IS 'The file as XML; LR015 when it is no AssignmentRules metadata.';

CREATE FUNCTION leadroute._salesforce_children(node xml) RETURNS TABLE (number bigint, name text, value text, node xml)
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT x.number, x.name, btrim(x.value, E' \t\r\n'), x.node
    FROM XMLTABLE('/*/*' PASSING _salesforce_children.node
        COLUMNS number FOR ORDINALITY, name text PATH 'local-name(.)', value text PATH 'string(.)', node xml PATH '.') x
$$;
COMMENT ON FUNCTION leadroute._salesforce_children(xml) IS 'The elements in an element, in order.';

CREATE FUNCTION leadroute._salesforce_rule_sets(document xml)
    RETURNS TABLE (number bigint, name text, active boolean, node xml)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT row_number() OVER (ORDER BY r.number), max(c.value) FILTER (WHERE c.name = 'fullName'),
        coalesce(bool_or(lower(c.value) IN ('true', '1')) FILTER (WHERE c.name = 'active'), false), (array_agg(r.node))[1]
    FROM leadroute._salesforce_children(document) r LEFT JOIN LATERAL leadroute._salesforce_children(r.node) c ON true
    WHERE r.name = 'assignmentRule' GROUP BY r.number
$$;
COMMENT ON FUNCTION leadroute._salesforce_rule_sets(xml) IS 'The assignment rules of a file: each a set of entries.';

CREATE FUNCTION leadroute._salesforce_rule_set(document xml, wanted text)
    RETURNS TABLE (name text, active boolean, node xml)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    names CONSTANT text := (SELECT string_agg(format('"%s"%s', s.name, CASE WHEN s.active THEN ' (active)' ELSE '' END), ', ' ORDER BY s.number)
        FROM leadroute._salesforce_rule_sets(document) s);
    found integer;
BEGIN
    RETURN QUERY SELECT s.name, s.active, s.node FROM leadroute._salesforce_rule_sets(document) s
        WHERE CASE WHEN wanted IS NULL THEN s.active ELSE lower(s.name) = lower(wanted) END;
    GET DIAGNOSTICS found = ROW_COUNT;
    IF names IS NULL THEN
        PERFORM leadroute._refuse_import('the file has no assignment rule with a name', 'AssignmentRules holds elements assignmentRule with a fullName.',
            'Give a file with rules.');
    ELSIF found <> 1 THEN
        PERFORM leadroute._refuse_import(CASE WHEN wanted IS NOT NULL AND found = 0 THEN format('the file has no assignment rule "%s"', wanted)
                WHEN wanted IS NOT NULL THEN format('the file has more than one assignment rule "%s"', wanted)
                WHEN found = 0 THEN 'no assignment rule of the file is active' ELSE 'more than one assignment rule of the file is active' END,
            format('It has %s.', names), 'Name the one that you want: options => ''{"rule": "..."}''.');
    END IF;
END
$$;
COMMENT ON FUNCTION leadroute._salesforce_rule_set(xml, text) IS
    'The one assignment rule of a file that is active, or that is named so; LR015 when that is not one.';

-- What a field is -----------------------------------------------------------------------------------

CREATE FUNCTION leadroute._salesforce_kind(type oid) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN t.typcategory = 'N' THEN 'number' WHEN t.typcategory = 'B' THEN 'boolean'
        WHEN t.oid = 'date'::regtype THEN 'date' WHEN t.oid IN ('timestamp'::regtype, 'timestamptz'::regtype) THEN 'datetime'
        WHEN t.typcategory = 'A' AND e.typcategory IN ('S', 'E') THEN 'list'
        WHEN t.oid IN ('text'::regtype, 'varchar'::regtype) THEN 'text' ELSE 'other' END
    FROM pg_type t LEFT JOIN pg_type e ON e.oid = t.typelem WHERE t.oid = type
$$;
COMMENT ON FUNCTION leadroute._salesforce_kind(oid) IS
    'How values of a type are compared: text, number, boolean, date, datetime, list (of texts), or other, by their text.';

CREATE FUNCTION leadroute._salesforce_fields(lead regclass, field_map jsonb)
    RETURNS TABLE (name text, expression text, operand text, kind text)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    entry record;
    problem text;
BEGIN
    IF jsonb_typeof(field_map) <> 'object' THEN
        PERFORM leadroute._refuse_import('field_map is no JSON object', format('It is %s.', left(field_map::text, 200)),
            'Give columns or SQL expressions by Salesforce field: {"Lead.Country": "country", "Lead.Rating": "attrs ->> ''rating''"}.');
    END IF;
    FOR entry IN SELECT e.key, e.value #>> '{}' AS value, jsonb_typeof(e.value) AS type FROM jsonb_each(field_map) e ORDER BY e.key LOOP
        IF entry.type <> 'string' THEN
            PERFORM leadroute._refuse_import(format('field_map entry "%s" is no text', entry.key), 'Its value is a column of the lead table, or an SQL expression over them.',
                format('Give it in quotes: {"%s": "country"}.', entry.key));
        END IF;
        name := entry.key;
        SELECT quote_ident(a.attname) INTO expression FROM pg_attribute a
        WHERE a.attrelid = lead AND a.attname = entry.value AND a.attnum > 0 AND NOT a.attisdropped;
        expression := coalesce(expression, entry.value);
        BEGIN
            kind := leadroute._salesforce_kind(leadroute._expression_type(lead, name, expression));
        EXCEPTION WHEN SQLSTATE 'LR004' THEN
            GET STACKED DIAGNOSTICS problem = PG_EXCEPTION_DETAIL;
            PERFORM leadroute._refuse_import(format('field_map entry "%s" refused: %s', name, regexp_replace(SQLERRM, '^.*? refused: ', '')), problem,
                format('It is %s; give a column of the lead table, or an SQL expression over them.', expression));
        END;
        operand := CASE WHEN expression ~ '^([a-z_][a-z0-9_$]*|"([^"]|"")+")$' THEN expression ELSE '(' || expression || ')' END;
        IF kind = 'other' THEN
            expression := operand || '::text';
            operand := '(' || expression || ')';
            kind := 'text';
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;
COMMENT ON FUNCTION leadroute._salesforce_fields(regclass, jsonb) IS
    'What the fields of a map are in SQL: as an argument (expression) and as an operand, and how they are compared. LR015 for an entry that does not work.';

CREATE FUNCTION leadroute._salesforce_own_field(field text) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT regexp_replace(lower(field), '^(lead|case)\.', '') $$;
COMMENT ON FUNCTION leadroute._salesforce_own_field(text) IS 'A field of the record itself without its object, in lower case.';

-- Criteria ------------------------------------------------------------------------------------------

CREATE FUNCTION leadroute._salesforce_values(value text) RETURNS text[]
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    rest text := value || ',';
    part text[];
    parts text[] := '{}';
BEGIN
    WHILE rest <> '' LOOP
        -- in quotes a comma is one
        part := coalesce(regexp_match(rest, '^(\s*"((?:[^"]|"")*)"\s*,)'), regexp_match(rest, '^(([^,]*),)'));
        parts := parts || CASE WHEN part[1] ~ '^\s*"(?:[^"]|"")*"\s*,$' THEN replace(part[2], '""', '"') ELSE btrim(part[2], E' \t\r\n') END;
        rest := substr(rest, length(part[1]) + 1);
    END LOOP;
    RETURN parts;
END
$$;
COMMENT ON FUNCTION leadroute._salesforce_values(text) IS
    'The values of a criterion: separated by commas, those with commas in double quotes. An empty one stands for blank.';

CREATE FUNCTION leadroute._salesforce_literal(kind text, value text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET timezone = 'UTC'
AS $$
BEGIN
    RETURN CASE kind
        WHEN 'text' THEN quote_literal(lower(value))
        WHEN 'number' THEN CASE WHEN value ~ '^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)$' THEN value::numeric::text END
        WHEN 'boolean' THEN CASE WHEN lower(value) IN ('true', '1') THEN 'true' WHEN lower(value) IN ('false', '0') THEN 'false' END
        WHEN 'date' THEN CASE WHEN value ~ '^\d{4}-\d\d-\d\d$' THEN quote_literal(value::date) END
        WHEN 'datetime' THEN CASE WHEN value ~ '^\d{4}-\d\d-\d\d$' THEN quote_literal(value::date)
            WHEN value ~ '^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)$' THEN quote_literal(value::timestamptz) END END;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION leadroute._salesforce_literal(text, text) IS 'A value of a criterion in SQL; NULL when it is not one of this kind.';

-- What is true of a lead when one of the values fits: to be joined by OR. Negated, of equality and of
-- contains: what is true when none does, to be joined by AND.
CREATE FUNCTION leadroute._salesforce_tests(expression text, operand text, kind text, operation text, parts text[], negated boolean) RETURNS text[]
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH part AS (
        SELECT p.number, p.value, leadroute._salesforce_literal(CASE kind WHEN 'list' THEN 'text' ELSE kind END, p.value) AS literal,
            regexp_replace(lower(p.value), '([\\%_])', '\\\1', 'g') AS pattern,
            CASE WHEN kind = 'datetime' AND p.value !~ 'T' THEN quote_literal(p.value::date + 1) END AS next_day,
            CASE kind WHEN 'text' THEN format(CASE WHEN operation IN ('lessThan', 'lessOrEqual', 'greaterThan', 'greaterOrEqual')
                THEN 'lower(nullif(btrim(%s), ''''))' ELSE 'lower(%s)' END, expression) WHEN 'list' THEN format('lower(%s::text)::text[]', operand) ELSE operand END AS lead,
            (SELECT string_agg(quote_literal(lower(btrim(o))), ', ') FROM regexp_split_to_table(p.value, ';') o) AS options,
            CASE WHEN operation = 'includes' AND kind = 'text' THEN
                (SELECT string_agg(format('(%L || lower(%s) || %L) LIKE %L', ';', expression, ';',
                    '%;' || regexp_replace(lower(btrim(o)), '([\\%_])', '\\\1', 'g') || ';%'), ' AND ') FROM regexp_split_to_table(p.value, ';') o) END AS included
        FROM unnest(parts) WITH ORDINALITY p (value, number) WHERE p.value <> '')
    SELECT CASE
        WHEN operation = 'equals' AND kind IN ('text', 'number', 'date') THEN ARRAY[CASE count(*)
            WHEN 1 THEN min(format('%s %s %s', p.lead, CASE WHEN negated THEN '<>' ELSE '=' END, p.literal))
            ELSE format('%s %s (%s)', min(p.lead), CASE WHEN negated THEN 'NOT IN' ELSE 'IN' END, string_agg(p.literal, ', ' ORDER BY p.number)) END]
        ELSE array_agg(CASE
            WHEN operation = 'equals' AND kind = 'datetime' THEN CASE WHEN p.next_day IS NULL THEN format('%s = %s', p.lead, p.literal)
                ELSE format('(%1$s >= %2$s AND %1$s < %3$s)', p.lead, p.literal, p.next_day) END
            WHEN operation = 'equals' AND kind = 'boolean' THEN CASE p.literal WHEN 'true' THEN p.lead ELSE p.lead || ' IS NOT TRUE' END
            WHEN operation = 'equals' AND kind = 'list' THEN format('(%1$s @> ARRAY[%2$s] AND %1$s <@ ARRAY[%2$s])', p.lead, p.options)
            WHEN operation = 'includes' AND kind = 'list' THEN format('%s @> ARRAY[%s]', p.lead, p.options)
            WHEN operation = 'includes' AND kind = 'text' THEN '(' || p.included || ')'
            WHEN operation = 'contains' AND kind = 'text' THEN
                format('%s %s %L', p.lead, CASE WHEN negated THEN 'NOT LIKE' ELSE 'LIKE' END, '%' || p.pattern || '%')
            WHEN operation = 'startsWith' AND kind = 'text' THEN format('%s LIKE %L', p.lead, p.pattern || '%')
            WHEN kind NOT IN ('text', 'number', 'date', 'datetime') THEN NULL
            WHEN operation = 'lessThan' THEN format('%s < %s', p.lead, p.literal)
            WHEN operation = 'lessOrEqual' THEN format('%s %s %s', p.lead, CASE WHEN p.next_day IS NULL THEN '<=' ELSE '<' END, coalesce(p.next_day, p.literal))
            WHEN operation = 'greaterThan' THEN format('%s %s %s', p.lead, CASE WHEN p.next_day IS NULL THEN '>' ELSE '>=' END, coalesce(p.next_day, p.literal))
            WHEN operation = 'greaterOrEqual' THEN format('%s >= %s', p.lead, p.literal) END ORDER BY p.number)
        END
    FROM part p HAVING count(*) > 0
$$;
COMMENT ON FUNCTION leadroute._salesforce_tests(text, text, text, text, text[], boolean) IS
    'The values of a criterion that are not blank, as SQL tests of a lead; elements are NULL where the operation is not one for this kind.';

CREATE FUNCTION leadroute._salesforce_criterion(expression text, operand text, kind text, operation text, value text) RETURNS text[]
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    parts CONSTANT text[] := leadroute._salesforce_values(coalesce(value, ''));
    base CONSTANT text := CASE operation WHEN 'notEqual' THEN 'equals' WHEN 'notContain' THEN 'contains' WHEN 'excludes' THEN 'includes' ELSE operation END;
    blank CONSTANT text := CASE kind WHEN 'text' THEN format('coalesce(btrim(%s), '''') = ''''', expression)
        WHEN 'list' THEN format('coalesce(cardinality(%s), 0) = 0', expression) ELSE operand || ' IS NULL' END;
    filled CONSTANT text := CASE kind WHEN 'text' THEN format('coalesce(btrim(%s), '''') <> ''''', expression)
        WHEN 'list' THEN format('coalesce(cardinality(%s), 0) <> 0', expression) ELSE operand || ' IS NOT NULL' END;
    blank_asked CONSTANT boolean := '' = ANY (parts);
    negated CONSTANT boolean := base <> operation AND (base = 'equals' AND kind IN ('text', 'number', 'date') OR base = 'contains');
    tests text[];
    wrong text;
BEGIN
    IF base IS NULL OR base NOT IN ('equals', 'contains', 'startsWith', 'includes', 'lessThan', 'lessOrEqual', 'greaterThan', 'greaterOrEqual') THEN
        RETURN ARRAY[NULL, coalesce('the operation "' || operation || '" is not translated', 'there is no operation'), 'operation'];
    ELSIF blank_asked AND base NOT IN ('equals', 'contains', 'startsWith', 'includes') THEN
        RETURN ARRAY[NULL, format('%s needs a value', operation), 'value'];
    END IF;
    SELECT p INTO wrong FROM unnest(parts) p
    WHERE p <> '' AND leadroute._salesforce_literal(CASE kind WHEN 'list' THEN 'text' ELSE kind END, p) IS NULL LIMIT 1;
    IF wrong IS NOT NULL THEN
        RETURN ARRAY[NULL, format('"%s" is %s', wrong, CASE kind WHEN 'boolean' THEN 'neither true nor false'
            WHEN 'date' THEN 'no date such as 2026-01-31' WHEN 'datetime' THEN 'no time such as 2026-01-31T09:00:00Z, and no date' ELSE 'no number' END), 'value'];
    END IF;
    tests := leadroute._salesforce_tests(expression, operand, kind, base, parts, negated);
    IF array_position(tests, NULL) IS NOT NULL THEN
        RETURN ARRAY[NULL, format('%s is no operation for a field of type %s', operation, kind), 'operation'];
    ELSIF base = operation THEN
        tests := CASE WHEN blank_asked THEN ARRAY[blank] END || tests;
        RETURN ARRAY[CASE cardinality(tests) WHEN 1 THEN tests[1] ELSE '(' || array_to_string(tests, ' OR ') || ')' END];
    ELSIF tests IS NULL THEN
        RETURN ARRAY[filled];
    ELSIF negated THEN
        RETURN ARRAY[format(CASE WHEN blank_asked THEN '(%s AND %s)' ELSE '(%s IS NULL OR %s)' END,
            CASE WHEN blank_asked THEN filled ELSE operand END, array_to_string(tests, ' AND '))];
    END IF;
    RETURN ARRAY['((' || array_to_string(CASE WHEN blank_asked THEN ARRAY[blank] END || tests, ' OR ') || ') IS NOT TRUE)'];
END
$$;
COMMENT ON FUNCTION leadroute._salesforce_criterion(text, text, text, text, text) IS
    'One criterion as an SQL operand: {condition}, or {NULL, problem, element}. Blank and NULL are one; text is compared without case.';

-- Entries -------------------------------------------------------------------------------------------

CREATE FUNCTION leadroute._salesforce_condition(entry xml, place text, lead_table text, fields jsonb) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    criterion record;
    field jsonb;
    answer text[];
    conditions text[] := '{}';
    formula CONSTANT text := (SELECT min(nullif(c.value, '')) FROM leadroute._salesforce_children(entry) c WHERE c.name = 'formula');
    filter CONSTANT text := (SELECT min(nullif(c.value, '')) FROM leadroute._salesforce_children(entry) c WHERE c.name = 'booleanFilter');
    unused text;
BEGIN
    FOR criterion IN
        SELECT row_number() OVER (ORDER BY c.number) AS number, x.* FROM leadroute._salesforce_children(entry) c, LATERAL (
            SELECT min(p.value) FILTER (WHERE p.name = 'field') AS field, min(p.value) FILTER (WHERE p.name = 'operation') AS operation,
                min(p.value) FILTER (WHERE p.name = 'value') AS value, count(*) FILTER (WHERE p.name = 'value') AS values,
                min(p.name) FILTER (WHERE p.name NOT IN ('field', 'operation', 'value')) AS other
            FROM leadroute._salesforce_children(c.node) p) x
        WHERE c.name = 'criteriaItems' ORDER BY c.number
    LOOP
        SELECT f INTO field FROM jsonb_array_elements(fields) f
        WHERE leadroute._salesforce_own_field(f ->> 'name') = leadroute._salesforce_own_field(criterion.field)
        ORDER BY lower(f ->> 'name') = lower(criterion.field) DESC LIMIT 1;
        answer := CASE
            WHEN criterion.other IS NOT NULL OR criterion.values > 1 THEN ARRAY[NULL, format('the element %s is not translated', coalesce(criterion.other, 'value, twice,')), coalesce(criterion.other, 'value')]
            WHEN criterion.field IS NULL THEN ARRAY[NULL, 'there is no field', 'field']
            ELSE leadroute._salesforce_criterion(field ->> 'expression', field ->> 'operand', field ->> 'kind', criterion.operation, criterion.value) END;
        IF answer[1] IS NULL THEN
            PERFORM leadroute._refuse_import(format('%s, criterion %s: %s', place, criterion.number, answer[2]),
                format('In the element %s of criteriaItems %s: %s %s %s.', answer[3], criterion.number, criterion.field, criterion.operation, quote_literal(criterion.value)),
                'Change it in Salesforce, or map the field to an expression of a fitting type; or take the entry out of the file and write its rule by hand.');
        END IF;
        conditions := conditions || answer[1];
    END LOOP;
    IF formula IS NOT NULL THEN
        IF cardinality(conditions) > 0 THEN
            PERFORM leadroute._refuse_import(format('%s has a formula and criteria', place), 'An entry has one or the other.', 'Take one of them out.');
        END IF;
        answer := (SELECT leadroute._formula(formula, coalesce(array_agg(f ->> 'name'), '{}'), coalesce(array_agg(f ->> 'operand'), '{}'), coalesce(array_agg(f ->> 'kind'), '{}'))
            FROM jsonb_array_elements(fields) f);
        IF answer[1] IS NULL THEN
            PERFORM leadroute._refuse_import(format('%s, formula: %s', place, answer[2]),
                format('At character %s of: %s', answer[3], left(formula, 1000)),
                CASE WHEN answer[4] IS NOT NULL
                    THEN format('Add "%s": "..." to field_map, with a column of %s or an SQL expression over its columns.', answer[4], lead_table)
                    ELSE 'Say it with criteria or other functions in Salesforce; or take the entry out of the file and write its rule by hand.' END);
        END IF;
        RETURN answer[1];
    ELSIF filter IS NULL THEN
        RETURN coalesce(nullif(array_to_string(conditions, ' AND '), ''), 'true');
    END IF;
    answer := leadroute._filter(filter, conditions);
    SELECT n::text INTO unused FROM generate_series(1, cardinality(conditions)) n WHERE filter !~ ('\m' || n || '\M') LIMIT 1;
    IF answer[1] IS NULL OR unused IS NOT NULL THEN
        PERFORM leadroute._refuse_import(format('%s, booleanFilter: %s', place, coalesce(answer[2], format('criterion %s is not in it', unused))),
            concat('At character ' || answer[3] || ' of ', format('"%s", with %s criteria.', filter, cardinality(conditions))),
            'Combine all criteria by their numbers with AND, OR, NOT and parentheses: 1 AND (2 OR 3).');
    END IF;
    RETURN answer[1];
END
$$;
COMMENT ON FUNCTION leadroute._salesforce_condition(xml, text, text, jsonb) IS
    'The condition of an entry; LR015 with the place for what cannot be said in SQL.';

CREATE FUNCTION leadroute._salesforce_entries(rule_set xml, lead_table text, fields jsonb)
    RETURNS TABLE (entry integer, condition text, kind text, target text, note text)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    one record;
    problem text;
BEGIN
    FOR one IN
        SELECT row_number() OVER (ORDER BY c.number) AS number, c.node, x.* FROM leadroute._salesforce_children(rule_set) c, LATERAL (
            SELECT nullif(min(p.value) FILTER (WHERE p.name = 'assignedTo'), '') AS target, min(p.value) FILTER (WHERE p.name = 'assignedToType') AS type,
                string_agg(p.name, ', ' ORDER BY p.number) FILTER (WHERE p.name IN ('template', 'team', 'overrideExistingTeams', 'notifyCcRecipients', 'notifyToTemplate', 'replyToEmail', 'senderEmail', 'senderType')
                    AND p.value NOT IN ('', 'false')) AS ignored,
                min(p.name) FILTER (WHERE p.name NOT IN ('assignedTo', 'assignedToType', 'criteriaItems', 'booleanFilter', 'formula',
                    'template', 'team', 'overrideExistingTeams', 'notifyCcRecipients', 'notifyToTemplate', 'replyToEmail', 'senderEmail', 'senderType')) AS other
            FROM leadroute._salesforce_children(c.node) p) x
        WHERE c.name = 'ruleEntry' ORDER BY c.number
    LOOP
        problem := CASE WHEN one.other IS NOT NULL THEN format('the element %s is not translated', one.other)
            WHEN one.target IS NOT NULL AND lower(one.type) NOT IN ('user', 'queue') THEN format('assignedToType "%s" is neither User nor Queue', one.type)
            WHEN one.target IS NOT NULL AND one.type IS NULL THEN 'assignedTo has no assignedToType' END;
        IF problem IS NOT NULL THEN
            PERFORM leadroute._refuse_import(format('entry %s: %s', one.number, problem), 'It says what leads go to whom.',
                'Give it to a user or a queue; or take the entry out of the file and write its rule by hand.');
        END IF;
        entry := one.number;
        condition := leadroute._salesforce_condition(one.node, format('entry %s', one.number), lead_table, fields);
        kind := CASE WHEN one.target IS NULL THEN 'nobody' ELSE lower(one.type) END;
        target := one.target;
        note := CASE WHEN one.ignored IS NOT NULL THEN format('not imported: %s', one.ignored) END;
        RETURN NEXT;
    END LOOP;
END
$$;
COMMENT ON FUNCTION leadroute._salesforce_entries(xml, text, jsonb) IS
    'The entries of an assignment rule: condition, and user, queue or nobody as the target.';
