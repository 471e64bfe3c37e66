# Many leads at the head of a queue that a rep lacks the skill for: claim_next() passes them over once, and
# for a second goes on from there; whatever comes, goes, is rolled back or learnt meanwhile, each rep is given
# the best lead that is for him.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use LeadrouteTest::Session;
use Test::More;
use Time::HiRes ();

seed();
my $node = start_node('main', conf => "jit = off\nmax_connections = 30");
my $hard = soak(1500, 20000);

$node->safe_psql('postgres', <<"SQL");
CREATE TABLE leads (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, skill text, score float8, owner_id bigint);
SELECT leadroute.attach('leads');
UPDATE leadroute.lead_table SET score_column = 'score';
INSERT INTO leadroute.rep (id, name, skills) VALUES (1, 'Rep 1', '{}'), (2, 'Rep 2', '{"rare": 1}'), (3, 'Rep 3', '{}');
INSERT INTO leadroute.pool (name, mode) VALUES ('pull', 'pull');
INSERT INTO leadroute.pool_member (pool, rep) SELECT 'pull', id FROM leadroute.rep;
INSERT INTO leadroute.rule (lead_table, position, name, condition, needs, pool) VALUES
    ('leads', 1, 'hard', 'skill IS NOT NULL', 'ARRAY[skill]', 'pull'), ('leads', 2, 'easy', 'true', NULL, 'pull');
INSERT INTO leads (skill, score) SELECT 'rare', 1000 + i % 7 FROM generate_series(1, $hard) i;
INSERT INTO leads (score) SELECT i % 50 FROM generate_series(1, 1000) i;
CREATE VIEW waiting AS SELECT lead_id, needs FROM leadroute.assignment WHERE rep IS NULL AND ended_at IS NULL
    ORDER BY leadroute._place(label, at_front), coalesce(-score, 'Infinity'), decided_at, lead_id::bigint;
SQL

my @session = sessions($node, 3);
my %skilled = (1 => 0, 2 => 1, 3 => 0);

sub claim_sql { my ($rep) = @_; return "SELECT lead_id FROM leadroute.claim_next($rep, 'pull')" }

sub best
{
	my ($rep) = @_;
	return $node->safe_psql('postgres', 'SELECT lead_id FROM waiting ' . ($skilled{$rep} ? '' : 'WHERE needs IS NULL ') . 'LIMIT 1');
}

sub skill
{
	my ($rep, $has) = @_;
	$skilled{$rep} = $has;
	return 'UPDATE leadroute.rep SET skills = ' . ($has ? q('{"rare": 1}') : q('{}')) . " WHERE id = $rep";
}

my @wrong;
my $claims = 0;
for my $step (1 .. soak(250, 2500))
{
	my $session = $session[ int rand @session ];
	my $rep = 1 + int rand 3;
	my $kind = rand;
	if ($kind < 0.1)
	{
		$session->query('INSERT INTO leads (skill, score) VALUES (' . ((rand) < 0.3 ? "'rare'" : 'NULL') . ', ' . int(rand 2000) . ')');
	}
	elsif ($kind < 0.15)
	{
		$session->query("BEGIN;\nSAVEPOINT a;\n" . claim_sql($rep) . ";\n" . ((rand) < 0.5 ? 'ROLLBACK' : "ROLLBACK TO a;\nCOMMIT"));
	}
	elsif ($kind < 0.18)
	{
		$session->query(skill($rep, 1 - $skilled{$rep}));
	}
	elsif ($kind < 0.21)
	{
		$session->query('UPDATE leads SET score = 3000 WHERE id = ' . best($rep));
	}
	elsif ($kind < 0.24)
	{
		$session->query("UPDATE leads SET owner_id = 2 WHERE id = " . best($rep));
	}
	for my $again (0 .. int rand 3)
	{
		my $best = best($rep);
		my $got = $session->query(claim_sql($rep));
		$claims++;
		push @wrong, "$got instead of $best for rep $rep at step $step" if $got ne $best;
	}
}
figure(claims => $claims);
is(join(', ', map { join ' ', $_->errors } @session), ', , ', 'no error');
is(join('; ', @wrong), '', 'every claim gave the best lead that the rep has the skill for');

my ($one) = @session;
$node->safe_psql('postgres', skill(1, 0));
$one->query(claim_sql(1));
my $best = best(1);
is($one->query("BEGIN;\n" . skill(1, 1) . ";\n" . claim_sql(1) . ";\nROLLBACK"), best(1), 'a transaction that has taught the rep claims by that');
$skilled{1} = 0;
is($one->query(claim_sql(1)), $best, 'and after its rollback nothing is left of it');
is($one->query("BEGIN;\nINSERT INTO leads (score) VALUES (9000);\n" . claim_sql(1) . ";\nCOMMIT"),
	$node->safe_psql('postgres', 'SELECT max(id) FROM leads'), 'a transaction claims what it has inserted itself');

# Passing over them all takes its time once, not with each claim.
my $took = sub {
	my ($claims) = @_;
	my $start = Time::HiRes::time();
	$one->query("DO \$\$BEGIN FOR i IN 1 .. $claims LOOP PERFORM leadroute.claim_next(1); END LOOP; END\$\$");
	return Time::HiRes::time() - $start;
};
my $reads = sub { return $node->safe_psql('postgres', "SELECT pg_stat_force_next_flush(); SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'assignment_pull'") };
$one->query('SELECT pg_stat_force_next_flush()');
my $before = $reads->() =~ s/\s//gr;
my $seconds = $took->(100);
$one->query('SELECT pg_stat_force_next_flush()');
my $read = ($reads->() =~ s/\s//gr) - $before;
figure(seconds => $seconds, index_entries_per_claim => $read / 100);
cmp_ok($read, '<', (1 + $seconds) * 3 * ($hard + 1500) + 1000, 'the leads at the head are read once a second');

for my $session (@session) { $session->close }
verify_ok($node, 0, 'verify() finds nothing');

done_testing();
