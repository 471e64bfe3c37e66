# One psql session that runs beside others: send() returns at once, wait() when the answer is there.
#
#   $s->send($sql)     start SQL (one or more statements)
#   $s->wait           wait for it; returns its output, in list context (output, sqlstates…)
#   $s->query($sql)    both
#   $s->ready          true when the answer is there (does not wait)
#   $s->pid            the backend's process id
#   $s->errors         SQLSTATEs of the last answer; '57P01' and the like when it was terminated
#   $s->lost           true when the connection is gone; reconnect with a new session
#   $s->close          leave
package LeadrouteTest::Session;

use strict;
use warnings FATAL => 'all';

use Carp;
use IPC::Run;
use PostgreSQL::Test::Utils ();

sub new
{
	my ($class, $node, %opt) = @_;
	my $self = bless { in => '', out => '', err => '', count => 0, answer => '', errors => [], lost => 0 }, $class;
	my $conn = $node->connstr($opt{dbname} // 'postgres');
	$conn .= " user=$opt{user}" if defined $opt{user};
	my @command = (
		$node->installed_command('psql'), '-XAtq', '-d', $conn, '-v', 'VERBOSITY=verbose',
		'-v', 'ON_ERROR_STOP=0', '-f', '-');
	$self->{timer} = IPC::Run::timeout($opt{timeout} // $PostgreSQL::Test::Utils::timeout_default);
	local $ENV{PGAPPNAME} = $opt{application} // 'leadroute_test';
	$self->{run} = IPC::Run::start(\@command, '<', \$self->{in}, '>', \$self->{out}, '2>', \$self->{err}, $self->{timer});
	$self->send('SELECT pg_catalog.pg_backend_pid()');
	return $self;
}

sub send
{
	my ($self, $sql) = @_;
	$self->wait if $self->{count} == 1 && !defined $self->{pid};
	croak 'session is still busy' if $self->{busy};
	croak 'session is lost' if $self->{lost};
	$self->{count}++;
	$self->{busy} = 1;
	$self->{errors} = [];
	$self->{timer}->start;

	# The mark comes on both channels, since they are not in order to each other. The semicolon ends
	# SQL that has none.
	my $mark = "leadroute-answer-$self->{count}";
	$self->{in} .= "$sql\n;\n\\echo '$mark'\n\\warn '$mark'\n";
	$self->_pump(0);
	return;
}

sub ready
{
	my ($self) = @_;
	return 1 unless $self->{busy};
	$self->_pump(0);
	return $self->_take;
}

sub wait
{
	my ($self) = @_;
	while ($self->{busy} && !$self->_take)
	{
		croak 'session timed out' if $self->{timer}->is_expired;
		$self->_pump(1);
	}
	$self->{pid} //= $self->{answer};
	return wantarray ? ($self->{answer}, @{ $self->{errors} }) : $self->{answer};
}

sub query
{
	my ($self, $sql) = @_;
	$self->send($sql);
	return $self->wait;
}

# push_input returns when psql has been given all that was sent.
sub push_input
{
	my ($self) = @_;
	$self->_pump(0) while length $self->{in} && !$self->{lost};
	return;
}

sub pid { my ($self) = @_; $self->wait unless defined $self->{pid}; return $self->{pid} }
sub errors { my ($self) = @_; return @{ $self->{errors} } }
sub lost { my ($self) = @_; return $self->{lost} }
sub message { my ($self) = @_; return $self->{message} // '' }

sub close
{
	my ($self) = @_;
	return if $self->{closed}++;
	$self->{in} .= "\\q\n" unless $self->{lost};
	eval { $self->{run}->finish };
	return;
}

# _pump moves bytes; psql's end, and a pipe broken by it, is what a terminated session looks like.
sub _pump
{
	my ($self, $wait) = @_;
	local $SIG{PIPE} = 'IGNORE';
	my $alive = eval {
		$wait ? $self->{run}->pump : $self->{run}->pump_nb;
		$self->{run}->pumpable;
	};
	croak $@ if !defined $alive && $@ =~ /timeout/i;
	return if $alive;
	$self->{lost} = 1;
	return;
}

# _take takes the answer when it is complete.
sub _take
{
	my ($self) = @_;
	my $mark = qr/leadroute-answer-$self->{count}\r?\n/;
	my $complete = $self->{out} =~ $mark && $self->{err} =~ $mark;
	return 0 unless $complete || $self->{lost};
	($self->{answer} = $self->{out}) =~ s/\n?$mark.*//s;
	$self->{answer} =~ s/\n\z//;
	($self->{message} = $self->{err}) =~ s/$mark.*//s;
	$self->{errors} = [ $self->{message} =~ /(?:ERROR|FATAL|PANIC):\s+(\w{5}):/g ];
	$self->{out} = $self->{err} = '';
	$self->{busy} = 0;
	return 1;
}

1;
