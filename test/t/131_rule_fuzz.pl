# Hostile texts as conditions, needs, territory keys, sticky_on and value_expression, written by a role
# that wants to be more than it is: syntax garbage, injections, deep nesting, huge texts and numbers,
# functions that read files, change settings or lie about what they do, and mutations of all of
# these. Each is refused as a rule's text is, or accepted: then leads are inserted by a superuser and by
# an app, checked and explained, and must find the lead routed, everything secret unread, nothing
# changed, and nobody's rights used but the author's. No crash, no internal error.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use Encode;
use LeadrouteTest;
use Test::More;

seed();
my $texts = soak(400, 5000);
my $node = start_node('main', conf => "jit = off\nlog_min_messages = warning\nstatement_timeout = '20s'\nmax_stack_depth = '2MB'");
my $secret = 's3cret' . int rand 1e9;

$node->safe_psql('postgres', <<"SQL");
CREATE ROLE lr_author;
CREATE ROLE lr_app;
CREATE SCHEMA au AUTHORIZATION lr_author;
GRANT USAGE ON SCHEMA au TO PUBLIC;
CREATE TYPE public.pair AS (x int, y text);
CREATE DOMAIN public.positive AS int CHECK (VALUE > 0);
CREATE TABLE public.lead (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, city text DEFAULT 'Pune', source varchar(40), score int DEFAULT 1,
    amount numeric, at timestamptz, attrs jsonb, doc xml, tags text[], spot point, pair public.pair, pos public.positive, hot bool, secret text, owner_id bigint);
CREATE TABLE public.canary (word text);
INSERT INTO canary VALUES ('$secret');
SELECT leadroute.attach('lead');
SELECT leadroute.grant_access('lr_author', 'admin');
GRANT INSERT ON lead TO lr_app;
GRANT SELECT (id, city, source, score, amount, at, attrs, doc, tags, spot, pair, pos, hot) ON lead TO lr_author;
GRANT USAGE ON SCHEMA leadroute TO lr_author;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA leadroute TO lr_author;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA leadroute TO lr_author;
INSERT INTO leadroute.rep (id, name) VALUES (1, 'Ann');
INSERT INTO leadroute.pool (name, method) VALUES ('sales', 'value');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('sales', 1);
-- Whoever evil code runs as leaves a lock that tells.
CREATE FUNCTION public.note() RETURNS bool LANGUAGE plpgsql AS 'BEGIN
    PERFORM pg_catalog.pg_advisory_lock(77, (SELECT r.oid::pg_catalog.oid::int FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) current_user));
    RETURN true; END';
CREATE FUNCTION public.definer(int) RETURNS bool LANGUAGE sql SECURITY DEFINER AS 'INSERT INTO public.canary VALUES (''touched'') RETURNING true';
CREATE FUNCTION public.private(int) RETURNS bool LANGUAGE sql STABLE AS 'SELECT true';
REVOKE EXECUTE ON FUNCTION public.private(int) FROM PUBLIC;
SET ROLE lr_author;
CREATE FUNCTION au.deed() RETURNS bool LANGUAGE plpgsql VOLATILE AS 'BEGIN
    PERFORM public.note();
    BEGIN ALTER ROLE lr_author SUPERUSER; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN INSERT INTO public.canary VALUES (''touched''); EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN PERFORM pg_catalog.set_config(''search_path'', ''au'', false), pg_catalog.set_config(''role'', ''none'', false); EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN SET SESSION AUTHORIZATION DEFAULT; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN UPDATE leadroute.rule SET author = ''postgres''; EXCEPTION WHEN OTHERS THEN NULL; END;
    RETURN EXISTS (SELECT FROM public.canary); EXCEPTION WHEN OTHERS THEN RETURN false; END';
