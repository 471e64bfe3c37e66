# Behind pgbouncer in transaction mode: two clients share one server connection, and take turns on it
# by transactions. Whatever the library keeps in a session, whose rights, which rep, which tenant and
# what was claimed are those of the transaction at hand.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use LeadrouteTest::Pooler;
use Test::More;

my $node = start_node('main', conf => 'max_connections = 40');
$node->safe_psql('postgres', <<'SQL');
CREATE ROLE ann LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE pooled LOGIN IN ROLE ann, bob;
ALTER ROLE pooled NOINHERIT;
CREATE ROLE app LOGIN;
CREATE TABLE lead (company bigint NOT NULL DEFAULT 0, id int, source text, score int, owner_id bigint, PRIMARY KEY (company, id));
SELECT leadroute.attach('lead', tenant_column => 'company');
UPDATE leadroute.lead_table SET score_column = 'score';
INSERT INTO leadroute.rep (tenant, id, name, db_role) VALUES (0, 1, 'Ann', 'ann'), (0, 2, 'Bob', 'bob'), (5, 1, 'Eve', NULL), (6, 1, 'Flo', NULL);
INSERT INTO leadroute.pool (tenant, name, mode, claim_open) VALUES (0, 'web', 'pull', NULL), (5, 'web', 'pull', 2), (6, 'web', 'pull', NULL);
INSERT INTO leadroute.pool_member (tenant, pool, rep) SELECT tenant, 'web', id FROM leadroute.rep;
INSERT INTO leadroute.rule (tenant, lead_table, position, name, pool) SELECT t, 'lead', 1, 'all', 'web' FROM unnest('{0,5,6}'::bigint[]) t;
SELECT leadroute.grant_access('ann', 'rep'), leadroute.grant_access('bob', 'rep'), leadroute.grant_access('app', 'app', NULL);
GRANT SELECT, INSERT, UPDATE (owner_id) ON lead TO ann, bob, app;
INSERT INTO lead (company, id, score) SELECT c, n, 100 - n FROM unnest('{0,5,6}'::bigint[]) c, generate_series(1, 40) n;
SQL
my $pooler = LeadrouteTest::Pooler->new($node, users => [ 'pooled', 'app' ]);

sub client { my ($user) = @_; return LeadrouteTest::Session->new($pooler, user => $user) }

# The answer of a transaction: its rows, or SQLSTATEs.
sub transaction
{
	my ($client, $role, $sql) = @_;
	my ($answer, @errors) = $client->query('BEGIN; ' . (defined $role ? "SET LOCAL ROLE $role; " : '') . "$sql; COMMIT;");
	return @errors ? "@errors" : $answer;
}

sub claimed { my ($rep, $tenant) = @_; return "SELECT lead_id FROM leadroute.claim_next($rep" . ($tenant ? ", tenant => $tenant" : '') . ')' }

