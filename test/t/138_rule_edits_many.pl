# Many edit rules at once while many insert, with the rule index in use: four editors, each with rules
# of its own, change them, delete them and put others in their place, in drafts that route leads of their
# own and are committed or rolled back, or rolled back in part; now and then one touches so many rules
# that the index is made anew. Each lead of the others is routed by a version of its rule that was in
# force between the start of its statement and its decision, and as that version says; none is lost.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use LeadrouteTest::Leads;
use Test::More;

seed();
my ($editors, $inserters, $each, $others) = (4, 6, 3, 400);
my $rules = $editors * $each;
my $node = start_node('main', conf => "jit = off\nautovacuum = off");
$node->safe_psql('postgres', <<"SQL" . checks_sql('leads'));
SELECT leadroute.create_lead_table('public.leads');
-- when the statement began that inserted it
ALTER TABLE leads ADD began timestamptz DEFAULT statement_timestamp();
INSERT INTO leadroute.rep (id, name) SELECT i, 'Rep ' || i FROM generate_series(1, 9) i;
-- rule k is of the scores 4k to 4k + 3, one of them at a time
INSERT INTO leadroute.rule (id, lead_table, position, name, condition, rep)
    SELECT k, 'leads', k, 'edited ' || k, 'score = ' || 4 * k, 1 FROM generate_series(1, $rules) k;
INSERT INTO leadroute.rule (id, lead_table, position, name, condition, rep)
    SELECT 1000 + i, 'leads', 1000 + i, 'other ' || i, 'score = ' || 1000 + i, 8 FROM generate_series(1, $others) i;
INSERT INTO leadroute.rule (id, lead_table, position, name, condition, rep) VALUES (9999, 'leads', 9999, 'else', 'true', 9);
-- from when a version may be seen, and from when it is by everybody
CREATE TABLE edit (rule bigint, version int, score int, rep bigint, committing timestamptz, committed timestamptz, PRIMARY KEY (rule, version));
INSERT INTO edit SELECT id, version, 4 * id, 1, '-infinity', '-infinity' FROM leadroute.rule WHERE id <= $rules;
-- leads of drafts: what the draft said, and what became of them
CREATE TABLE drafted (rule bigint, said bigint, got bigint);
SQL

sub pick { return $_[ int rand @_ ] }

# draft gives rule k another condition and rep, by an UPDATE or by deleting it and putting another in
# its place, and routes a lead by it.
sub draft
{
	my ($k) = @_;
	my ($score, $rep) = (4 * $k + int rand 4, 1 + int rand 7);
	my $change = rand() < 0.7
	  ? "UPDATE leadroute.rule SET condition = 'score = $score', rep = $rep WHERE id = $k"
	  : "DELETE FROM leadroute.rule WHERE id = $k; INSERT INTO leadroute.rule (id, lead_table, position, name, condition, rep) VALUES ($k, 'leads', $k, 'edited $k', 'score = $score', $rep)";
	my $lead = "WITH l AS (INSERT INTO leads (score, source) VALUES ($score, 'draft') RETURNING owner_id) INSERT INTO drafted SELECT $k, $rep, owner_id FROM l;";
	return ("$change; " . (rand() < 0.5 ? $lead : ''), $score, $rep);
}

sub edit_script
{
	my ($editor) = @_;
	my $k = 1 + $editor * $each + int rand $each;
	my ($kept, $score, $rep) = draft($k);
	my $sql = "BEGIN; ";
	if (rand() < 0.3) {
		my ($undone) = draft(1 + $editor * $each + int rand $each);
		$sql .= "SAVEPOINT s; $undone ROLLBACK TO s; ";
	}
	$sql .= $kept;
	if (rand() < 0.3) {
		my ($undone) = draft($k);
		$sql .= "SAVEPOINT s; $undone ROLLBACK TO s; ";
	}
	$sql .= 'UPDATE leadroute.rule SET name = name WHERE id BETWEEN 1001 AND 1300; ' if $editor == 0 && rand() < 0.1;
	return "$sql ROLLBACK" if rand() < 0.25;
	# one that changes nothing makes no version
	return "$sql INSERT INTO edit SELECT r.id, r.version, $score, $rep, clock_timestamp() FROM leadroute.rule r WHERE r.id = $k ON CONFLICT DO NOTHING; COMMIT; "
	  . "UPDATE edit SET committed = clock_timestamp() WHERE rule = $k AND committed IS NULL";
}

