-- import_salesforce_rules(): the active assignment rule of a file replaces the rules that an import made
-- before, whatever it was called then: Salesforce has one active rule for an object, too. What imports
-- have made are the rules named "<assignment rule> (Salesforce entry <n>)".

CREATE FUNCTION leadroute._salesforce_options(options jsonb) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    problem text;
BEGIN
    problem := CASE WHEN jsonb_typeof(options) <> 'object' THEN 'options is no JSON object' ELSE (
        SELECT CASE WHEN o.key NOT IN ('rule', 'position', 'users', 'queues', 'queue_mode', 'no_assignee') THEN format('unknown option "%s"', o.key)
            ELSE format('the option %s cannot be %s', o.key, o.value) END
        FROM jsonb_each(CASE jsonb_typeof(options) WHEN 'object' THEN options ELSE '{}' END) o
        WHERE NOT coalesce(CASE
            WHEN o.key IN ('rule', 'no_assignee') THEN jsonb_typeof(o.value) = 'string'
            WHEN o.key = 'queue_mode' THEN o.value IN ('"push"', '"pull"', '"broadcast"')
            WHEN o.key = 'position' THEN jsonb_typeof(o.value) = 'number' AND o.value::text ~ '^-?\d{1,9}$'
            WHEN o.key = 'queues' THEN jsonb_typeof(o.value) = 'object' AND NOT jsonb_path_exists(o.value, '$.* ? (@.type() != "string")')
            WHEN o.key = 'users' THEN jsonb_typeof(o.value) = 'object' AND NOT jsonb_path_exists(o.value, '$.* ? (@.type() != "string" && @.type() != "number")')
            END, false)
        LIMIT 1) END;
    IF problem IS NOT NULL THEN
        PERFORM leadroute._refuse_import(problem, 'Options say what the file does not.',
            'Use {"rule": name, "position": number, "users": {username: rep id or ref}, "queues": {queue: pool}, "queue_mode": "pull", "no_assignee": pool}, any of them.');
    END IF;
    RETURN options;
END
$$;
COMMENT ON FUNCTION leadroute._salesforce_options(jsonb) IS 'The options of an import; LR015 for what is none.';

CREATE FUNCTION leadroute._salesforce_rep(username text, given jsonb, tenant bigint) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wanted CONSTANT jsonb := (SELECT g.value FROM jsonb_each(coalesce(given, '{}')) g WHERE lower(g.key) = lower(username) LIMIT 1);
    found bigint;
