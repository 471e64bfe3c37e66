# The shapes that a statement inserting leads can have, over the tables of LeadrouteTest::Leads.
#
#   shapes()             a list of hashes: name; sql; keep: leads that it leaves when it succeeds;
#                        err: the SQLSTATE that it ends with instead; way: how the record is written
#                        (direct, buffered, AFTER); only: what table it is for; then: a query, with
#                        its result once the leads are kept; inline: has data for psql in it (and a
#                        SELECT after them, since psql goes astray when an empty query follows)
#   shape_sql($shape, $table, $first, $source)   with the table, keys from $first on, and the value of
#                        src, filled in
#
# In sql: {T} the table, {a} {b} {c} new keys ({b} in the other partition, where there are two), {e}
# the key of a lead that is there, {s} the source, {f} a file of three rows.
package LeadrouteTest::Shapes;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use LeadrouteTest::Leads;
use PostgreSQL::Test::Utils ();

our @EXPORT = qw(shapes shape_sql);

my $insert = 'INSERT INTO {T} (id, src)';
my $three = "$insert VALUES ({a}, '{s}'), ({b}, '{s}'), ({c}, '{s}')";
my $method = "SELECT method || ' ' || coalesce(rep::text, '-') FROM leadroute.decision WHERE lead_id = '{a}' AND ended_at IS NULL";

my @plain = (
	{ name => 'one row', sql => "$insert VALUES ({a}, '{s}')", keep => 1 },
	{ name => 'one row, key by default', sql => "SELECT setval('keys', {a}); INSERT INTO {T} (src) VALUES ('{s}')", keep => 1 },
	{ name => 'RETURNING', sql => "$insert VALUES ({a}, '{s}') RETURNING id, owner_id", keep => 1 },
	{ name => 'many rows', sql => $three, keep => 3, way => 'buffered' },
	{ name => 'many rows, RETURNING', sql => "$three RETURNING owner_id", keep => 3, way => 'buffered' },
	{ name => 'INSERT SELECT', sql => "$insert SELECT {a} + i, '{s}' FROM generate_series(0, 4) i", keep => 5, way => 'buffered' },
	{ name => 'INSERT SELECT of no rows', sql => "$insert SELECT {a}, '{s}' WHERE false", keep => 0 },
	{ name => 'INSERT SELECT from itself', sql => "$insert SELECT {a}, src FROM {T} WHERE id = {e}", keep => 1 },
	{ name => 'COPY', sql => "COPY {T} (id, src) FROM STDIN;\n{a}\t{s}\n{b}\t{s}\n{c}\t{s}\n\\.\nSELECT", keep => 3, way => 'buffered', inline => 1 },
	{ name => 'COPY of a file', sql => "COPY {T} (id, src) FROM '{f}' WHERE id <> {b}", keep => 2, way => 'buffered' },
	{ name => 'WITH INSERT', sql => "WITH i AS ($three RETURNING owner_id) SELECT count(*) FROM i", keep => 3, way => 'buffered' },
	{ name => 'three INSERTs in one statement', keep => 3, way => 'buffered',
		sql => "WITH i AS ($insert VALUES ({a}, '{s}') RETURNING id), j AS ($insert VALUES ({b}, '{s}')) $insert SELECT {c}, '{s}' FROM i" },
	{ name => 'plpgsql function', sql => "SELECT f_{T}({a}, 3, '{s}')", keep => 3 },
	{ name => 'SQL function', sql => "SELECT s_{T}({a}, '{s}')", keep => 2, way => 'buffered' },
	{ name => 'EXPLAIN ANALYZE', sql => "EXPLAIN ANALYZE $three", keep => 3, way => 'buffered' },
	{ name => 'EXPLAIN', sql => "EXPLAIN $three", keep => 0 },
	{ name => 'prepared statement', keep => 3,
		sql => "PREPARE p{a} (bigint) AS $insert VALUES (\$1, '{s}'); EXECUTE p{a}({a}); EXECUTE p{a}({b}); EXECUTE p{a}({c}); DEALLOCATE p{a}" },
	{ name => 'owner given', sql => 'INSERT INTO {T} (id, src, owner_id) VALUES ({a}, \'{s}\', 2)', keep => 1, then => [ $method, 'manual 2' ] },
	{ name => 'owners given to some', keep => 3, way => 'buffered', then => [ $method, 'manual 4' ],
		sql => "INSERT INTO {T} (id, src, owner_id) VALUES ({a}, '{s}', 4), ({b}, '{s}', NULL), ({c}, '{s}', 1)" },
	{ name => 'unknown owner given', sql => "INSERT INTO {T} (id, src, owner_id) VALUES ({a}, '{s}', 999)", keep => 1, then => [ $method, 'manual 999' ] },
	{ name => 'through a view', sql => "INSERT INTO v_{T} (id, src) VALUES ({a}, '{s}'), ({b}, '{s}')", keep => 2, way => 'buffered' },
	{ name => 'through INSTEAD OF', sql => "INSERT INTO w_{T} (id, src) VALUES ({a}, '{s}'), ({b}, '{s}') RETURNING owner_id", keep => 2 },
	{ name => 'through a rule', sql => "INSERT INTO r_{T} (id, src) VALUES ({a}, '{s}'), ({b}, '{s}')", keep => 2, way => 'buffered' },
	{ name => 'row security allows', sql => "SET ROLE limited; $three; RESET ROLE", keep => 3, way => 'buffered' },
);

