# Daily caps and the clock: midnight inside a transaction in two zones, days of 23 and 25 hours, a
# clock that is set back. The server's clock is moved; each time the caps of each day are exactly
# full afterwards, never exceeded, and memory agrees with the record, rebuilt or not.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use Test::More;

my $node = start_node('main', clock => '2026-03-08 18:25:00');
psql_ok($node, <<'SQL', 'capped reps in two zones, and one without a cap');
SELECT leadroute.create_lead_table('public.leads');
INSERT INTO leadroute.rep (id, name, timezone, daily_cap) VALUES (1, 'India', 'Asia/Kolkata', 10), (2, 'UTC', 'UTC', 8),
    (3, 'Rest', 'UTC', NULL), (4, 'New York', 'America/New_York', 6), (5, 'Berlin', 'Europe/Berlin', 6);
INSERT INTO leadroute.pool (name, overflow_pool) VALUES ('rest', NULL), ('two', 'rest'), ('dst', 'rest');
INSERT INTO leadroute.pool_member (pool, rep, daily_cap) VALUES ('two', 1, NULL), ('two', 2, NULL), ('rest', 3, NULL),
    ('dst', 4, NULL), ('dst', 5, NULL), ('rest', 2, 3);
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool) VALUES
    ('leads', 1, 'two', $$source = 'two'$$, 'two'), ('leads', 2, 'dst', $$source = 'dst'$$, 'dst');
SQL

sub leads { my ($source, $n) = @_; return "INSERT INTO leads (source) SELECT '$source' FROM generate_series(1, $n)" }

# What the record says of a rep: leads by the day they count for. The day must be that of the pick.
sub days
{
	my ($rep) = @_;
	return $node->safe_psql('postgres', <<"SQL");
SELECT coalesce(string_agg(format('%s: %s', to_char(day, 'MM-DD'), n), ', ' ORDER BY day), 'none') FROM (
    SELECT day, count(*) AS n FROM leadroute.assignment WHERE rep = $rep GROUP BY day) d
SQL
}

# The checks after each step: by memory as it is, and as it is when rebuilt.
sub sound
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	psql_is($node, <<'SQL', '0', "$name: each day is that of the rep's zone at the pick");
SELECT count(*) FROM leadroute.assignment a JOIN leadroute.rep r ON r.id = a.rep
WHERE a.day <> (a.decided_at AT TIME ZONE r.timezone)::date
SQL
	verify_ok($node, 0, $name);
	psql_is($node, 'SELECT leadroute._forget(0)', 't', "$name: memory forgotten");
	verify_ok($node, 0, "$name, rebuilt");
	return;
}

# Midnight in India is at 18:30 UTC, in UTC at 0:00. One transaction, and one statement, go over both.
my ($long, $short) = sessions($node, 2);
$long->query('BEGIN; SET TIME ZONE \'Pacific/Auckland\'');
$long->query(leads('two', 30));
is(join(' ', $long->errors), '', 'before midnight in India');
$node->set_clock('2026-03-08 18:30:01');
is($long->query('SELECT now() < \'2026-03-08 18:30+00\', clock_timestamp() > \'2026-03-08 18:30+00\''), 't|t', 'midnight in India passes');
$long->query(leads('two', 6));
$short->query(leads('two', 30));
is(join(' ', $long->errors, $short->errors), '', 'leads after it, in two sessions');
$long->query(leads('two', 30));
$node->set_clock('2026-03-09 00:00:01');
$long->query(leads('two', 5));
$short->query(leads('two', 30));
$long->query('SAVEPOINT s; ' . leads('two', 30) . '; ROLLBACK TO s; COMMIT');
is(join(' ', $long->errors, $short->errors), '', 'leads after midnight in UTC');
is(days(1), '03-08: 10, 03-09: 10', 'India: two days, both full');
is(days(2), '03-08: 8, 03-09: 8', 'UTC: two days, both full');
sound('after both midnights');

# A single statement goes over midnight: it sleeps between its rows.
$node->set_clock('2026-03-10 18:29:58');
$long->send("INSERT INTO leads (source) SELECT 'two' FROM generate_series(1, 80) WHERE pg_sleep(0.05) IS NOT NULL");
$short->query(leads('two', 5));
$long->wait;
is(join(' ', $long->errors), '', 'a statement over midnight');
$short->query(leads('two', 40));
like(days(1), qr/03-10: \d+, 03-11: 10$/, 'India: leads of two days, the second is full');
$node->set_clock('2026-03-10 18:29:30');
$short->query(leads('two', 40));
is(days(1), '03-08: 10, 03-09: 10, 03-10: 10, 03-11: 10', 'and so is the first, with the clock set back');
is(days(2), '03-08: 8, 03-09: 8, 03-10: 8', 'UTC: one day is');
sound('after a statement over midnight');

