# What check_rules() proves, against all leads there can be: random rules over columns that hold few
# values and NULL, every combination of which is a lead. Each proof is verified by plain SQL, row by
# row, with PostgreSQL's own evaluation and errors counting as no match; a false one fails the test.
# How many of the rules that really are unreachable were found is reported.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use Test::More;

seed();
my $sets = soak(60, 3000);
my $node = start_node('main', conf => 'jit = off');

# Two tables, each in a database of its own, of all values of their columns and NULL.
my %leads = (
	plain => <<'SQL',
CREATE TABLE lead (id bigint PRIMARY KEY, a int, b int, t text, h bool, owner_id bigint);
CREATE TABLE every_lead AS
    SELECT row_number() OVER () AS id, a, b, t, h, NULL::bigint AS owner_id
    FROM unnest('{0,1,2,3,4,NULL}'::int[]) a, unnest('{0,1,2,NULL}'::int[]) b,
        unnest('{x,y,z,NULL}'::text[]) t, unnest('{true,false,NULL}'::bool[]) h;
SQL
	types => <<'SQL');
CREATE TABLE lead (id bigint PRIMARY KEY, f float8, n numeric, c char(3), d date, s text COLLATE "C", owner_id bigint);
CREATE TABLE every_lead (LIKE lead);
INSERT INTO every_lead
    SELECT row_number() OVER () AS id, f, n, c, d, s
    FROM unnest('{-0,1,2.5,NaN,Infinity,NULL}'::float8[]) f, unnest('{0,1.50,NaN,NULL}'::numeric[]) n,
        unnest('{a,ab,B,NULL}'::text[]) c, unnest('{2024-01-01,2024-02-29,infinity,NULL}'::date[]) d, unnest('{a,B,é,NULL}'::text[]) s;
SQL
for my $database (keys %leads)
{
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, "CREATE EXTENSION leadroute; $leads{$database}" . <<'SQL');
SELECT leadroute.attach('lead');
INSERT INTO leadroute.rep (id, name) VALUES (1, 'Ann');
INSERT INTO leadroute.pool (name) VALUES ('p'), ('q');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('p', 1), ('q', 1);
-- Which leads a condition holds for, one by one, as an error is one lead's.
CREATE FUNCTION matching(condition text) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    one every_lead;
    found bigint[] := '{}';
    is_true bool;
BEGIN
    BEGIN
        EXECUTE format('SELECT array_agg(l.id) FROM every_lead l WHERE %s', condition) INTO found;
        RETURN coalesce(found, '{}');
    EXCEPTION WHEN data_exception THEN
        found := '{}';
    END;
    FOR one IN SELECT * FROM every_lead LOOP
        BEGIN
            EXECUTE format('SELECT %s FROM (SELECT ($1).*) l', condition) INTO is_true USING one;
            IF is_true THEN
                found := found || one.id;
            END IF;
        EXCEPTION WHEN data_exception THEN
        END;
    END LOOP;
    RETURN found;
END
$$;
-- What was proved of each rule, and what is so: r1|unreachable|true means that it was proved, and is.
CREATE FUNCTION judged() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    one record;
    proved text;
    others bigint[];
    holds bigint[];
    taken bigint[] := '{}';
    by_others bigint[];
    matches jsonb := '{}';
BEGIN
    FOR one IN SELECT r.* FROM leadroute.rule r ORDER BY r.position LOOP
        holds := matching(one.condition);
        matches := matches || jsonb_build_object(one.id, holds);
        SELECT c.finding, c.other_rules INTO proved, others FROM found c WHERE c.rule = one.id;
        SELECT array_agg(m.v::bigint) INTO by_others FROM unnest(others) o, jsonb_array_elements_text(matches -> o::text) m (v);
        RETURN NEXT concat_ws('|', coalesce(proved, 'none'),
            CASE proved WHEN 'contradiction' THEN holds = '{}'
                WHEN 'unreachable' THEN holds <@ coalesce(by_others, '{}') AND NOT one.id = ANY (others)
                ELSE true END,
            CASE WHEN holds = '{}' THEN 'contradiction' WHEN holds <@ taken THEN 'unreachable' ELSE 'none' END, one.condition);
        IF one.valid IS NULL AND one.territory IS NULL THEN
            taken := taken || holds;
        END IF;
    END LOOP;
