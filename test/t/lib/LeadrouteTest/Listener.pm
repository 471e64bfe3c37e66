# A session that listens, and keeps what it heard.
#
#   my $l = LeadrouteTest::Listener->new($node, 'leadroute', 'leadroute_rep_1');
#   $l->hear                    takes what has arrived; returns the events heard until now
#   $l->heard($sub, $seconds)   listens until $sub->(@events) is true; returns whether it was
#   $l->ids                     how often each event id was heard
#   $l->channel($name)          events of one channel
# An event is the decoded JSON with the channel under "channel".
package LeadrouteTest::Listener;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use JSON::PP ();
use LeadrouteTest::Session;
use Time::HiRes ();

our @EXPORT = qw(events_since_ids);

sub new
{
	my ($class, $node, @channels) = @_;
	my %opt = ref $channels[-1] ? %{ pop @channels } : ();
	my $self = bless { session => LeadrouteTest::Session->new($node, %opt), events => [], largest => 0 }, $class;
	$self->{session}->query("LISTEN $_") for @channels;
	return $self;
}

sub hear
{
	my ($self) = @_;
	my $out = $self->{session}->query('SELECT');
	while ($out =~ /^Asynchronous notification "(\w+)" with payload "(\[.*\])" received/mg)
	{
		my ($channel, $payload) = ($1, $2);
		$self->{largest} = length $payload if length $payload > $self->{largest};
		push @{ $self->{events} }, map { { %$_, channel => $channel } } @{ JSON::PP->new->utf8->decode($payload) };
	}
	return @{ $self->{events} };
}

sub heard
{
	my ($self, $test, $seconds) = @_;
	my $end = Time::HiRes::time() + ($seconds // 60);
	while (1)
	{
		return 1 if $test->($self->hear);
		return 0 if Time::HiRes::time() > $end;
		Time::HiRes::sleep(0.02);
	}
}

sub ids
{
	my ($self) = @_;
	my %count;
	$count{ $_->{id} }++ for @{ $self->{events} };
	return \%count;
}

sub channel { my ($self, $name) = @_; return grep { $_->{channel} eq $name } @{ $self->{events} } }
sub forget { my ($self) = @_; $self->{events} = []; return }
sub largest { my ($self) = @_; return $self->{largest} }
sub close { my ($self) = @_; return $self->{session}->close }

# events_since_ids is what events_since() gives after a cursor, as a hash like ids().
sub events_since_ids
{
	my ($node, $cursor, $dbname) = @_;
	my $argument = defined $cursor ? "'$cursor'" : 'NULL';
	my %count;
	$count{$_}++ for split /\n/, $node->safe_psql($dbname // 'postgres', "SELECT event ->> 'id' FROM leadroute.events_since($argument)");
	return \%count;
}

1;