my @conflict = (
	{ name => 'DO NOTHING, no conflict', sql => "$three ON CONFLICT (id) DO NOTHING", keep => 3 },
	{ name => 'DO NOTHING, conflict', sql => "$insert VALUES ({e}, '{s}') ON CONFLICT (id) DO NOTHING", keep => 0 },
	{ name => 'DO NOTHING, some', sql => "$insert VALUES ({a}, '{s}'), ({e}, '{s}'), ({b}, '{s}'), ({a}, '{s}') ON CONFLICT DO NOTHING RETURNING id", keep => 2 },
	{ name => 'DO NOTHING in WITH', keep => 1,
		sql => "WITH i AS ($insert VALUES ({e}, '{s}'), ({a}, '{s}') ON CONFLICT DO NOTHING RETURNING id) SELECT count(*) FROM i" },
	{ name => 'DO UPDATE, no conflict', sql => "$insert VALUES ({a}, '{s}') ON CONFLICT (id) DO UPDATE SET n = 1", keep => 1 },
	{ name => 'DO UPDATE, some', sql => "$three, ({e}, '{s}') ON CONFLICT (id) DO UPDATE SET n = 1 RETURNING owner_id", keep => 3 },
	{ name => 'DO UPDATE of the owner', sql => "$insert VALUES ({e}, '{s}'), ({a}, '{s}') ON CONFLICT (id) DO UPDATE SET owner_id = EXCLUDED.owner_id", keep => 1 },
	{ name => 'DO UPDATE WHERE', sql => "$insert VALUES ({e}, '{s}') ON CONFLICT (id) DO UPDATE SET n = 1 WHERE false", keep => 0 },
	{ name => 'prepared DO NOTHING', keep => 1,
		sql => "PREPARE p{a} (bigint) AS $insert VALUES (\$1, '{s}') ON CONFLICT DO NOTHING; EXECUTE p{a}({e}); EXECUTE p{a}({a}); EXECUTE p{a}({a}); DEALLOCATE p{a}" },
	{ name => 'MERGE', keep => 2,
		sql => "MERGE INTO {T} t USING (VALUES ({e}::bigint), ({a}), ({b})) v (id) ON t.id = v.id WHEN MATCHED THEN UPDATE SET n = 2 WHEN NOT MATCHED THEN INSERT (id, src) VALUES (v.id, '{s}')" },
	{ name => 'MERGE, nothing to do', keep => 0,
		sql => "MERGE INTO {T} t USING (VALUES ({e}::bigint)) v (id) ON t.id = v.id WHEN MATCHED THEN DO NOTHING WHEN NOT MATCHED THEN INSERT (id, src) VALUES (v.id, '{s}')" },
);
$_->{way} //= 'AFTER' for @conflict;

