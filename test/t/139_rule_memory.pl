# A session's memory does not grow with the number of rules: it shares what is known of all of them, and
# keeps of its own those that its leads came to and that cannot be decided by values alone, up to a
# thousand. Nor does it grow with the number of changes. Loading rules, and the lead after a change,
# read so many rows for each rule, whatever their number and whatever the planner thought of it.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use LeadrouteTest;
use Test::More;

my $node = start_node('main', conf => "jit = off\nautovacuum = off\nfsync = off\nleadroute.notify = off");
$node->safe_psql('postgres', <<'SQL');
SELECT leadroute.create_lead_table('public.leads');
INSERT INTO leadroute.rep (id, name) SELECT i, 'Rep ' || i FROM generate_series(1, 9) i;
INSERT INTO leadroute.pool (name) VALUES ('p');
INSERT INTO leadroute.pool_member (pool, rep) SELECT 'p', i FROM generate_series(1, 9) i;
INSERT INTO leadroute.rule (lead_table, position, name, rep) VALUES ('leads', 2000000000, 'else', 9);
-- rows of leadroute's tables that this session has read and not told others of
CREATE FUNCTION rows_read() RETURNS bigint LANGUAGE sql AS $$
    SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))::bigint FROM pg_stat_xact_all_tables WHERE schemaname = 'leadroute'
$$;
SQL

# add_rules loads rules $from to $until in one statement, and returns how many rows that read for each.
# One in ten has to be compiled to be tried, by whoever meets it.
sub add_rules
{
	my ($session, $from, $until) = @_;
	my ($before, $after) = split /\n/, $session->query(<<"SQL");
BEGIN;
SELECT rows_read();
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool)
    SELECT 'leads', i, 'rule ' || i, format('score = %s', i) || CASE WHEN i % 10 = 0 THEN ' AND coalesce(length(product), 0) < 5' ELSE '' END, 'p'
    FROM generate_series($from, $until) i;
SELECT rows_read();
COMMIT
SQL
	return ($after - $before) / ($until - $from + 1);
}

# What a session has allocated.
sub kb
{
	my ($session) = @_;
	return int($session->query('SELECT sum(total_bytes) / 1024 FROM pg_backend_memory_contexts'));
}

# meet inserts a lead for each of these rules, and sees that they were found.
sub meet
{
	my ($session, $first, $last, $step) = @_;
	return $session->query("WITH l AS (INSERT INTO leads (score) SELECT i FROM generate_series($first, $last, $step) i RETURNING id)"
		  . ' SELECT count(*) FROM l');
}

my $few = 1000;
my $many = soak(20_000, 100_000);
my ($writer, $planned) = sessions($node, 2);
# plans of a session that knows a small table
add_rules($writer, 1, 100);
$node->safe_psql('postgres', 'ANALYZE leadroute.rule');
sub edit { my ($rule) = @_; return $writer->query("UPDATE leadroute.rule SET condition = condition || ' AND true' WHERE name = 'rule $rule'") }
sub read_after_edit
{
	my ($rule) = @_;
	edit($rule);
	my ($before, $after) = split /\n/, $planned->query('BEGIN; SELECT rows_read(); INSERT INTO leads (score) VALUES (50); SELECT rows_read(); COMMIT');
	return $after - $before;
}
meet($planned, 1, 100, 1);
my $small = read_after_edit(7);
my $load_few = add_rules($writer, 101, $few);

sub session_kb
{
	my ($session) = sessions($node, 1);
	meet($session, 1, 50, 1);
	my $lean = kb($session);
	meet($session, 10, 900, 10);
	my $met = kb($session);
	$session->close;
	return ($lean, $met);
}
meet($writer, 1, 50, 1);
my $writer_few = kb($writer);
edit(9); # as later
my ($lean_few, $met_few) = session_kb();
my $load_many = add_rules($writer, $few + 1, $many);
meet($writer, 1, 50, 1);
my $writer_many = kb($writer);
my $big = read_after_edit(8);
my ($lean_many, $met_many) = session_kb();
figure(rules => $many, few_kb => $lean_few, many_kb => $lean_many, compiled_few_kb => $met_few, compiled_many_kb => $met_many,
	builder_few_kb => $writer_few, builder_many_kb => $writer_many);
cmp_ok(abs($lean_many - $lean_few), '<', 128, "a session's first leads take as much memory among $many rules as among $few");
cmp_ok(abs($met_many - $met_few), '<', 128, 'so do those that need rules compiled');
cmp_ok($met_many - $lean_many, '>', 100, 'which is what it keeps');
cmp_ok($writer_many - $writer_few, '<', 512, 'who makes the index for all keeps nothing of it');

# Of rules that need compiling so many are kept, whatever the number met.
my ($session) = sessions($node, 1);
meet($session, 10, 11_000, 10);
my $full = kb($session);
meet($session, 11_010, $many, 10);
my $after = kb($session);
cmp_ok($after - $full, '<', 512, 'a thousand rules met and many more');
edit($_) for 1 .. 5;
meet($session, 10, 11_000, 10);
my $before = kb($session);
for my $edit (1 .. soak(40, 400)) {
	edit($edit);
	meet($session, $edit, $edit, 1);
}
meet($session, 10, 11_000, 10);
cmp_ok(kb($session) - $before, '<', 512, 'many changes of rules');
figure(full_kb => $full, after_kb => $after, edited_kb => kb($session));

# Rows read: by loading, and by the lead after the first change since.
figure(loaded_few => $load_few, loaded_many => $load_many, edited_few => $small, edited_many => $big);
cmp_ok($load_many, '<', $load_few * 1.1 + 1, 'loading a rule reads as many rows, however many there are');
cmp_ok($load_few, '<', 20, 'which are few');
cmp_ok($big, '<', 20, 'so does a lead after a change');
psql_is($node, "SELECT count(*) FROM leads l LEFT JOIN leadroute.assignment a ON a.lead_id = l.id::text LEFT JOIN leadroute.rule r ON r.id = a.rule WHERE r.name IS DISTINCT FROM 'rule ' || l.score", '0',
	'each lead found its rule');
verify_ok($node);
$_->close for $writer, $planned, $session;

done_testing();