BEGIN
    SELECT r.id INTO found FROM leadroute.rep r
    WHERE r.tenant = _salesforce_rep.tenant AND CASE WHEN jsonb_typeof(wanted) = 'number' THEN r.id::numeric = wanted::numeric
        ELSE lower(r.ref) = lower(coalesce(wanted #>> '{}', username)) END
    ORDER BY r.ref = coalesce(wanted #>> '{}', username) DESC, r.id LIMIT 1;
    IF found IS NULL AND wanted IS NOT NULL THEN
        PERFORM leadroute._refuse_import(format('no rep %s for user "%s"', wanted, username), 'The option users names it.',
            'Give the id (a number) or the ref (a text) of a rep who is there.');
    ELSIF found IS NULL THEN
        INSERT INTO leadroute.rep (tenant, name, ref) VALUES (_salesforce_rep.tenant, username, username) RETURNING id INTO found;
    END IF;
    RETURN found;
END
$$;
COMMENT ON FUNCTION leadroute._salesforce_rep(text, jsonb, bigint) IS
    'The rep of a Salesforce user: whom the option users names, else whose ref is the user name in any case, else a new one.';

CREATE FUNCTION leadroute._salesforce_pool(queue text, given jsonb, mode text, tenant bigint) RETURNS text
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wanted CONSTANT text := (SELECT g.value #>> '{}' FROM jsonb_each(coalesce(given, '{}')) g WHERE lower(g.key) = lower(queue) LIMIT 1);
    found text;
BEGIN
    SELECT p.name INTO found FROM leadroute.pool p
    WHERE p.tenant = _salesforce_pool.tenant AND lower(p.name) = lower(coalesce(wanted, queue))
    ORDER BY p.name = coalesce(wanted, queue) DESC, p.name LIMIT 1;
    IF found IS NULL AND wanted IS NOT NULL THEN
        PERFORM leadroute._refuse_import(format('no pool "%s" for queue "%s"', wanted, queue), 'The option queues names it.', 'Give the name of a pool that is there.');
    ELSIF found IS NULL THEN
        INSERT INTO leadroute.pool (tenant, name, mode) VALUES (_salesforce_pool.tenant, queue, _salesforce_pool.mode) RETURNING name INTO found;
    END IF;
    RETURN found;
END
$$;
COMMENT ON FUNCTION leadroute._salesforce_pool(text, jsonb, text, bigint) IS
    'The pool of a Salesforce queue: which the option queues names, else of the queue''s name in any case, else a new one.';

CREATE FUNCTION leadroute._salesforce_former(lead_table text, tenant bigint) RETURNS TABLE (id bigint, entry integer, "position" integer)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT r.id, substring(r.name from '\(Salesforce entry (\d+)\)$')::integer, r.position FROM leadroute.rule r
    WHERE r.tenant = _salesforce_former.tenant AND r.lead_table = _salesforce_former.lead_table
      AND r.name ~ ' \(Salesforce entry [1-9]\d{0,8}\)$'
$$;
COMMENT ON FUNCTION leadroute._salesforce_former(text, bigint) IS 'The rules that imports have made, with the number of the entry.';

CREATE FUNCTION leadroute._salesforce_require_fields(rule_set xml, lead_table text, fields jsonb) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    missing record;
BEGIN
    SELECT string_agg(format('"%s"', m.field), ', ') AS fields, string_agg(format('"%s": "..."', m.field), ', ') AS entries,
        count(*) AS many, min(m.entry) AS first INTO missing
    FROM (SELECT f.value AS field, min(e.number) AS entry
        FROM (SELECT row_number() OVER (ORDER BY c.number) AS number, c.node
            FROM leadroute._salesforce_children(rule_set) c WHERE c.name = 'ruleEntry') e,
            leadroute._salesforce_children(e.node) i, leadroute._salesforce_children(i.node) f
        WHERE i.name = 'criteriaItems' AND f.name = 'field' AND f.value <> ''
          AND leadroute._salesforce_own_field(f.value) <> ALL (
              SELECT leadroute._salesforce_own_field(x ->> 'name') FROM jsonb_array_elements(fields) x)
        GROUP BY f.value ORDER BY min(e.number), f.value) m;
    IF missing.many > 0 THEN
        PERFORM leadroute._refuse_import(
            format('field_map has no entry for %s %s', CASE missing.many WHEN 1 THEN 'the field' ELSE missing.many || ' fields:' END, missing.fields),
            format('Criteria test %s, first in entry %s.', CASE missing.many WHEN 1 THEN 'it' ELSE 'them' END, missing.first),
            format('Add {%s}, each with a column of %s or an SQL expression over its columns.', missing.entries, lead_table));
    END IF;
END
$$;
COMMENT ON FUNCTION leadroute._salesforce_require_fields(xml, text, jsonb) IS
    'Refuses (LR015) a map without the fields of all criteria, naming all that are missing.';

-- What the file asks for, beside what is there. Makes the pools and reps that are missing.
CREATE FUNCTION leadroute._salesforce_plan(lead_table text, rule_set xml, set_name text, fields jsonb, settings jsonb, tenant bigint)
    RETURNS TABLE (entry integer, rule bigint, "position" integer, name text, condition text, pool text, rep bigint, note text)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    former CONSTANT bigint[] := (SELECT array_agg(f.id) FROM leadroute._salesforce_former(lead_table, tenant) f);
    start CONSTANT integer := coalesce((settings ->> 'position')::integer,
        (SELECT min(f.position) FROM leadroute._salesforce_former(lead_table, tenant) f),
        (SELECT (max(r.position) / 10 + 1) * 10 FROM leadroute.rule r WHERE r.tenant = _salesforce_plan.tenant AND r.lead_table = _salesforce_plan.lead_table),
        10);
    e record;
    other text;
BEGIN
    FOR e IN SELECT * FROM leadroute._salesforce_entries(rule_set, lead_table, fields) LOOP
        entry := e.entry;
        name := format('%s (Salesforce entry %s)', set_name, e.entry);
        "position" := start + 10 * (e.entry - 1);
        condition := e.condition;
        note := e.note;
        rep := CASE e.kind WHEN 'user' THEN leadroute._salesforce_rep(e.target, settings -> 'users', tenant) END;
        pool := CASE e.kind WHEN 'queue' THEN leadroute._salesforce_pool(e.target, settings -> 'queues', coalesce(settings ->> 'queue_mode', 'pull'), tenant)
            WHEN 'nobody' THEN leadroute._salesforce_pool(coalesce(settings ->> 'no_assignee', 'no assignee'), NULL, 'pull', tenant) END;
        rule := (SELECT min(f.id) FROM leadroute._salesforce_former(lead_table, tenant) f WHERE f.entry = e.entry);
        SELECT r.name INTO other FROM leadroute.rule r WHERE r.tenant = _salesforce_plan.tenant
            AND r.lead_table = _salesforce_plan.lead_table AND r.position = start + 10 * (e.entry - 1) AND r.id <> ALL (coalesce(former, '{}'));
        IF other IS NOT NULL THEN
            PERFORM leadroute._refuse_import(format('entry %s: rule "%s" has the position %s', e.entry, other, start + 10 * (e.entry - 1)),
                format('The entries take every tenth position from %s on.', start), 'Give the first one: options => ''{"position": 1000}''; or move that rule.');
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;
COMMENT ON FUNCTION leadroute._salesforce_plan(text, xml, text, jsonb, jsonb, bigint) IS
    'The rules that a file asks for, each with the id of the one that an import has made of the entry before. Makes the pools and reps that are missing.';

CREATE FUNCTION leadroute.import_salesforce_rules(
    lead_table text, xml text, field_map jsonb DEFAULT '{}', options jsonb DEFAULT '{}', tenant bigint DEFAULT 0)
    RETURNS TABLE (entry integer, rule bigint, rule_name text, condition text, target text, outcome text, note text)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    company CONSTANT bigint := import_salesforce_rules.tenant;
    leads CONSTANT text := import_salesforce_rules.lead_table;
    settings jsonb;
    document xml;
    rule_set record;
    fields jsonb;
    plan jsonb;
    gone jsonb;
    changed bigint[];
BEGIN
    PERFORM leadroute._require(company, 'admin');
    settings := leadroute._salesforce_options(coalesce(import_salesforce_rules.options, '{}'));
    fields := (SELECT coalesce(jsonb_agg(to_jsonb(f)), '[]') FROM leadroute._salesforce_fields(
        leadroute._lead_relation((leadroute._require_attached(leads)).id), coalesce(import_salesforce_rules.field_map, '{}')) f);
    document := leadroute._salesforce_document(import_salesforce_rules.xml);
    SELECT * INTO rule_set FROM leadroute._salesforce_rule_set(document, settings ->> 'rule');
    PERFORM leadroute._salesforce_require_fields(rule_set.node, leads, fields);
    plan := (SELECT coalesce(jsonb_agg(to_jsonb(p)), '[]') FROM leadroute._salesforce_plan(
        leads, rule_set.node, rule_set.name, fields, settings, company) p);

    WITH removed AS (
        DELETE FROM leadroute.rule r USING leadroute._salesforce_former(leads, company) f
        WHERE r.tenant = company AND r.id = f.id
          AND NOT EXISTS (SELECT FROM jsonb_to_recordset(plan) AS p (rule bigint) WHERE p.rule = r.id)
        RETURNING r.id, r.name, r.condition, r.pool, r.rep)
    SELECT coalesce(jsonb_agg(to_jsonb(d) ORDER BY d.id), '[]') INTO gone FROM removed d;
    WITH written AS (
        UPDATE leadroute.rule r SET name = p.name, position = p.position, condition = p.condition, pool = p.pool, rep = p.rep, territory = NULL, active = rule_set.active
        FROM jsonb_to_recordset(plan) AS p (rule bigint, name text, "position" integer, condition text, pool text, rep bigint)
        WHERE r.tenant = company AND r.id = p.rule
          AND (r.name, r.position, r.condition, r.pool, r.rep, r.territory, r.active) IS DISTINCT FROM (p.name, p.position, p.condition, p.pool, p.rep, NULL, rule_set.active)
        RETURNING r.id)
    SELECT coalesce(array_agg(w.id), '{}') INTO changed FROM written w;
    INSERT INTO leadroute.rule (tenant, lead_table, position, name, condition, pool, rep, active)
    SELECT company, leads, p.position, p.name, p.condition, p.pool, p.rep, rule_set.active
    FROM jsonb_to_recordset(plan) AS p (rule bigint, "position" integer, name text, condition text, pool text, rep bigint)
    WHERE p.rule IS NULL ORDER BY p.position;

    RETURN QUERY
    SELECT p.entry, r.id, r.name, r.condition, coalesce('pool "' || r.pool || '"', 'rep ' || leadroute._rep_name(r.rep, company)),
        CASE WHEN p.rule IS NULL THEN 'added' WHEN p.rule = ANY (changed) THEN 'changed' ELSE 'unchanged' END, p.note
    FROM jsonb_to_recordset(plan) AS p (entry integer, rule bigint, name text, note text)
        JOIN leadroute.rule r ON r.tenant = company AND r.lead_table = leads AND r.name = p.name
    ORDER BY p.entry;
    RETURN QUERY
    SELECT NULL::integer, g.id, g.name, g.condition, coalesce('pool "' || g.pool || '"', 'rep ' || leadroute._rep_name(g.rep, company)), 'removed', NULL
    FROM jsonb_to_recordset(gone) AS g (id bigint, name text, condition text, pool text, rep bigint);
    RETURN QUERY
    SELECT NULL::integer, NULL::bigint, s.name, NULL, NULL, 'skipped', 'not the assignment rule that is imported'
    FROM leadroute._salesforce_rule_sets(document) s WHERE s.name <> rule_set.name;
END
$$;
COMMENT ON FUNCTION leadroute.import_salesforce_rules(text, text, jsonb, jsonb, bigint) IS
    'Makes rules of the active assignment rule of a Salesforce file (AssignmentRules metadata): one for each entry, in order, named "<assignment rule> (Salesforce entry <n>)". field_map gives a column, or an SQL expression over the lead, for each Salesforce field. A user becomes the rep with that ref, a queue the pool of that name; those that are missing are made. A further import into the table replaces the rules of the former one: it changes, adds and removes those so named. All or nothing: LR015, with the place, for what does not translate. Needs the level admin; the caller is the rules'' author. Options: rule, position, users, queues, queue_mode, no_assignee. Gives one row for each entry, for each rule removed, and for each other assignment rule of the file.';
