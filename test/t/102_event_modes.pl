# Who sends: the worker, the transaction itself, or nobody; what a payload tells; which rows give which
# event; what is no event.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use LeadrouteTest::Listener;
use Test::More;
use Time::HiRes qw(sleep);

my $node = start_node('main', conf => "jit = off\nmax_prepared_transactions = 5");
$node->safe_psql('postgres', <<'SQL');
SELECT leadroute.create_lead_table('public.leads');
INSERT INTO leadroute.rep (id, name, manager) VALUES (9, 'Boss', NULL), (8, 'Other boss', NULL), (1, 'Ann', 9), (2, 'Bob', NULL);
INSERT INTO leadroute.pool (name, manager) VALUES ('p', 8), ('empty', 8), ('orphan', NULL);
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('p', 1), ('p', 2);
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool) VALUES
    ('leads', 1, 'empty', $$source = 'empty'$$, 'empty'), ('leads', 2, 'orphan', $$source = 'orphan'$$, 'orphan'),
    ('leads', 3, 'p', $$source = 'x'$$, 'p');
UPDATE leadroute.lead_table SET manager = 9;
CREATE TABLE secret (email text PRIMARY KEY, owner_id bigint);
SELECT leadroute.attach('secret', notify_key => false);
INSERT INTO leadroute.rule (lead_table, position, name, rep) VALUES ('secret', 1, 'all', 1);
SQL
my $l = LeadrouteTest::Listener->new($node, 'leadroute', map({ "leadroute_rep_$_" } 1, 2), map({ "leadroute_manager_$_" } 8, 9));

