-- import_salesforce_rules(): what it makes and makes again, what it refuses and where it says that is, and
-- who may. That imported rules give leads to whom Salesforce would, test/t/132_import.pl shows.
SELECT plan(60);
SET client_min_messages = warning;

CREATE TABLE public.leads (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, country text, "Rating" text, amount numeric, hot boolean,
    due date, tags text[], code char(4), note jsonb, owner_id text);
DO $$ BEGIN PERFORM leadroute.attach('public.leads'); END $$;

CREATE FUNCTION pg_temp.map() RETURNS jsonb LANGUAGE sql AS $$
    SELECT '{"Lead.Country": "country", "Lead.Rating": "Rating", "Amount": "amount", "Lead.Hot__c": "hot", "Lead.Due__c": "due",
        "Lead.Tags__c": "tags", "Lead.Code__c": "code", "Account.Type": "note ->> ''type''"}'::jsonb
$$;
CREATE FUNCTION pg_temp.file(entries text, name text DEFAULT 'Standard', more text DEFAULT '') RETURNS text LANGUAGE sql AS $$
    SELECT format('<?xml version="1.0" encoding="UTF-8"?><AssignmentRules xmlns="http://soap.sforce.com/2006/04/metadata">%s<assignmentRule><fullName>%s</fullName><active>true</active>%s</assignmentRule></AssignmentRules>', more, name, entries)