CREATE FUNCTION au.stable(int) RETURNS bool LANGUAGE plpgsql STABLE AS 'BEGIN RETURN au.deed(); END';
CREATE FUNCTION au.liar(int) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN au.deed(); END';
CREATE FUNCTION au.leaky() RETURNS SETOF int LANGUAGE plpgsql STABLE AS 'BEGIN PERFORM au.deed(); RETURN NEXT 1; END';
CREATE FUNCTION au.fails(int) RETURNS bool LANGUAGE plpgsql STABLE AS 'BEGIN RAISE EXCEPTION USING ERRCODE = ''LR004'', MESSAGE = ''not really''; END';
CREATE FUNCTION au.nests(int) RETURNS bool LANGUAGE plpgsql STABLE AS 'BEGIN INSERT INTO public.lead (city) VALUES (''again''); RETURN true; END';
CREATE FUNCTION au.equal(text, text) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN au.deed(); END';
CREATE OPERATOR au.= (LEFTARG = text, RIGHTARG = text, FUNCTION = au.equal);
CREATE DOMAIN au.checked AS text CHECK (au.liar(1));
CREATE VIEW au.trap AS SELECT au.deed() AS noted;
CREATE FUNCTION au.lower(varchar) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN PERFORM au.deed(); RETURN ''x''; END';
RESET ROLE;

CREATE FUNCTION fails(command text) RETURNS text LANGUAGE plpgsql AS \$\$
DECLARE
    state text; message text; detail text; hint text;
BEGIN
    EXECUTE command;
    RETURN NULL;
EXCEPTION WHEN OTHERS OR query_canceled THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(' ', state, CASE WHEN message = '' OR detail = '' OR hint = '' THEN 'says too little' END, replace(left(message, 200), E'\\n', ' '));
END \$\$;
-- What became of a text: refused or taken, and what must not have happened.
CREATE FUNCTION tried(use text, given text) RETURNS text LANGUAGE plpgsql AS \$\$
DECLARE
    before text := concat_ws(' ', current_setting('search_path'), current_setting('role'), current_user, session_user);
    refused text;
    problem text;
    taken text := 'taken';
BEGIN
    DELETE FROM leadroute.rule;
    DELETE FROM leadroute.territory;
    UPDATE leadroute.lead_table SET sticky_on = NULL, value_expression = NULL;
    INSERT INTO leadroute.rule (lead_table, position, name, pool) VALUES ('lead', 2, 'rest', 'sales');
    SET LOCAL ROLE lr_author;
    refused := fails(CASE use
        WHEN 'condition' THEN format('INSERT INTO leadroute.rule (lead_table, position, name, pool, condition) VALUES (''lead'', 1, ''attack'', ''sales'', %L)', given)
        WHEN 'needs' THEN format('INSERT INTO leadroute.rule (lead_table, position, name, pool, needs) VALUES (''lead'', 1, ''attack'', ''sales'', %L)', given)
        WHEN 'key' THEN format('INSERT INTO leadroute.territory (name, key) VALUES (''map'', %L); INSERT INTO leadroute.rule (lead_table, position, name, territory) VALUES (''lead'', 1, ''attack'', ''map'')', given)
        ELSE format('UPDATE leadroute.lead_table SET %I = %L', use, given) END);
    RESET ROLE;
    IF refused IS NULL THEN
        problem := fails('INSERT INTO public.lead (source) VALUES (''Web'')');
        SET LOCAL ROLE lr_app;
        problem := coalesce(problem, fails('INSERT INTO public.lead (city, score, amount, tags, attrs) VALUES (NULL, 0, 1e9, ''{}'', ''{}'')'));
        RESET ROLE;
        problem := coalesce(problem, fails('SELECT count(*) FROM leadroute.explain(''lead'', ''{"city": "Goa"}'')'),
            fails('SELECT count(*) FROM leadroute.check_rules(''lead'', 3)'));
        IF problem IS NOT NULL THEN
            taken := 'taken, then ' || problem;
        ELSIF (SELECT count(*) FROM public.lead l WHERE NOT EXISTS (SELECT FROM leadroute.assignment a WHERE a.lead_id = l.id::text)) > 0 THEN
            taken := 'taken, then a lead is LOST';
        ELSIF (SELECT r.name FROM leadroute.assignment a JOIN leadroute.rule r ON r.id = a.rule WHERE a.lead_id = (SELECT max(id)::text FROM public.lead)) = 'attack' THEN
            taken := 'taken and held';
        END IF;
    END IF;
    -- what is undone with the transaction, and what is not
    RETURN coalesce('refused ' || refused, taken)
        || CASE WHEN (SELECT count(*) FROM public.canary) <> 1 OR EXISTS (SELECT FROM pg_roles WHERE rolname = 'lr_author' AND (rolsuper OR rolcreaterole))
                OR EXISTS (SELECT FROM leadroute.rule WHERE name = 'attack' AND author <> 'lr_author') THEN ' GAINED' ELSE '' END
        || CASE WHEN EXISTS (SELECT FROM pg_locks l WHERE l.locktype = 'advisory' AND l.classid = 77 AND l.objid <> (SELECT oid FROM pg_roles WHERE rolname = 'lr_author'))
            THEN ' RAN AS ANOTHER' ELSE '' END
        || CASE WHEN before <> concat_ws(' ', current_setting('search_path'), current_setting('role'), current_user, session_user) THEN ' SETTINGS' ELSE '' END;
