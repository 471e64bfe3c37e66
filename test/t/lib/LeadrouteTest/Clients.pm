# Clients that insert leads side by side, each with a log of what the server has acknowledged.
#
#   my $load = LeadrouteTest::Clients->new($node, slots => 16, scripts => [ map { load_script(...) } 1 .. 64 ]);
#   $load->step until …;     lets finished clients make room for the next (returns false at the end)
#   $load->stop;             no further ones are started
#   $load->finish;           waits until all are done
#   $load->acknowledged      keys of leads whose transaction was acknowledged
#   $load->refused           keys of leads that were rolled back, or failed: none of them may be there
#   $load->errors            how often each SQLSTATE came
#   $load->count('conflict') how often a client said so
#   $load->disturb($session, $terminate)  cancels one of the clients at random, or terminates it
#   $load->lines($pattern)   what it captures of the lines that clients printed: a list of lists
#   $load->unexpected(…)     SQLSTATEs that neither the scripts, nor disturb(), nor the caller ask for
#
# disturbed_load($node, sessions => n, …) runs twice as many scripts (see below) in that many slots, cancelled
# and terminated at random, tests that nothing else went wrong and verify() finds nothing, and returns a
# session, and how often clients were disturbed.
#
# load_script(%opt) makes the script of one client: number => unique; transactions => how many;
# sources => what to put into source, at random; table, key, source_column => defaults leads, id, source;
# shared => so many keys are inserted by several clients, with ON CONFLICT DO NOTHING.
package LeadrouteTest::Clients;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use LeadrouteTest;
use POSIX ':sys_wait_h';
use PostgreSQL::Test::Utils ();
use Test::More;
use Time::HiRes ();

our @EXPORT = qw(load_script disturbed_load);

my $runs = 0;

sub new
{
	my ($class, $node, %opt) = @_;
	my $dir = PostgreSQL::Test::Utils::tempdir();
	my $self = bless {
		node => $node, dbname => $opt{dbname} // 'postgres', slots => $opt{slots},
		waiting => [ @{ $opt{scripts} } ], running => {}, done => [], dir => $dir }, $class;
	$self->step;
	return $self;
}

sub _start
{
	my ($self, $script) = @_;
	$script->{file} = "$self->{dir}/client" . ++$runs;
	PostgreSQL::Test::Utils::append_to_file("$script->{file}.sql", $script->{sql});
	my $psql = $self->{node}->installed_command('psql');
	my $conn = $self->{node}->connstr($self->{dbname});
	my $pid = fork // die "fork: $!";
	if ($pid == 0)
	{
		$ENV{PGAPPNAME} = 'load';
		open(STDIN, '<', '/dev/null') && open(STDOUT, '>', "$script->{file}.out") && open(STDERR, '>', "$script->{file}.err")
		  or POSIX::_exit(126);
		exec $psql, '-XAtq', '-d', $conn, '-v', 'VERBOSITY=verbose', '-f', "$script->{file}.sql" or POSIX::_exit(127);
	}
	$self->{running}{$pid} = $script;
	return;
}

sub step
{
	my ($self) = @_;
	for my $pid (keys %{ $self->{running} })
	{
		next unless waitpid($pid, WNOHANG) == $pid;
		push @{ $self->{done} }, delete $self->{running}{$pid};
	}
	$self->_start(shift @{ $self->{waiting} }) while @{ $self->{waiting} } && keys %{ $self->{running} } < $self->{slots};
	return scalar keys %{ $self->{running} };
}

sub disturb
{
	my ($self, $session, $terminate) = @_;
	my $function = $terminate ? 'pg_terminate_backend' : 'pg_cancel_backend';
	$session->query("SELECT $function(pid) FROM pg_stat_activity WHERE application_name = 'load' AND state <> 'idle' ORDER BY random() LIMIT 1");
	return;
}

sub stop { my ($self) = @_; $self->{waiting} = []; return }

sub finish
{
	my ($self, $meanwhile) = @_;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
	while ($self->step)
	{
		die 'the clients do not come to an end' if time > $deadline;
		$meanwhile->() if $meanwhile;
		Time::HiRes::sleep(0.005);
	}
	$self->_read($_) for grep { !$_->{read}++ } @{ $self->{done} };
	return;
}

# An acknowledgement is a line "ack <error before COMMIT> <error of COMMIT> <transaction>": the COMMIT of
# a failed transaction raises none.
sub _read
{
	my ($self, $script) = @_;
	my $out = PostgreSQL::Test::Utils::slurp_file("$script->{file}.out");
	my $err = PostgreSQL::Test::Utils::slurp_file("$script->{file}.err");
	push @{ $self->{acknowledged} }, map { @{ $script->{kept}[$_] } } $out =~ /^ack false false (\d+)$/mg;
	push @{ $self->{refused} }, @{ $script->{refused} };
	$self->{errors}{$_}++ for $err =~ /(?:ERROR|FATAL|PANIC):\s+(\w{5}):/g;
	$self->{count}{$_}++ for $out =~ /^(\w+)/mg;
	$self->{text} .= $err;
	$self->{out} .= $out;
	return;
}

