# explain() against the insert that follows it: random leads over random pools (round robin, weighted,
# caps of reps and members, overflow, fallback, a rule's own rep, rules that fail), in two tenants, by
# the same session, by another, in a transaction, in a draft of the configuration that is committed or
# rolled back, in READ ONLY transactions, with the tenant's memory just dropped. Rule, pool, rep, outcome
# and words are those of the insert, and asking changes nothing.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use LeadrouteTest::Leads;
use Test::More;

seed();
my $node = start_node('main', conf => 'jit = off');
my $zone = noon_zone();
my @tenants = (0, 7);
my $reps = 9;

$node->safe_psql('postgres', <<"SQL");
CREATE TABLE lead (tenant bigint, id bigint GENERATED ALWAYS AS IDENTITY, region text DEFAULT 'r0', size int, owner text, PRIMARY KEY (tenant, id));
SELECT leadroute.attach('lead', owner_column => 'owner', tenant_column => 'tenant', fallback_pool => 'p1');

-- What was said, and what came of it.
CREATE FUNCTION said(tenant bigint, lead jsonb) RETURNS text LANGUAGE sql AS \$\$
    SELECT concat_ws('|', e.rule, e.pool, e.rep, e.outcome, e.reason, (SELECT string_agg(p.rep::text, ',') FROM leadroute.explain('lead', lead, tenant) p WHERE p.picked))
    FROM leadroute.explain('lead', lead, tenant) e WHERE e.kind = 'result'
\$\$;
CREATE FUNCTION done(tenant bigint, lead jsonb) RETURNS text LANGUAGE plpgsql AS \$\$
DECLARE
    key bigint;
    result text;
BEGIN
    IF lead ? 'region' THEN
        INSERT INTO lead (tenant, region, size) VALUES (tenant, lead ->> 'region', (lead ->> 'size')::int) RETURNING id INTO key;
    ELSE
        INSERT INTO lead (tenant, size) VALUES (tenant, (lead ->> 'size')::int) RETURNING id INTO key;
    END IF;
    SELECT concat_ws('|', d.rule, d.pool, d.rep, d.status, d.reason, d.rep) INTO result FROM leadroute.decision d
    WHERE d.tenant = done.tenant AND d.lead_table = 'lead' AND d.lead_id = key::text;
    RETURN result;
END \$\$;
CREATE FUNCTION state() RETURNS text LANGUAGE sql AS \$\$
    SELECT md5(string_agg(concat(t, (SELECT jsonb_agg(s ORDER BY s.name) FROM leadroute._stat(t) s WHERE s.name <> 'rebuilds' AND s.name NOT LIKE 'event%'), (SELECT jsonb_agg(m) FROM leadroute._pool_memory(t) m),
        (SELECT jsonb_agg(m) FROM leadroute._day_memory(t) m), (SELECT count(*) FROM leadroute.assignment), (SELECT count(*) FROM leadroute.alert), (SELECT last_value FROM lead_id_seq)), ''))
    FROM unnest('{@{[join ',', @tenants]}}'::bigint[]) t
\$\$;
SQL

sub pick { return $_[ int rand @_ ] }

# A fresh configuration of one tenant.
sub configuration
{
	my ($t) = @_;
	my $sql = "INSERT INTO leadroute.rep (tenant, id, name, ref, daily_cap, paused, timezone) VALUES "
	  . join(', ', map { "($t, $_, 'Rep $_', " . ($_ == 9 ? 'NULL' : "'ref $t $_'") . ', '
		. ($_ < 3 ? 'NULL' : 3 + int rand 30) . ', ' . ($_ == 8 ? 'true' : 'false') . ", '$zone')" } 1 .. $reps) . ";\n";
	for my $p (1 .. 4)
	{
		my $overflow = $p > 1 && rand() < 0.6 ? "'p@{[$p - 1]}'" : 'NULL';
		$sql .= "INSERT INTO leadroute.pool (tenant, name, method, overflow_pool, catch_up) VALUES ($t, 'p$p', '@{[pick('round_robin', 'weighted')]}', $overflow, '@{[pick('none', 'full')]}');\n";
		for my $rep (1 .. $reps)
		{
			next if rand() < 0.5;
			$sql .= "INSERT INTO leadroute.pool_member (tenant, pool, rep, weight, daily_cap) VALUES ($t, 'p$p', $rep, @{[1 + int rand 5]}, @{[pick('NULL', 2 + int rand 20)]});\n";
		}
	}
	$sql .= "INSERT INTO leadroute.rule (tenant, lead_table, position, name, condition, pool, rep, overflow_pool) VALUES
		($t, 'lead', 1, 'fails', '10 / size > 4', 'p1', NULL, NULL), ($t, 'lead', 2, 'one', 'region = ''r1''', 'p1', NULL, NULL),
		($t, 'lead', 3, 'two', 'region = ''r2'' AND id % 2 = 0', 'p2', NULL, 'p4'), ($t, 'lead', 4, 'three', 'region = ''r3''', 'p3', NULL, NULL),
		($t, 'lead', 5, 'own', 'region = ''r4''', NULL, @{[1 + int rand $reps]}, 'p4'), ($t, 'lead', 6, 'four', 'region = ''r0'' AND size > 3', 'p4', NULL, NULL);\n";
	return $sql;
}

