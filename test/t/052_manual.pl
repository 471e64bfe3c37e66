# What people do to leads, and reroute_on: every action with every ending of its transaction (committed,
# rolled back in whole or in part, caught in a function, prepared, terminated) keeps its turn or gives it
# back in full, and lead and record agree. Then many sessions do all of it at once to a few leads:
# nobody waits in a circle, one episode is open per lead, caps hold.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use LeadrouteTest::Clients;
use LeadrouteTest::Leads;
use Test::More;

seed();
my $node = start_node('main', extension => 0, conf => "jit = off\nmax_prepared_transactions = 20\ndeadlock_timeout = 200ms");
my $zone = noon_zone();
$node->safe_psql('postgres', 'CREATE DATABASE endings');
$node->safe_psql($_, <<"SQL" . checks_sql('leads')) for 'endings', 'postgres';
CREATE EXTENSION leadroute;
CREATE TABLE leads (id bigint PRIMARY KEY, region text, owner_id bigint);
INSERT INTO leadroute.rep (id, name, timezone) SELECT i, 'Rep ' || i, '$zone' FROM generate_series(1, 6) i;
INSERT INTO leadroute.pool (name) VALUES ('north'), ('south'), ('few');
INSERT INTO leadroute.pool_member (pool, rep, daily_cap) VALUES ('north', 1, NULL), ('north', 2, NULL), ('south', 3, NULL), ('south', 4, NULL), ('few', 5, 20);
SELECT leadroute.attach('leads', reroute_on => '{region}', fallback_pool => 'north');
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool) VALUES
    ('leads', 1, 'south', \$\$region = 'south'\$\$, 'south'), ('leads', 2, 'few', \$\$region = 'few'\$\$, 'few'), ('leads', 3, 'north', \$\$region = 'north'\$\$, 'north');
SQL

# ---- endings ---------------------------------------------------------------------------------------

# Action, what the lead is before, and its owner and turns taken by pool members and days after.
my %action = (
	reassign => [ "region = 'north'", "PERFORM leadroute.reassign('leads', ?, 6)" ],
	release => [ "region = 'north'", "PERFORM leadroute.release('leads', ?)" ],
	route => [ "region = 'north', owner_id = NULL", "PERFORM leadroute.route('leads', ?)" ],
	'release and route' => [ "region = 'north'", "PERFORM leadroute.release('leads', ?); PERFORM leadroute.route('leads', ?)" ],
	reroute => [ "region = 'north'", "UPDATE leads SET region = 'south' WHERE id = ?" ],
	'reroute to nobody' => [ "region = 'north'", "UPDATE leads SET region = 'nowhere' WHERE id = ?" ],
	owner => [ "region = 'north'", "UPDATE leads SET owner_id = 6 WHERE id = ?" ],
	everything => [ "region = 'north'", "PERFORM leadroute.reassign('leads', ?, 6); UPDATE leads SET region = 'south' WHERE id = ?; PERFORM leadroute.release('leads', ?);"
		. "PERFORM leadroute.route('leads', ?); UPDATE leads SET region = 'north' WHERE id = ?; DELETE FROM leads WHERE id = ? + 100000" ]);
my %ending = (
	commit => [ 1, sub { "BEGIN; DO \$\$BEGIN $_[0]; END\$\$; COMMIT" } ],
	rollback => [ 0, sub { "BEGIN; DO \$\$BEGIN $_[0]; END\$\$; ROLLBACK" } ],
	savepoint => [ 0, sub { "BEGIN; SAVEPOINT a; DO \$\$BEGIN $_[0]; END\$\$; ROLLBACK TO a; COMMIT" } ],
	released => [ 1, sub { "BEGIN; SAVEPOINT a; DO \$\$BEGIN $_[0]; END\$\$; RELEASE a; COMMIT" } ],
	exception => [ 0, sub { "DO \$\$BEGIN BEGIN $_[0]; RAISE 'x'; EXCEPTION WHEN raise_exception THEN NULL; END; END\$\$" } ],
	prepared => [ 1, sub { "BEGIN; DO \$\$BEGIN $_[0]; END\$\$; PREPARE TRANSACTION 'p'; COMMIT PREPARED 'p'" } ],
	'prepared and back' => [ 0, sub { "BEGIN; DO \$\$BEGIN $_[0]; END\$\$; PREPARE TRANSACTION 'p'; ROLLBACK PREPARED 'p'" } ],
	terminated => [ 0, sub { "BEGIN; DO \$\$BEGIN $_[0]; END\$\$; SELECT pg_terminate_backend(pg_backend_pid())" } ],
	failed => [ 0, sub { "BEGIN; DO \$\$BEGIN $_[0]; END\$\$; SELECT 1 / 0; COMMIT" } ]);
