# A streaming standby is promoted in mid-load: no acknowledged lead is lost or has two owners, and the
# rotation goes on. Then logical replication of leads with leadroute's tables: the subscriber routes
# nothing while it follows, its memory follows too, and it goes on where the publisher was.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use IPC::Run;
use LeadrouteTest;
use LeadrouteTest::Clients;
use LeadrouteTest::Contents;
use LeadrouteTest::Leads;
use LeadrouteTest::Node;
use PostgreSQL::Test::Utils ();
use Test::More;
use Time::HiRes ();

seed();
my $zone = noon_zone();
my $clients = 4;

my $primary = start_node('primary', init => { allows_streaming => 'logical' }, conf => 'jit = off');
$primary->safe_psql('postgres', <<"SQL");
SELECT leadroute.create_lead_table('public.leads');
INSERT INTO leadroute.rep (id, name, timezone, daily_cap) SELECT i, 'Rep ' || i, '$zone', CASE WHEN i > 3 THEN 100 END FROM generate_series(1, 5) i;
INSERT INTO leadroute.pool (name, method, overflow_pool) VALUES ('all', 'weighted', NULL), ('capped', 'round_robin', 'all');
INSERT INTO leadroute.pool_member (pool, rep, weight) VALUES ('all', 1, 7), ('all', 2, 2), ('all', 3, 1), ('capped', 4, 1), ('capped', 5, 1);
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool) VALUES
    ('leads', 1, 'capped', \$\$source = 'capped'\$\$, 'capped'), ('leads', 2, 'else', 'true', 'all');
SQL

# By how much a rep of pool 'all' has received more than its share, at most.
my $off = "SELECT max(abs(received - total * weight / 10)) FROM (SELECT received, weight, sum(received) OVER () AS total FROM leadroute.pool_state WHERE pool = 'all') s";

# ---- promotion --------------------------------------------------------------------------------------

$primary->backup('base');
my $standby = LeadrouteTest::Node->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
$primary->safe_psql('postgres', "ALTER SYSTEM SET synchronous_standby_names = '*'; SELECT pg_reload_conf()");
$primary->poll_query_until('postgres', "SELECT sync_state = 'sync' FROM pg_stat_replication") or die 'no synchronous standby';

psql_is($standby, 'SELECT count(*) FROM leadroute.decision', '0', 'the standby shows the record');
psql_is($standby, "SELECT count(*) FROM leadroute.health() WHERE item = 'preloaded' AND ok", '1', 'and its health()');
my $load = LeadrouteTest::Clients->new(
	$primary,
	slots => $clients,
	scripts => [ map { load_script(number => $_, transactions => 3000, sources => [ ('x') x 4, 'capped' ]) } 1 .. $clients ]);
Time::HiRes::sleep(1 + rand);
$load->stop;
$primary->stop('immediate');
$standby->promote;
$load->finish;
$standby->safe_psql('postgres', "ALTER SYSTEM RESET synchronous_standby_names; SELECT pg_reload_conf()");

my %there = map { $_ => 1 } split /\n/, $standby->safe_psql('postgres', 'SELECT id FROM leads');
is(join(' ', grep { !$there{$_} } $load->acknowledged), '', 'every acknowledged lead is there');
is(join(' ', grep { $there{$_} } $load->refused), '', 'none that was rolled back');
cmp_ok(scalar $load->acknowledged, '>', 20, 'it was in mid-load');
figure(acknowledged => scalar $load->acknowledged);
verify_ok($standby, 0, 'each with one record, no cap overshot');
cmp_ok($standby->safe_psql('postgres', $off), '<', 1 + 4 * $clients, 'the rotation is off by no more than what was in flight');
$standby->safe_psql('postgres', "INSERT INTO leads (id, source) SELECT 900000000 + i, 'x' FROM generate_series(1, 200) i");
cmp_ok($standby->safe_psql('postgres', $off), '<', 1, 'and goes on, soon by less than a turn');
verify_ok($standby, 0, 'verify() finds nothing after that');

# ---- logical replication ----------------------------------------------------------------------------

my $publisher = $standby;
my $subscriber = start_node('subscriber', extension => 0, init => { allows_streaming => 'logical' });
my ($schema, $err) = ('', '');
IPC::Run::run([ $publisher->installed_command('pg_dump'), '-d', $publisher->connstr('postgres'), '--schema-only' ], '>', \$schema, '2>', \$err) or die $err;
$subscriber->safe_psql('postgres', $schema);
my $own = $publisher->safe_psql('postgres', "SELECT string_agg(format('leadroute.%I', relname), ', ') FROM pg_class
	WHERE relnamespace = 'leadroute'::regnamespace AND relkind = 'r' AND relname NOT IN ('checkpoint', 'event_cursor', 'sweep_run')");
$publisher->safe_psql('postgres', "CREATE PUBLICATION routing FOR TABLE leads, $own");
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION routing CONNECTION '" . $publisher->connstr('postgres') =~ s/'/''/gr . "' PUBLICATION routing");
$subscriber->wait_for_subscription_sync($publisher, 'routing');

sub follows
{
	my ($what) = @_;
	$publisher->wait_for_catchup('routing');
	my ($one, $other) = map { my $text = contents($_, 'postgres', 'public.leads'); $text =~ s/^.*_seq at .*\n//mg; $text } $publisher, $subscriber;
	is(difference($one, $other), '', "$what: leads, record and configuration are the publisher's");
	verify_ok($subscriber, 0, "$what: verify() finds nothing on the subscriber");
	return;
}

follows('copied');
$publisher->safe_psql('postgres', <<'SQL');
INSERT INTO leads (id, source) SELECT 910000000 + i, 'x' FROM generate_series(1, 100) i;
UPDATE leads SET owner_id = 5 WHERE id = 910000001;
DELETE FROM leads WHERE id = 910000002;
UPDATE leadroute.pool_member SET weight = 4 WHERE rep = 3;
INSERT INTO leads (id, source) SELECT 920000000 + i, 'x' FROM generate_series(1, 100) i;
SQL
follows('followed');
psql_is($subscriber, "SELECT value FROM leadroute.stat WHERE name = 'routed'", '0', 'the subscriber has routed nothing');

# It takes over.
my $next = "BEGIN; INSERT INTO leads (id, source) SELECT 930000000 + i, 'x' FROM generate_series(1, 20) i;
	SELECT string_agg(owner_id::text, ' ' ORDER BY id) FROM leads WHERE id > 930000000; ROLLBACK";
my $picks = $publisher->safe_psql('postgres', $next);
$publisher->stop('immediate');
$subscriber->safe_psql('postgres', "ALTER SUBSCRIPTION routing DISABLE; ALTER SUBSCRIPTION routing SET (slot_name = NONE); DROP SUBSCRIPTION routing");
is($subscriber->safe_psql('postgres', $next), $picks, 'and goes on where the publisher was') or diag 'a restart would tell memory from record';
verify_ok($subscriber, 0, 'verify() finds nothing');

done_testing();