# Two reps on one connection, by SET LOCAL ROLE.
{
	my ($first, $second) = (client('pooled'), client('pooled'));
	my $backend = 'SELECT pg_backend_pid()';
	is($first->query($backend), $second->query($backend), 'two clients, one server connection');
	is(transaction($first, 'ann', claimed(1)), '1', 'Ann claims for herself');
	is(transaction($second, 'bob', claimed(1)), 'LR012', 'Bob not for her, on the connection where she just has');
	is(transaction($second, 'bob', "SELECT count(*) FROM leadroute.available_leads(1)"), 'LR012', 'nor sees what she might');
	is(transaction($second, 'bob', claimed(2)), '2', 'for himself');
	is(transaction($first, 'ann', "SELECT lead_id FROM leadroute.claim('lead', 3, 1)"), '3', 'she chooses one');
	is(transaction($second, 'bob', "SELECT 1 FROM leadroute.claim('lead', 3, 2)"), 'LR009', 'which he comes too late for');
	is(transaction($second, 'bob', "SELECT leadroute.touch('lead', 1, 'call')"), 'LR007', 'Ann\'s lead is not his to touch');
	is(transaction($first, 'ann', "SELECT leadroute.touch('lead', 1, 'call')"), '', 'but hers');
	is(transaction($second, 'bob', "SELECT (leadroute.release('lead', 2, 'no time')).avoid"), '{2}', 'he releases his');
	is(transaction($first, 'ann', "SELECT (leadroute.reassign('lead', 3, 2, 'yours')).rep"), '2', 'she hands one over');
	is(transaction($first, 'ann', "SELECT leadroute.close('lead', 1, 'won', 10)"), '', 'and closes one');
	is(transaction($second, 'bob', "SELECT string_agg(lead_id, ' ' ORDER BY lead_id) FROM leadroute.assignment WHERE rep IS NOT NULL"), '2 3', 'each sees its own');
	is(transaction($first, 'ann', "SELECT string_agg(lead_id, ' ' ORDER BY lead_id) FROM leadroute.assignment WHERE rep IS NOT NULL"), '1 3', 'with what it was');
	is(transaction($first, undef, claimed(1)), '42501', 'without a role the pool\'s user has no level');

	# one is in the middle of a transaction: the other waits for the connection
	$first->query('BEGIN; SET LOCAL ROLE ann; SET LOCAL leadroute.list_leads = 2;');
	is($first->query(claimed(1)), '2', 'the one released goes to her');
	$second->send(claimed(2));
	ok(!$second->ready, 'who comes meanwhile waits for the connection');
	is($first->query('SELECT count(*) FROM leadroute.available_leads(1)'), '2', 'a setting of the transaction');
	$first->query('ROLLBACK');
	is(($second->wait)[1], '42501', 'then it is not Bob either, who has not said so');
	is(transaction($second, 'bob', 'SELECT count(*) FROM leadroute.available_leads(2)'), '38', 'and the setting is gone');
	is(transaction($second, 'ann', claimed(1)), '2', 'what was rolled back is claimed again');

	# a client that is gone in the middle of one
	my $third = client('pooled');
	$third->query('BEGIN; SET LOCAL ROLE ann;');
	is($third->query(claimed(1)), '4', 'claimed');
	$third->close;
	is(transaction($first, 'bob', claimed(2)), '4', 'and free again when the client has left');
	$_->close for $first, $second;
}

# Two companies on one connection of the app.
{
	my ($first, $second) = (client('app'), client('app'));
	my @turn;
	for my $n (1 .. 3)
	{
		push @turn, transaction($first, undef, claimed(1, 5)), transaction($second, undef, claimed(1, 6));
	}
	is("@turn", '1 1 2 2 LR011 3', 'each tenant\'s leads, and its allowance');
	is(transaction($second, undef, claimed(2, 6)), 'LR008', 'a rep that only another has');
	is(transaction($first, undef, "SELECT 1 FROM leadroute.claim('lead', 3, 1, 5)"), 'LR011', 'the allowance is used up');
	is(transaction($second, undef, "SELECT lead_id FROM leadroute.claim('lead', 4, 1, 6)"), '4', 'the other tenant\'s is not');
	is(transaction($first, undef, "SELECT leadroute.close('lead', 1, 'lost', NULL, 5)"), '', 'one is closed');
	is(transaction($second, undef, claimed(1, 5)), '3', 'which makes room, whoever asks');
	is(transaction($first, undef, "INSERT INTO lead (company, id, score) VALUES (6, 99, 1000); " . claimed(1, 6)), '99', 'an insert and a claim in one transaction');
	$_->close for $first, $second;
}

# Many clients at once, on the two connections.
{
	my @client = map { client($_ % 2 ? 'app' : 'pooled') } 1 .. 8;
	$_->wait for @client;
	for my $round (1 .. 4)
	{
		$client[$_]->send($_ % 2 ? 'BEGIN; SET LOCAL ROLE ' . ($_ % 4 == 1 ? 'ann' : 'bob') . '; ' . claimed($_ % 4 == 1 ? 1 : 2) . '; COMMIT;' : claimed(1, 6)) for 0 .. 7;
		my @answers = map { [ $_->wait ] } @client;
		is(scalar(grep { $_->[0] =~ /^\d+$/ && @$_ == 1 } @answers), 8, "round $round: each has a lead");
	}
	$_->close for @client;
}
psql_is($node, 'SELECT count(*) FROM (SELECT FROM leadroute.assignment WHERE ended_at IS NULL GROUP BY tenant, lead_id HAVING count(*) > 1) d', '0', 'nobody has what another has');
verify_ok($node, $_, "tenant $_") for 0, 5, 6;
$pooler->stop;
done_testing();
