# More daily caps and the clock, each scene with a pool of its own, in which every pick is foretold: a
# turn given back, or prepared, on another day; days of 23 and of 25 hours in many zones, and one that
# was left out; a clock that is set back by an hour, a day or weeks, with and without a restart; other
# caps, zones and pools. No cap is overshot in any of them.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use LeadrouteTest::Leads;
use Test::More;

my $node = start_node('main', clock => '2024-05-10 12:00:00', conf => "autovacuum = off\njit = off");
$node->safe_psql('postgres', <<"SQL" . checks_sql('leads'));
SELECT leadroute.create_lead_table('public.leads');
SQL

my ($session, $key) = (undef, 0);
my $pool = 0;

# reps_in makes a pool of its own with a rep for each zone, of this cap.
sub reps_in
{
	my ($cap, @zones) = @_;
	$pool++;
	my $first = $pool * 10;
	$session->query(join ';', "INSERT INTO leadroute.pool (name) VALUES ('p$pool')",
		"INSERT INTO leadroute.rule (lead_table, position, name, condition, pool) VALUES ('leads', $pool, 'p$pool', \$\$source = 'p$pool'\$\$, 'p$pool')",
		map { my $rep = $first + $_; "INSERT INTO leadroute.rep (id, name, timezone, daily_cap) VALUES ($rep, '$zones[$_]', '$zones[$_]', $cap); INSERT INTO leadroute.pool_member (pool, rep) VALUES ('p$pool', $rep)" } 0 .. $#zones);
	return;
}

# The reps that the next leads go to, by number within the pool; - is nobody.
sub leads
{
	my ($n) = @_;
	my @owners = map { $session->query("INSERT INTO leads (id, source) VALUES (@{[++$key]}, 'p$pool') RETURNING coalesce(owner_id % 10, -1)") } 1 .. $n;
	return join ' ', map { $_ eq '-1' ? '-' : $_ } @owners;
}

# In any order: how many leads each rep has been given.
sub leads_by_rep
{
	my ($n) = @_;
	my %count;
	$count{$_}++ for split / /, leads($n);
	return join ' ', map { "$_:$count{$_}" } sort keys %count;
}

sub at { my ($moment) = @_; $node->set_clock($moment); return }

sub days
{
	return $session->query("SELECT coalesce(string_agg(rep % 10 || ' ' || day || ' ' || n, ', ' ORDER BY rep, day), '') FROM (SELECT rep, day, count(*) AS n FROM leadroute.assignment WHERE rep / 10 = $pool GROUP BY rep, day) d");
}

sub connect_again
{
	$session->close if $session;
	($session) = sessions($node, 1);
	return;
}

sub scene
{
	my ($name, $moment) = @_;
	at($moment);
	connect_again();
	return $name;
}

sub sound
{
	my ($name) = @_;
	is($session->query("SELECT p FROM problems() p WHERE p !~ '^pool_state'"), '', "$name: nothing is wrong");
	is($session->query('SELECT a.rep, a.day FROM leadroute.assignment a WHERE a.rep_cap IS NOT NULL GROUP BY a.rep, a.day HAVING count(*) > max(a.rep_cap)'),
		'', "$name: no cap overshot");
	return;
}

# ---- midnight --------------------------------------------------------------------------------------

my $name = scene('midnight in a transaction', '2024-05-10 23:59:40');
reps_in(2, 'UTC', 'Asia/Kolkata'); # Kolkata's midnight is at 18:30 UTC
$session->query('BEGIN');
is(leads_by_rep(6), '-:2 0:2 1:2', "$name: both are full");
at('2024-05-11 00:00:05');
is($session->query("SELECT now()::date || ' ' || clock_timestamp()::date"), '2024-05-10 2024-05-11', "$name: the transaction is of the day before");
is(leads_by_rep(4), '-:2 0:2', "$name: a new day where it is midnight");
at('2024-05-11 18:29:00');
is(leads(1), '-', "$name: not yet in Kolkata");
at('2024-05-11 18:30:30');
is(leads(4), '1 1 - -', "$name: and now");
is(days(), '0 2024-05-10 2, 0 2024-05-11 2, 1 2024-05-11 2, 1 2024-05-12 2', "$name: the days recorded");
$session->query('COMMIT');
sound($name);

$name = scene('a turn given back after midnight', '2024-05-12 23:59:30');
reps_in(2, 'UTC');
$session->query('BEGIN');
is(leads(3), '0 0 -', "$name: full");
at('2024-05-13 00:00:10');
is(leads(1), '0', "$name: one of the next day");
$session->query('ROLLBACK');
is(leads(3), '0 0 -', "$name: two of the next day are free");
at('2024-05-12 23:59:50');
is(leads(3), '0 0 -', "$name: and those of the day before, on that day");
sound($name);

$name = scene('prepared before midnight', '2024-05-14 23:59:30');
reps_in(2, 'UTC');
$session->query("BEGIN; INSERT INTO leads (id, source) VALUES (@{[++$key]}, 'p$pool'), (@{[++$key]}, 'p$pool'); PREPARE TRANSACTION 'clock'");
is(leads(1), '-', "$name: full");
at('2024-05-15 00:00:10');
is(leads(1), '0', "$name: not on the next day");
$session->query("ROLLBACK PREPARED 'clock'");
is(leads(2), '0 -', "$name: rolled back, it is no turn of this day");
at('2024-05-14 23:59:55');
is(leads(3), '0 0 -', "$name: but of that one");
sound($name);

# ---- days of other lengths -------------------------------------------------------------------------

for my $summer (
	[ 'Europe/London, 23 hours', 'Europe/London', '2024-03-31 00:00:20', '2024-03-31 22:59:30', '2024-03-31 23:00:10' ],
	[ 'Europe/London, 25 hours', 'Europe/London', '2024-10-26 23:00:20', '2024-10-27 23:59:30', '2024-10-28 00:00:10' ],
	[ 'America/New_York, 23 hours', 'America/New_York', '2024-03-10 05:00:20', '2024-03-11 03:59:30', '2024-03-11 04:00:10' ],
	[ 'America/New_York, 25 hours', 'America/New_York', '2024-11-03 04:00:20', '2024-11-04 04:59:30', '2024-11-04 05:00:10' ],
	[ 'Asia/Beirut, midnight itself is left out', 'Asia/Beirut', '2024-03-30 22:00:20', '2024-03-31 20:59:30', '2024-03-31 21:00:10' ],
	[ 'Pacific/Apia, a day is left out', 'Pacific/Apia', '2011-12-29 10:00:20', '2011-12-30 09:59:30', '2011-12-30 10:00:10' ],
	[ 'Pacific/Kiritimati, fourteen hours ahead', 'Pacific/Kiritimati', '2024-07-01 10:00:20', '2024-07-02 09:59:30', '2024-07-02 10:00:10' ])
{
	my ($what, $zone, $begins, $ends, $next) = @$summer;
	$name = scene($what, $begins);
	reps_in(3, $zone);
	is(leads(2), '0 0', "$name: the day begins");
	at($ends);
	is(leads(2), '0 -', "$name: is the same at its end");
	at($next);
	is(leads(4), '0 0 0 -', "$name: and the next one begins");
	sound($name);
}

# ---- the clock is set back -------------------------------------------------------------------------

$name = scene('an hour back, over midnight', '2024-06-02 00:10:00');
reps_in(3, 'UTC');
is(leads(2), '0 0', "$name: two on the second day");
at('2024-06-01 23:10:00');
is(leads(4), '0 0 0 -', "$name: three on the first");
at('2024-06-02 00:05:00');
is(leads(2), '0 -', "$name: and one more on the second");
sound($name);

for my $restart (0, 1)
{
	$name = scene('a day back' . ($restart ? ', restarted' : ''), '2024-06-10 12:00:00');
	my $again = sub {
		my ($moment) = @_;
		at($moment);
		return unless $restart;
		$session->close;
		$node->restart;
		connect_again();
	};
	reps_in(3, 'UTC', 'Pacific/Kiritimati');
	is(leads_by_rep(4), '0:2 1:2', "$name: two each");
	$again->('2024-06-11 12:00:00');
	is(leads_by_rep(8), '-:2 0:3 1:3', "$name: full on the next day");
	$again->('2024-06-10 12:30:00');
	is(leads_by_rep(4), '-:2 0:1 1:1', "$name: one more each on the day before");
	$again->('2024-06-09 12:00:00');
	is(leads_by_rep(4), '0:2 1:2', "$name: nothing yet on the day before that");
	$again->('2024-06-11 13:00:00');
	is(leads(1), '-', "$name: still full on the last");
	# Weeks before: memory may know nothing of those days, so that leads may have to wait.
	$again->('2024-05-20 12:00:00');
	leads(8);
	sound("$name: weeks before");
	$again->('2024-06-09 13:00:00');
	is(leads_by_rep(4), '-:2 0:1 1:1', "$name: one more each of those two");
	$again->('2024-06-11 14:00:00');
	is(leads(1), '-', "$name: and still full");
	$again->('2024-05-20 13:00:00');
	leads(8);
	sound($name);
}

# ---- changes of the configuration ------------------------------------------------------------------

$name = scene('a cap lowered and raised', '2024-07-01 12:00:00');
reps_in(3, 'UTC');
is(leads(2), '0 0', "$name: two of three");
$session->query("UPDATE leadroute.rep SET daily_cap = 1 WHERE id = $pool * 10");
is(leads(1), '-', "$name: lowered below what is used");
$session->query("UPDATE leadroute.rep SET daily_cap = 4 WHERE id = $pool * 10");
is(leads(3), '0 0 -', "$name: raised");
at('2024-07-02 12:00:00');
is(leads(5), '0 0 0 0 -', "$name: the next day");
is($session->query('SELECT v FROM leadroute.verify() v'), '(0,0,0,0,0)', "$name: nothing is wrong");

$name = scene('another zone', '2024-07-05 12:00:00');
reps_in(2, 'UTC');
is(leads(3), '0 0 -', "$name: full in UTC");
$session->query("UPDATE leadroute.rep SET timezone = 'Pacific/Kiritimati' WHERE id = $pool * 10");
is(leads(3), '0 0 -', "$name: it is tomorrow in Kiritimati");
$session->query("UPDATE leadroute.rep SET timezone = 'UTC' WHERE id = $pool * 10");
is(leads(1), '-', "$name: and still today in UTC");
sound($name);

# The session's zone has nothing to do with it.
$name = scene("the session's zone", '2024-07-10 23:30:00');
reps_in(2, 'UTC');
is(leads(1), '0', "$name: one");
$session->query("SET timezone = 'Asia/Tokyo'");
is(leads(2), '0 -', "$name: and one, though it is another day there");
is(days(), '0 2024-07-10 2', "$name: the day recorded");
sound($name);

# A rep in two pools, and a member's own cap: both days are the rep's.
$name = scene('in two pools', '2024-07-15 23:59:30');
reps_in(5, 'UTC');
$session->query("UPDATE leadroute.pool_member SET daily_cap = 2 WHERE pool = 'p$pool'");
my $rep = $pool * 10;
is(leads(3), '0 0 -', "$name: the member's cap");
$pool++;
$session->query("INSERT INTO leadroute.pool (name) VALUES ('p$pool'); INSERT INTO leadroute.pool_member (pool, rep) VALUES ('p$pool', $rep);
	INSERT INTO leadroute.rule (lead_table, position, name, condition, pool) VALUES ('leads', $pool, 'p$pool', \$\$source = 'p$pool'\$\$, 'p$pool')");
is(leads(4), '0 0 0 -', "$name: the rep's cap, over both");
at('2024-07-16 00:00:10');
is(leads(6), '0 0 0 0 0 -', "$name: the rep's next day");
$pool--;
is(leads(1), '-', "$name: in both");
sound($name);

$session->close;
done_testing();