sub acknowledged { my ($self) = @_; return @{ $self->{acknowledged} // [] } }
sub refused { my ($self) = @_; return @{ $self->{refused} // [] } }
sub errors { my ($self) = @_; return %{ $self->{errors} // {} } }

# Unique violations, timeouts, what disturb() does; serializable transactions that meet at a shared key
# may be told so by the server itself.
sub unexpected
{
	my ($self, @more) = @_;
	my %expected = map { $_ => 1 } qw(23505 57014 57P01 25P02 40001 25P01 3B001), @more;
	my %errors = $self->errors;
	return grep { !$expected{$_} } sort keys %errors;
}

sub lines
{
	my ($self, $pattern) = @_;
	return map { $_ =~ $pattern ? [ $_ =~ $pattern ] : () } split /\n/, $self->{out} // '';
}
sub messages { my ($self) = @_; return $self->{text} // '' }
sub count { my ($self, $word) = @_; return $self->{count}{$word} // 0 }

sub disturbed_load
{
	my ($node, %opt) = @_;
	my @scripts = map { load_script(%opt, number => $_) } 1 .. $opt{sessions} * 2;
	my $load = LeadrouteTest::Clients->new($node, slots => $opt{sessions}, scripts => \@scripts);
	my ($session) = sessions($node, 1);
	my $times = 0;
	$load->finish(sub { $load->disturb($session, $times++ % 5 == 0) });
	is(join(' ', $load->unexpected), '', 'no errors that nobody asked for') or diag($load->messages);
	verify_ok($node);
	return ($session, $times);
}

# ---- scripts ---------------------------------------------------------------------------------------

# Keys of one client do not meet those of another; key 0 to 999 are shared.
sub load_script
{
	my (%opt) = @_;
	my $s = {
		%opt, sql => '', kept => [], refused => [], key => 1000 + $opt{number} * 100_000,
		table => $opt{table} // 'leads', column => $opt{source_column} // 'source' };
	my @kinds = (('one') x 8, ('many') x 3, ('subtransaction') x 3, ('rollback') x 3, 'exception', 'error', 'timeout', 'shared');
	for my $transaction (0 .. $opt{transactions} - 1)
	{
		$s->{transaction} = $transaction;
		my $kind = $kinds[ int rand @kinds ];
		$kind = 'one' if $kind eq 'shared' && !$opt{shared};
		__PACKAGE__->can("_$kind")->($s);
	}
	return $s;
}

sub _keys { my ($s, $n) = @_; return map { ++$s->{key} } 1 .. $n }

sub _insert
{
	my ($s, @keys) = @_;
	my @sources = @{ $s->{sources} };
	return "INSERT INTO $s->{table} (id, $s->{column}) VALUES "
	  . join(', ', map { "($_, '" . $sources[ int rand @sources ] . "')" } @keys);
}

# The transaction's leads, kept if its end is acknowledged.
sub _kept
{
	my ($s, $sql, @keys) = @_;
	$s->{kept}[ $s->{transaction} ] = \@keys;
	my $commit = $sql =~ /^BEGIN/ ? "SELECT;\n\\set failed :ERROR\nCOMMIT;" : '\\set failed :ERROR';
	$s->{sql} .= "$sql;\n$commit\n\\echo ack :failed :ERROR $s->{transaction}\n";
	return;
}

sub _refused
{
	my ($s, $sql, @keys) = @_;
	push @{ $s->{refused} }, @keys;
	$s->{sql} .= "$sql;\n";
	return;
}

sub _one { my ($s) = @_; my ($key) = _keys($s, 1); return _kept($s, _insert($s, $key), $key) }

sub _many { my ($s) = @_; my @keys = _keys($s, 2 + int rand 3); return _kept($s, _insert($s, @keys), @keys) }

sub _subtransaction
{
	my ($s) = @_;
	my ($first, $lost, $last) = _keys($s, 3);
	push @{ $s->{refused} }, $lost;
	return _kept($s, join(";\n", 'BEGIN', _insert($s, $first), 'SAVEPOINT a', _insert($s, $lost), 'ROLLBACK TO a', _insert($s, $last)), $first, $last);
}

sub _rollback
{
	my ($s) = @_;
	my @keys = _keys($s, 1 + int rand 4);
	return _refused($s, join(";\n", 'BEGIN', _insert($s, @keys), 'ROLLBACK'), @keys);
}

sub _exception
{
	my ($s) = @_;
	my ($lost, $kept) = _keys($s, 2);
	push @{ $s->{refused} }, $lost;
	return _kept($s, "DO \$\$BEGIN BEGIN " . _insert($s, $lost) . '; ' . _insert($s, $lost) . '; EXCEPTION WHEN unique_violation THEN '
		  . _insert($s, $kept) . '; END; END$$', $kept);
}

sub _error { my ($s) = @_; my @keys = _keys($s, 2); return _refused($s, _insert($s, @keys, $keys[0]), @keys) }

sub _timeout
{
	my ($s) = @_;
	my @keys = _keys($s, 2);
	return _refused($s, join(";\n", 'BEGIN', _insert($s, @keys), "SET LOCAL statement_timeout = '2ms'", 'SELECT pg_sleep(5)', 'ROLLBACK'), @keys);
}

# One shared key in a transaction, so that nobody waits for one who waits for him.
sub _shared
{
	my ($s) = @_;
	my $key = int rand $s->{shared};
	my $end = rand() < 0.5 ? 'COMMIT' : 'ROLLBACK';
	$s->{sql} .= "BEGIN;\nWITH i AS (" . _insert($s, $key, _keys($s, 1)) . " ON CONFLICT DO NOTHING RETURNING 1)"
	  . " SELECT CASE count(*) WHEN 2 THEN 'free' ELSE 'conflict' END FROM i;\nSELECT pg_sleep(0.01);\n$end;\n";
	return;
}

1;