END \$\$;
SQL

sub pick { return $_[ int rand @_ ] }

my $quote = "select word from public.canary";
# What would hold if it read what its author may not.
my @forbidden = (
	"secret IS NULL", "secret IS NOT NULL OR true", "lead IS NOT NULL", "lead.* IS NOT NULL", "lead::text LIKE '%'", "to_jsonb(lead) IS NOT NULL",
	"row_to_json(lead) IS NOT NULL", "pg_read_file('/etc/passwd') IS NOT NULL", "pg_ls_dir('/') IS NOT NULL", "length(pg_read_binary_file('PG_VERSION')) > 0",
	"query_to_xml('$quote', true, false, '')::text LIKE '%s3cret%'", "table_to_xml('public.canary', true, false, '')::text LIKE '%s3cret%'",
	"cursor_to_xml('c', 1, true, false, '') IS NOT NULL", "database_to_xml(true, false, '')::text LIKE '%s3cret%'", "schema_to_xml('public', true, false, '')::text LIKE '%s3cret%'",
	"EXISTS ($quote)", "($quote) LIKE 's3%'", "city IN ($quote)", "score = (SELECT 1)", "public.private(1)", "public.definer(1)", "set_config('role', 'postgres', false) IS NOT NULL",
	"lo_import('/etc/passwd') > 0", "lo_export(1, '/tmp/x') > 0", "nextval('public.lead_id_seq') > 0", "pg_terminate_backend(pg_backend_pid())", "pg_reload_conf()",
	"dblink('x', 'y') IS NOT NULL", "pg_advisory_lock(1) IS NULL", "current_setting('data_directory') IS NOT NULL", "pg_stat_file('PG_VERSION') IS NOT NULL",
	"has_table_privilege('public.canary', 'SELECT')", "current_user = 'postgres'", "session_user = 'lr_author'", "user = 'postgres'", "current_role = 'postgres'",
	"pg_has_role('postgres', 'MEMBER')", "ctid IS NOT NULL", "tableoid > 0", "xmin IS NOT NULL", "lead.tableoid IS NOT NULL", "(lead).secret IS NULL",
	"random() >= 0", "clock_timestamp() IS NOT NULL", "au.deed()", "EXISTS (SELECT FROM au.leaky())", "au.leaky() = 1");
