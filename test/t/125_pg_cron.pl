# sweep() by pg_cron, really running: who may schedule it, and what it says where it cannot; one job however
# often; a lead that nobody touches is re-routed at the next tick, once, and those whom it concerns hear of it.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use LeadrouteTest::Listener;
use LeadrouteTest::Node;
use Test::More;

my $library = LeadrouteTest::Node::library();
my $node = start_node('main', start => 0);
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_cron,$library'\ncron.database_name = 'postgres'\ncron.host = '"
	  . $node->host . "'\ncron.log_run = on\nleadroute.backlog = on\n");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION leadroute');
sub ask { return $node->safe_psql('postgres', $_[0]) }

# ---- where it cannot -------------------------------------------------------------------------------

like(sqlstate_is($node, 'SELECT leadroute.schedule_sweep()', 'LR005', 'without the extension pg_cron'), qr/HINT:  CREATE EXTENSION pg_cron/, 'which is to be created');
ask('CREATE EXTENSION pg_cron');
ask('CREATE DATABASE other');
$node->safe_psql('other', 'CREATE EXTENSION leadroute');
my $told = sqlstate_is($node, "SELECT leadroute.schedule_sweep('*/2 * * * *')", 'LR005', 'in a database that is not pg_cron\'s', dbname => 'other');
my ($line) = $told =~ /HINT:.*: (SELECT cron\..*;)$/m;
is($line, q{SELECT cron.schedule_in_database('leadroute sweep other', '*/2 * * * *', 'CALL leadroute.sweep()', 'other');}, 'what is to be run in pg_cron\'s');
ask($line);
psql_is($node, "SELECT schedule, command, database, active FROM cron.job", '*/2 * * * *|CALL leadroute.sweep()|other|t', 'runs there');
($line) = sqlstate_is($node, 'SELECT leadroute.unschedule_sweep()', 'LR005', 'nor can it be ended here', dbname => 'other') =~ /HINT:.*: (SELECT cron\..*;)$/m;
ask($line);
psql_is($node, 'SELECT count(*) FROM cron.job', '0', 'but there');
ask('DROP DATABASE other');

my $version = ask("SELECT extversion FROM pg_extension WHERE extname = 'pg_cron'");
my $seconds = $version =~ /^1\.([0-4])\b/ ? 0 : 1;
if ($seconds)
{
	psql_ok($node, "SELECT leadroute.schedule_sweep('30 seconds')", "pg_cron $version has seconds");
}
else
{
	sqlstate_is($node, "SELECT leadroute.schedule_sweep('30 seconds')", 'LR005', "pg_cron $version has no seconds");
}
isnt(($node->psql('postgres', "SELECT leadroute.schedule_sweep('often')"))[0], 0, 'pg_cron refuses a schedule');
like(($node->psql('postgres', "SELECT leadroute.schedule_sweep('often')"))[2], qr/invalid schedule: often/, 'in its own words');
ask('CREATE ROLE lr_admin LOGIN; CREATE ROLE lr_some LOGIN');
ask("SELECT leadroute.grant_access('lr_admin', 'admin', NULL), leadroute.grant_access('lr_some', 'admin')");
sqlstate_is($node, 'SET ROLE lr_some; SELECT leadroute.schedule_sweep()', 'LR012', 'an admin of one tenant may not');
sqlstate_is($node, 'SET ROLE lr_some; SELECT leadroute.unschedule_sweep()', 'LR012', 'nor end it');

# ---- one job ---------------------------------------------------------------------------------------

my $job = ask("SELECT leadroute.schedule_sweep('*/5 * * * *')");
is(ask("SET ROLE lr_admin; SELECT leadroute.schedule_sweep('*/3 * * * *')"), $job, 'again: the same job, by whomever');
ask("UPDATE cron.job SET active = false");
is(ask('SELECT leadroute.schedule_sweep()'), $job, 'every minute unless it is said');
psql_is($node, 'SELECT jobname, schedule, username, active FROM cron.job', 'leadroute sweep postgres|* * * * *|' . ask('SELECT current_user') . '|t', 'switched on, and the only one');
ask("UPDATE cron.job SET nodeport = 1");
isnt($job = ask('SELECT leadroute.schedule_sweep()'), '', 'one that would connect elsewhere');
psql_is($node, "SELECT count(*) || ' ' || bool_and(nodeport = current_setting('port')::int) FROM cron.job", '1 true', 'is made anew');
psql_is($node, 'SELECT leadroute.unschedule_sweep()', 't', 'ended');
psql_is($node, 'SELECT leadroute.unschedule_sweep()', 'f', 'there is none');

# ---- a minute of its life --------------------------------------------------------------------------

