# claim_next() by many sessions at once, who are handed the leads of a queue out of shared memory: no lead
# goes to two of them, none is forgotten, and the best that waits is given first, whatever was rolled
# back, released, held by somebody or lost in a crash meanwhile.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use LeadrouteTest::Clients;
use Test::More;
use Time::HiRes ();

seed();
my $node = start_node('main', conf => "jit = off\nmax_connections = 60");
my $reps = 12; # and rep 99, who claims what is left

$node->safe_psql('postgres', <<"SQL");
CREATE TABLE leads (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, priority int, score float8, owner_id bigint);
SELECT leadroute.attach('leads');
UPDATE leadroute.lead_table SET score_column = 'score';
INSERT INTO leadroute.rep (id, name) SELECT i, 'Rep ' || i FROM generate_series(1, $reps) i UNION SELECT 99, 'Rep 99';
INSERT INTO leadroute.pool (name, mode, release_to) VALUES ('pull', 'pull', 'front');
INSERT INTO leadroute.pool_member (pool, rep) SELECT 'pull', id FROM leadroute.rep;
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool, label)
    SELECT 'leads', i, 'priority ' || i, 'priority = ' || i, 'pull', jsonb_build_object('priority', i) FROM generate_series(1, 9) i;
CREATE VIEW waiting AS SELECT lead_id FROM leadroute.assignment WHERE rep IS NULL AND ended_at IS NULL
    ORDER BY leadroute._place(label, at_front), coalesce(-score, 'Infinity'), decided_at, lead_id::bigint;
SQL

sub insert_sql
{
	my ($leads, $priority) = @_;
	$priority //= 1 + int rand 9;
	return "INSERT INTO leads (priority, score) SELECT $priority, " . int(rand 5) . " FROM generate_series(1, $leads)";
}

sub claim_sql { my ($rep) = @_; return "SELECT lead_id FROM leadroute.claim_next($rep, 'pull')" }

# ---- the best that waits is given first ------------------------------------------------------------

my @session = sessions($node, 8);

sub best { return $node->safe_psql('postgres', 'SELECT lead_id FROM waiting LIMIT 1') }

