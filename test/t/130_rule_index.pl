# The rule index gives the answer that trying the rules one by one gives, which is the one that plain
# SQL gives: random rules and leads over many types, NULLs, collations, domains and ranges.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use Test::More;

seed();
my $node = start_node('main', conf => 'jit = off');

$node->safe_psql('postgres', <<'SQL');
CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE COLLATION german (provider = icu, locale = 'de-DE');
CREATE DOMAIN grade AS int CHECK (VALUE < 1000);
CREATE DOMAIN word AS text;
CREATE TYPE stage AS ENUM ('new', 'late', 'won');
CREATE FUNCTION mine(int) RETURNS boolean LANGUAGE sql IMMUTABLE RETURN $1 % 3 = 0;
CREATE TABLE leads (
    id bigint PRIMARY KEY, owner_id bigint, gone int,
    s smallint, i int, b bigint, g grade, r real, d double precision, n numeric, m numeric(12,2),
    f boolean, day date, at timestamp, zoned timestamptz, u uuid,
    t text, v varchar(20), c char(4), w word, nc text COLLATE nocase, de text COLLATE german,
    st stage, tags text[], span int4range, j jsonb);
ALTER TABLE leads DROP COLUMN gone;
SELECT leadroute.attach('leads');
INSERT INTO leadroute.rep (id, name) VALUES (1, 'Rep 1');
INSERT INTO leadroute.pool (name) VALUES ('one');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('one', 1);

-- what plain SQL says; an error counts as no match, and is told
CREATE FUNCTION holds(condition text, lead bigint, OUT answer boolean, OUT failed boolean) LANGUAGE plpgsql
SET search_path = pg_catalog SET TimeZone = 'UTC' AS $$
BEGIN
    failed := false;
    EXECUTE format('SELECT (%s) IS TRUE FROM public.leads lead WHERE id = $1', condition) INTO answer USING lead;
EXCEPTION WHEN OTHERS THEN
    answer := false;
    failed := true;
END
$$;
CREATE VIEW routed AS
    SELECT a.lead_id::bigint AS id, a.rule, leadroute._explanation(a.explanation) -> 'rule_errors' AS errors
    FROM leadroute.assignment a;
SQL

# ---- random values and conditions -----------------------------------------------------------------

sub pick { return $_[ int rand @_ ] }

my @words = ('a', 'A', 'ab', 'abc', 'Abc', 'b', '', 'abc%', 'a_c', 'straße', 'STRASSE', 'ä', 'Ä', 'a ', 'xyz' x 30);
my %values = (
	s => sub { pick(-32768, 32767, map { $_ - 3 } 0 .. 6) },
	i => sub { pick(-2147483648, 2147483647, 0 .. 9) },
	b => sub { pick('-9223372036854775808', '9223372036854775807', 4294967297, 0 .. 9) },
	g => sub { int rand 10 },
	r => sub { pick('NaN', 'Infinity', '-Infinity', '-0', '0', 0.1, 0.5, 1, 2, 3) },
	d => sub { pick('NaN', 'Infinity', '-Infinity', '-0', '0', 0.1, 0.5, 1, 2, 3) },
	n => sub { pick('NaN', 'Infinity', '-Infinity', '0', '0.1', '0.10', '1', '1.0000000000000000000000001', '-1.0000000000000000000000001',
			'0.9999999999999999999999999', '1e30', '123456789012345', '1234567890123456', '-12.5', '100', '10000', '1e-20', '1e-21', 2 .. 5) },
	m => sub { pick(0, 0.01, '0.10', 1, 99.99, 100, 10000, 1000000, -5) },
	f => sub { pick('true', 'false') },
	day => sub { pick('infinity', '-infinity', map { "2026-01-0$_" } 1 .. 6) },
	at => sub { pick('infinity', map { "2026-01-0$_ 00:00:00" } 1 .. 6) },
	zoned => sub { pick('-infinity', map { "2026-01-0$_ 00:00:00+00" } 1 .. 6) },
	u => sub { '00000000-0000-0000-0000-00000000000' . int rand 5 },
	(map { my $column = $_; $column => sub { my $word = pick(@words); $column eq 'v' ? substr($word, 0, 20) : $word } } qw(t v w nc de)),
	c => sub { pick('a', 'ab', 'abc', 'A', '') },
	st => sub { pick('new', 'late', 'won') },
	tags => sub { pick('{}', '{a}', '{a,b}', '{NULL}') },
	span => sub { pick('empty', '[1,5)', '[3,)', '(,2]') },
	j => sub { pick('{}', '{"a": 1}', '{"a": "x"}', 'null') });
my @columns = sort keys %values;
my @numbers = qw(s i b g r d n m);
my @texts = qw(t v w);