ask(<<'SQL');
SELECT leadroute.create_lead_table('public.leads');
INSERT INTO leadroute.rep (id, name) VALUES (9, 'Boss');
INSERT INTO leadroute.rep (id, name, manager) VALUES (1, 'Ann', 9), (2, 'Bob', 9);
INSERT INTO leadroute.sla_policy (name, first_touch) VALUES ('soon', '1 second');
INSERT INTO leadroute.pool (name, sla) VALUES ('team', 'soon');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('team', 1), ('team', 2);
INSERT INTO leadroute.rule (lead_table, position, name, pool) VALUES ('leads', 1, 'all', 'team');
SQL
my %heard = map { $_ => LeadrouteTest::Listener->new($node, $_) } qw(leadroute_rep_1 leadroute_rep_2 leadroute_manager_9);
ask("SELECT leadroute.schedule_sweep()");
# not so close before a tick that the breach comes after it
my $at = ask('SELECT extract(second FROM clock_timestamp())');
ask('SELECT pg_sleep(' . (62 - $at) . ')') if $at > 57;
ask("INSERT INTO leads (source) VALUES ('web')");
ok($heard{leadroute_rep_2}->heard(sub { grep { $_->{event} eq 'rerouted' } @_ }, 75), 'at the next tick the new rep hears of the lead');
ask("SELECT leadroute.touch('leads', 1, 'call')");
ok($heard{leadroute_rep_1}->heard(sub { grep { $_->{event} eq 'breached' } @_ }, 5), 'the old rep that it is gone');
ok($heard{leadroute_manager_9}->heard(sub { grep { $_->{event} eq 'sla_breach' } @_ }, 5), 'the manager that it was missed');
psql_is($node, 'SELECT owner_id FROM leads', '2', 'the lead is the new rep\'s');
psql_is($node, q{SELECT string_agg(format('%s %s', rep, coalesce(end_reason, 'open')), ', ' ORDER BY episode) FROM leadroute.assignment}, '1 breached, 2 open', 'once');
psql_is($node, 'SELECT extract(epoch FROM ended_at - due_at) < 62 FROM leadroute.assignment WHERE rep = 1', 't', 'within a minute');
wait_until($node, "SELECT bool_and(status = 'succeeded') FROM cron.job_run_details WHERE command = 'CALL leadroute.sweep()'", 'pg_cron says that it succeeded');
is(join(' ', map { $_->{event} } sort { $a->{at} cmp $b->{at} } $heard{leadroute_rep_1}->hear), 'assigned breached', 'the old rep heard each once');
is(join(' ', map { $_->{event} } grep { $_->{event} ne 'touched' } $heard{leadroute_rep_2}->hear), 'rerouted', 'the new rep too');
is(join(' ', map { $_->{event} } grep { $_->{event} ne 'touched' } $heard{leadroute_manager_9}->hear), 'sla_breach', 'and the manager');

# ---- what health() says ----------------------------------------------------------------------------

sub health { return ask("SELECT CASE WHEN ok THEN 'ok: ' ELSE 'NOT: ' END || detail FROM leadroute.health() WHERE item = '$_[0]'") }
like(health('sweep'), qr/^ok: every 00:01:00; ran to its end at .*, in 00:00:/, 'health() says when it ran');
like(health('sweep job'), qr/^ok: pg_cron job \d+, "\* \* \* \* \*", as /, 'and by which job');
ask("UPDATE cron.job SET active = false");
like(health('sweep job'), qr/^NOT: .*is switched off: SELECT leadroute.schedule_sweep\('\* \* \* \* \*'\)/, 'which is switched off');
ask("UPDATE cron.job SET active = true, nodeport = 1");
like(health('sweep job'), qr/^NOT: .*another host or port/, 'or would connect elsewhere');
# as if no tick had come for ten minutes
my $past = "UPDATE leadroute.sweep_run SET begun_at = begun_at - interval '10 minutes', ended_at = ended_at - interval '10 minutes', scheduled_at = scheduled_at - interval '10 minutes'";
like(ask("BEGIN; $past; SELECT CASE WHEN ok THEN 'ok: ' ELSE 'NOT: ' END || detail FROM leadroute.health() WHERE item = 'sweep'; ROLLBACK"), qr/^NOT: every 00:01:00; .*it is late/, 'or late');
ask("$past; CALL leadroute.sweep()");
psql_is($node, "SELECT message ~ '^sweep\\(\\) has not run since .*, which should run every 00:01:00' FROM leadroute.alert WHERE kind = 'sweep_late'", 't', 'the sweep that comes late alerts');
ask('SELECT leadroute.unschedule_sweep()');
like(health('sweep job'), qr/^ok: none/, 'there is no job');
# nobody calls it, and a lead waits for it
ask("INSERT INTO leads (source) VALUES ('web')");
ask("UPDATE leadroute.assignment SET next_step_at = now() - interval '10 minutes' WHERE ended_at IS NULL AND touched_at IS NULL");
ask("UPDATE leadroute.alert SET acknowledged_at = now(), raised_at = raised_at - interval '1 hour'; $past");
$_->close for values %heard;
$node->restart;
ask("INSERT INTO leads (source) VALUES ('web')");
wait_until($node, "SELECT count(*) = 1 FROM leadroute.alert WHERE kind = 'sweep_late' AND acknowledged_at IS NULL", 'the background worker alerts');
verify_ok($node);
done_testing();
