# What must not hold up or fail an insert, and must not lose an event: the notify lock in other hands,
# a ring that is full, no free worker slot, a worker or a server that dies, prepared transactions. The
# worker leaves when there is nothing to do, and at once when its database is wanted.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use LeadrouteTest::Listener;
use List::Util qw(uniq);
use Test::More;
use Time::HiRes qw(time sleep);

my $node = start_node('main', extension => 0, init => { allows_streaming => 1 }, conf => <<'CONF');
jit = off
synchronous_commit = local
max_prepared_transactions = 5
leadroute.event_buffer = 8
leadroute.notify_idle = 2
max_worker_processes = 5
CONF
my $setup = <<'SQL';
CREATE EXTENSION leadroute;
SELECT leadroute.create_lead_table('public.leads');
INSERT INTO leadroute.rep (id, name) VALUES (1, 'Ann'), (2, 'Bob');
INSERT INTO leadroute.pool (name) VALUES ('p');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('p', 1), ('p', 2);
INSERT INTO leadroute.rule (lead_table, position, name, pool) VALUES ('leads', 1, 'all', 'p');
SQL
$node->safe_psql('postgres', $setup);
my $worker = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'leadroute notifier' AND datname = current_database()";
my $one = "INSERT INTO leads (source) VALUES ('x')";

sub stat_of { return $node->safe_psql('postgres', "SELECT value FROM leadroute.stat WHERE name = '$_[0]'") }

# The listener hears exactly what events_since() has, each once unless told otherwise.
sub hears_all
{
	my ($l, $cursor, $name, %opt) = @_;
	my $wanted = events_since_ids($node, $cursor, $opt{dbname});
	$l->heard(sub { uniq(map { $_->{id} } @_) >= keys %$wanted }, 30);
	my $heard = $l->ids;
	is_deeply($opt{twice} ? [ sort keys %$heard ] : $heard, $opt{twice} ? [ sort keys %$wanted ] : $wanted, $name)
	  or diag(sprintf 'heard %d, wanted %d', scalar keys %$heard, scalar keys %$wanted);
	$l->forget;
	return scalar keys %$wanted;
}