my @errors = (
	{ name => 'unique error', sql => "$insert VALUES ({a}, '{s}'), ({b}, '{s}'), ({e}, '{s}')", err => '23505', way => 'buffered' },
	{ name => 'unique error of one row', sql => "$insert VALUES ({e}, '{s}')", err => '23505' },
	{ name => 'CHECK error', sql => "INSERT INTO {T} (id, src, n) VALUES ({a}, '{s}', 1), ({b}, '{s}', -1)", err => '23514', way => 'buffered' },
	{ name => 'NOT NULL error', sql => "$insert VALUES ({a}, '{s}'), ({b}, NULL)", err => '23502', way => 'buffered' },
	{ name => 'DO NOTHING, CHECK error', sql => "INSERT INTO {T} (id, src, n) VALUES ({a}, '{s}', 1), ({e}, '{s}', 1), ({b}, '{s}', -1) ON CONFLICT DO NOTHING", err => '23514', way => 'AFTER' },
	{ name => 'DO UPDATE twice', sql => "$insert VALUES ({a}, '{s}'), ({a}, '{s}') ON CONFLICT (id) DO UPDATE SET n = 1", err => '21000', way => 'AFTER' },
	{ name => 'error in RETURNING', sql => "$three RETURNING 1 / (id - {c})", err => '22012', way => 'buffered' },
	{ name => 'error in SELECT', sql => "$insert SELECT {a} + i, repeat('{s}', 1 / (2 - i)) FROM generate_series(0, 4) i", err => '22012', way => 'buffered' },
	{ name => 'COPY, bad third row', sql => "COPY {T} (id, src) FROM STDIN;\n{a}\t{s}\n{b}\t{s}\nx\t{s}\n\\.\nSELECT", err => '22P02', way => 'buffered', inline => 1 },
	{ name => 'COPY, unique error', sql => "COPY {T} (id, src) FROM STDIN;\n{a}\t{s}\n{b}\t{s}\n{e}\t{s}\n\\.\nSELECT", err => '23505', way => 'buffered', inline => 1 },
	{ name => 'view CHECK OPTION', sql => "INSERT INTO v_{T} (id, src) VALUES ({a}, '{s}'), ({b}, 'outside')", err => '44000', way => 'buffered' },
	{ name => 'row security refuses', sql => "DO \$\$BEGIN SET LOCAL ROLE limited; $insert VALUES ({a}, '{s}'), ({b}, 'forbidden'); END\$\$", err => '42501', way => 'buffered' },
	{ name => 'refused at commit', sql => "$insert VALUES ({a}, '{s}'), ({b}, 'refused at commit')", commit_err => 'UU001', keep => 0, way => 'buffered' },
);