# Claims by one of the sessions, and says whether it was what should come.
sub claim_is
{
	my ($what, $expected, $rep, $session) = @_;
	$rep //= 1 + int rand $reps;
	my $got = ($session // $session[ int rand @session ])->query(claim_sql($rep));
	return is($got, $expected, $what) && $got;
}

psql_ok($node, insert_sql(2), 'leads of priority 5') for 1 .. 3;
my %wrong;
for my $step (1 .. soak(300, 3000))
{
	my $session = $session[ int rand @session ];
	my $kind = rand;
	if ($kind < 0.35)
	{
		$session->query(insert_sql(1 + int rand 2));
		next;
	}
	my $best = best();
	if ($kind < 0.45)
	{
		my $end = (rand) < 0.5 ? 'ROLLBACK' : "ROLLBACK TO a;\nCOMMIT";
		$session->query("BEGIN;\nSAVEPOINT a;\n" . claim_sql(1 + int rand $reps) . ";\n$end");
	}
	my $got = $session[ int rand @session ]->query(claim_sql(99));
	push @{ $wrong{ $kind < 0.45 ? 'after a rollback' : 'order' } }, "$got instead of $best at step $step" if $got ne $best;
	# rep 7 is not given it again
	$session->query('SELECT leadroute.release(\'leads\', (' . claim_sql(7) . ")::bigint, 'by mistake')") if $kind > 0.95 && best();
}
is(join('; ', map { "$_: @{$wrong{$_}}" } sort keys %wrong), '', 'every claim gave the best that waited');

$node->safe_psql('postgres', insert_sql(3, 9));
my ($holder, $claimer) = @session;
my $held = best();
$holder->query("BEGIN;\nSELECT FROM leads WHERE id = $held FOR UPDATE");
isnt($claimer->query(claim_sql(99)), $held, 'a lead that somebody holds is left out');
$holder->query('ROLLBACK');
$node->safe_psql('postgres', insert_sql(5, 9));
my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
my $again = '';
while ($again ne $held && time < $deadline)
{
	$node->safe_psql('postgres', insert_sql(1, 9));
	$again = $claimer->query(claim_sql(99));
}
is($again, $held, 'it comes back, before those that came later');

my $last = $claimer->query("BEGIN;\n" . insert_sql(1, 1) . ";\n" . claim_sql(99) . ";\nCOMMIT");
is($last, $node->safe_psql('postgres', 'SELECT max(id) FROM leads'), 'a transaction claims what it has inserted itself');

# ---- many at once ----------------------------------------------------------------------------------

# One transaction of a client; what it took and gave is said once it is acknowledged.
sub transaction
{
	my ($rep) = @_;
	my $claim = sub { return "\\set $_[0] none\n" . claim_sql($rep) =~ s/lead_id FROM/lead_id AS $_[0] FROM/r . " \\gset\n" };
	my $commit = "SELECT;\n\\set failed :ERROR\nCOMMIT;\n\\echo "; # that of a failed transaction raises no error
	my $kind = rand;
	return insert_sql(1 + int rand 3) . ";\n" if $kind < 0.3;
	return "BEGIN;\n" . $claim->('a') . "ROLLBACK;\n" if $kind < 0.45;
	return "BEGIN;\nSAVEPOINT s;\n" . $claim->('b') . "ROLLBACK TO s;\n" . $claim->('a') . "${commit}took :a :failed :ERROR $rep\n" if $kind < 0.55;
	return "BEGIN;\n" . insert_sql(1) . ";\n" . $claim->('a') . $claim->('b') . "${commit}took :a :failed :ERROR $rep\n\\echo took :b :failed :ERROR $rep\n" if $kind < 0.65;
	return $claim->('a') . "\\echo took :a false :ERROR $rep\n\\echo gives :a false false $rep\nSELECT leadroute.release('leads', id, 'no time') FROM (SELECT nullif(:'a', 'none')::bigint) l (id) WHERE id IS NOT NULL;\n\\echo gave :a false :ERROR $rep\n" if $kind < 0.7;
	return $claim->('a') . "\\echo took :a false false $rep\n";
}

sub client
{
	my ($rep) = @_;
	return { sql => join('', map { transaction($rep) } 1 .. 250), kept => [], refused => [] };
}

my %taken; # lead => reps who were told that they have it
my %gives; # leads of which a crash may have lost the news that they were given back

sub read_clients
{
	my ($load) = @_;
	for my $script (@{ $load->{done} })
	{
		for (split /\n/, PostgreSQL::Test::Utils::slurp_file("$script->{file}.out"))
		{
			next unless /^(took|gives|gave) (\d+) false false (\d+)$/;
			push @{ $taken{$2} }, $3 if $1 eq 'took';
			pop @{ $taken{$2} } if $1 eq 'gave';
			$gives{$2} += $1 eq 'gives' ? 1 : $1 eq 'gave' ? -1 : 0;
		}
	}
	return;
}

sub kill_backend
{
	my $pid = $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE application_name = 'load' AND state <> 'idle' ORDER BY random() LIMIT 1");
	return $pid && kill('KILL', $pid);
}

$_->close for @session;
for my $round (1 .. soak(4, 40))
{
	my $what = ('', 'a backend killed', 'immediate stop', 'disturbed')[ $round % 4 ];
	my $load = LeadrouteTest::Clients->new($node, slots => $reps, scripts => [ map { client($_) } 1 .. $reps ]);
	if ($what eq 'disturbed')
	{
		my ($disturber) = sessions($node, 1);
		$load->finish(sub { $load->disturb($disturber, (rand) < 0.3) });
	}
	elsif ($what)
	{
		Time::HiRes::sleep(0.1 + rand 0.4);
		if ($what eq 'immediate stop')
		{
			$node->stop('immediate');
			$node->start;
		}
		else
		{
			kill_backend();
		}
	}
	$load->finish;
	$node->poll_query_until('postgres', 'SELECT true') or die 'the server does not come back';
	read_clients($load);
	my %errors = $load->errors;
	figure(round => $round, taken => scalar(grep { @{ $taken{$_} } } keys %taken), map { +"error_$_" => $errors{$_} } keys %errors);
	is(join(' ', grep { !/^(25P02|57014|57P01|57P02|57P03|08006)$/ } sort keys %errors), '', "no error of its own in round $round");
}

# ---- nothing is forgotten --------------------------------------------------------------------------

my ($rest) = sessions($node, 1);
$rest->query("DO \$\$BEGIN WHILE EXISTS (SELECT FROM leadroute.claim_next(99, 'pull')) LOOP COMMIT; END LOOP; END\$\$");
is(join(' ', $rest->errors), '', 'the rest is claimed');
psql_is($node, 'SELECT count(*) FROM waiting', '0', 'until nothing waits');
psql_is($node, 'SELECT count(*) FROM leads WHERE owner_id IS NULL', '0', 'every lead has an owner');
psql_is($node, "SELECT count(*) FROM leadroute.assignment WHERE method = 'claim' AND end_reason <> 'released'", '0', 'who has claimed a lead keeps it');
my %owner = map { split /\|/ } split /\n/, $node->safe_psql('postgres', 'SELECT id, owner_id FROM leads');
my @lost = grep { my $reps = $taken{$_}; !$gives{$_} && (@$reps > 1 || @$reps == 1 && $owner{$_} != $reps->[0]) } keys %taken;
is(join(' ', map { "$_ (@{$taken{$_}})" } @lost), '', 'each has the leads that he was told he has');
verify_ok($node, 0, 'verify() finds nothing');

# ---- more queues than there are cursors ------------------------------------------------------------

my $tenants = 90;
$node->safe_psql('postgres', <<"SQL");
CREATE TABLE many (tenant bigint, id bigint, owner_id bigint, PRIMARY KEY (tenant, id));
SELECT leadroute.attach('many', tenant_column => 'tenant');
INSERT INTO leadroute.rep (tenant, id, name) SELECT t, 1, 'Rep' FROM generate_series(1, $tenants) t;
INSERT INTO leadroute.pool (tenant, name, mode) SELECT t, 'pull', 'pull' FROM generate_series(1, $tenants) t;
INSERT INTO leadroute.pool_member (tenant, pool, rep) SELECT t, 'pull', 1 FROM generate_series(1, $tenants) t;
INSERT INTO leadroute.rule (tenant, lead_table, position, name, condition, pool) SELECT t, 'many', 1, 'all', 'true', 'pull' FROM generate_series(1, $tenants) t;
INSERT INTO many SELECT t, i FROM generate_series(1, $tenants) t, generate_series(1, 3) i;
SQL
for my $lead (1 .. 3)
{
	psql_is($node, "SELECT count(*), min(c.lead_id), max(c.lead_id), bool_and(c.tenant = t)
		FROM generate_series(1, $tenants) t, leadroute.claim_next(1, 'pull', tenant => t) c", "$tenants|$lead|$lead|t", "each tenant is given its lead $lead");
}

done_testing();
