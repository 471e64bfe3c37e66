# How the record is read by those who may not read all of it, whatever the planner thinks of its size: what
# steps from one tenant, rep, pool or rule to the next does so by an index, on a record without statistics
# as on one that the planner holds for small.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use Test::More;

my $node = start_node('main', conf => 'leadroute.backlog = off');
$node->safe_psql('postgres', <<'SQL');
SELECT leadroute.create_lead_table('public.leads');
INSERT INTO leadroute.rep (id, name, paused) VALUES (1, 'Ann', false), (2, 'Bob', true);
INSERT INTO leadroute.pool (name) VALUES ('p');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('p', 2);
INSERT INTO leadroute.rule (lead_table, position, name, condition, rep, pool) VALUES
    ('leads', 1, 'own', $$source = 'own'$$, 1, NULL), ('leads', 2, 'pool', 'true', NULL, 'p');
SQL

# What auto_explain says of SQL, nested statements too: their plans, without their texts.
sub plans
{
	my ($sql) = @_;
	my ($code, $out, $err) = $node->psql('postgres', <<"SQL", on_error_stop => 1);
LOAD 'auto_explain';
SET auto_explain.log_nested_statements = on; SET auto_explain.log_level = notice; SET auto_explain.log_min_duration = 0;
$sql
SQL
	BAIL_OUT($err) if $code != 0;
	return join "\n", grep { /^\s+(->|\S+ Scan|Index Cond:|Filter:)/ } split /\n/, $err;
}

my %reads = (
	"SELECT leadroute.events_since(leadroute.event_cursor())" => [ 'tenant > t', 'rep > r', 'day >= known' ],
	"SELECT leadroute._backlog_tenants()" => ['tenant > t'],
	"SELECT leadroute._backlog_queues(0)" => ['pool > q'],
	"SELECT leadroute._backlog_rules(0, (SELECT id FROM leadroute.pool), true, '{}')" => ['rule > '],
	"SELECT leadroute._backlog_candidates(0, id, ARRAY(SELECT r.id FROM leadroute.rule r), '[{}, \"2020-01-01\", \"1\"]', 10) FROM leadroute.pool" => ['ROW\(.*decided_at\) >='],
);
for my $record ('empty', 'small')
{
	for my $sql (sort keys %reads)
	{
		my $plan = plans("$sql;");
		my @by_index = grep { $plan !~ /Index Cond: .*$_/ } @{ $reads{$sql} };
		my ($name) = $sql =~ /leadroute\.(\w+)/;
		is("@by_index", '', "$name(), $record record: steps by an index") or diag($plan);
		unlike($plan, qr/Seq Scan on assignment|Filter: .*(tenant|rep|pool|rule) > /, 'and reads nothing besides') or diag($plan);
	}
	next if $record eq 'small';
	$node->safe_psql('postgres', "INSERT INTO leads (source) SELECT CASE WHEN i % 2 = 0 THEN 'own' END FROM generate_series(1, 20) i;
		DELETE FROM leads WHERE id < 6; VACUUM ANALYZE leadroute.assignment");
}

done_testing();
