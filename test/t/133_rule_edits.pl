# Rules edited while leads are inserted: one session gives a rule another condition and another rep in
# every transaction, with SQL of its own in between or rolled back now and then; others insert, lead by
# lead and in batches. Each lead is routed by a version of the rule that was in force between the start of
# its statement and its decision, and as that version says; none is lost.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use LeadrouteTest::Leads;
use Test::More;

seed();
my $node = start_node('main', conf => "jit = off\nautovacuum = off");
$node->safe_psql('postgres', <<'SQL' . checks_sql('leads'));
SELECT leadroute.create_lead_table('public.leads');
-- when the statement began that inserted it
ALTER TABLE leads ADD began timestamptz DEFAULT statement_timestamp();
INSERT INTO leadroute.rep (id, name) SELECT i, 'Rep ' || i FROM generate_series(1, 9) i;
INSERT INTO leadroute.rule (id, lead_table, position, name, condition, rep) VALUES
    (1, 'leads', 1, 'edited', 'score = 0', 1), (2, 'leads', 2, 'else', 'true', 9);
-- from when a version may be seen, and from when it is by everybody
CREATE TABLE edit (version int PRIMARY KEY, committing timestamptz, committed timestamptz);
INSERT INTO edit VALUES (1, '-infinity', '-infinity');
SQL

my ($editor, @inserters) = sessions($node, 9);
my ($version, $seconds, $rolled_back) = (1, soak(6, 120), 0);
my $end = time + $seconds;
my $insert = sub {
	my $n = rand() < 0.3 ? 1 + int rand 40 : 1;
	return "INSERT INTO leads (score) SELECT floor(random() * 4) FROM generate_series(1, $n)";
};
while (time < $end)
{
	for my $inserter (grep { $_->ready } @inserters)
	{
		$inserter->wait if $inserter->{busy};
		$inserter->send(join ';', map { $insert->() } 1 .. 5);
	}
	my $kept = rand() < 0.8;
	my ($score, $rep) = (int rand 4, 1 + int rand 8);
	$editor->query('BEGIN');
	# and the draft routes by itself, which does not last
	$editor->query("UPDATE leadroute.rule SET condition = 'score = $score', rep = $rep WHERE id = 1");
	is($editor->query("SAVEPOINT s; INSERT INTO leads (score) VALUES ($score) RETURNING owner_id; ROLLBACK TO s"), $rep, 'the draft routes by itself') if rand() < 0.05;
	# one that changes nothing makes no version
	my $made = $editor->query('SELECT version FROM leadroute.rule WHERE id = 1');
	if (!$kept || $made == $version)
	{
		$editor->query('ROLLBACK');
		$rolled_back++;
		next;
	}
	my $before = $editor->query('SELECT clock_timestamp()');
	$editor->query('COMMIT');
	my $after = $editor->query('SELECT clock_timestamp()');
	$version = $made;
	$editor->query("INSERT INTO edit VALUES ($version, '$before', '$after')");
}
wait_all(grep { $_->{busy} } @inserters);

my $leads = $node->safe_psql('postgres', 'SELECT count(*) FROM leads');
psql_is($node, 'SELECT count(*) FROM leadroute.assignment', $leads, 'each lead has its record');
psql_is($node, 'SELECT count(*) FROM leads WHERE owner_id IS NULL', '0', 'and an owner');
$node->safe_psql('postgres', <<'SQL');
-- each version of the edited rule: what it says, from when it may be seen, and until when
CREATE TABLE version AS
    SELECT e.version, e.committing, lead(e.committed, 1, 'infinity') OVER (ORDER BY e.version) AS replaced,
        (substring(c.new ->> 'condition' FROM '\d+'))::int AS score, (c.new ->> 'rep')::bigint AS rep
    FROM edit e JOIN leadroute.config_change c ON c.table_name = 'rule' AND c.key = '{"id": 1}' AND c.version = e.version AND c.new IS NOT NULL;
ANALYZE;
CREATE VIEW routed_by AS
    SELECT l.id, l.score, l.owner_id, l.began, a.decided_at, a.rule, a.rule_version
    FROM leads l JOIN leadroute.assignment a ON a.lead_id = l.id::text;
SQL
psql_is($node, <<'SQL', '', 'each lead of the edited rule is routed as the version says that its record names');
SELECT d.*, v.score, v.rep FROM routed_by d LEFT JOIN version v ON v.version = d.rule_version
WHERE d.rule = 1 AND (v.score, v.rep) IS DISTINCT FROM (d.score, d.owner_id) LIMIT 5
SQL
psql_is($node, <<'SQL', '', 'which was in force during its statement');
SELECT d.*, v.* FROM routed_by d JOIN version v ON v.version = d.rule_version
WHERE d.rule = 1 AND NOT (v.committing <= d.decided_at AND d.began <= v.replaced) LIMIT 5
SQL
psql_is($node, <<'SQL', '', 'and of the others a version was that did not match');
SELECT d.* FROM routed_by d WHERE d.rule = 2 AND (d.owner_id <> 9 OR NOT EXISTS (
    SELECT FROM version v WHERE v.committing <= d.decided_at AND d.began <= v.replaced AND v.score <> d.score)) LIMIT 5
SQL
cmp_ok($node->safe_psql('postgres', 'SELECT count(DISTINCT rule_version) FROM routed_by WHERE rule = 1'), '>', 10, 'many versions decided');
psql_is($node, 'SELECT problems()', '', 'nothing is wrong');
verify_ok($node);
$_->close for $editor, @inserters;
figure(leads => $leads, versions => $version, rolled_back => $rolled_back);

done_testing();