# A turn given back after midnight belongs to the day before.
$node->set_clock('2026-03-12 18:29:00');
$long->query('BEGIN; ' . leads('two', 4));
$node->set_clock('2026-03-12 18:31:00');
$short->query(leads('two', 30));
$long->query('ROLLBACK');
is(days(1) =~ s/.*03-11: 10, //r, '03-13: 10', 'given back to the day before');
sound('a rollback after midnight');
$node->set_clock('2026-03-12 18:20:00');
$short->query(leads('two', 30));
is(days(1) =~ s/.*03-11: 10, //r, '03-12: 10, 03-13: 10', 'where they are given out again, when the clock is set back');
sound('the clock back over midnight');

# Summer time begins in New York on March 8, in Berlin on March 29; it ends on November 1 and October
# 25. A day is a date, whether it has 23, 24 or 25 hours.
sub dst
{
	my ($name, $rep, @moments) = @_;
	for (@moments)
	{
		$node->set_clock($_);
		$short->query(leads('dst', 3));
		$long->query('BEGIN; ' . leads('dst', 20) . '; ROLLBACK');
		$short->query(leads('dst', 20));
	}
	sound($name);
	return;
}
# Last second of the day before, the first, the last, and the first of the day after.
dst('23 hours in Berlin', 5, '2026-03-28 22:59:50', '2026-03-28 23:00:01', '2026-03-29 21:59:50', '2026-03-29 22:00:01');
is(days(5), '03-28: 6, 03-29: 6, 03-30: 6', 'each day of Berlin once');
is(days(4), '03-28: 6, 03-29: 6', 'in New York it is one day less');
dst('25 hours in Berlin', 5, '2026-10-24 21:59:50', '2026-10-24 22:00:01', '2026-10-25 22:30:00', '2026-10-25 23:00:01');
is(days(5) =~ s/.*03-30: 6, //r, '10-24: 6, 10-25: 6, 10-26: 6', 'the hour that comes twice belongs to its day');
dst('25 hours in New York', 4, '2026-11-01 03:59:50', '2026-11-01 04:00:01', '2026-11-02 04:30:00', '2026-11-02 05:00:01');
is(days(4) =~ s/.*03-29: 6, //r, '10-24: 6, 10-25: 6, 10-31: 6, 11-01: 6, 11-02: 6', 'and in New York');
dst('23 hours in New York', 4, '2027-03-14 04:59:50', '2027-03-14 05:00:01', '2027-03-15 03:59:50', '2027-03-15 04:00:01');
psql_is($node, "SELECT string_agg(format('%s: %s', day, n), ', ' ORDER BY day) FROM (SELECT day, count(*) AS n FROM leadroute.assignment WHERE rep = 4 AND day > '2027-01-01' GROUP BY day) d",
	'2027-03-13: 6, 2027-03-14: 6, 2027-03-15: 6', 'the hour that is left out too');

# The clock is set back by a day, then by two hours, then forth again: the days in question are full
# already, so nothing more is given out, and what is not full gets full.
$node->set_clock('2027-06-10 12:00:00');
$short->query(leads('two', 25));
$node->set_clock('2027-06-11 12:00:00');
$short->query(leads('two', 6));
sub june { my ($rep) = @_; return $node->safe_psql('postgres', "SELECT string_agg(format('%s: %s', to_char(day, 'DD'), n), ', ' ORDER BY day) FROM (SELECT day, count(*) AS n FROM leadroute.assignment WHERE rep = $rep AND day > '2027-06-01' GROUP BY day) d") }
is(june(1) . '; ' . june(2), '10: 10, 11: 3; 10: 8, 11: 3', 'a full day and a part of the next');
$node->set_clock('2027-06-10 12:00:00');
$_->query(leads('two', 25)) for $short, $long;
is(june(1) . '; ' . june(2), '10: 10, 11: 3; 10: 8, 11: 3', 'a day back: it is full');
sound('a day back');
$_->query(leads('two', 25)) for $short, $long;
is(june(1) . '; ' . june(2), '10: 10, 11: 3; 10: 8, 11: 3', 'full when rebuilt, too');
$node->set_clock('2027-06-11 10:00:00');
$short->query(leads('two', 4));
$node->set_clock('2027-06-11 12:30:00');
$short->query(leads('two', 25));
is(june(1) . '; ' . june(2), '10: 10, 11: 10; 10: 8, 11: 8', 'forth again: the rest of the day is given out');
sound('forth again');
$node->restart;
verify_ok($node, 0, 'after a restart');
psql_is($node, leads('two', 5) . ' RETURNING owner_id', join("\n", (3) x 5), 'the caps are still full');
$node->set_clock('2027-06-09 12:00:00');
psql_ok($node, leads('two', 25), 'two days back');
is(june(1) . '; ' . june(2), '09: 10, 10: 10, 11: 10; 09: 8, 10: 8, 11: 8', 'a day that had nothing gets full, and no other more');
sound('two days back');
psql_is($node, "SELECT count(*) FROM leads WHERE owner_id IS NULL AND source IN ('two', 'dst')", '0', 'no lead had to wait');
$_->close for $short, $long;

# A cap was reached, then nothing happened for days: who was away is owed nothing for it, whenever
# memory is rebuilt.
psql_ok($node, <<'SQL', 'a pool with one capped rep');
INSERT INTO leadroute.rep (id, name, daily_cap) VALUES (6, 'Capped', 2), (7, 'Other', NULL);
INSERT INTO leadroute.pool (name) VALUES ('quiet');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('quiet', 6), ('quiet', 7);
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool) VALUES ('leads', 3, 'quiet', $$source = 'quiet'$$, 'quiet');
SQL
$node->set_clock('2027-07-01 12:00:00');
psql_ok($node, leads('quiet', 60), 'beyond the cap');
for my $day (2, 3, 5, 13)
{
	$node->set_clock(sprintf '2027-07-%02d 12:00:00', $day);
	$node->safe_psql('postgres', 'SELECT leadroute._forget(0)');
	psql_is($node, "SELECT max(abs(deficit)) <= 1 FROM leadroute.pool_state WHERE pool = 'quiet'", 't', "rebuilt on day $day: nobody is owed more than a turn");
}

done_testing();