# Garbage, what is only strange, and what runs with its author's rights.
my @strange = (
	"", " ", ";", "true;", "true; DROP TABLE public.lead", "true) OR (true", "true) --", "true /* ", "*/ true", "-- true", "true -- x", "/* /* */ true", "(((", ")))",
	"'", "''", "'a", "\"", "\"\"", "\"city", "\$\$", "\$\$true", "\$x\$true\$x\$", "\$1", "\$1 = 1", "\$0", "\$99999999999", ":x", "?", "\\", "E'\\000' = city", "U&'\\0000' = city",
	"E'\\x00' IS NULL", "U&'\\D800' = city", "U&\"\\0063ity\" = 'Pune'", "city = E'\\'; DROP TABLE public.canary; --'", "city = 'x' UNION SELECT true", "true UNION SELECT true", "true ORDER BY 1",
	"true LIMIT 1", "true FOR UPDATE", "true FROM public.canary", "DISTINCT true", "true, true", "*", "lead.*", "true AS x", "true WHERE true", "true GROUP BY city", "true INTO x",
	"count(*) > 0", "sum(score) > 0", "max(score) OVER () > 0", "rank() OVER (ORDER BY city) = 1", "generate_series(1, 10) > 0", "unnest(tags) = 'x'", "GROUPING(city) = 0", "count(*) FILTER (WHERE true) > 0",
	"score::regclass IS NOT NULL", "'public.canary'::regclass IS NOT NULL", "'nope'::regclass IS NULL", "city::regclass IS NULL", "city::regrole IS NOT NULL", "score::oid::regproc IS NOT NULL",
	"city::int > 0", "1 / 0 = 1", "1 / score = 1", "1 / (score - score) = 1", "score + 2147483647 > 0", "amount * 1e300::numeric > 0", "'x'::int = 1", "'1 year'::interval > 'x'::interval",
	"city COLLATE \"nope\" = 'x'", "city COLLATE \"C\" = 'x'", "city = 'x' COLLATE \"und-x-icu\"", "city < source COLLATE \"C\"", "lower(city COLLATE \"C\") = 'x'",
	"city ~ '(((((a*)*)*)*)*)*b'", "city ~ '('", "city SIMILAR TO '%('", "city LIKE 'x\\'", "city LIKE city || '\\'", "regexp_replace(city, '.', '\\1') = 'x'", "city ~ repeat('(a|', 500)",
	"attrs \@? '\$.a[*] ? (\@.b > 1)'", "attrs \@? '\$.**{'", "attrs \@\@ '\$[last'", "jsonb_path_exists(attrs, '\$.a', '{}')", "attrs -> 'a' -> 0 ->> 'b' = 'x'", "attrs[''] IS NULL", "attrs['a']['b'] = '1'",
	"doc IS DOCUMENT", "xpath('//a', doc) IS NOT NULL", "xpath('//[', '<a/>') IS NULL", "xmlparse(document '<a>' ) IS NULL", "'<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><a>&x;</a>'::xml::text LIKE '%root%'",
	"XMLEXISTS('//a' PASSING doc)", "xmlserialize(content doc AS text) = 'x'", "(pair).x = 1", "pair = ROW(1, 'x')::public.pair", "pair.x = 1", "(pair).nope = 1", "pair IS NULL", "ROW(1, 2) = ROW(city, 2)",
	"pos > 0", "score::public.positive > 0", "(-score)::public.positive > 0", "NULL", "NULL::bool", "NOT NULL", "1", "'x'", "score", "city", "tags", "hot", "now()", "1.5", "'t'", "'yes'::bool", "ARRAY[true]",
	"tags[1] = 'x'", "tags[1:2] = '{a}'", "tags[2147483647] IS NULL", "tags = ANY (ARRAY[tags])", "score = ANY (tags)", "score = ALL ('{1,2}')", "spot <-> point(0, 0) < 1", "spot = spot",
	"DEFAULT", "CURRENT OF c", "VALUES (1)", "SELECT 1", "(SELECT true)", "EXISTS (SELECT 1)", "ARRAY(SELECT 1) IS NULL", "CASE WHEN true THEN true END", "CASE city WHEN 'x' THEN 1 END = 1", "COALESCE(NULL, NULL)",
	"nope = 1", "lead.nope = 1", "nope.city = 'x'", "public.lead.city = 'x'", "postgres.public.lead.city = 'x'", "NEW.city = 'x'", "OLD.city = 'x'", "new = 'x'", "excluded.city = 'x'", "nope(1)", "pg_catalog.nope()", "lower(1, 2)",
	"lower(VARIADIC tags) = 'x'", "format('%s', VARIADIC tags) = 'x'", "format('%n') = 'x'", "concat(city => 'x')", "make_interval(days => score) > '1 day'", "array_fill(1, ARRAY[10000000]) IS NULL", "repeat(city, 10000000) = 'x'", "lpad('', 50000000) = ''",
	"au.stable(1)", "au.stable(score)", "au.liar(1)", "au.liar(score)", "au.fails(score)", "au.fails(1)", "au.nests(score)", "city OPERATOR(au.=) 'x'", "city OPERATOR(pg_catalog.=) 'x'", "city OPERATOR(pg_temp.=) 'x'", "city = 'x'::au.checked", "city::au.checked IS NOT NULL", "au.lower(source) = 'x'",
	"lower(source) = 'x'", "table_to_xml('au.trap', true, false, '') IS NOT NULL", "query_to_xml('select au.deed()', true, false, '') IS NOT NULL", "array_in('{x}', 'au.checked'::regtype::oid, -1) IS NOT NULL", "domain_in('x', 'au.checked'::regtype, -1) IS NOT NULL",
	"record_in('(1)', 0, -1) IS NULL", "textin('x') = 'x'", "int4in(NULL) = 1", "byteain('x') IS NULL", "array_recv(NULL, 0, 0) IS NULL", "pg_get_viewdef('au.trap'::regclass) LIKE '%x%'", "pg_typeof(lead) IS NULL", "pg_input_is_valid('1', 'int')", "has_column_privilege('lead', 'secret', 'SELECT')",
	"to_tsvector('english', city) \@\@ to_tsquery('x &')", "to_regclass('public.canary') IS NOT NULL", "ts_stat('$quote') IS NULL", "obj_description(1) IS NULL", "pg_column_size(city) > 0", "age(at) > '1 day'", "at > 'now'", "at > 'tomorrow'::timestamptz", "at AT TIME ZONE city > now()", "date_trunc(city, at) IS NULL", "extract(nope FROM at) = 1",
	"TREAT(city AS text) = 'x'", "OVERLAY(city PLACING 'x' FROM 0) = 'y'", "POSITION('x' IN city) > 0", "SUBSTRING(city FROM -2147483648 FOR 2147483647) = 'x'", "CURRENT_DATE > '2020-01-01'", "CURRENT_CATALOG = 'x'", "LOCALTIME > '00:00'", "(at, at) OVERLAPS (at, at)", "hot IS UNKNOWN", "hot IS OF (bool)", "city IS NFC NORMALIZED", "normalize(city, NFKD) = 'x'",
	"txid_current() > 0", "MERGE", "NOT", "AND", "OR true", "true AND", "== 1", "city = = 'x'", "1 1", "city city", "'a' 'b' = city", "0x1G = 1", "1e", "1e999999 = 1", "1e400::float8 = 1", "-1e400::float8 < 0", "'NaN'::float8 = amount", "99999999999999999999999999999 = score", ".5.5 = 1",
	"\x{feff}true", "true\x{a0}", "\x{2019}x\x{2019} = city", "city = '\x{1F600}'", "\x{202e}eurt", "\x{ff54}rue", "ci\x{301}ty = 'x'", "city = '" . "\x{10ffff}" x 50 . "'", "B'2' = B'1'", "X'zz' = X'1'", "N'x' = city", "b'' IS NULL");