# What is heard on each channel after some SQL, as "kind lead" by channel.
sub heard_after
{
	my ($sql, $count, $options) = @_;
	$l->forget;
	$node->safe_psql('postgres', $sql);
	$l->heard(sub { (grep { $_->{channel} eq 'leadroute' } @_) >= $count }, 10);
	sleep 0.05;
	my %by;
	push @{ $by{ $_->{channel} } }, "$_->{event} " . ($_->{lead_id} // '-') for $l->hear;
	return { map { ($_ => join ', ', @{ $by{$_} }) } keys %by };
}

# ---- kinds and channels ------------------------------------------------------------------------------

is_deeply(heard_after("INSERT INTO leads (source) VALUES ('x')", 1),
	{ leadroute => 'assigned 1', leadroute_rep_1 => 'assigned 1' }, 'an assigned lead');
is_deeply(heard_after("INSERT INTO leads (source, owner_id) VALUES ('x', 2)", 1),
	{ leadroute => 'manual 2', leadroute_rep_2 => 'manual 2' }, 'an owner given by the app');
is_deeply(heard_after("INSERT INTO leads (source) VALUES ('empty')", 2),
	{ leadroute => 'waiting 3, nobody_available 3', leadroute_manager_8 => 'nobody_available 3' }, 'the pool\'s manager hears the alert');
is_deeply(heard_after("INSERT INTO leads (source) VALUES ('orphan')", 2),
	{ leadroute => 'waiting 4, nobody_available 4', leadroute_manager_9 => 'nobody_available 4' }, 'else the lead table\'s');
is_deeply(heard_after('UPDATE leads SET owner_id = NULL WHERE id = 1', 2),
	{ leadroute => 'released 1, waiting 1', leadroute_rep_1 => 'released 1' }, 'a released lead');
is_deeply(heard_after('UPDATE leads SET owner_id = 1 WHERE id = 1', 1),
	{ leadroute => 'manual 1', leadroute_rep_1 => 'manual 1' }, 'and a given one');
is_deeply(heard_after("UPDATE leadroute.assignment SET ended_at = clock_timestamp(), end_reason = 'closed' WHERE lead_id = '2'", 1),
	{ leadroute => 'closed 2', leadroute_rep_2 => 'closed 2' }, 'a closed one');
is_deeply(heard_after("SELECT leadroute.touch('leads', 1, 'call'), leadroute.close('leads', 1, 'won')", 2),
	{ leadroute => 'touched 1, closed 1', leadroute_rep_1 => 'touched 1, closed 1' }, 'a touched one');
is($node->safe_psql('postgres', "SELECT string_agg(event ->> 'event', ' ' ORDER BY event ->> 'at') FROM leadroute.events_since()"),
	'assigned manual waiting nobody_available waiting nobody_available released waiting manual closed touched closed', 'events_since() tells the same');

# ---- keys that are not told ----------------------------------------------------------------------------

heard_after("INSERT INTO secret (email) VALUES ('ann\@example.com')", 1);
my ($event) = $l->channel('leadroute');
is($event->{lead_id}, undef, 'no key');
is($event->{lead_table}, 'secret', 'but the table');
is($node->safe_psql('postgres', "SELECT count(*) FROM leadroute.events_since() WHERE event::text ~ 'example'"), '0', 'in events_since() neither');
is($node->safe_psql('postgres', "SELECT count(*) FROM leadroute.events_since() WHERE event ->> 'id' = '$event->{id}'"), '1', 'and the same id');
my $long = 'k' x 2600;
heard_after("UPDATE leadroute.lead_table SET notify_key = true WHERE name = 'secret'; INSERT INTO secret (email) VALUES ('$long'), (repeat(U&'\\0001', 2500)), ('short')", 3);
is_deeply([ map { length($_->{lead_id} // '') } $l->channel('leadroute') ], [ 2600, 0, 5 ], 'a key that no payload can hold is left out');

# ---- what is no event ----------------------------------------------------------------------------------

is_deeply(heard_after("BEGIN; INSERT INTO leads (source) VALUES ('x'); ROLLBACK; INSERT INTO leads (id, source) OVERRIDING SYSTEM VALUE VALUES (1, 'x') ON CONFLICT DO NOTHING; INSERT INTO leads (id, source) OVERRIDING SYSTEM VALUE VALUES (500100, 'x')", 1)->{leadroute},
	'assigned 500100', 'no event for what did not land');
is_deeply(heard_after("CREATE TABLE old (id int PRIMARY KEY, owner_id bigint); INSERT INTO old VALUES (1, 1), (2, NULL);
	SELECT leadroute.attach('old', existing => 'keep'); INSERT INTO leads (id, source) OVERRIDING SYSTEM VALUE VALUES (500101, 'x')", 1)->{leadroute},
	'assigned 500101', 'nor for leads that were there before');
is_deeply(heard_after("CREATE TABLE saved AS SELECT * FROM leadroute.assignment; TRUNCATE leadroute.assignment; INSERT INTO leadroute.assignment SELECT * FROM saved;
	INSERT INTO leads (id, source) OVERRIDING SYSTEM VALUE VALUES (500102, 'x')", 1)->{leadroute}, 'assigned 500102', 'nor for a restored record');

# ---- modes ----------------------------------------------------------------------------------------------

sub sent { return $node->safe_psql('postgres', "SELECT value FROM leadroute.stat WHERE name = 'events_sent'") }
my $cursor = $node->safe_psql('postgres', 'SELECT leadroute.event_cursor()');
my $sent = sent();
is_deeply(heard_after("SET leadroute.notify = transaction; BEGIN; INSERT INTO leads (id, source) OVERRIDING SYSTEM VALUE VALUES (500200, 'x'); SAVEPOINT a;
	INSERT INTO leads (id, source) OVERRIDING SYSTEM VALUE VALUES (500201, 'x'); ROLLBACK TO a; INSERT INTO leads (id, source) OVERRIDING SYSTEM VALUE VALUES (500202, 'x'); COMMIT", 2)->{leadroute},
	'assigned 500200, assigned 500202', 'transaction: it sends them itself');
my $bulk = heard_after("SET leadroute.notify = transaction; INSERT INTO leads (source) SELECT 'x' FROM generate_series(1, 2000)", 2000);
is(scalar($l->channel('leadroute')), 2000, 'a large one too');
cmp_ok($l->largest, '<=', 7999, 'in payloads that are not too long');
sqlstate_is($node, "SET leadroute.notify = transaction; BEGIN; INSERT INTO leads (source) VALUES ('x'); PREPARE TRANSACTION 'p'", '0A000', 'it cannot be prepared');
is_deeply(heard_after("SET leadroute.notify = off; INSERT INTO leads (source) VALUES ('x')", 0), {}, 'off: nobody does');
is(sent(), $sent, 'the worker has sent none of these');
is($node->safe_psql('postgres', "SELECT count(*) FROM leadroute.events_since('$cursor') WHERE event ->> 'event' = 'assigned'"), '2003', 'events_since() has them all');
sqlstate_is($node, "SELECT leadroute.events_since('$_')", 'LR005', "no cursor: '$_'") for '', '1', '1.2.3', 'x', '1.1.1.1.1.1.', '1.1.1.1.1.1.z', '1.1.1.1.1.1.2.1';
$node->safe_psql('postgres', 'CREATE ROLE someone');
sqlstate_is($node, 'SET ROLE someone; SET leadroute.notify = off', '42501', 'not for everybody to set');

verify_ok($node, 0);
done_testing();