my @sessions = sessions($node, $editors + $inserters);
my ($seconds, @failed) = (soak(10, 300));
my $end = time + $seconds;
my %scripts = (edits => 0, inserts => 0);
while (time < $end)
{
	my $idle = 1;
	for my $i (grep { $sessions[$_]->ready } 0 .. $#sessions)
	{
		my $session = $sessions[$i];
		if ($session->{busy}) {
			$session->wait;
			push @failed, $session->errors;
		}
		$idle = 0;
		if ($i < $editors) {
			$session->send(edit_script($i));
			$scripts{edits}++;
			next;
		}
		my $insert = sub {
			my $n = pick(1, 1, 1, 1 + int rand 30);
			return "INSERT INTO leads (score) SELECT 4 + floor(random() * 4 * $rules) FROM generate_series(1, $n)";
		};
		my $sql = join ';', map { $insert->() } 1 .. 4;
		$sql = 'BEGIN ISOLATION LEVEL ' . pick('READ COMMITTED', 'REPEATABLE READ') . "; $sql; " . pick('COMMIT', 'COMMIT', 'ROLLBACK') if rand() < 0.5;
		$session->send($sql);
		$scripts{inserts}++;
	}
	select undef, undef, undef, 0.005 if $idle;
}
for my $session (grep { $_->{busy} } @sessions) {
	$session->wait;
	push @failed, $session->errors;
}
is("@failed", '', 'nothing failed');

my $leads = $node->safe_psql('postgres', 'SELECT count(*) FROM leads');
psql_is($node, 'SELECT count(*) FROM leadroute.assignment', $leads, 'each lead has its record');
psql_is($node, 'SELECT count(*) FROM leads WHERE owner_id IS NULL', '0', 'and an owner');
psql_is($node, 'SELECT * FROM drafted WHERE said <> got LIMIT 3', '', 'each draft routed by itself');
psql_is($node, 'SELECT count(*) FROM edit WHERE committed IS NULL', '0', 'each version is known');
$node->safe_psql('postgres', <<"SQL");
-- each version of an edited rule: what it says, from when it may be seen, and until when
CREATE TABLE version AS
    SELECT rule, version, score, rep, committing, lead(committed, 1, 'infinity') OVER (PARTITION BY rule ORDER BY version) AS replaced FROM edit;
CREATE INDEX ON version (rule, version);
ANALYZE;
CREATE VIEW routed_by AS
    SELECT l.id, l.score, l.score / 4 AS of_rule, l.owner_id, l.began, a.decided_at, a.rule, a.rule_version
    FROM leads l JOIN leadroute.assignment a ON a.lead_id = l.id::text WHERE l.source IS NULL;
SQL
psql_is($node, <<"SQL", '', 'each lead of an edited rule is routed as the version says that its record names');
SELECT d.*, v.score, v.rep FROM routed_by d LEFT JOIN version v ON v.rule = d.rule AND v.version = d.rule_version
WHERE d.rule <= $rules AND (v.score, v.rep) IS DISTINCT FROM (d.score, d.owner_id) LIMIT 5
SQL
psql_is($node, <<"SQL", '', 'which was in force during its statement');
SELECT d.*, v.* FROM routed_by d JOIN version v ON v.rule = d.rule AND v.version = d.rule_version
WHERE d.rule <= $rules AND NOT (v.committing <= d.decided_at AND d.began <= v.replaced) LIMIT 5
SQL
psql_is($node, <<"SQL", '', 'and of the others a version was that did not match');
SELECT d.* FROM routed_by d WHERE d.rule > $rules AND (d.rule <> 9999 OR d.owner_id <> 9 OR NOT EXISTS (
    SELECT FROM version v WHERE v.rule = d.of_rule AND v.committing <= d.decided_at AND d.began <= v.replaced AND v.score <> d.score)) LIMIT 5
SQL
cmp_ok($node->safe_psql('postgres', "SELECT count(DISTINCT (rule, rule_version)) FROM routed_by WHERE rule <= $rules"), '>', 40, 'many versions decided');
psql_is($node, 'SELECT problems()', '', 'nothing is wrong');
verify_ok($node);
$_->close for @sessions;
figure(leads => $leads, %scripts, versions => $node->safe_psql('postgres', 'SELECT count(*) FROM version'),
	drafted => $node->safe_psql('postgres', 'SELECT count(*) FROM drafted'));

done_testing();