sub quoted { my ($value) = @_; $value =~ s/'/''/g; return "'$value'" }
sub constant { my ($column) = @_; return quoted($values{$column}->()) }
my %type = (s => 'int2', i => 'int4', b => 'int8', g => 'int4', r => 'float4', d => 'float8', n => 'numeric', m => 'numeric');

sub list
{
	my ($column) = @_;
	my @list = map { rand() < 0.1 ? 'NULL' : constant($column) } 1 .. pick(1, 2, 3, 12);
	return join ', ', @list;
}

sub atom
{
	my $dice = rand;
	my $column = pick(grep { !/^(?:tags|span|j)$/ } @columns);
	my $comparison = pick('=', '=', '=', '<', '<=', '>', '>=', '<>');
	if ($dice < 0.35) {
		my $number = pick(@numbers);
		my $other = pick($number, $number, grep { ($type{$_} =~ /int/) == ($type{$number} =~ /int/) } @numbers);
		my $value = constant($other) . "::$type{$other}";
		return rand() < 0.2 ? "$value $comparison $number" : "$number $comparison $value";
	}
	return "$column $comparison " . constant($column) if $dice < 0.5;
	return "$column IN (" . list($column) . ')' if $dice < 0.6;
	return "$column IS " . pick('', 'NOT ') . 'NULL' if $dice < 0.67;
	return pick('f', 'NOT f', 'f IS TRUE', 'f IS NOT TRUE', 'f IS NOT FALSE', 'f IS FALSE', 'f IS UNKNOWN', 'f IS NOT UNKNOWN', 'f = true') if $dice < 0.72;
	if ($dice < 0.86) {
		my $text = pick(@texts, 't', 'c', 'nc', 'de');
		return pick("lower($text) = " . quoted(lc pick(@words)), "upper($text) LIKE " . quoted(uc(pick(@words)) . '%')) if rand() < 0.3;
		return "starts_with($text, " . quoted(pick(@words)) . ')' if rand() < 0.2 && $text ne 'nc';
		return "$text ^@ " . quoted(pick(@words)) if rand() < 0.2 && $text ne 'nc';
		return "$text LIKE " . quoted(pick(@words) . pick('%', '%', '_', '%a', '')) if $text ne 'nc';
		return "$text = " . quoted(pick(@words)) . pick('', ' COLLATE "C"');
	}
	my $rest = int rand 12;
	return (
		'i / nullif(s, 1) > 0', '1 / i = 1', 't::int > 3', 'public.mine(i)', "coalesce(t, 'a') = 'a'",
		'CASE WHEN f THEN i > 3 ELSE b > 3 END', "span @> i", "tags @> '{a}'", "j ->> 'a' = '1'",
		'i > b', 'length(t) > 2', "st > 'new'")[$rest];
}

sub condition
{
	my ($depth) = @_;
	return atom() if $depth == 0 || rand() < 0.4;
	return 'NOT (' . condition($depth - 1) . ')' if rand() < 0.1;
	return '(' . join(pick(' AND ', ' AND ', ' OR '), map { condition($depth - 1) } 1 .. pick(2, 2, 3)) . ')';
}

# The server says which conditions are none.
my ($rules, $refused) = (soak(300, 1500), 0);
sub write_rules
{
	my ($writer) = @_;
	$writer->query('DELETE FROM leadroute.rule');
	my $written = 0;
	while ($written < $rules) {
		my $condition = join ' AND ', map { condition(2) } 1 .. 3;
		my $valid = rand() < 0.05 ? pick("'[2020-01-01,2021-01-01)'", "'[2020-01-01,)'", "'(,2100-01-01]'") : 'NULL';
		my $label = rand() < 0.1 ? q('{"x": 1}') : 'NULL';
		my (undef, @errors) = $writer->query("INSERT INTO leadroute.rule (lead_table, position, name, condition, pool, valid, label) "
			  . "VALUES ('leads', $written, 'rule $written', \$x\$$condition\$x\$, 'one', $valid, $label)");
		@errors ? $refused++ : $written++;
	}
	return;
}

my $lead = 0;
sub values_list
{
	my ($offset) = @_;
	return '(' . join(', ', ++$lead + $offset, map { rand() < 0.2 ? 'NULL' : constant($_) } @columns) . ')';
}

my ($writer, $on, $off) = sessions($node, 3);
$off->query('SET leadroute.rule_index = off');
my $first = 1;
for my $round (1 .. soak(2, 20)) {
	write_rules($writer);
	my @leads = map { values_list(0) } 1 .. soak(150, 1000);
	my $sql = "INSERT INTO leads (id, " . join(', ', @columns) . ') VALUES ' . join(', ', @leads);
	is(join(' ', $on->query($sql)), '', "round $round: leads routed with the index");
	my ($from, $until) = ($first, $lead);
	$off->query("CREATE TEMP TABLE again AS SELECT * FROM leads WHERE id BETWEEN $from AND $until; "
		  . "UPDATE again SET id = -id, owner_id = NULL; INSERT INTO leads SELECT * FROM again; DROP TABLE again");
	psql_is($node, "SELECT count(*) FROM routed p JOIN routed q ON q.id = -p.id WHERE p.id BETWEEN $from AND $until", $until - $from + 1, 'all are there');
	psql_is($node, <<"SQL", '', 'on and off agree');
SELECT p.id, p.rule, p.errors, q.rule, q.errors FROM routed p JOIN routed q ON q.id = -p.id
WHERE p.id BETWEEN $from AND $until AND (p.rule, p.errors) IS DISTINCT FROM (q.rule, q.errors) ORDER BY 1 LIMIT 3
SQL
	psql_is($node, <<"SQL", '', 'and so does plain SQL');
SELECT p.id, p.rule, o.rule FROM routed p LEFT JOIN LATERAL (
    SELECT r.id AS rule FROM leadroute.rule r
    WHERE (r.valid IS NULL OR r.valid \@> now()) AND (holds(r.condition, p.id)).answer ORDER BY r.position LIMIT 1) o ON true
WHERE p.id BETWEEN $from AND $from + 40 AND p.rule IS DISTINCT FROM o.rule ORDER BY 1 LIMIT 3
SQL
	$first = $lead + 1;
}
figure(leads => $lead, rules => $rules, refused => $refused,
	matched => $node->safe_psql('postgres', 'SELECT count(DISTINCT rule) FROM routed'));
# ---- changes of the rules and of the table ----------------------------------------------------------

$writer->query('DELETE FROM leadroute.rule');
$writer->query("INSERT INTO leadroute.rule (lead_table, position, name, condition, pool) "
	  . "SELECT 'leads', n, 'n' || n, CASE n % 3 WHEN 0 THEN 'b = ' || n WHEN 1 THEN format('t = %L', n) ELSE format('m BETWEEN %s AND %s', n, n + 0.5) END, 'one' "
	  . 'FROM generate_series(1, 300) n');
my $next = 10_000_000;

# rule_of routes a lead with the number in all three columns.
sub rule_of
{
	my ($session, $number) = @_;
	my $id = $next++;
	$session->query("INSERT INTO leads (id, b, t, m) VALUES ($id, $number, '$number', $number)");
	return $session->query("SELECT coalesce((SELECT r.name FROM leadroute.rule r WHERE r.id = a.rule), 'none') FROM leadroute.assignment a WHERE a.lead_id = '$id'");
}

sub found_is
{
	my ($number, $mine, $theirs, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(rule_of($writer, $number), $mine, "$what: who writes");
	is(rule_of($on, $number), $theirs, "$what: another session");
	return is(rule_of($off, $number), $theirs, "$what: one without the index");
}

found_is(30, 'n30', 'n30', 'as written');
$writer->query("BEGIN; UPDATE leadroute.rule SET condition = 'b = 30 AND f' WHERE name = 'n30'; "
	  . q(INSERT INTO leadroute.rule (lead_table, position, name, condition, pool) VALUES ('leads', -1, 'draft', $$t = '31'$$, 'one')));
found_is(30, 'none', 'n30', 'a draft changes a rule');
found_is(31, 'draft', 'n31', 'and adds one');
$writer->query("SAVEPOINT s; DELETE FROM leadroute.rule WHERE name IN ('draft', 'n32')");
found_is(31, 'n31', 'n31', 'a savepoint deletes it');
found_is(32, 'none', 'n32', 'and another');
$writer->query('ROLLBACK TO s');
found_is(32, 'n32', 'n32', 'rolled back to it');
found_is(31, 'draft', 'n31', 'both are there again');
$writer->query('COMMIT');
found_is(31, 'draft', 'draft', 'committed');
found_is(30, 'none', 'none', 'both of them');
$writer->query('BEGIN; UPDATE leadroute.rule SET active = false; INSERT INTO leads (id) VALUES (9000009); ROLLBACK');
found_is(31, 'draft', 'draft', 'a draft of all rules was rolled back');
$writer->query("UPDATE leadroute.rule SET position = position - 1000 WHERE name = 'n31'");
found_is(31, 'n31', 'n31', 'moved to the front');
$writer->query('UPDATE leadroute.rule SET position = position + 1 - 2 * (position % 2) WHERE position BETWEEN 10 AND 289');
found_is(40, 'n40', 'n40', 'most were moved');
$writer->query("UPDATE leadroute.rule SET valid = '[2020-01-01,2021-01-01)' WHERE name = 'n40'");
found_is(40, 'none', 'none', 'no longer valid');
for my $edit (1 .. soak(30, 700)) {
	my $n = 100 + $edit % 190;
	$writer->query("UPDATE leadroute.rule SET condition = 'b = $n + $edit - $edit' WHERE name = 'n$n'");
	is(rule_of($on, $n), "n$n", "edit $edit") if $edit % 10 == 0;
}
$writer->query('ALTER TABLE leads ALTER b TYPE numeric');
found_is(60, 'n60', 'n60', 'another type of the column');
$writer->query('ALTER TABLE leads ALTER b TYPE text');
found_is(61, 'n61', 'n61', 'one that some conditions do not fit');
psql_is($node, 'SELECT jsonb_array_length(errors) > 0 FROM routed ORDER BY id DESC LIMIT 1', 't', 'which is told');
$writer->query('ALTER TABLE leads ALTER b TYPE bigint USING b::bigint');
found_is(60, 'n60', 'n60', 'the first type again');
verify_ok($node);
$_->close for $writer, $on, $off;
done_testing();