$$;
CREATE FUNCTION pg_temp.criterion(field text, operation text, value text DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
    SELECT format('<criteriaItems><field>%s</field><operation>%s</operation>%s</criteriaItems>', field, operation, '<value>' || value || '</value>')
$$;
CREATE FUNCTION pg_temp.entry(inside text, target text DEFAULT 'Hot', type text DEFAULT 'Queue') RETURNS text LANGUAGE sql AS $$
    SELECT format('<ruleEntry>%s%s</ruleEntry>', CASE WHEN target <> '' THEN format('<assignedTo>%s</assignedTo><assignedToType>%s</assignedToType>', target, type) END, inside)
$$;
-- the condition of one criterion, or formula
CREATE FUNCTION pg_temp.of_criterion(field text, operation text, value text DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
    SELECT condition FROM leadroute.import_salesforce_rules('leads', pg_temp.file(pg_temp.entry(pg_temp.criterion(field, operation, value))), pg_temp.map())
    WHERE entry = 1
$$;
CREATE FUNCTION pg_temp.of_formula(formula text) RETURNS text LANGUAGE sql AS $$
    SELECT condition FROM leadroute.import_salesforce_rules('leads', pg_temp.file(pg_temp.entry('<formula>' || replace(replace(formula, '&', '&amp;'), '<', '&lt;') || '</formula>')), pg_temp.map())
    WHERE entry = 1
$$;

-- conditions -----------------------------------------------------------------------------------

SELECT is(pg_temp.of_criterion(c.field, c.operation, c.value), c.condition, format('%s %s %L', c.field, c.operation, c.value))
FROM (VALUES
    ('Lead.Country', 'equals', 'US', 'lower(country) = ''us'''),
    ('lead.country', 'equals', 'US, "Korea, South" ,UK', 'lower(country) IN (''us'', ''korea, south'', ''uk'')'),
    ('Lead.Country', 'equals', NULL, 'coalesce(btrim(country), '''') = '''''),
    ('Lead.Country', 'notEqual', 'US', '(country IS NULL OR lower(country) <> ''us'')'),
    ('Lead.Country', 'notEqual', NULL, 'coalesce(btrim(country), '''') <> '''''),
    ('Lead.Country', 'notEqual', 'US,', '(coalesce(btrim(country), '''') <> '''' AND lower(country) <> ''us'')'),
    ('Lead.Country', 'startsWith', '10%', 'lower(country) LIKE E''10\\%%'''),
    ('Lead.Country', 'notContain', 'a,b', '(country IS NULL OR lower(country) NOT LIKE ''%a%'' AND lower(country) NOT LIKE ''%b%'')'),
    ('Lead.Rating', 'contains', 'x', 'lower("Rating") LIKE ''%x%'''),
    ('Lead.Amount', 'greaterOrEqual', '100.50', 'amount >= 100.50'),
    ('Lead.Amount', 'equals', NULL, 'amount IS NULL'),
    ('Lead.Hot__c', 'equals', 'True', 'hot'),
    ('Lead.Hot__c', 'equals', '0', 'hot IS NOT TRUE'),
    ('Lead.Due__c', 'lessThan', '2026-01-31', 'due < ''2026-01-31'''),
    ('Lead.Tags__c', 'includes', 'A;b,c', '(lower(tags::text)::text[] @> ARRAY[''a'', ''b''] OR lower(tags::text)::text[] @> ARRAY[''c''])'),
    ('Lead.Code__c', 'equals', 'x', 'lower(code::text) = ''x'''),
    ('Account.Type', 'equals', 'Customer', 'lower(note ->> ''type'') = ''customer''')) c (field, operation, value, condition);
SELECT is(pg_temp.of_formula('ISPICKVAL(Rating, "Hot") && Amount > 5'), '("Rating" = ''Hot'') AND (amount > 5)', 'a formula');
SELECT is(pg_temp.of_formula('NOT(ISBLANK(Account.Type))'), '(coalesce((note ->> ''type''), '''') = '''') IS NOT TRUE', 'a field by an expression');
SELECT is((SELECT condition FROM leadroute.import_salesforce_rules('leads', pg_temp.file(pg_temp.entry('')), '{}')), 'true', 'no criteria: all');
SELECT is((SELECT string_agg(target, ',') FROM leadroute.import_salesforce_rules('leads', pg_temp.file(pg_temp.entry('<template>x</template>', '')))),
    'pool "no assignee"', 'no assignee: a queue where nobody is looked for');

-- refusals -------------------------------------------------------------------------------------

CREATE FUNCTION pg_temp.import(xml text, map jsonb DEFAULT pg_temp.map(), options jsonb DEFAULT '{}') RETURNS bigint LANGUAGE sql AS $$
    SELECT count(*) FROM leadroute.import_salesforce_rules('leads', xml, map, options)
$$;
SELECT throws_ok(format('SELECT pg_temp.import(%L)', r.xml), 'LR015', r.message, r.message)
FROM (VALUES
    (pg_temp.file(pg_temp.entry('') || pg_temp.entry(pg_temp.criterion('Lead.Country', 'within', 'x'))), 'entry 2, criterion 1: the operation "within" is not translated'),
    (pg_temp.file(pg_temp.entry(pg_temp.criterion('Lead.Amount', 'contains', '1'))), 'entry 1, criterion 1: contains is no operation for a field of type number'),
    (pg_temp.file(pg_temp.entry(pg_temp.criterion('Lead.Amount', 'equals', '1,many'))), 'entry 1, criterion 1: "many" is no number'),
    (pg_temp.file(pg_temp.entry(pg_temp.criterion('Lead.Due__c', 'equals', 'TODAY'))), 'entry 1, criterion 1: "TODAY" is no date such as 2026-01-31'),
    (pg_temp.file(pg_temp.entry(pg_temp.criterion('Lead.Due__c', 'equals', '2026-02-30'))), 'entry 1, criterion 1: "2026-02-30" is no date such as 2026-01-31'),
    (pg_temp.file(pg_temp.entry(pg_temp.criterion('Lead.Hot__c', 'equals', 'maybe'))), 'entry 1, criterion 1: "maybe" is neither true nor false'),
    (pg_temp.file(pg_temp.entry(pg_temp.criterion('Lead.Amount', 'lessThan'))), 'entry 1, criterion 1: lessThan needs a value'),
    (pg_temp.file(pg_temp.entry(pg_temp.criterion('Lead.X', 'equals', '1') || pg_temp.criterion('Lead.Y', 'equals', '1'))), 'field_map has no entry for 2 fields: "Lead.X", "Lead.Y"'),
    (pg_temp.file(pg_temp.entry('<criteriaItems><field>Lead.Country</field><operation>equals</operation><valueField>Lead.X</valueField></criteriaItems>')), 'entry 1, criterion 1: the element valueField is not translated'),
    (pg_temp.file(pg_temp.entry(pg_temp.criterion('Lead.Country', 'equals', 'x') || '<booleanFilter>1 AND (2</booleanFilter>')), 'entry 1, booleanFilter: no criterion has the number "2"'),
    (pg_temp.file(pg_temp.entry(pg_temp.criterion('Lead.Country', 'equals', 'x') || pg_temp.criterion('Lead.Country', 'equals', 'x') || '<booleanFilter>1</booleanFilter>')), 'entry 1, booleanFilter: criterion 2 is not in it'),
    (pg_temp.file(pg_temp.entry('<formula>Amount &gt; 1 &amp;&amp; VLOOKUP(x)</formula>')), 'entry 1, formula: not translated: the function "VLOOKUP"'),
    (pg_temp.file(pg_temp.entry('<formula>Nowhere__c</formula>')), 'entry 1, formula: no such field in the field map: "Nowhere__c"'),
    (pg_temp.file(pg_temp.entry('', 'Boss', 'Role')), 'entry 1: assignedToType "Role" is neither User nor Queue'),
    (pg_temp.file(pg_temp.entry('<escalation>1</escalation>')), 'entry 1: the element escalation is not translated'),
    (pg_temp.file(pg_temp.entry('<criteriaItems><field>Lead.Country</field></criteriaItems>')), 'entry 1, criterion 1: there is no operation'),
    ('<AssignmentRules/>', 'the file has no assignment rule with a name'),
    (pg_temp.file('', more => '<assignmentRule><fullName>Two</fullName><active>true</active></assignmentRule>'), 'more than one assignment rule of the file is active'),
    ('<CustomObject/>', 'the XML is CustomObject, not AssignmentRules'),
    ('<AssignmentRules>', 'the XML cannot be read'),
    ('', 'the XML cannot be read'),
    ('<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><AssignmentRules>&b;</AssignmentRules>', 'the XML has a document type'),
    ('<!doctype a [<!ENTITY b "bbbbbbbb"><!ENTITY c "&b;&b;&b;&b;">]><AssignmentRules>&c;</AssignmentRules>', 'the XML has a document type')) r (xml, message);
SELECT throws_ok(format('SELECT pg_temp.import(%L, %L, %L)', pg_temp.file(pg_temp.entry('')), r.map, r.options), 'LR015', r.message, r.message)
FROM (VALUES
    ('[]', '{}', 'field_map is no JSON object'),
    ('{"a": 1}', '{}', 'field_map entry "a" is no text'),
    ('{"a": "nowhere"}', '{}', 'field_map entry "a" refused: column "nowhere" does not exist'),
    ('{"a": "1) IS NULL OR (true"}', '{}', NULL),
    ('{}', '{"rule": "Other"}', 'the file has no assignment rule "Other"'),
    ('{}', '{"rles": "Other"}', 'unknown option "rles"'),
    ('{}', '{"queues": {"Hot": "nowhere"}}', 'no pool "nowhere" for queue "Hot"')) r (map, options, message);
SELECT throws_ok($$SELECT * FROM leadroute.import_salesforce_rules('nowhere', '<a/>')$$, 'LR002', NULL, 'a table that is not attached');

-- again ----------------------------------------------------------------------------------------

DELETE FROM leadroute.rule;
INSERT INTO leadroute.rule (lead_table, position, name, pool) VALUES ('leads', 7, 'mine', 'no assignee');
CREATE TEMP TABLE done AS SELECT * FROM leadroute.import_salesforce_rules('leads', pg_temp.file(
    pg_temp.entry(pg_temp.criterion('Lead.Country', 'equals', 'a')) || pg_temp.entry(pg_temp.criterion('Lead.Country', 'equals', 'b'), 'ann@crm.example', 'User') || pg_temp.entry('', 'Rest')), pg_temp.map());
SELECT results_eq('SELECT r.position, r.name, d.outcome, coalesce(r.pool, p.ref) FROM leadroute.rule r JOIN done d ON d.rule = r.id LEFT JOIN leadroute.rep p ON p.id = r.rep ORDER BY 1',
    $$VALUES (10, 'Standard (Salesforce entry 1)', 'added', 'Hot'), (20, 'Standard (Salesforce entry 2)', 'added', 'ann@crm.example'), (30, 'Standard (Salesforce entry 3)', 'added', 'Rest')$$,
    'entries in order, behind the rules that are there');
SELECT is((SELECT mode FROM leadroute.pool WHERE name = 'Rest'), 'pull', 'a queue is pulled from');
SELECT is((SELECT string_agg(target, ', ' ORDER BY entry) FROM done), 'pool "Hot", rep ann@crm.example (1), pool "Rest"', 'whom they lead to');
UPDATE leadroute.rule SET sla = NULL, overflow_pool = 'Rest' WHERE position = 10;
SELECT results_eq($$SELECT entry, rule_name, outcome FROM leadroute.import_salesforce_rules('leads', pg_temp.file(
        pg_temp.entry(pg_temp.criterion('Lead.Country', 'equals', 'A')) || pg_temp.entry(pg_temp.criterion('Lead.Country', 'equals', 'c'), 'ANN@crm.example', 'User'), 'Renamed',
        '<assignmentRule><fullName>Old</fullName><active>false</active></assignmentRule>'), pg_temp.map())$$,
    $$VALUES (1, 'Renamed (Salesforce entry 1)', 'changed'), (2, 'Renamed (Salesforce entry 2)', 'changed'), (NULL, 'Standard (Salesforce entry 3)', 'removed'), (NULL, 'Old', 'skipped')$$,
    'a further import replaces the former one, whatever it was called');
SELECT results_eq('SELECT name, overflow_pool, id IN (SELECT rule FROM done) FROM leadroute.rule ORDER BY position',
    $$VALUES ('mine', NULL, false), ('Renamed (Salesforce entry 1)', 'Rest', true), ('Renamed (Salesforce entry 2)', NULL, true)$$,
    'rules keep their ids and what the file does not say; others are left alone');
SELECT is((SELECT count(*) FROM leadroute.rep), 1::bigint, 'a user is known in any case');

-- who ------------------------------------------------------------------------------------------

CREATE ROLE import_admin;
DO $$ BEGIN PERFORM leadroute.grant_access('import_admin', 'admin'); END $$;
GRANT SELECT ON public.leads TO import_admin;
SET ROLE import_admin;
SELECT is(pg_temp.import(pg_temp.file(pg_temp.entry(pg_temp.criterion('Lead.Country', 'equals', 'z'))), options => '{"position": 1000}'), 2::bigint, 'an admin may');
RESET ROLE;
SELECT is((SELECT author FROM leadroute.rule WHERE position = 1000), 'import_admin', 'and is the author');
SELECT * FROM finish();