my @wrap = ('(%s)', 'NOT (%s)', '(%s) AND true', 'true OR (%s)', 'CASE WHEN %s THEN true END', 'coalesce(%s, true)', '(%s) IS NOT NULL', "(%s)::text = 'x'", 'ARRAY[%s] IS NOT NULL', '%s;', '%s --', '(%s', '%s)',
	"ARRAY[(%s)::text]", 'length((%s)::text)', 'row(%s) IS NULL', 'nullif(%s, %s)', 'greatest(%s)', '(%s)::int', 'xmlforest(%s AS x) IS NULL', 'json_build_array(%s) IS NULL');

sub huge
{
	my $n = pick(10, 150, 190, 210, 1000, 5000, 20000, 60000);
	return pick('(' x $n . 'true' . ')' x $n, 'NOT ' x $n . 'true', join(' AND ', ('score > 0') x $n), join(' OR ', map { "score = $_" } 1 .. $n), 'score IN (' . join(',', 1 .. $n) . ')',
		'score = ' . '-' x ($n % 2 ? 1 : 2) . ' 1', 'score = ' . '9' x $n, "city = '" . 'x' x $n . "'", "'" x $n, '[' x $n, 'ARRAY[' x $n . '1' . ']' x $n . ' IS NULL', 'CASE WHEN ' x $n . 'true' . ' THEN true END' x $n,
		'lower(' x $n . 'city' . ')' x $n . " = 'x'", 'city' . " || 'x'" x $n . " = 'x'", 'score' . ' + 1' x $n . ' > 0', '/*' x $n . 'true' . '*/' x $n, 'true ' . '/* x */' x $n, 'city' . '::text' x $n . " = 'x'", 'x' x $n . ' = 1',
		'"' . 'y' x $n . '" = 1', "city ~ '" . '(' x $n . "'", "city LIKE '" . '%_' x $n . "'", "attrs \@? '\$" . '.a' x $n . "'", "'" . '[' x $n . "'::jsonb IS NULL", "'" . '{' x $n . "'::text[] IS NULL", "xmlparse(content '" . '<a>' x $n . "') IS NULL");
}