my @nested = (
	{ name => 'caught unique error', keep => 2,
		sql => "DO \$\$BEGIN $insert VALUES ({a}, '{s}'); BEGIN $insert VALUES ({a}, '{s}'); EXCEPTION WHEN unique_violation THEN $insert VALUES ({b}, '{s}'); END; END\$\$" },
	{ name => 'caught unique error, many rows', keep => 1, way => 'buffered',
		sql => "DO \$\$BEGIN BEGIN $insert VALUES ({a}, '{s}'), ({b}, '{s}'), ({e}, '{s}'); EXCEPTION WHEN unique_violation THEN NULL; END; $insert VALUES ({c}, '{s}'); END\$\$" },
	{ name => 'a subtransaction per row', keep => 3,
		sql => "DO \$\$BEGIN FOR i IN 0 .. 5 LOOP BEGIN $insert VALUES ({a} + i / 2, '{s}'); EXCEPTION WHEN unique_violation THEN NULL; END; END LOOP; END\$\$" },
	{ name => 'loop over INSERT RETURNING', keep => 4, way => 'buffered',
		sql => "DO \$\$DECLARE r record; BEGIN FOR r IN $insert VALUES ({a}, '{s}'), ({a} + 1, '{s}') RETURNING id LOOP $insert VALUES (r.id + 2, '{s}'); END LOOP; END\$\$" },
	{ name => 'loop over a cursor', keep => 3,
		sql => "DO \$\$DECLARE r record; c CURSOR FOR SELECT {a} + i AS id FROM generate_series(0, 2) i; BEGIN FOR r IN c LOOP $insert VALUES (r.id, '{s}'); END LOOP; END\$\$" },
	{ name => 'loop over WITH INSERT', keep => 4, way => 'buffered',
		sql => "DO \$\$DECLARE r record; BEGIN FOR r IN WITH i AS ($insert VALUES ({a}, '{s}'), ({a} + 1, '{s}') RETURNING id) SELECT id FROM i LOOP $insert VALUES (r.id + 2, '{s}') ON CONFLICT DO NOTHING; END LOOP; END\$\$" },
	{ name => 'loop left early', keep => 3, way => 'buffered',
		sql => "DO \$\$DECLARE r record; BEGIN FOR r IN $insert VALUES ({a}, '{s}'), ({b}, '{s}'), ({c}, '{s}') RETURNING id LOOP EXIT; END LOOP; END\$\$" },
	{ name => "another table's AFTER trigger", sql => "INSERT INTO form_{T} VALUES ({a}, '{s}'), ({e}, '{s}'), ({b}, '{s}')", keep => 2 },
	{ name => "another table's BEFORE trigger", sql => "INSERT INTO early_form_{T} VALUES ({a}, '{s}'), ({e}, '{s}'), ({b}, '{s}')", keep => 2 },
	{ name => 'its own BEFORE trigger inserts another', sql => "$insert VALUES ({a}, 'another before'), ({a} + 3, '{s}')", keep => 3, way => 'buffered' },
	{ name => 'its own AFTER trigger inserts another', sql => "$insert VALUES ({a}, '{s}'), ({a} + 3, 'another after')", keep => 3, way => 'buffered' },
	{ name => 'both, DO NOTHING', keep => 4, way => 'AFTER',
		sql => "$insert VALUES ({a}, 'another before'), ({a} + 3, 'another after'), ({e}, '{s}'), ({a}, 'another after') ON CONFLICT DO NOTHING" },
	{ name => 'inserts within a function within an INSERT', keep => 3, way => 'buffered',
		sql => "$insert SELECT {c} + 5, '{s}' FROM (SELECT s_{T}({a}, '{s}') OFFSET 0) x" },
);

my @later = (
	{ name => 'a later trigger drops some', sql => "$insert VALUES ({a}, '{s}'), ({c}, 'drop'), ({b}, '{s}')", keep => 2 },
	{ name => 'a later trigger drops the row', sql => "$insert VALUES ({a}, 'drop')", keep => 0 },
	{ name => 'a later trigger drops, COPY', sql => "COPY {T} (id, src) FROM STDIN;\n{a}\tdrop\n{b}\t{s}\n{c}\tdrop\n\\.\nSELECT", keep => 1, inline => 1 },
	{ name => 'a later trigger changes the owner', sql => "$insert VALUES ({a}, 'other owner'), ({b}, '{s}')", keep => 2, then => [ $method, 'manual 5' ] },
	{ name => 'a later trigger takes the owner', sql => "$insert VALUES ({b}, '{s}'), ({a}, 'no owner')", keep => 2, then => [ $method, 'push -' ] },
	{ name => 'a later trigger changes the key', sql => "$insert VALUES ({a}, 'other key'), ({b}, '{s}')", keep => 2 },
	{ name => 'all that a later trigger does, DO NOTHING', keep => 4,
		sql => "$insert VALUES ({a}, 'drop'), ({a}, 'other owner'), ({a} + 2, 'other key'), ({e}, 'other owner'), ({a} + 4, 'no owner'), ({a} + 6, '{s}') ON CONFLICT DO NOTHING" },
);
$_->{way} = 'AFTER', $_->{only} = 'late' for @later;

