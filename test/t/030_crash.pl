# Crashes in the middle of a load: a backend is killed, or the server stops immediately, at random
# moments. No acknowledged lead is without its record, none that was rolled back is there, no lead has
# two owners, no cap is overshot, and the rotation by 7 : 2 : 1 goes on where it was: off by no more
# than what was in flight, and by less than one turn soon after. Transactions that were prepared
# before a crash are committed or rolled back after it, some of them after the next one.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use LeadrouteTest::Clients;
use LeadrouteTest::Leads;
use List::Util qw(max);
use Test::More;
use Time::HiRes ();

seed();
my $zone = noon_zone();
my $clients = 8;
my $most_turns = 4; # that one client's transaction holds

my $node = start_node('main', conf => 'jit = off');
$node->safe_psql('postgres', <<"SQL" . checks_sql('leads'));
SELECT leadroute.create_lead_table('public.leads');
INSERT INTO leadroute.rep (id, name, timezone, daily_cap) SELECT i, 'Rep ' || i, '$zone', CASE WHEN i > 3 THEN 150 END FROM generate_series(1, 5) i;
INSERT INTO leadroute.pool (name, method, overflow_pool) VALUES ('all', 'weighted', NULL), ('capped', 'round_robin', 'all');
INSERT INTO leadroute.pool_member (pool, rep, weight, daily_cap) VALUES
    ('all', 1, 7, NULL), ('all', 2, 2, NULL), ('all', 3, 1, NULL), ('capped', 4, 1, NULL), ('capped', 5, 1, 100);
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool) VALUES
    ('leads', 1, 'capped', \$\$source = 'capped'\$\$, 'capped'), ('leads', 2, 'else', 'true', 'all');
SQL

my (@acknowledged, @refused, %prepared);
my $next_client = 0;
my $next_key = 100_000_000;

# ---- what must hold --------------------------------------------------------------------------------

# By how much each rep of pool 'all' has received more than its share. What is prepared counts as
# received, and is not to be seen in the record.
sub surplus_sql
{
	my $received = %prepared ? "SELECT rep, received FROM leadroute.pool_state WHERE pool = 'all'"
	  : "SELECT rep, count(*) AS received FROM leadroute.assignment WHERE pool = (SELECT id FROM leadroute.pool WHERE name = 'all') GROUP BY rep";
	return "SELECT m.rep, m.weight, r.received - sum(r.received) OVER () * m.weight / sum(m.weight) OVER () AS surplus
		FROM ($received) r JOIN leadroute.pool_member m ON m.pool = 'all' AND m.rep = r.rep";
}

sub check_leads
{
	my ($what) = @_;
	my @there = split /\n/, $node->safe_psql('postgres', 'SELECT id FROM leads WHERE id > 1000');
	my %there = map { $_ => 1 } @there;
	is(join(' ', grep { !$there{$_} } @acknowledged), '', "$what: every acknowledged lead is there");
	is(join(' ', grep { $there{$_} } @refused), '', "$what: none that was rolled back");
	is($node->safe_psql('postgres', "SELECT p FROM problems() p WHERE p !~ '^(pool_state|a transaction of process  holds)'"), '', "$what: one record each, nothing beyond a cap, memory as the record");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM leadroute.in_flight WHERE pid IS NOT NULL'), '0', "$what: no turns held by processes that are gone");
	return;
}

# Soon after, each share is right to less than a turn, and stays so.
sub check_rotation
{
	my ($what, $in_flight) = @_;
	my ($largest, $leads) = split /\|/, $node->safe_psql('postgres', 'SELECT max(abs(surplus)),
		count(*) + ceil(max(greatest(surplus, 0) * 10 / weight)) FROM (' . surplus_sql() . ') s');
	cmp_ok($largest, '<', 1 + $in_flight, "$what: the rotation is off by no more than what was in flight");
	figure(surplus => $largest, further_leads => $leads);
	my $sql = join '', map { 'INSERT INTO leads (id) VALUES (' . $next_key++ . ');' } 1 .. $leads;
	$sql .= 'SELECT max(abs(surplus)) FROM (' . surplus_sql() . ') s; INSERT INTO leads (id) VALUES (' . $next_key++ . ');' for 1 .. 20;
	cmp_ok(max(split /\n/, $node->safe_psql('postgres', $sql)), '<', 1, "$what: soon by less than a turn");
	return;
}

# ---- faults ----------------------------------------------------------------------------------------

sub kill_backend
{
	my $pid = $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE application_name = 'load' ORDER BY random() LIMIT 1");
	kill 'KILL', $pid if $pid;
	return $pid ne '';
}


sub prepare
{
	my ($turns) = @_;
	my $gid = "p$next_key";
	my @keys = map { $next_key++ } 1 .. $turns;
	$node->safe_psql('postgres', "BEGIN; INSERT INTO leads (id, source) VALUES " . join(', ', map { "($_, 'x')" } @keys) . "; PREPARE TRANSACTION '$gid'");
	$prepared{$gid} = \@keys;
	return;
}

sub settle_prepared
{
	my ($leave) = @_;
	for my $gid ((sort keys %prepared)[ 0 .. keys(%prepared) - 1 - $leave ])
	{
		my $keys = delete $prepared{$gid};
		my $commit = rand() < 0.5;
		$node->safe_psql('postgres', ($commit ? 'COMMIT' : 'ROLLBACK') . " PREPARED '$gid'");
		push @{ $commit ? \@acknowledged : \@refused }, @$keys;
	}
	return;
}

sub prepared_turns { my $n = 0; $n += @$_ for values %prepared; return $n }

# ---- rounds ----------------------------------------------------------------------------------------

sub run_round
{
	my ($round) = @_;
	my $immediate = $round % 2;
	my $what = "round $round, " . ($immediate ? 'immediate stop' : 'a backend killed');
	my @scripts = map { load_script(number => $next_client++, transactions => 4000, sources => [ ('x') x 4, 'capped' ]) } 1 .. $clients;
	my $load = LeadrouteTest::Clients->new($node, slots => $clients, scripts => \@scripts);
	prepare(1 + int rand 3) for 1 .. 3;
	my $moment = 0.05 + rand 0.8;
	Time::HiRes::sleep($moment);
	$load->stop;
	if ($immediate)
	{
		$node->stop('immediate');
		$node->start;
	}
	ok($immediate || kill_backend(), sprintf '%s after %.2f s', $what, $moment);
	$load->finish;
	$node->poll_query_until('postgres', 'SELECT true') or die 'the server does not come back';
	push @acknowledged, $load->acknowledged;
	push @refused, $load->refused;

	check_leads($what);
	my $turns = prepared_turns();
	settle_prepared($round % 3);
	check_rotation($what, $clients * $most_turns + $turns);
	check_leads("$what, and after");
	my %errors = $load->errors;
	figure(round => $round, acknowledged => scalar($load->acknowledged), map { +"error_$_" => $errors{$_} } keys %errors);
	return;
}

run_round($_) for 1 .. soak(6, 60);
settle_prepared(0);
psql_is($node, 'SELECT problems()', '', 'in the end nothing is wrong');
figure(checkpoints => $node->safe_psql('postgres', 'SELECT count(*) FROM leadroute.checkpoint'), acknowledged => scalar @acknowledged);

done_testing();