END
$$;
SQL
}

sub pick { return $_[ int rand @_ ] }

# number is a value of a column, and now and then one that none has.
sub number { return int(rand 7) - 1 }

sub typed
{
	my $compare = pick('=', '=', '<>', '<', '<=', '>', '>=');
	my $float = pick(-1, 0, '-0.0', 1, 2.5, "'NaN'", "'Infinity'");
	my $numeric = pick(0, '0.000', 1, 1.5, 2, "'NaN'");
	my $date = "'" . pick('2024-01-01', '2024-02-28', '2024-02-29', 'infinity', '-infinity') . "'";
	my $word = pick("'a'", "'a  '", "'ab'", "'B'", "'b'", "'é'", "''");
	my @atoms = (
		"f $compare $float", "f $compare $float", "f IN ($float, " . pick(1, "'NaN'", 'NULL') . ')', "f BETWEEN 0 AND $float", 'f IS ' . pick('', 'NOT ') . 'NULL',
		"f $compare " . pick(1, 3) . '::int', "f::numeric $compare $numeric", "f::text = 'NaN'", "f $compare $numeric\::real",
		"n $compare $numeric", "n $compare $numeric", "n NOT IN ($numeric, 1)", "n IN ($numeric, 0.0)", 'n IS ' . pick('', 'NOT ') . 'NULL', "n $compare " . int(rand 3), "$numeric $compare n",
		"c $compare $word", "c $compare $word", "c::text $compare $word", "c IN ($word, 'a ')", "length(c) $compare " . int(rand 4), 'c IS ' . pick('', 'NOT ') . 'NULL', "c LIKE 'a%'", "c = s", "lower(c) = $word", "c $compare $word COLLATE \"C\"",
		"d $compare $date", "d $compare $date", "d $compare $date\::date", "d $compare $date\::timestamp", "d IN ($date, '2024-01-01')", "isfinite(d)", 'd IS ' . pick('', 'NOT ') . 'NULL', "d - 1 $compare $date\::date",
		"s $compare $word", "s $compare $word", "s $compare $word COLLATE \"default\"", "lower(s) $compare $word", "s IN ($word, 'a')", "s = ANY (ARRAY[$word, NULL])", 's IS ' . pick('', 'NOT ') . 'NULL', "s BETWEEN 'B' AND $word", "s || c $compare $word",
		'(f, n) ' . pick('<', '=', '>=') . " ($float, $numeric)", "(f > n) IS " . pick('NULL', 'NOT TRUE'), "coalesce(f, n) $compare $float", "nullif(s, 'a') IS NULL", "greatest(f, n) > $float");
	return pick(@atoms);
}

