# pg_cron stands still while leads fall due, for ten minutes by the server's clock: its launcher hangs, the
# whole server is down, or (in a long run) its job is switched off. Then a single run does all that is due,
# each once, and those whom it concerns hear of each lead once: the old rep, the new one and the manager.
#
# Only the sessions' clock is moved. The launcher's is not: PostgreSQL 15 forks background workers out of a
# signal handler that interrupts select(), within which libfaketime fakes nothing, and goes on so in the child.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use LeadrouteTest::Listener;
use LeadrouteTest::Node;
use LeadrouteTest::Told;
use Test::More;

my $library = LeadrouteTest::Node::library();
my $node = start_node('main', start => 0, clock => '2026-06-10 12:00:30');
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_cron,$library'\ncron.database_name = 'postgres'\ncron.host = '"
	  . $node->host . "'\ncron.log_run = on\njit = off\n");
$node->start;
sub ask { return $node->safe_psql('postgres', $_[0]) }
ask(<<'SQL');
CREATE EXTENSION leadroute;
CREATE EXTENSION pg_cron;
SELECT leadroute.create_lead_table('public.leads');
INSERT INTO leadroute.rep (id, name) VALUES (9, 'Boss');
INSERT INTO leadroute.rep (id, name, manager) VALUES (1, 'Ann', 9), (2, 'Bob', 9);
INSERT INTO leadroute.sla_policy (name, first_touch, digest_over) VALUES ('minute', '1 minute', 1000);
INSERT INTO leadroute.sla_step (policy, share, action) VALUES ('minute', 0.5, 'remind');
INSERT INTO leadroute.pool (name, sla) VALUES ('team', 'minute');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('team', 1), ('team', 2);
INSERT INTO leadroute.rule (lead_table, position, name, pool) VALUES ('leads', 1, 'all', 'team');
SELECT leadroute.schedule_sweep();
SQL
told_view($node);

my $launcher;
END { kill 'CONT', $launcher if defined $launcher }

# The next run, at the next minute.
sub next_run
{
	my ($what) = @_;
	return wait_until($node, "SELECT count(*) > 0 AND bool_and(status = 'succeeded') FROM cron.job_run_details", "$what: pg_cron's next run succeeds");
}

sub hang
{
	$launcher = ask("SELECT pid FROM pg_stat_activity WHERE backend_type ~ 'pg_cron'");
	ok(kill('STOP', $launcher), 'the launcher hangs');
	ask('DELETE FROM cron.job_run_details');
	return;
}

sub go_on { kill 'CONT', $launcher; $launcher = undef; return }

my @channels = qw(leadroute_rep_1 leadroute_rep_2 leadroute_manager_9);
my %heard;
sub begin_listening { %heard = map { $_ => LeadrouteTest::Listener->new($node, $_) } @channels; return }

# Ten leads each minute for ten minutes, until the touch of the last ones is due.
sub leads_come
{
	my ($hour) = @_;
	for my $minute (0 .. 9)
	{
		$node->set_clock(sprintf '2026-06-10 %02d:%02d:10', $hour, 12 + $minute);
		ask("INSERT INTO leads (source) SELECT 'web' FROM generate_series(1, 10)");
	}
	$node->set_clock(sprintf '2026-06-10 %02d:23:10', $hour);
	return;
}

# The run has done it all.
sub caught_up
{
	my ($what) = @_;
	next_run($what);
	psql_is($node, "SELECT string_agg(DISTINCT story, ' or ') || ': ' || count(*) FROM (SELECT string_agg(coalesce(end_reason, 'open'), ', ' ORDER BY episode) AS story FROM leadroute.assignment WHERE lead_id IN (SELECT id::text FROM leads) GROUP BY lead_id) x",
		'breached, open: 100', "$what: each lead was taken away once");
	psql_is($node, q{SELECT count(*) FROM leadroute.assignment a JOIN leadroute.sweep_run r ON a.ended_at BETWEEN r.begun_at AND r.ended_at WHERE a.end_reason = 'breached' AND a.lead_id IN (SELECT id::text FROM leads)},
		100, "$what: all by that run");
	psql_is($node, q{SELECT string_agg(kind || ' ' || n, ', ' ORDER BY kind) FROM (SELECT kind, count(*) AS n FROM told WHERE lead_id IN (SELECT id::text FROM leads) GROUP BY kind UNION ALL SELECT kind, count(*) FROM leadroute.alert GROUP BY kind) x},
		'breached 100, reminder 100, sla_breach 100, sweep_late 1', "$what: each step, and each alert, once");
	my %lead = map { split /\|/ } split /\n/, ask("SELECT lead_id, rep FROM leadroute.assignment WHERE end_reason = 'breached' AND lead_id IN (SELECT id::text FROM leads)");
	my %want;
	for (keys %lead)
	{
		$want{"leadroute_rep_$lead{$_} breached $_"} = $want{"leadroute_rep_$lead{$_} reminder $_"} = 1;
		$want{ 'leadroute_rep_' . (3 - $lead{$_}) . " rerouted $_" } = $want{"leadroute_manager_9 sla_breach $_"} = 1;
	}
	my %told;
	for my $channel (@channels)
	{
		my $wanted = grep { /^$channel/ } keys %want;
		$heard{$channel}->heard(sub { $wanted <= grep { $_->{event} ne 'assigned' } @_ }, 20);
		$told{"$channel $_->{event} $_->{lead_id}"}++ for grep { $_->{event} =~ /^(breached|reminder|rerouted|sla_breach)$/ } $heard{$channel}->hear;
		$heard{$channel}->close;
	}
	is_deeply(\%told, \%want, "$what: the old rep, the new one and the manager hear of each once");
	ask("SELECT leadroute.touch('leads', id, 'call') FROM leads; CALL leadroute.sweep()");
	psql_is($node, "SELECT count(*) FROM told WHERE lead_id IN (SELECT id::text FROM leads)", 200, "$what: nothing is left for the next run");
	verify_ok($node, 0, $what);
	ask('DELETE FROM leads; DELETE FROM leadroute.sla_action; DELETE FROM leadroute.alert; DELETE FROM cron.job_run_details');
	return;
}

begin_listening();
hang();
leads_come(12);
go_on();
caught_up('the launcher hung');

$node->set_clock('2026-06-10 13:11:30');
ask("INSERT INTO leads (source) SELECT 'web' FROM generate_series(1, 100)");
$node->stop;
$node->set_clock('2026-06-10 13:22:40');
$node->start;
hang();
begin_listening();
go_on();
caught_up('the server was down');

if (soak(0, 1))
{
	ask('UPDATE cron.job SET active = false');
	begin_listening();
	leads_come(14);
	ask('DELETE FROM cron.job_run_details; SELECT cron.alter_job(jobid, active := true) FROM cron.job');
	caught_up('the job was switched off');
}

done_testing();
