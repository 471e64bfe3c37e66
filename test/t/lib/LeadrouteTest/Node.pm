# A PostgreSQL::Test::Cluster that finds the extension in the staging directory (nothing is
# installed system-wide) and whose clock a test can move.
package LeadrouteTest::Node;

use strict;
use warnings FATAL => 'all';

use parent 'PostgreSQL::Test::Cluster';
use File::Basename ();
use PostgreSQL::Test::Utils ();
use Test::More;
use Time::HiRes ();
use Time::Local ();

# make creates the data directory and writes the configuration; start_node describes the options.
sub make
{
	my ($class, $name, %opt) = @_;
	my $node = $class->new($name);
	my $init = $opt{init} // {};
	$node->init(%$init, extra => [ '--encoding=UTF8', '--locale=C.UTF-8', @{ $init->{extra} // [] } ]);
	$node->append_conf('postgresql.conf', _conf($opt{preload} // 1) . ($opt{conf} // '') . "\n");
	$node->set_clock($opt{clock}) if defined $opt{clock};
	return $node;
}

# library is the full path that shared_preload_libraries needs, since the staged library is not in
# the server's $libdir.
sub library
{
	my $stage = $ENV{LEADROUTE_STAGE}
	  or BAIL_OUT('LEADROUTE_STAGE is not set; run this test with: make test-tap T=test/t/<file>');
	my $pg_config = $ENV{PG_CONFIG} || 'pg_config';
	chomp(my $libdir = `$pg_config --pkglibdir`);
	return "$stage$libdir/leadroute";
}

# _conf is test/leadroute.conf with the staged library; Cluster has switched fsync off and logging on.
sub _conf
{
	my ($preload) = @_;
	my $library = library();
	my $conf = PostgreSQL::Test::Utils::slurp_file(File::Basename::dirname(__FILE__) . '/../../../leadroute.conf');
	$conf =~ s/^shared_preload_libraries.*$/$preload ? "shared_preload_libraries = '$library'" : ''/me;
	return <<"CONF";
$conf
extension_destdir = '$ENV{LEADROUTE_STAGE}'
log_statement = none
restart_after_crash = on
CONF
}

# The server, and only the server, runs on the clock of set_clock.
sub start
{
	my ($self, %param) = @_;
	local %ENV = (%ENV, $self->_clock_env);
	return $self->SUPER::start(%param);
}

sub restart
{
	my ($self) = @_;
	local %ENV = (%ENV, $self->_clock_env);
	return $self->SUPER::restart;
}

# set_clock moves the server's clock to a moment ('YYYY-MM-DD HH:MM:SS' in UTC), from where it goes
# on at its usual pace. The first call must come before start; later ones act at once, also
# backwards. Written as an offset, so that every session of the server agrees. Background workers are
# at the true time: PostgreSQL 15 forks them out of a signal handler that interrupts select(), within
# which libfaketime fakes nothing, and the child goes on so.
sub set_clock
{
	my ($self, $moment) = @_;
	my ($y, $mo, $d, $h, $mi, $s) = $moment =~ /^(\d+)-(\d+)-(\d+)[ T](\d+):(\d+):(\d+(?:\.\d+)?)/
	  or die "set_clock: cannot read '$moment'";
	my $target = Time::Local::timegm(0, $mi, $h, $d, $mo - 1, $y) + $s;
	my $file = $self->basedir . '/clock';
	open my $out, '>', "$file.new" or die "$file.new: $!";
	printf $out "%+.3f\n", $target - Time::HiRes::time();
	close $out or die "$file.new: $!";
	rename "$file.new", $file or die "$file: $!";
	$self->{leadroute_clock} = $file;
	return;
}

# _clock_env is the environment that puts libfaketime under the server.
sub _clock_env
{
	my ($self) = @_;
	return () unless defined $self->{leadroute_clock};
	my ($library) = glob('/usr/lib/*/faketime/libfaketime.so.1');
	BAIL_OUT('libfaketime is missing; test/run/packages test installs it') unless defined $library;
	return (
		LD_PRELOAD => $library,
		FAKETIME_TIMESTAMP_FILE => $self->{leadroute_clock},
		FAKETIME_NO_CACHE => 1,
		FAKETIME_DONT_FAKE_MONOTONIC => 1);
}

1;