sub atom
{
	my ($database) = @_;
	return typed() if $database eq 'types';
	my $column = pick('a', 'b');
	my $constant = number();
	my @atoms = (
		"$column " . pick('=', '=', '<>', '<', '<=', '>', '>=') . " $constant",
		"$column IN (" . join(', ', map { pick(number(), number(), number(), 'NULL') } 1 .. 1 + int rand 4) . ')',
		"$column NOT IN (" . join(', ', map { number() } 1 .. 1 + int rand 3) . ')',
		"$column IS " . pick('', 'NOT ') . 'NULL',
		"$column BETWEEN $constant AND " . ($constant + int rand 3),
		"$constant " . pick('=', '<', '>=') . " $column",
		't ' . pick('=', '<>', '<', '>=') . " '" . pick('x', 'y', 'z', 'w') . "'",
		"t IN ('" . join("', '", map { pick('x', 'y', 'z') } 1 .. 2) . "')",
		't IS ' . pick('', 'NOT ') . 'NULL',
		pick('h', 'NOT h', 'h IS TRUE', 'h IS NOT TRUE', 'h IS NULL', 'h IS NOT FALSE', 'h = false', 'h IS NOT NULL'),
		"t IS " . pick('', 'NOT ') . "DISTINCT FROM '" . pick('x', 'y') . "'",
		"t LIKE '" . pick('x%', '%', '_') . "'",
		"a " . pick('<', '=', '>') . ' b',
		"${column}::numeric " . pick('<', '>') . " $constant.5",
		"${column}::bigint = $constant",
		"lower(t) = '" . pick('x', 'y') . "'",
		"coalesce($column, 0) = $constant",
		"4 / $column " . pick('>', '<', '=') . ' 2',
		"($column > 1) IS " . pick('TRUE', 'NOT TRUE', 'NULL', 'NOT NULL'),
		'CASE WHEN h THEN a > 1 ELSE b > 0 END',
		"ARRAY[$column] = ARRAY[$constant]",
		"$column = $constant AND h",
		pick('true', 'false', 'NULL'));
	return pick(@atoms);
}

sub condition
{
	my ($database, $depth) = @_;
	return atom($database) if $depth == 0 || rand() < 0.3;
	my $operator = pick('AND', 'AND', 'OR');
	my $made = '(' . join(" $operator ", map { condition($database, $depth - 1) } 1 .. 2 + int rand 2) . ')';
	return rand() < 0.15 ? "NOT $made" : $made;
}

# A set of rules, which often ask what an earlier one did, a little differently.
sub rules
{
	my ($database) = @_;
	my @conditions;
	for (1 .. 3 + int rand 6)
	{
		my $condition = condition($database, int rand 3);
		my $old = @conditions ? pick(@conditions) : 'true';
		$condition = pick("($old) AND ($condition)", "($condition) AND ($old)", "($old) OR ($condition)", "NOT ($old)", $old) if rand() < 0.5;
		push @conditions, $condition;
	}
	my $n = 0;
	return join ', ', map { $n++; my $valid = rand() < 0.05 ? "'[2001-01-01,)'" : 'NULL';
		"($n, 'lead', $n, 'r$n', \$c\$$_\$c\$, '" . pick('p', 'q') . "', $valid)" } @conditions;
}

my (%count, @false);
for my $set (1 .. $sets)
{
	my $database = $set % 3 == 0 ? 'types' : 'plain';
	my $rules = rules($database);
	my $said = $node->safe_psql($database, <<"SQL");
BEGIN;
INSERT INTO leadroute.rule (id, lead_table, position, name, condition, pool, valid) VALUES $rules;
CREATE TEMP TABLE found ON COMMIT DROP AS
    SELECT c.rule, c.finding, c.other_rules FROM leadroute.check_rules('lead', 0) c
    WHERE c.finding IN ('contradiction', 'unreachable') AND c.certainty = 'proved';
SELECT judged();
ROLLBACK;
SQL
	for (grep { /\|/ } split /\n/, $said)
	{
		my ($proved, $right, $is, $condition) = split /\|/, $_, 4;
		$count{"$is as $proved"}++;
		push @false, "$proved: $condition in $rules" if $right eq 'f';
	}
}
is(scalar @false, 0, 'nothing was proved that is not so') or diag(join "\n", @false[ 0 .. ($#false < 4 ? $#false : 4) ]);
my ($found, $real) = (0, 0);
for (keys %count)
{
	next if /^none as/;
	$real += $count{$_};
	$found += $count{$_} unless /as none$/;
}
cmp_ok($found, '>', $real / 4, 'and much was proved');
figure('of the rules that no lead reaches, proved', "$found of $real");
diag(join ', ', map { "$_: $count{$_}" } sort keys %count);
done_testing();
