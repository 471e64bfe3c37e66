# Who is told what by events_since(): each role the episodes and alerts that the policies let it see,
# in the tenants where it has a level, however it reads on.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use Test::More;

my $node = start_node('main', conf => 'jit = off');
$node->safe_psql('postgres', <<'SQL');
CREATE ROLE ann; CREATE ROLE bob; CREATE ROLE boss; CREATE ROLE app; CREATE ROLE admin; CREATE ROLE other; CREATE ROLE nobody;
SELECT leadroute.create_lead_table('public.leads');
CREATE TABLE company_lead (company bigint, id int, owner_id bigint, PRIMARY KEY (company, id));
SELECT leadroute.attach('company_lead', tenant_column => 'company', fallback_pool => 'team');
INSERT INTO leadroute.rep (id, name, db_role) VALUES (1, 'Ann', 'ann'), (2, 'Bob', 'bob'), (3, 'Cho', NULL), (4, 'Boss', 'boss');
UPDATE leadroute.rep SET manager = 4 WHERE id = 1;
INSERT INTO leadroute.rep (tenant, id, name, db_role) VALUES (7, 1, 'Gil', 'ann');
INSERT INTO leadroute.pool (name, manager) VALUES ('team', NULL), ('bosses', 4), ('empty', 4), ('orphan', NULL);
INSERT INTO leadroute.pool (tenant, name) VALUES (7, 'team');
INSERT INTO leadroute.pool_member (pool, rep) VALUES ('team', 1), ('team', 2), ('bosses', 3);
INSERT INTO leadroute.pool_member (tenant, pool, rep) VALUES (7, 'team', 1);
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool)
SELECT 'leads', n, p, format('source = %L', p), p FROM unnest('{team,bosses,empty,orphan}'::text[]) WITH ORDINALITY u (p, n);
SELECT leadroute.grant_access('ann', 'rep'), leadroute.grant_access('bob', 'rep'), leadroute.grant_access('boss', 'manager'),
    leadroute.grant_access('app', 'app'), leadroute.grant_access('admin', 'admin', NULL), leadroute.grant_access('other', 'admin', 7);
GRANT USAGE ON SCHEMA leadroute TO nobody;
SQL
my $begin = $node->safe_psql('postgres', 'SELECT leadroute.event_cursor()');
# 1, 3: Ann's; 2, 4: Bob's; 5: Cho's, of the boss's pool; 6: waits there in vain; 7: in no manager's; 8: unmatched
$node->safe_psql('postgres', <<'SQL');
INSERT INTO leads (source) VALUES ('team'), ('team'), ('team'), ('team'), ('bosses'), ('empty'), ('orphan'), ('none');
INSERT INTO company_lead (company, id) VALUES (7, 1);
SQL

sub as_role
{
	my ($role, $sql) = @_;
	return $node->safe_psql('postgres', "SET ROLE $role; $sql");
}

# "tenant/lead event", as the role hears it.
sub told
{
	my ($role, $arguments) = @_;
	return as_role($role, "SELECT string_agg(format('%s/%s %s', event ->> 'tenant', event ->> 'lead_id', event ->> 'event'), ', ' ORDER BY (event ->> 'tenant')::int, (event ->> 'lead_id')::int, event ->> 'event' COLLATE \"C\")
		FROM leadroute.events_since($arguments)");
}

# The same from what the role sees in the tables.
sub sees
{
	my ($role, $tenant) = @_;
	my $alerts = $role =~ /^(ann|bob)$/ ? '' : 'UNION ALL SELECT tenant, lead_id, kind FROM leadroute.alert';
	return as_role($role, "SELECT string_agg(format('%s/%s %s', tenant, lead_id, kind), ', ' ORDER BY tenant, lead_id::int, kind COLLATE \"C\") FROM (
		SELECT tenant, lead_id, CASE WHEN rep IS NULL THEN 'waiting' ELSE 'assigned' END AS kind FROM leadroute.assignment $alerts) s WHERE $tenant");
}

for my $role (qw(ann bob boss app admin))
{
	my $told = told($role, "'$begin'");
	is($told, sees($role, 'tenant = 0'), "$role is told what it sees in the tables");
	is(told($role, ''), $told, "$role: also without a cursor");
	is(told($role, 'NULL, NULL'), sees($role, 'true'), "$role: of all its tenants");
}
is(told('ann', ''), '0/1 assigned, 0/3 assigned', 'a rep is told of its own leads');
is(told('boss', ''), '0/1 assigned, 0/3 assigned, 0/5 assigned, 0/6 nobody_available, 0/6 waiting',
	'a manager of those of its reps and pools, and its alerts');
is(told('other', 'NULL, 7'), '7/1 assigned, 7/1 unmatched', 'an admin of another tenant, of its own');
is(told('other', 'NULL, NULL'), '7/1 assigned, 7/1 unmatched', 'and of no other');
$node->safe_psql('postgres', "UPDATE leadroute.lead_table SET manager = 4 WHERE name = 'leads'");
is(told('boss', ''), sees('boss', 'tenant = 0'), 'a lead table\'s manager');
like(told('boss', ''), qr{0/8 waiting}, 'is told of its queue unmatched');

is(as_role('ann', "SELECT min(event ->> 'id') FROM leadroute.events_since()"),
	$node->safe_psql('postgres', "SELECT min(event ->> 'id') FROM leadroute.events_since() WHERE event ->> 'rep' = '1'"), 'with the same ids');

# ---- cursors ------------------------------------------------------------------------------------------

my $cursor = as_role('ann', 'SELECT leadroute.event_cursor()');
$node->safe_psql('postgres', "INSERT INTO leads (source) VALUES ('team'), ('team')");
is(told('ann', "'$cursor'"), '0/9 assigned', 'a rep reads on from its cursor');
is(told('bob', "'$cursor'"), '0/10 assigned', 'another\'s cursor tells nothing more');
# A rep may not see since when others' transactions run, yet its cursor is no older for it.
my $since = "SELECT leadroute._cursor_since('%s') > clock_timestamp() - interval '1 minute'";
my ($s) = sessions($node, 1);
$s->query("BEGIN; INSERT INTO leads (source) VALUES ('none')");
is($node->safe_psql('postgres', sprintf($since, as_role('ann', 'SELECT leadroute.event_cursor()'))), 't', 'a rep\'s cursor knows since when others\' transactions run');
$s->query('ROLLBACK');

# ---- who is told nothing ---------------------------------------------------------------------------------

sqlstate_is($node, "SET ROLE $_", 'LR012', "denied: $_") for
	'nobody; SELECT * FROM leadroute.events_since()', 'nobody; SELECT leadroute.event_cursor()',
	'nobody; SELECT * FROM leadroute.events_since(NULL, NULL)', 'ann; SELECT * FROM leadroute.events_since(NULL, 7)',
	'other; SELECT * FROM leadroute.events_since()';
sqlstate_is($node, "SET ROLE ann; SELECT $_", '42501', "denied to a rep: $_") for
	'event_salt FROM leadroute.lead_table', 'FROM leadroute.event_cursor', '* FROM leadroute._events(NULL, 0)',
	"* FROM leadroute._events_since_for('admin', NULL, 0)", 'leadroute._event_bound()';
$node->safe_psql('postgres', "SELECT leadroute.revoke_access('ann', 'rep')");
sqlstate_is($node, 'SET ROLE ann; SELECT * FROM leadroute.events_since()', '42501', 'taken back');

done_testing();