sub mutated
{
	my $text = pick(@forbidden, @strange);
	for (1 .. 1 + int rand 3)
	{
		my $at = int rand(length($text) + 1);
		my $other = pick(@forbidden, @strange);
		my $how = int rand 8;
		$text = sprintf(pick(@wrap) =~ s/%s/%1\$s/gr, $text) if $how < 3;
		$text = substr($text, 0, $at) if $how == 3;
		substr($text, $at, 0) = pick("'", '"', '(', ')', ';', '--', '/*', '$$', '\\', "\n", "\t", '::', '.', ',', '%', ' AND ', ' OR ', "\x{0301}", '@', '::text') if $how == 4;
		$text = "($text) " . pick('AND', 'OR', '=', '||', 'IS DISTINCT FROM', ',', 'UNION SELECT', '') . " ($other)" if $how == 5;
		substr($text, $at, 1 + int rand 5) = '' if $how == 6 && $at < length $text;
		$text = substr($text, 0, $at) . substr($other, int rand(length($other) + 1)) if $how == 7;
	}
	return $text;
}

sub soup
{
	return join pick(' ', ' ', ''), map { pick(split ' ', q{( ) [ ] , . :: = < > || + - * % @> -> ->> ~ NOT AND OR IS NULL IN ANY ALL CASE WHEN THEN ELSE END SELECT FROM city score amount at attrs tags 1 0 'x' 'Pune' true false lower ( length ( ARRAY[ COLLATE CAST AS int text LIKE BETWEEN ROW}) } 1 .. 2 + int rand 12;
}

my @uses = ('condition', 'condition', 'condition', 'condition', 'needs', 'key', 'sticky_on', 'value_expression');
my @tries = map { [ $_ % 5 == 0 ? $uses[ 4 + $_ / 5 % 4 ] : 'condition', ($_ < @forbidden ? $forbidden[$_] : $_ < @forbidden + @strange ? $strange[ $_ - @forbidden ] : undef) ] } 0 .. $texts - 1;
for my $try (@tries)
{
	next if defined $try->[1];
	my $kind = rand;
	$try->[0] = pick(@uses);
	$try->[1] = $kind < 0.1 ? huge() : $kind < 0.25 ? soup() : mutated();
}

# An accepted text that holds, of the first list and written as it is, has read what it may not.
my %is_forbidden = map { $_ => 1 } @forbidden;
# How a text may be refused; when it is accepted, only a running out of time or memory may pass.
my $refusal = qr/^refused (LR004|LR012) (?!says too little)/;
my $pass = qr/^taken, then (57014|53200|54000)/;
my ($session) = sessions($node, 1);
my (@bad, %count);
my $crashes = 0;
for my $try (@tries)
{
	my ($use, $text) = @$try;
	my $hex = unpack 'H*', encode('UTF-8', $text);
	my $said = eval { $session->query("BEGIN; SELECT tried('$use', convert_from(decode('$hex', 'hex'), 'UTF8')); ROLLBACK; SELECT pg_advisory_unlock_all()") };
	if (!defined $said || $session->lost)
	{
		push @bad, "$use: " . substr($text, 0, 200) . ': SESSION LOST';
		$crashes++;
		($session) = sessions($node, 1);
		next;
	}
	my ($word) = $said =~ /^((?:refused|taken).*)$/m;
	$word //= "nothing: $said " . join ' ', $session->errors;
	my $fine = $word =~ $refusal || $word eq 'taken' || $word eq 'taken and held' || $word =~ $pass;
	$fine = 0 if $word =~ /GAINED|RAN AS|SETTINGS|LOST|XX000/;
	$fine = 0 if $word eq 'taken and held' && $use eq 'condition' && $is_forbidden{$text};
	push @bad, "$use: " . encode('UTF-8', substr($text, 0, 200)) . ": $word" unless $fine;
	$count{ $word =~ /^(refused \w+|taken(?: and held|, then \w+)?)/ ? $1 : 'else' }++;
}
is(scalar @bad, 0, 'each text is refused, or accepted and harmless') or diag(join "\n", @bad[ 0 .. ($#bad < 30 ? $#bad : 30) ]);
is($crashes, 0, 'no session was lost');
my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile);
unlike($log, qr/PANIC|TRAP:|terminated by signal|XX000|cache lookup failed|unrecognized node/, 'the log tells of no crash and no internal error');
is($node->safe_psql('postgres', 'SELECT count(*) FROM canary WHERE word LIKE \'s3cret%\''), 1, 'the canary is as it was');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'lr\\_%' AND NOT rolsuper"), 2, 'and so are the roles');
cmp_ok($count{taken} // 0, '>', $texts / 50, 'enough was accepted to be tried');
diag(join ', ', map { "$_: $count{$_}" } sort keys %count);
figure('hostile texts', $texts);
done_testing();
