# Sessions sign reps in and out, hear of them and insert leads, all at once, many of them rolling back,
# while configuration changes and memory is made anew: in the end memory knows who is there, as the
# table says, and each lead went to somebody who was there.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use Test::More;

seed();
my $reps = 6;
my $node = start_node('main');
psql_ok($node, <<"SQL", 'a pool of reps who sign in');
SELECT leadroute.create_lead_table('public.leads');
INSERT INTO leadroute.rep (id, name, daily_cap) SELECT i, 'Rep ' || i, CASE i WHEN 1 THEN 15 END FROM generate_series(1, $reps) i;
INSERT INTO leadroute.pool (name, presence_required, catch_up) VALUES ('desk', true, 'none'), ('other', true, 'full');
INSERT INTO leadroute.pool_member (pool, rep) SELECT p, i FROM unnest('{desk,other}'::text[]) p, generate_series(1, $reps) i;
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool) VALUES ('leads', 1, 'desk', 'source = ''desk''', 'desk'), ('leads', 2, 'other', 'true', 'other');
SQL

my @sessions = sessions($node, 8);
my @act = (
	sub { "SELECT leadroute.sign_in($_[0])" },
	sub { "SELECT leadroute.sign_out($_[0])" },
	sub { "SELECT leadroute.heartbeat($_[0])" },
	sub { "INSERT INTO leads (source) SELECT 'desk' FROM generate_series(1, 3)" },
	sub { "INSERT INTO leads (source) VALUES ('other')" },
	sub { "BEGIN; SELECT leadroute.sign_out($_[0]); INSERT INTO leads (source) VALUES ('desk'); ROLLBACK" },
	sub { "BEGIN; SAVEPOINT a; SELECT leadroute.sign_in($_[0]); INSERT INTO leads (source) VALUES ('other'); ROLLBACK TO a; INSERT INTO leads (source) VALUES ('desk'); COMMIT" },
	sub { "BEGIN; SELECT leadroute.sign_in($_[0]); INSERT INTO leads (source) VALUES ('desk'), ('other'); COMMIT" },
	sub { "UPDATE leadroute.rep SET team = md5(random()::text) WHERE id = $_[0]" },
	sub { 'SELECT leadroute._forget(0)' });
my %errors;
for my $step (1 .. soak(60, 3000))
{
	$_->send($act[ int rand @act ]->(1 + int rand $reps)) for @sessions;
	wait_all(@sessions);
	for my $session (@sessions)
	{
		$errors{$_}++ for $session->errors;
		$session->query('ROLLBACK') if $session->errors;
	}
	next if $step % 10;
	# a rep at the cap is not available, though there
	is($node->safe_psql('postgres', <<'SQL'), '0', "step $step: memory knows who is there");
SELECT count(*) FROM leadroute.pool_state s JOIN leadroute.rep r ON r.id = s.rep LEFT JOIN leadroute.presence p ON p.rep = s.rep
WHERE coalesce(p.signed_out_at IS NULL AND p.rep IS NOT NULL, false) <> (s.unavailable_reason IS DISTINCT FROM 'not signed in')
SQL
	verify_ok($node, 0, "step $step");
}
# heartbeats of reps who are not there; transactions that change the same row at once
delete @errors{qw(LR010 40P01)};
is(join(' ', %errors), '', 'nothing else went wrong');
$_->close for @sessions;
done_testing();
