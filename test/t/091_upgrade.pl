# Upgrades: pg_upgrade of the server, and of leadroute itself from the first released script to a next
# one, made up here: with the old library still loaded, with the new library before the extension is
# updated, and when both are new.
use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use File::Basename ();
use IPC::Run;
use LeadrouteTest;
use LeadrouteTest::Contents;
use LeadrouteTest::Node;
use PostgreSQL::Test::Utils ();
use Test::More;

my $setup = <<'SQL';
SELECT leadroute.create_lead_table('public.leads');
INSERT INTO leadroute.rep (id, name) VALUES (1, 'Ann'), (2, 'Bob'), (3, 'Cho');
INSERT INTO leadroute.pool (name, method) VALUES ('all', 'weighted');
INSERT INTO leadroute.pool_member (pool, rep, weight) VALUES ('all', 1, 3), ('all', 2, 2), ('all', 3, 1);
INSERT INTO leadroute.rule (lead_table, position, name, condition, pool) VALUES ('leads', 1, 'web', $$source = 'web'$$, 'all');
INSERT INTO leads (source) SELECT CASE i % 4 WHEN 0 THEN 'mail' ELSE 'web' END FROM generate_series(1, 25) i;
SQL
my $next = <<'SQL';
BEGIN;
INSERT INTO leads (id, source) SELECT 1000 + i, 'web' FROM generate_series(1, 12) i;
SELECT string_agg(owner_id::text, ' ' ORDER BY id) FROM leads WHERE id > 1000;
ROLLBACK;
SQL

# ---- the server -----------------------------------------------------------------------------------

my $old = start_node('old');
$old->safe_psql('postgres', $setup . "CREATE ROLE seller; SELECT leadroute.grant_access('seller', 'rep');");
my $before = contents($old, 'postgres', 'public.leads');
my $picks = $old->safe_psql('postgres', $next);
$old->stop;

my $new = start_node('new', start => 0);
my $bin = $old->config_data('--bindir');
my $work = PostgreSQL::Test::Utils::tempdir();
chdir $work or die;
my ($out, $err);
my $upgraded = IPC::Run::run(
	[
		"$bin/pg_upgrade", '--no-sync', '-U', $ENV{USER} // getpwuid($<), '-d', $old->data_dir, '-D', $new->data_dir, '-b', $bin, '-B', $bin,
		'-s', $new->host, '-p', $old->port, '-P', $new->port
	],
	'>', \$out, '2>', \$err);
ok($upgraded, 'pg_upgrade') or diag($out, $err, map { PostgreSQL::Test::Utils::slurp_file($_) } glob($new->data_dir . '/pg_upgrade_output.d/*/log/*'));
$new->start;
is(difference($before, contents($new, 'postgres', 'public.leads')), '', 'configuration, record, leads, rights are the same');
is($new->safe_psql('postgres', $next), $picks, 'routing goes on where it was');
verify_ok($new, 0);
is($new->safe_psql('postgres', "SELECT string_agg(item || ': ' || detail, E'\n') FROM leadroute.health() WHERE NOT ok"), '', 'health() is well');
$new->stop;

# ---- leadroute --------------------------------------------------------------------------------------

# A staging of its own, so that the files can be changed while the server runs.
my $stage = PostgreSQL::Test::Utils::tempdir();
PostgreSQL::Test::Utils::system_or_bail('cp', '-a', "$ENV{LEADROUTE_STAGE}/.", $stage);
local $ENV{LEADROUTE_STAGE} = $stage;
chomp(my $extensions = "$stage" . `$bin/pg_config --sharedir` . '/extension');
$extensions =~ s/\n//;
my $library = LeadrouteTest::Node::library() . '.so';
my ($version) = PostgreSQL::Test::Utils::slurp_file("$extensions/leadroute.control") =~ /^default_version = '(.*)'/m;
my $later = $version =~ s/\d$/9/r;
isnt($later, $version, "$version is followed by $later");

my $node = start_node('main');
$node->safe_psql('postgres', $setup);
$picks = $node->safe_psql('postgres', $next);

sub put
{
	my ($file, $text) = @_;
	open my $o, '>:raw', "$file.new" or die "$file: $!";
	print $o $text;
	close $o or die "$file: $!";
	rename "$file.new", $file or die "$file: $!"; # the loaded library's file is not written to
	return;
}

# The files of the next version: a function more, and the library says who it is.
put("$extensions/leadroute--$version--$later.sql", <<"SQL");
\\echo Use "ALTER EXTENSION leadroute UPDATE" to load this file. \\quit
SELECT leadroute._require_library('$later');
CREATE FUNCTION leadroute._news() RETURNS text LANGUAGE c AS 'MODULE_PATHNAME', 'leadroute_library_version';
ALTER TABLE leadroute.rep ADD COLUMN nickname text;
SQL
put("$extensions/leadroute.control", PostgreSQL::Test::Utils::slurp_file("$extensions/leadroute.control") =~ s/\Q'$version'\E/'$later'/r);
my $code = do { open my $i, '<:raw', $library or die; local $/; <$i> };
is($code =~ s/leadroute library version \K\Q$version\E\0/$later\0/, 1, 'the library names its version once');
put($library, $code);

my $message = sqlstate_is($node, 'ALTER EXTENSION leadroute UPDATE', 'LR014', 'the old library is loaded: refused');
like($message, qr/Restart the server/, 'and told what to do');
psql_is($node, "SELECT extversion FROM pg_extension WHERE extname = 'leadroute'", $version, 'the extension is as it was');
is($node->safe_psql('postgres', $next), $picks, 'leads are routed meanwhile');

$node->restart;
$message = sqlstate_is($node, "INSERT INTO leads (source) VALUES ('web')", 'LR014', 'the new library with the old extension: an insert is refused');
like($message, qr/ALTER EXTENSION leadroute UPDATE/, 'and told what to do');
like($node->safe_psql('postgres', "SELECT detail FROM leadroute.health() WHERE item = 'versions' AND NOT ok"),
	qr/^library loaded \Q$later\E, extension \Q$version\E, installed .*ALTER EXTENSION leadroute UPDATE$/, 'health() says so');

my ($session) = sessions($node, 1);
$session->send("INSERT INTO leads (source) VALUES ('web')");
$session->wait;
psql_ok($node, 'ALTER EXTENSION leadroute UPDATE', 'the extension is updated');
is($node->safe_psql('postgres', $next), $picks, 'routing goes on where it was');
$session->send("INSERT INTO leads (source) VALUES ('web') RETURNING 'owner ' || (owner_id IS NOT NULL)");
like($session->wait, qr/owner true/, 'also in a session that was refused before');
verify_ok($node, 0);
psql_is($node, 'SELECT leadroute._news()', $later, 'what is new is there');
psql_is($node, "SELECT count(*) FROM leadroute.health() WHERE NOT ok", '0', 'health() is well');

done_testing();