my $turns = "(SELECT jsonb_agg(jsonb_build_object('rep', m.rep, 'received', m.received) ORDER BY m.rep) FROM leadroute._pool_memory(0) m), (SELECT jsonb_agg(d ORDER BY d.rep) FROM leadroute._day_memory(0) d WHERE d.used <> 0)";
my $id = 0;
for my $action (sort keys %action)
{
	for my $ending (sort keys %ending)
	{
		my ($before, $sql) = @{ $action{$action} };
		my ($kept, $transaction) = @{ $ending{$ending} };
		$id++;
		(my $run = $sql) =~ s/\?/$id/g;
		# both lines see the same: the lead, its episodes, what memory says
		my $look = "SELECT (SELECT concat_ws(' ', region, owner_id) FROM leads WHERE id = $id), (SELECT string_agg(concat_ws(':', d.episode, d.rep, d.method, d.end_reason), ' ' ORDER BY d.episode) FROM leadroute.decision d WHERE d.lead_id = '$id'), $turns";
		$node->safe_psql('endings', "INSERT INTO leads (id, region) VALUES ($id, 'north'); UPDATE leads SET $before WHERE id = $id");
		my $was = $node->safe_psql('endings', $look);
		$node->psql('endings', $transaction->($run), on_error_stop => 0);
		# what was prepared is settled by the next look
		$node->poll_query_until('endings', 'SELECT count(*) > 0 AND NOT EXISTS (SELECT FROM leadroute.in_flight) FROM leadroute._pool_memory(0)') or die 'turns stay in flight';
		my $is = $node->safe_psql('endings', $look);
		my $problems = $node->safe_psql('endings', 'SELECT problems()');
		is((($is ne $was) || 0) . " $problems", "$kept ", "$action, $ending") or diag("$was\n$is");
	}
}

# ---- many at once ------------------------------------------------------------------------------------

my $leads = 6;
my $sessions = 8;
$node->safe_psql('postgres', "INSERT INTO leads (id, region) SELECT i, 'north' FROM generate_series(1, $leads) i");
sub action
{
	my $lead = 1 + int rand $leads;
	my $rep = 1 + int rand 6;
	my $region = (qw(north south few nowhere))[ int rand 4 ];
	return ("SELECT 'manual' FROM leadroute.reassign('leads', $lead, $rep)", "SELECT 'released' FROM leadroute.release('leads', $lead)",
		"SELECT 'routed' FROM leadroute.route('leads', $lead)", "UPDATE leads SET region = '$region' WHERE id = $lead", "UPDATE leads SET region = '$region' WHERE id = $lead",
		"UPDATE leads SET owner_id = $rep WHERE id = $lead", "UPDATE leads SET owner_id = NULL WHERE id = $lead", "UPDATE leads SET region = region, owner_id = owner_id WHERE id = $lead",
		"DELETE FROM leads WHERE id = $lead", "INSERT INTO leads (id, region) VALUES ($lead, '$region') ON CONFLICT DO NOTHING", "INSERT INTO leads (id, region) VALUES ($lead, '$region') ON CONFLICT (id) DO UPDATE SET region = EXCLUDED.region"
	)[ int rand 11 ] . ';';
}
my @scripts;
for my $number (1 .. $sessions)
{
	my $level = $number % 4 ? 'read committed' : 'repeatable read';
	my $sql = "SET default_transaction_isolation = '$level';\n";
	for (1 .. soak(120, 3000))
	{
		my $action = action();
		my $rest = rand;
		$sql .= $rest < 0.6 ? "$action\n" : $rest < 0.75 ? "BEGIN;\n$action\nCOMMIT;\n" : $rest < 0.9 ? "BEGIN;\n$action\nROLLBACK;\n"
		  : "BEGIN;\nSAVEPOINT a;\n$action\nROLLBACK TO a;\n$action\nCOMMIT;\n";
	}
	push @scripts, { sql => $sql, kept => [], refused => [] };
}
my $load = LeadrouteTest::Clients->new($node, slots => $sessions, scripts => \@scripts);
$load->finish;
my %errors = $load->errors;
my %wanted = map { $_ => 1 } qw(LR007 LR009 40001 25P02);
is(join(' ', grep { !$wanted{$_} } sort keys %errors), '', 'no deadlock, and no error but those of who comes too late') or diag($load->messages);
cmp_ok($load->count($_), '>', 0, "some were $_") for 'manual', 'released', 'routed';
psql_is($node, 'SELECT problems()', '', 'record, memory and leads agree');
cmp_ok($node->safe_psql('postgres', "SELECT count(*) FROM leadroute.decision WHERE method = 'reroute'"), '>', 0, 'some were rerouted');
is($node->safe_psql('postgres', 'SELECT count(*) FROM leadroute.decision d JOIN leadroute.decision p USING (lead_id)
	WHERE p.episode = d.episode - 1 AND (p.ended_at IS NULL OR p.ended_at > d.decided_at + interval $$1 s$$)'), '0', 'episodes follow each other');
is($node->safe_psql('postgres', q{SELECT count(*) FROM leadroute.decision d JOIN leadroute.decision p USING (lead_id)
	WHERE d.method = 'reroute' AND p.episode = d.episode - 1 AND p.method = 'manual'}), '0', 'none over a person');
figure(%errors);

# Memory that is built anew from the record agrees.
$node->restart;
psql_is($node, 'SELECT problems()', '', 'after a restart, too', dbname => $_) for 'postgres', 'endings';

done_testing();
