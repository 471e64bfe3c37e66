# A pgbouncer in transaction mode before a node: one server connection for each database and user,
# which all of its clients share, transaction by transaction. Stands in for the node of a
# LeadrouteTest::Session.
#
#   my $pooler = LeadrouteTest::Pooler->new($node, users => [ 'app', 'ann' ]);
#   my $s = LeadrouteTest::Session->new($pooler, user => 'app');
#   $pooler->stop;
package LeadrouteTest::Pooler;

use strict;
use warnings FATAL => 'all';

use IPC::Run;
use PostgreSQL::Test::Cluster ();
use PostgreSQL::Test::Utils ();
use Time::HiRes ();

sub new
{
	my ($class, $node, %opt) = @_;
	my $dir = PostgreSQL::Test::Utils::tempdir_short();
	my $port = PostgreSQL::Test::Cluster::get_free_port();
	my $self = bless { node => $node, dir => $dir, port => $port, log => '' }, $class;
	my ($server, $server_port) = ($node->host, $node->port);
	_write("$dir/users", map { qq("$_" ""\n) } @{ $opt{users} });
	_write("$dir/pgbouncer.ini", <<"INI");
[databases]
* = host=$server port=$server_port
[pgbouncer]
pool_mode = transaction
default_pool_size = 1
reserve_pool_size = 0
max_client_conn = 50
listen_addr =
listen_port = $port
unix_socket_dir = $dir
auth_type = trust
auth_file = $dir/users
ignore_startup_parameters = extra_float_digits
INI
	# Debian keeps it out of the path of users
	local $ENV{PATH} = "$ENV{PATH}:/usr/sbin";
	$self->{run} = IPC::Run::start([ 'pgbouncer', "$dir/pgbouncer.ini" ], '<', \undef, '>&', \$self->{log});
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return $self if -S "$dir/.s.PGSQL.$port";
		die "pgbouncer does not run: $self->{log}" unless $self->{run}->pumpable;
		$self->{run}->pump_nb;
		Time::HiRes::usleep(100_000);
	}
	die "pgbouncer does not listen: $self->{log}";
}

sub _write
{
	my ($file, @lines) = @_;
	open my $out, '>', $file or die "$file: $!";
	print $out @lines;
	close $out or die "$file: $!";
	return;
}

sub connstr
{
	my ($self, $dbname) = @_;
	return "host='$self->{dir}' port=$self->{port} dbname='$dbname'";
}

sub installed_command { my ($self, $command) = @_; return $self->{node}->installed_command($command) }

sub stop
{
	my ($self) = @_;
	my $run = delete $self->{run} or return;
	$run->signal('TERM');
	IPC::Run::finish($run);
	return;
}

sub DESTROY { my ($self) = @_; local ($@, $?); eval { $self->stop }; return }

1;