my @moving = (
	{ name => 'inserted and moved', sql => "$three; UPDATE {T} SET id = id + 5000000 WHERE id IN ({a}, {c})", keep => 3, only => 'whole', way => 'buffered' },
	{ name => 'moved there and back', sql => 'UPDATE {T} SET id = id + 7000000 WHERE id = {e}; UPDATE {T} SET id = id - 7000000 WHERE id = {e} + 7000000', keep => 0, only => 'whole', way => 'AFTER' },
	{ name => 'moved with another owner', sql => "$insert VALUES ({a}, '{s}'); UPDATE {T} SET id = id + 5000000, owner_id = 1 WHERE id = {a}", keep => 1, only => 'whole' },
	{ name => 'moved by MERGE', sql => "$insert VALUES ({a}, '{s}'); MERGE INTO {T} t USING (VALUES ({a}::bigint), ({b})) v (id) ON t.id = v.id WHEN MATCHED THEN UPDATE SET id = t.id + 8000000 WHEN NOT MATCHED THEN INSERT (id, src) VALUES (v.id, '{s}')", keep => 2, only => 'whole', way => 'AFTER' },
	{ name => 'then another owner', sql => "$insert VALUES ({a}, '{s}'); UPDATE {T} SET owner_id = 5 WHERE id = {a}", keep => 1, then => [ $method, 'manual 5' ] },
	{ name => 'then released', sql => "$insert VALUES ({a}, '{s}'), ({b}, '{s}'); UPDATE {T} SET owner_id = NULL WHERE id = {a}", keep => 2, way => 'buffered' },
	{ name => 'then saved unchanged', sql => "$three; UPDATE {T} SET id = id, src = src, owner_id = owner_id WHERE id IN ({a}, {b}, {c})", keep => 3, way => 'buffered' },
	{ name => 'then deleted', sql => "$three; DELETE FROM {T} WHERE id IN ({a}, {b})", keep => 1, way => 'buffered' },
	{ name => 'inserted and deleted twice', sql => "$insert VALUES ({a}, '{s}'); DELETE FROM {T} WHERE id = {a}; $insert VALUES ({a}, '{s}'); DELETE FROM {T} WHERE id = {a}", keep => 0 },
	{ name => 'deleted and inserted again', sql => "$insert VALUES ({a}, '{s}'); DELETE FROM {T} WHERE id = {a}; $insert VALUES ({a}, '{s}')", keep => 1 },
);

sub shapes
{
	my @all = (@plain, @conflict, @errors, @nested, @later, @moving);
	for my $shape (@all)
	{
		$shape->{way} //= 'direct';
		$shape->{keep} = 0 if $shape->{err};
	}
	return @all;
}

# shape_fits: whether the shape is for this table.
sub shape_fits
{
	my ($shape, $table) = @_;
	my $only = $shape->{only} // '';
	return 0 if $only eq 'late' && $table !~ /late/;
	return 0 if $only eq 'whole' && $table =~ /high/;
	return 1;
}
push @EXPORT, 'shape_fits';

my $file;

sub shape_sql
{
	my ($sql, $table, $first, $source) = @_;
	my $partitioned = $table =~ /^root(_late)?$/;
	$first += HIGH if $table =~ /high/;
	my %value = (
		T => $table, s => $source, a => $first, b => $first + 1 + ($partitioned ? HIGH : 0), c => $first + 2,
		e => $table =~ /high/ ? HIGH + 1 : 1);
	if ($sql =~ /\{f\}/)
	{
		$file //= PostgreSQL::Test::Utils::tempdir() . '/leads';
		$value{f} = "$file-$table-$first";
		PostgreSQL::Test::Utils::append_to_file($value{f}, join '', map { "$value{$_}\t$source\n" } qw(a b c));
	}
	$sql =~ s/\{(\w)\}/$value{$1}/g;
	return $sql;
}

1;