# A change of the configuration, for a draft.
sub change
{
	my ($t) = @_;
	my $rep = 1 + int rand $reps;
	my $pool = 'p' . (1 + int rand 4);
	return pick("UPDATE leadroute.rep SET paused = NOT paused WHERE tenant = $t AND id = $rep", "UPDATE leadroute.rep SET daily_cap = daily_cap + 2 WHERE tenant = $t AND id = $rep",
		"UPDATE leadroute.pool_member SET weight = weight % 5 + 1 WHERE tenant = $t AND pool = '$pool'", "DELETE FROM leadroute.pool_member WHERE tenant = $t AND pool = '$pool' AND rep = $rep",
		"INSERT INTO leadroute.pool_member (tenant, pool, rep) VALUES ($t, '$pool', $rep) ON CONFLICT DO NOTHING", "UPDATE leadroute.rule SET active = NOT active WHERE tenant = $t AND position = @{[1 + int rand 6]}",
		"UPDATE leadroute.rule SET pool = '$pool' WHERE tenant = $t AND position = 4");
}

sub lead
{
	my @columns;
	push @columns, '"region": "r' . int(rand 6) . '"' if rand() < 0.8;
	push @columns, '"size": ' . int(rand 9) if rand() < 0.8;
	return "'{" . join(', ', @columns) . "}'";
}

$node->safe_psql('postgres', configuration($_)) for @tenants;
my ($one, $two) = sessions($node, 2);
my (@wrong, %count);

# Asks `asker`, inserts by `actor`.
sub compare
{
	my ($asker, $actor, $t, $how) = @_;
	my $lead = lead();
	my ($said, @errors) = $asker->query("SELECT said($t, $lead)");
	my ($done, @more) = $actor->query("SELECT done($t, $lead)");
	$count{$how}++;
	$count{outcome}{$_}++ for $done =~ /(assigned|waiting|daily cap|failed|no rule matched|without a ref|nobody available|names this rep)/g;
	push @wrong, "$how, tenant $t, $lead: said $said @errors, done $done @more" if "$said @errors" ne "$done @more";
	return;
}

for my $round (1 .. soak(250, 5000))
{
	my $t = pick(@tenants);
	my $kind = int rand 6;
	if ($kind == 0) { compare($one, $one, $t, 'alone') }
	elsif ($kind == 1) { compare($one, $two, $t, 'by another session') }
	elsif ($kind == 2)
	{
		$one->query('BEGIN READ ONLY');
		my $lead = lead();
		my $said = $one->query("SELECT said($t, $lead)");
		$one->query('COMMIT');
		my $done = $two->query("SELECT done($t, $lead)");
		$count{'read only'}++;
		push @wrong, "read only, tenant $t, $lead: said $said, done $done" if $said ne $done;
	}
	elsif ($kind == 3)
	{
		$one->query('BEGIN');
		compare($one, $one, $t, 'in a transaction') for 1 .. 1 + int rand 4;
		$one->query('SAVEPOINT a');
		compare($one, $one, $t, 'in a savepoint');
		$one->query('ROLLBACK TO a') if rand() < 0.5;
		compare($one, $one, $t, 'after a savepoint');
		$one->query(pick('COMMIT', 'ROLLBACK'));
	}
	elsif ($kind == 4)
	{
		$one->query('BEGIN; ' . change($t));
		compare($one, $one, $t, 'in a draft') for 1 .. 1 + int rand 4;
		$one->query(change($t)) if rand() < 0.3;
		compare($one, $one, $t, 'in a draft');
		compare($two, $two, $t, 'beside a draft') if rand() < 0.3;
		compare($one, $one, $t, 'in a draft');
		$one->query(pick('COMMIT', 'ROLLBACK'));
	}
	else
	{
		$two->query("SELECT leadroute._forget($t)");
		compare($two, $one, $t, 'memory dropped');
	}
}
ok($count{outcome}{$_}, "there were leads with: $_") for 'assigned', 'daily cap', 'failed', 'no rule matched', 'nobody available';
is(join("\n", @wrong), '', 'the next insert is as explained');
cmp_ok($count{$_} // 0, '>', 3, "$_: $count{$_}") for 'alone', 'by another session', 'read only', 'in a transaction', 'in a savepoint', 'in a draft', 'beside a draft', 'memory dropped';

# Asking, by many at once, changes nothing; then a round of inserts is fair as ever.
my $before = $one->query('SELECT state()');
for my $round (1 .. soak(40, 400))
{
	my $t = pick(@tenants);
	pick($one, $two)->query("SELECT said($t, @{[lead()]})");
}
is($one->query('SELECT state()'), $before, 'no turn, count, alert, record or number is taken');
is($one->query("SELECT v::text FROM leadroute.verify($_) v"), '(0,0,0,0,0)', "verify() of tenant $_ is all 0") for @tenants;
figure(%{ $count{outcome} // {} });
$_->close for $one, $two;

done_testing();