sub cursor { return $node->safe_psql($_[0] // 'postgres', 'SELECT leadroute.event_cursor()') }

sub in_time
{
	my ($sql, $seconds, $name, $dbname) = @_;
	my $start = time;
	my ($code, undef, $err) = $node->psql($dbname // 'postgres', $sql, on_error_stop => 1);
	ok($code == 0 && time - $start < $seconds, $name) or diag(sprintf('%.1f s ', time - $start) . $err);
	return;
}

my $l = LeadrouteTest::Listener->new($node, 'leadroute');

# ---- the worker comes and goes ----------------------------------------------------------------------

my $start = cursor();
is($node->safe_psql('postgres', $worker), '', 'no worker before the first event');
$node->safe_psql('postgres', $one);
hears_all($l, $start, 'the first event');
isnt($node->safe_psql('postgres', $worker), '', 'there is a worker');
ok($node->poll_query_until('postgres', "SELECT NOT EXISTS ($worker)"), 'it leaves when nothing happens');
$start = cursor();
$node->safe_psql('postgres', $one);
hears_all($l, $start, 'and comes again');
$start = cursor();
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM ($worker) w");
$node->safe_psql('postgres', $one) for 1 .. 5;
hears_all($l, $start, 'one that is terminated is replaced');

# ---- the notify lock in other hands, and a full ring --------------------------------------------------

$start = cursor();
my ($holder, $inserter) = sessions($node, 2);
# The lock is held through the commit, so a commit that waits for a standby holds it for long.
my $locked = "SELECT count(*) FROM pg_locks WHERE locktype = 'object' AND classid = 1262 AND objid = 0 AND granted";
$node->safe_psql('postgres', "ALTER SYSTEM SET synchronous_standby_names = 'nobody'; SELECT pg_reload_conf()");
$holder->query('SET synchronous_commit = on; SELECT pg_sleep(0.3)');
$holder->send('BEGIN; CREATE TABLE written (i int); NOTIFY other; COMMIT');
ok($node->poll_query_until('postgres', "SELECT ($locked) = 1"), 'a NOTIFY of the app holds the notify lock');
my $begin = time;
my @slow;
my $inserts = 0;
while ($inserts++ < 300 || time - $begin < soak(0, 60))
{
	my $before = time;
	my (undef, @errors) = $inserter->query($one);
	push @slow, @errors, sprintf('%.2f', time - $before) if @errors || time - $before > 1;
	sleep 0.01 if $inserts > 3000;
}
figure(inserts_beside_a_held_notify_lock => $inserts - 1, seconds => sprintf('%.2f', time - $begin));
is("@slow", '', 'no insert fails or waits, though the ring is full');
cmp_ok(stat_of('events_pending'), '>', 100, 'the events wait');
$l->hear;
is(scalar keys %{ $l->ids }, 0, 'and are not heard');
$node->safe_psql('postgres', "ALTER SYSTEM SET synchronous_standby_names = ''; SELECT pg_reload_conf()");
$holder->wait;
hears_all($l, $start, 'afterwards all are heard, once each');
is(stat_of('events_pending'), '0', 'none is pending');

# ---- large transactions ----------------------------------------------------------------------------------

$start = cursor();
$node->safe_psql('postgres', "BEGIN; INSERT INTO leads (source) SELECT 'x' FROM generate_series(1, 3000);
	SAVEPOINT a; INSERT INTO leads (source) SELECT 'y' FROM generate_series(1, 50); ROLLBACK TO a; INSERT INTO leads (source) VALUES ('z'); COMMIT");
is(hears_all($l, $start, 'the events of a large transaction'), 3001, 'without those that were rolled back');
$start = cursor();
$node->safe_psql('postgres', "BEGIN; $one; SAVEPOINT a; $one; SAVEPOINT b; $one; RELEASE b; ROLLBACK TO a; $one; RELEASE a; COMMIT");
is(hears_all($l, $start, 'subtransactions'), 2, 'those that were kept');

# ---- prepared transactions ----------------------------------------------------------------------------

$start = cursor();
$node->safe_psql('postgres', "BEGIN; $one; SAVEPOINT a; $one; RELEASE a; PREPARE TRANSACTION 'one'; BEGIN; $one; PREPARE TRANSACTION 'two'");
my $between = cursor();
$node->safe_psql('postgres', $one);
sleep 0.3;
is(scalar(my @heard = $l->hear), 1, 'nothing is heard of prepared transactions');
my $late = cursor();
$node->safe_psql('postgres', "COMMIT PREPARED 'one'");
$node->safe_psql('postgres', "ROLLBACK PREPARED 'two'");
is(hears_all($l, $start, 'until they are committed'), 3, 'not what was rolled back');
is(keys %{ events_since_ids($node, $late) }, 2, 'events_since() did not miss it either');

# ---- crashes -----------------------------------------------------------------------------------------

sub crash
{
	my ($how, $name) = @_;
	my $from = cursor();
	my $lost = LeadrouteTest::Listener->new($node, 'leadroute');
	my $last = $node->safe_psql('postgres', 'SELECT coalesce(max(id), 0) FROM leads');
	my ($s) = sessions($node, 1);
	for (1 .. 200)
	{
		$s->query($one);
		last if $s->lost;
		$lost->hear if $_ == 149;
		$how->() if $_ == 150;
	}
	$node->poll_query_until('postgres', 'SELECT true');
	my $after = LeadrouteTest::Listener->new($node, 'leadroute');
	$node->safe_psql('postgres', $one);
	$after->heard(sub { @_ }, 30);
	my $wanted = events_since_ids($node, $from);
	# what the worker sends again before anybody listens is not heard, but sent
	my $unheard = keys(%$wanted) - keys %{ $lost->ids };
	ok($node->poll_query_until('postgres', "SELECT value >= $unheard FROM leadroute.stat WHERE name = 'events_sent'"), "$name: no event is lost");
	my $all = events_since_ids($node);
	is(scalar(grep { !$all->{$_} } keys %{ $after->ids }, keys %{ $lost->ids }), 0, "$name: and none is foreign");
	is(keys %$wanted, $node->safe_psql('postgres', "SELECT count(*) FROM leads WHERE id > $last"), "$name: one for each lead");
	return;
}
crash(sub { kill 'KILL', $node->safe_psql('postgres', $worker) }, 'the worker killed');
crash(sub { $node->stop('immediate'); $node->start }, 'an immediate restart');
$l = LeadrouteTest::Listener->new($node, 'leadroute');

# ---- commands that want the database ---------------------------------------------------------------------

# long enough for the command to fail, if the worker did not leave for it
$node->safe_psql('postgres', 'ALTER SYSTEM SET leadroute.notify_idle = 60; SELECT pg_reload_conf()');
$node->safe_psql('postgres', 'CREATE DATABASE wanted');
$node->safe_psql('wanted', $setup);
sub busy
{
	my ($dbname) = @_;
	$node->safe_psql($dbname, $one);
	return $node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'leadroute notifier' AND datname = '$dbname'");
}
ok(busy('wanted'), 'a worker is at work');
in_time('CREATE DATABASE copy TEMPLATE wanted', 5, 'CREATE DATABASE TEMPLATE');
ok(busy('wanted'), 'again');
in_time('ALTER DATABASE wanted RENAME TO renamed', 5, 'ALTER DATABASE RENAME');
ok(busy('renamed'), 'again');
my $space = $node->basedir . '/space';
mkdir $space or die "$space: $!";
$node->safe_psql('postgres', "CREATE TABLESPACE space LOCATION '$space'");
in_time('ALTER DATABASE renamed SET TABLESPACE space', 5, 'ALTER DATABASE SET TABLESPACE');
ok(busy('copy') && busy('renamed'), 'a worker in each');
in_time('DROP DATABASE copy', 5, 'DROP DATABASE');
in_time('DROP DATABASE renamed', 5, 'DROP DATABASE');
for (1 .. soak(20, 200)) # more than there are rings
{
	$node->safe_psql('postgres', 'CREATE DATABASE again');
	$node->safe_psql('again', $setup . $one) ;
	$node->safe_psql('postgres', 'DROP DATABASE again');
}
pass('databases come and go');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET leadroute.notify_idle; SELECT pg_reload_conf()');

# ---- DROP EXTENSION --------------------------------------------------------------------------------------

$node->safe_psql('postgres', 'CREATE DATABASE short');
$node->safe_psql('short', $setup);
ok(busy('short'), 'a worker');
$node->safe_psql('short', 'DROP EXTENSION leadroute CASCADE; DROP TABLE leads');
ok($node->poll_query_until('short', "SELECT NOT EXISTS ($worker)"), 'it leaves when the extension is dropped');
$node->safe_psql('postgres', 'DROP DATABASE short');

# ---- no worker slot --------------------------------------------------------------------------------------

$node->safe_psql('postgres', 'CREATE DATABASE other');
ok($node->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'leadroute notifier')"), 'no worker runs');
$node->append_conf('postgresql.conf', 'max_worker_processes = 1');
$node->restart; # the logical replication launcher has the only one
$l = LeadrouteTest::Listener->new($node, 'leadroute');
$start = cursor();
my $before = time;
$node->safe_psql('postgres', $one) for 1 .. 20;
cmp_ok(time - $before, '<', 5, 'without a worker slot inserts go on');
$l->hear;
is(scalar keys %{ $l->ids }, 0, 'nothing is heard');
cmp_ok(stat_of('events_pending'), '>=', 20, 'it is pending');
my $health = "SELECT ok || ' ' || detail FROM leadroute.health() WHERE item = 'events worker'";
like($node->safe_psql('postgres', $health), qr/^false could not start: no process of max_worker_processes \(1\).*; \d\d events pending/, 'health() says why');
$node->append_conf('postgresql.conf', 'max_worker_processes = 5');
$node->restart;
$l = LeadrouteTest::Listener->new($node, 'leadroute');
$node->safe_psql('postgres', $one);
hears_all($l, $start, 'with one, all is sent');
like($node->safe_psql('postgres', $health), qr/^true running; 0 events pending, 0 skipped$/, 'and health() is content');

# ---- a full notification queue, as far as the setting goes ---------------------------------------------------

my ($idle) = sessions($node, 1);
$idle->query('LISTEN other; BEGIN; SELECT 1'); # keeps the queue from being emptied
$node->safe_psql('postgres', $one);
$l->heard(sub { @_ == 1 });
$l->forget;
$node->safe_psql('postgres', "ALTER SYSTEM SET leadroute.notify_queue_limit = 0; SELECT pg_reload_conf()");
sleep 0.2;
$node->safe_psql('postgres', "NOTIFY other, '" . ('x' x 7000) . "'; NOTIFY other, 'y'");
$node->safe_psql('postgres', $one) for 1 .. 3;
ok($node->poll_query_until('postgres', "SELECT value = 3 FROM leadroute.stat WHERE name = 'events_skipped'"), 'what is skipped is counted');
is(scalar(@heard = $l->hear), 0, 'and not sent');
like($node->safe_psql('postgres', $health), qr/^false running; 0 events pending, 3 skipped; skips events/, 'and health() tells of it');
$idle->close;

verify_ok($node, 0);
done_testing();
