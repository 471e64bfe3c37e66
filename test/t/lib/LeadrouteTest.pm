# What the TAP tests of leadroute share: a server of their own with the staged extension, sessions
# that run side by side, and the check that every promise holds afterwards.
#
#   use FindBin; use lib "$FindBin::RealBin/lib";
#   use LeadrouteTest; use Test::More;
#   my $node = start_node('main', conf => "max_connections = 40");
#   psql_ok($node, "SELECT leadroute.create_lead_table('public.leads')");
#   my @session = sessions($node, 16);
#   $_->send("INSERT INTO leads (source) VALUES ('Web')") for @session;
#   $_->wait for @session;
#   verify_ok($node, 0, 'nothing lost, nothing doubled');
#   done_testing();
#
# Run through `make test-tap` (all) or `make test-tap T=test/t/010_x.pl` (one): that stages the
# extension, sets LEADROUTE_STAGE, and becomes a user that may run a server.
package LeadrouteTest;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use File::Basename ();
use PostgreSQL::Test::Utils ();
use Test::More;

use LeadrouteTest::Node;
use LeadrouteTest::Session;

our @EXPORT = qw(start_node sessions psql_ok psql_is sqlstate_is verify_ok verify_text wait_all
  wait_until wait_running wait_blocked soak seed figure);

# start_node makes, starts and returns a server that has leadroute preloaded and created.
#   conf      => more lines of postgresql.conf
#   clock     => 'YYYY-MM-DD HH:MM:SS+00': the server's clock starts there (see set_clock)
#   extension => 0: do not run CREATE EXTENSION
#   preload   => 0: do not preload the library
#   start     => 0: only make it
#   init      => { … }: arguments of PostgreSQL::Test::Cluster->init, such as allows_streaming
sub start_node
{
	my ($name, %opt) = @_;
	my $node = LeadrouteTest::Node->make($name, %opt);
	return $node if defined $opt{start} && !$opt{start};
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION leadroute') unless defined $opt{extension} && !$opt{extension};
	return $node;
}

# sessions opens n psql sessions at once; see LeadrouteTest::Session for what each can do.
sub sessions
{
	my ($node, $n, %opt) = @_;
	my @session = map { LeadrouteTest::Session->new($node, %opt) } 1 .. $n;
	$_->wait for @session;
	return @session;
}

# wait_all waits for what each of the sessions was sent last.
sub wait_all { $_->wait for @_; return }

# psql_ok runs SQL that must succeed, as a test, and returns its output.
sub psql_ok
{
	my ($node, $sql, $name, %opt) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($code, $out, $err) = $node->psql($opt{dbname} // 'postgres', $sql, on_error_stop => 1, %opt);
	ok($code == 0, $name // _title($sql)) or diag($err);
	return $out;
}

# psql_is compares the output of SQL (unaligned, | between columns) with what is expected.
sub psql_is
{
	my ($node, $sql, $expected, $name, %opt) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($code, $out, $err) = $node->psql($opt{dbname} // 'postgres', $sql, on_error_stop => 1, %opt);
	return is($out, $expected, $name // _title($sql)) if $code == 0;
	fail($name // _title($sql));
	diag($err);
	return 0;
}

# sqlstate_is expects SQL to fail with this SQLSTATE, whatever the prose.
sub sqlstate_is
{
	my ($node, $sql, $sqlstate, $name, %opt) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($code, $out, $err) = $node->psql(
		$opt{dbname} // 'postgres', $sql,
		on_error_stop => 1,
		extra_params => [ '-v', 'VERBOSITY=verbose', @{ $opt{extra_params} // [] } ]);
	my ($got) = $err =~ /(?:ERROR|FATAL):\s+(\w{5}):/;
	is($got // 'no error', $sqlstate, $name // _title($sql)) or diag($err);
	return $err;
}

# verify_text is the one row of leadroute.verify() of a tenant, as text.
sub verify_text
{
	my ($node, $tenant, %opt) = @_;
	return $node->safe_psql($opt{dbname} // 'postgres', <<"SQL");
SELECT format('lost %s, double %s, overshoot %s, drift %s, orphan %s', v.lost, v."double", v.overshoot, v.drift, v.orphan)
FROM leadroute.verify(tenant => $tenant) v
SQL
}

# verify_ok tests that leadroute.verify() finds nothing.
sub verify_ok
{
	my ($node, $tenant, $name, %opt) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(verify_text($node, $tenant // 0, %opt),
		'lost 0, double 0, overshoot 0, drift 0, orphan 0', $name // 'verify() finds nothing');
}

# wait_until polls until the query gives 't' and fails the test otherwise.
sub wait_until
{
	my ($node, $sql, $name, %opt) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok($node->poll_query_until($opt{dbname} // 'postgres', $sql), $name // _title($sql));
}

# wait_running waits until the server is at what the session was sent: send() alone says only that
# psql will get it. Before a cancel or a terminate, say.
sub wait_running
{
	my ($node, $session) = @_;
	return _wait_activity($node, $session, "state = 'active'");
}

# wait_blocked waits until that waits for a heavyweight lock.
sub wait_blocked
{
	my ($node, $session) = @_;
	return _wait_activity($node, $session, "state = 'active' AND wait_event_type = 'Lock'");
}

sub _wait_activity
{
	my ($node, $session, $condition) = @_;
	my $pid = $session->pid;
	$session->push_input;
	$node->poll_query_until('postgres', "SELECT $condition FROM pg_stat_activity WHERE pid = $pid")
	  or die "session $pid: never $condition";
	return;
}

# soak chooses a size: the small one in make test, the big one in make soak (LEADROUTE_SOAK=1),
# n times the big one with LEADROUTE_SOAK=n.
sub soak
{
	my ($small, $big) = @_;
	my $factor = $ENV{LEADROUTE_SOAK} || 0;
	return $small unless $factor;
	return int(($big // $small) * $factor);
}

# seed starts Perl's random numbers from LEADROUTE_SEED or the clock, and prints the seed, so that a
# failure can be run again.
sub seed
{
	my $seed = $ENV{LEADROUTE_SEED} || (time ^ ($$ << 7)) & 0x7fffffff;
	srand($seed);
	diag(File::Basename::basename($0) . ": LEADROUTE_SEED=$seed");
	return $seed;
}

# figure prints a number a reader of the run should see, such as how many aborts were achieved.
sub figure
{
	my (%value) = @_;
	diag(join ', ', map { "$_ $value{$_}" } sort keys %value);
	return;
}

# _title makes a test's name of its SQL.
sub _title
{
	my ($sql) = @_;
	$sql =~ s/\s+/ /g;
	$sql =~ s/^ | $//g;
	return length $sql > 70 ? substr($sql, 0, 67) . '...' : $sql;
}

1;
